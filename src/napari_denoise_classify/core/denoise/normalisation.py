"""The scale on which a network was trained, kept with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray

_EXTREMES = (0.1, 99.9)  # per cent


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the training images, in their own intensities.

    The network sees (input - mean) / std, and its output means output · target_std + target_mean.

    Attributes
    ----------
    mean, std : float
        Of the inputs.
    target_mean, target_std : float
        Of the targets; those of the inputs for self-supervision.
    """

    mean: float
    std: float
    target_mean: float
    target_std: float

    @classmethod
    def of(cls, inputs: Sequence[FloatArray], targets: Sequence[FloatArray]) -> Normalisation:
        """Measure it over all pixels of the training planes."""
        return cls(*_moments(inputs), *_moments(targets or inputs))

    @classmethod
    def onto_unit(cls, inputs: Sequence[FloatArray], targets: Sequence[FloatArray]) -> Normalisation:
        """Measure the scale on which a network that knows images from 0 to 1 knows these, too.

        The extremes of an image that is nothing but Gaussian noise are 6.2 of its standard deviations apart, so noise
        is never stronger than 41 of 255 grey levels there: such networks are made for that.
        """
        extent = _extent(inputs)
        return cls(*extent, *(_extent(targets) if targets else extent))

    def forward(self, planes: FloatArray) -> FloatArray:
        """Turn inputs in their own intensities into what the network sees."""
        return (planes - np.float32(self.mean)) / np.float32(self.std)

    def forward_target(self, planes: FloatArray) -> FloatArray:
        """Turn targets into what the network should put out."""
        return (planes - np.float32(self.target_mean)) / np.float32(self.target_std)

    def of_planes(self, planes: FloatArray, ranges: npt.NDArray[np.float64]) -> FloatArray:
        """Turn planes (N, Y, X, S), of which 0 and 1 mean the intensities ``ranges`` (N, 2), into inputs."""
        low, span = _columns(ranges)
        return _line(planes, span / self.std, (low - self.mean) / self.std)

    def to_planes(self, outputs: FloatArray, ranges: npt.NDArray[np.float64]) -> FloatArray:
        """Turn outputs of the network into planes of these intensities."""
        low, span = _columns(ranges)
        return _line(outputs, self.target_std / span, (self.target_mean - low) / span)

    def to_dict(self) -> dict[str, float]:
        """Return it as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Any) -> Normalisation:
        """Make it from what `to_dict` returned.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            values = {name: float(saved[name]) for name in ("mean", "std", "target_mean", "target_std")}
        except (TypeError, KeyError, ValueError, OverflowError):
            raise ValueError("the normalisation is damaged") from None
        if not np.isfinite(list(values.values())).all() or values["std"] <= 0 or values["target_std"] <= 0:
            raise ValueError("the normalisation is damaged")
        return cls(**values)


def _columns(ranges: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the lower ends and the widths, in float64: large intensities that lie close together differ in it."""
    shaped = ranges[:, :, None, None, None]
    return shaped[:, 0], shaped[:, 1] - shaped[:, 0]


def _line(planes: FloatArray, slope: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> FloatArray:
    return np.asarray(planes * slope.astype(np.float32) + offset.astype(np.float32), np.float32)


def _extent(planes: Sequence[FloatArray]) -> tuple[float, float]:
    """Return where the intensities begin and how far they reach, single bright and dark pixels aside."""
    low, high = np.percentile(np.concatenate([p.ravel() for p in planes]), _EXTREMES)
    return float(low), float(high - low) or 1.0


def _moments(planes: Sequence[FloatArray]) -> tuple[float, float]:
    count = sum(p.size for p in planes)
    mean = sum(float(p.sum(dtype=np.float64)) for p in planes) / count
    variance = sum(float(np.square(p - mean, dtype=np.float64).sum()) for p in planes) / count
    least = 1e-6 * abs(mean)  # constant images still need a scale
    return mean, float(max(variance**0.5, least)) or 1.0
