"""What the generators share: noise, blur, textures and outlines."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..noise import NoiseModel, parse_noise

Doubles = npt.NDArray[np.float64]
Noise: TypeAlias = NoiseModel | str | None
"""A noise model, or the text from which `parse_noise` makes one; None for no noise."""


def checked(shape: tuple[int, int]) -> tuple[int, int]:
    """Return a shape that has room for something."""
    if len(shape) != 2 or min(shape) < 32:
        raise ValueError(f"shape={shape!r} is not allowed: give a height and a width of at least 32 pixels.")
    return (int(shape[0]), int(shape[1]))


def noisy(clean: Doubles, noise: Noise, rng: np.random.Generator, value_range: float = 255.0) -> npt.NDArray[Any]:
    """Put noise on an image."""
    if noise is None:
        return clean
    model = parse_noise(noise) if isinstance(noise, str) else noise
    return model.apply(clean, rng, value_range)


def blurred(image: Doubles, sigma: float | tuple[float, ...]) -> Doubles:
    """Blur with a Gaussian."""
    from scipy import ndimage as ndi

    return np.asarray(ndi.gaussian_filter(image, sigma, mode="nearest"))


def texture(rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]) -> Doubles:
    """Draw smooth noise of mean 0 and standard deviation 1."""
    noise = blurred(rng.standard_normal(shape), sigma)
    return np.asarray((noise - noise.mean()) / noise.std())


def outline(rng: np.random.Generator, radius: float, roughness: float, n: int, stretch: float = 1.0) -> Doubles:
    """Draw a closed outline around 0: an ellipse with a few waves; (n, 2)."""
    phi = np.linspace(0, 2 * np.pi, n, endpoint=False)
    r = np.ones(n)
    for k in range(2, 7):
        r += roughness * rng.standard_normal() / (k - 1) * np.cos(k * phi + rng.uniform(0, 2 * np.pi))
    shape = radius * np.clip(r, 0.5, 1.6)[:, None] * np.column_stack([np.sin(phi) / stretch, np.cos(phi) * stretch])
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.asarray(shape @ rotation)
