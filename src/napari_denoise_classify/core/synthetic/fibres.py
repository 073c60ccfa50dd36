"""Fibres around one direction and collagen around a tumour, drawn with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ..images import from_float
from .drawing import Doubles, Noise, blurred, checked, noisy, outline, texture

Signature: TypeAlias = Literal["TACS-1", "TACS-2", "TACS-3"]


@dataclass(frozen=True, eq=False)
class FibreField:
    """An image of fibres, and how each of them runs.

    Attributes
    ----------
    image : (Y, X) uint8
    centre_lines : list of (N, 2) float64
        Y, X along each fibre, in pixels; fibres may leave the image.
    angles : (F,) float64
        Mean axial direction of each fibre in degrees, 0 to 180, counter-clockwise from +X as seen on the screen.
    widths : (F,) float64
        Diameters in pixels, before the blur.
    mask : (Y, X) bool
        Pixels of which fibres cover at least half.
    boundary : (K, 2) float64
        Y, X of the tumour's outline, closed; empty where there is none.
    boundary_angles : (F,) float64
        Between each fibre and the nearest piece of the boundary in degrees: 0 is parallel, 90 perpendicular; NaN
        where there is no boundary.
    name : str
    """

    image: npt.NDArray[np.uint8]
    centre_lines: list[Doubles]
    angles: Doubles
    widths: Doubles
    mask: npt.NDArray[np.bool_]
    boundary: Doubles
    boundary_angles: Doubles
    name: str


def fibres(
    angle: float = 0.0,
    spread: float = 0.0,
    shape: tuple[int, int] = (256, 256),
    count: int = 20,
    *,
    width: tuple[float, float] = (3.0, 5.0),
    length: tuple[float, float] = (80.0, 160.0),
    waviness: float = 0.0,
    blur: float = 0.8,
    noise: Noise = "gaussian:5",
    seed: int = 0,
) -> FibreField:
    """Draw fibres around one direction.

    Parameters
    ----------
    angle : float
        Degrees; 0 along +X, counter-clockwise as seen on the screen.
    spread : float
        Standard deviation of the fibres' directions around it, in degrees.
    shape : (int, int)
        Height and width in pixels.
    count : int
    width, length : (float, float)
        Pixels; each fibre draws its own.
    waviness : float
        Height of the waves over their length: 0 is straight, 0.1 curly.
    blur : float
        Standard deviation of the microscope's blur in pixels.
    noise : NoiseModel or str, optional
    seed : int

    Returns
    -------
    FibreField

    Raises
    ------
    ValueError
        For shapes and noise that are not allowed.
    """
    height, across = checked(shape)
    rng = np.random.default_rng((seed, 3))
    centres = rng.uniform((0, 0), (height, across), (count, 2))
    angles = angle + spread * rng.standard_normal(count)
    lines = [_line(rng, c, a, rng.uniform(*length), waviness) for c, a in zip(centres, angles, strict=True)]
    return _drawn(rng, (height, across), lines, rng.uniform(*width, count), np.empty((0, 2)), blur, noise, f"{seed}")


def collagen(
    signature: Signature = "TACS-2",
    shape: tuple[int, int] = (256, 256),
    count: int | None = None,
    *,
    width: tuple[float, float] = (2.0, 4.5),
    blur: float = 0.8,
    noise: Noise = "poisson_gaussian:gain=3,offset=12,read_noise=4",
    seed: int = 0,
) -> FibreField:
    """Draw collagen around a tumour with one of the signatures of Provenzano et al., BMC Medicine 4:38 (2006).

    TACS-1: dense, curly collagen around the tumour. TACS-2: straight fibres along the boundary. TACS-3: straight fibres
    perpendicular to it.

    Parameters
    ----------
    signature : {"TACS-1", "TACS-2", "TACS-3"}
    shape : (int, int)
        Height and width in pixels.
    count : int, optional
        Of fibres. Default: by area.
    width : (float, float)
        Diameters in pixels.
    blur : float
        Standard deviation of the microscope's blur in pixels.
    noise : NoiseModel or str, optional
    seed : int

    Returns
    -------
    FibreField

    Raises
    ------
    ValueError
        For unknown signatures, shapes and noise that are not allowed.
    """
    if signature not in get_args(Signature):
        raise ValueError(f"There is no signature {signature!r}: choose TACS-1, TACS-2 or TACS-3.")
    height, across = checked(shape)
    side = min(height, across)
    rng = np.random.default_rng((seed, 4))
    if count is None:
        count = round({"TACS-1": 4.5e-3, "TACS-2": 2.2e-3, "TACS-3": 2.0e-3}[signature] * height * across)
    middle = np.array([height, across]) * rng.uniform(0.45, 0.55, 2)
    around = outline(rng, side * 0.24, 0.05, 360)
    boundary = middle + around
    lines = []
    for k in rng.integers(0, 360, count):
        tangent = boundary[(k + 3) % 360] - boundary[k - 3]
        along = float(np.degrees(np.arctan2(-tangent[0], tangent[1])))
        outward = around[k] / np.linalg.norm(around[k])
        if signature == "TACS-1":
            centre = boundary[k] + outward * side * rng.uniform(0.02, 0.2)
            lines.append(_line(rng, centre, rng.uniform(0, 180), side * rng.uniform(0.05, 0.12), 0.16))
        elif signature == "TACS-2":
            centre = boundary[k] + outward * side * rng.uniform(0.01, 0.3)
            lines.append(_line(rng, centre, along + 7 * rng.standard_normal(), side * rng.uniform(0.12, 0.25), 0.008))
        else:
            reach = side * rng.uniform(0.12, 0.28)
            centre = boundary[k] + outward * (reach / 2 + side * rng.uniform(-0.05, 0.14))
            lines.append(_line(rng, centre, along + 90 + 9 * rng.standard_normal(), reach, 0.012))
    return _drawn(
        rng, (height, across), lines, rng.uniform(*width, count), boundary, blur, noise, f"{signature} {seed}"
    )


def _line(rng: np.random.Generator, centre: Doubles, angle: float, length: float, waviness: float) -> Doubles:
    """Draw a wavy line as (N, 2), about 2 pixels from point to point."""
    t = np.linspace(-0.5, 0.5, max(int(length / 2), 2))
    waves = max(length / 30, 1.0) * rng.uniform(0.8, 1.25)
    sideways = waviness * length / waves * np.sin(2 * np.pi * (waves * t + rng.uniform()))
    radians = np.radians(angle)
    forward, left = np.array([-np.sin(radians), np.cos(radians)]), np.array([-np.cos(radians), -np.sin(radians)])
    return np.asarray(centre + length * t[:, None] * forward + sideways[:, None] * left)


def _drawn(
    rng: np.random.Generator,
    shape: tuple[int, int],
    lines: list[Doubles],
    widths: Doubles,
    boundary: Doubles,
    blur: float,
    noise: Noise,
    name: str,
) -> FibreField:
    cover, light = np.zeros(shape), np.zeros(shape)
    for line, width in zip(lines, widths, strict=True):
        brightness = rng.uniform(0.6, 1.0)
        for start, stop in pairwise(line):
            _segment(cover, light, start, stop, width / 2, brightness)
    speckle = np.clip(1 + 0.12 * texture(rng, shape, (1.5, 1.5)), 0.5, 1.5)
    clean = 255 * (0.06 + 0.62 * blurred(light * speckle, blur))
    image = from_float(noisy(clean, noise, rng), np.uint8)
    angles = np.array([_mean_angle(line) for line in lines])
    towards = np.full(len(lines), np.nan)
    if len(boundary):
        tangents = np.roll(boundary, -3, axis=0) - np.roll(boundary, 3, axis=0)
        for i, line in enumerate(lines):
            nearest = np.linalg.norm(boundary - line.mean(axis=0), axis=1).argmin()
            dy, dx = tangents[nearest]
            between = abs(angles[i] - np.degrees(np.arctan2(-dy, dx))) % 180
            towards[i] = min(between, 180 - between)
    return FibreField(image, lines, angles, widths, cover >= 0.5, boundary, towards, f"fibres {name}")


def _segment(cover: Doubles, light: Doubles, start: Doubles, stop: Doubles, radius: float, brightness: float) -> None:
    """Draw a straight piece with round ends; at its rim a pixel is as bright as it is covered."""
    low = np.floor(np.minimum(start, stop) - radius - 1).astype(int)
    high = np.ceil(np.maximum(start, stop) + radius + 2).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, cover.shape)
    if (low >= high).any():
        return
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    y, x = np.ogrid[window]
    dy, dx = stop - start
    t = np.clip(((y - start[0]) * dy + (x - start[1]) * dx) / max(dy * dy + dx * dx, 1e-12), 0, 1)
    part = np.clip(radius + 0.5 - np.hypot(y - start[0] - t * dy, x - start[1] - t * dx), 0, 1)
    np.maximum(cover[window], part, out=cover[window])
    np.maximum(light[window], brightness * part, out=light[window])


def _mean_angle(line: Doubles) -> float:
    dy, dx = np.diff(line, axis=0).T
    mean = (np.hypot(dy, dx) * np.exp(2j * np.arctan2(-dy, dx))).sum()  # doubled: directions have no sign
    return float(np.degrees(np.angle(mean)) / 2 % 180) % 180
