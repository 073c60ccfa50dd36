"""Noise models, and noise put on images. Every draw is fresh and comes from the generator that is passed in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from .images import FloatArray

Level: TypeAlias = float | tuple[float, float]
"""A number, or the lowest and highest of a range from which each call draws anew."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")


def _about(help: str, low: float, high: float = np.inf, *, above: bool = False) -> dict[str, Any]:
    """Say what a level is and its limits; with ``above``, the lowest one is not allowed itself."""
    return {"help": help, "low": low, "high": high, "above": above}


@dataclass(frozen=True)
class NoiseModel:
    """Base of the models. Levels are on a scale of 0 to 255 of the intensity range unless they say otherwise.

    ``str(model)`` is the text from which `parse_noise` makes the same model.

    Raises
    ------
    ValueError
        For levels that are not allowed.
    """

    id: ClassVar[str]

    def __post_init__(self) -> None:
        for f in fields(self):
            level = getattr(self, f.name)
            try:
                bounds = tuple(float(v) for v in level) if isinstance(level, (tuple, list)) else (float(level),) * 2
            except (TypeError, ValueError):
                bounds = ()
            low, high, above = (f.metadata[key] for key in ("low", "high", "above"))
            fits = len(bounds) == 2 and np.isfinite(bounds).all() and low <= bounds[0] <= bounds[1] <= high
            if not fits or (above and bounds[0] == low):
                limits = f"above {low:g}" if above else f"of at least {low:g}" if low > -np.inf else "that is finite"
                limits += f" and at most {high:g}" if high < np.inf else ""
                raise ValueError(
                    f"{self.id}: {f.name}={_shown(level)} is not allowed: give a number {limits}, or a range of them."
                )
            object.__setattr__(self, f.name, bounds[0] if bounds[0] == bounds[1] else bounds)

    def apply(self, image: npt.NDArray[Any], rng: np.random.Generator | int, value_range: float = 255.0) -> FloatArray:
        """Put fresh noise on an image; levels that are ranges are drawn anew.

        Parameters
        ----------
        image : array
        rng : numpy.random.Generator or int
            Or a seed for one.
        value_range : float
            The intensity range of the image: 255 for 8-bit values, 1 for values from 0 to 1.

        Returns
        -------
        float32 array of the same shape, not clipped
        """
        rng = np.random.default_rng(rng)
        levels: dict[str, float] = {}
        for f in fields(self):
            level = getattr(self, f.name)
            levels[f.name] = float(rng.uniform(*level)) if isinstance(level, tuple) else level
        return self._put(np.asarray(image, np.float32), rng, np.float32(value_range / 255.0), **levels)

    def _put(self, image: FloatArray, rng: np.random.Generator, unit: np.float32, **levels: float) -> FloatArray:
        """Put noise of fixed levels on an image of which a grey level is ``unit``."""
        raise NotImplementedError

    def __str__(self) -> str:
        levels = [(f.name, _shown(getattr(self, f.name))) for f in fields(self)]
        if len(levels) == 1:
            return f"{self.id}:{levels[0][1]}"
        return f"{self.id}:" + ",".join(f"{name}={text}" for name, text in levels)


def _shown(level: object) -> str:
    if isinstance(level, (tuple, list)):
        return "-".join(map(_shown, level))
    return repr(float(level)).removesuffix(".0") if isinstance(level, (int, float)) else repr(level)


@dataclass(frozen=True)
class GaussianNoise(NoiseModel):
    """White noise of one width everywhere: the noise of the electronics."""

    id: ClassVar[str] = "gaussian"
    sigma: Level = field(default=(0.0, 55.0), metadata=_about("Standard deviation, in grey levels.", 0))

    def _put(self, image: FloatArray, rng: np.random.Generator, unit: np.float32, **levels: float) -> FloatArray:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return image + noise * (np.float32(levels["sigma"]) * unit)


@dataclass(frozen=True)
class PoissonNoise(NoiseModel):
    """The noise of counting photons; a grey level of 0 is no photon."""

    id: ClassVar[str] = "poisson"
    photons: Level = field(
        default=(10.0, 500.0), metadata=_about("Photons that make the highest grey level, 255.", 0, above=True)
    )

    def _put(self, image: FloatArray, rng: np.random.Generator, unit: np.float32, **levels: float) -> FloatArray:
        return _count(image, rng, float(255 * unit) / levels["photons"], 0.0)


@dataclass(frozen=True)
class PoissonGaussianNoise(NoiseModel):
    """Counted photons on a pedestal, then the noise of the electronics: a camera's image."""

    id: ClassVar[str] = "poisson_gaussian"
    gain: Level = field(default=(0.5, 10.0), metadata=_about("Grey levels that one photon makes.", 0, above=True))
    offset: Level = field(default=0.0, metadata=_about("Grey level without light.", -np.inf))
    read_noise: Level = field(
        default=(0.0, 10.0), metadata=_about("Standard deviation of the electronics' noise, in grey levels.", 0)
    )

    def _put(self, image: FloatArray, rng: np.random.Generator, unit: np.float32, **levels: float) -> FloatArray:
        counted = _count(image, rng, levels["gain"] * float(unit), levels["offset"] * float(unit))
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return counted + noise * (np.float32(levels["read_noise"]) * unit)


@dataclass(frozen=True)
class SaltAndPepperNoise(NoiseModel):
    """Samples that are black or white, as many of the one as of the other: dead and hot pixels."""

    id: ClassVar[str] = "salt_and_pepper"
    fraction: Level = field(default=(0.0, 0.2), metadata=_about("Part of the samples that are replaced, 0 to 1.", 0, 1))

    def _put(self, image: FloatArray, rng: np.random.Generator, unit: np.float32, **levels: float) -> FloatArray:
        draw = rng.random(image.shape, dtype=np.float32)
        out = image.copy()
        out[draw < levels["fraction"]] = 255 * unit
        out[draw < levels["fraction"] / 2] = 0
        return out


def _count(image: FloatArray, rng: np.random.Generator, gain: float, offset: float) -> FloatArray:
    """Replace what lies above the offset by counted photons; what lies below has none and stays."""
    photons = np.maximum(image - np.float32(offset), 0) / np.float32(gain)
    counted = rng.poisson(photons).astype(np.float32) * np.float32(gain)
    return np.asarray(counted + np.minimum(image, np.float32(offset)), np.float32)


NOISE_MODELS: Mapping[str, type[NoiseModel]] = {
    model.id: model for model in (GaussianNoise, PoissonNoise, PoissonGaussianNoise, SaltAndPepperNoise)
}
"""The models by id."""


def noise_model(name: str, **levels: Level) -> NoiseModel:
    """Make a noise model.

    Parameters
    ----------
    name : str
        ``"gaussian"``, ``"poisson"``, ``"poisson_gaussian"`` or ``"salt_and_pepper"``.
    **levels : float or (float, float)
        As ``sigma=25`` or ``sigma=(0, 55)``; those not given have the model's defaults.

    Raises
    ------
    ValueError
        For unknown models, unknown levels, and values that are not allowed.
    """
    model = NOISE_MODELS.get(name)
    if model is None:
        raise ValueError(f"There is no noise model {name!r}: choose one of {', '.join(NOISE_MODELS)}.")
    known = [f.name for f in fields(model)]
    for level in levels:
        if level not in known:
            raise ValueError(f"{name} has no level {level!r}: it has {', '.join(known)}.")
    return model(**levels)


def parse_noise(text: str) -> NoiseModel:
    """Read a noise model from text.

    Parameters
    ----------
    text : str
        ``"gaussian"``, ``"gaussian:25"``, ``"gaussian:0-55"``, ``"poisson:30-300"``,
        ``"poisson_gaussian:gain=2,read_noise=1-5"``: the first level needs no name.

    Returns
    -------
    NoiseModel

    Raises
    ------
    ValueError
        If it cannot be read, or says what is not allowed.
    """
    name, colon, rest = text.strip().partition(":")
    name = name.strip()
    first = fields(noise_model(name))[0].name
    levels: dict[str, Level] = {}
    for i, part in enumerate(rest.split(",") if colon else []):
        key, equals, value = part.partition("=")
        key, value = (key.strip(), value.strip()) if equals else (first if i == 0 else "", key.strip())
        match = _RANGE.fullmatch(value.replace(" ", ""))
        if not match or not key or key in levels:
            raise ValueError(
                f"The noise {text!r} cannot be read: write it as gaussian:25, gaussian:0-55 or "
                "poisson_gaussian:gain=2,read_noise=1-5."
            )
        low, high = match.groups()
        levels[key] = float(low) if high is None else (float(low), float(high))
    return noise_model(name, **levels)


def add_gaussian(
    image: npt.NDArray[Any], sigma: float, rng: np.random.Generator | int, value_range: float = 255.0
) -> FloatArray:
    """Add white Gaussian noise of standard deviation ``sigma``; see `NoiseModel.apply`."""
    return GaussianNoise(sigma).apply(image, rng, value_range)


def psnr(reference: npt.NDArray[Any], image: npt.NDArray[Any], value_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB.

    Parameters
    ----------
    reference, image : arrays of the same shape
    value_range : float
        The peak.
    """
    from skimage.metrics import peak_signal_noise_ratio

    return float(
        peak_signal_noise_ratio(
            np.asarray(reference, np.float64), np.asarray(image, np.float64), data_range=value_range
        )
    )
