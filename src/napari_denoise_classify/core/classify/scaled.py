"""Crops as classifiers see them, made from the crops' own values whenever they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from .datasets import Image


class ScaledCrops(Sequence[FloatArray]):
    """A sequence of float32 images (Y, X, S), mostly from 0 to 1, that holds the crops in their own dtype.

    An 8-bit crop takes a quarter of the memory that its floats would.

    Parameters
    ----------
    images : sequence of (Y, X) or (Y, X, 3 or more) arrays
        Of one dtype. Of colour images, the first three samples count.
    limits : (float, float)
        The values that become 0 and 1.
    """

    def __init__(self, images: Sequence[Image], limits: tuple[float, float]) -> None:
        self.images = images
        self.limits = (float(limits[0]), float(limits[1]))

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> FloatArray: ...
    @overload
    def __getitem__(self, index: slice) -> ScaledCrops: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ScaledCrops(self.images[index], self.limits)
        return self._scale(self.raw(int(index)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the crops as they are held."""
        return self.images[0].dtype

    def raw(self, index: int) -> Image:
        """Return a crop in its own dtype, (Y, X, S)."""
        image = self.images[index]
        return image[..., :3] if image.ndim == 3 else image[..., None]

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return the shape of a crop, (Y, X, S), without making it."""
        height, width, samples = self.raw(index).shape
        return height, width, samples

    def stack(self, indices: Sequence[int] | npt.NDArray[np.intp]) -> FloatArray:
        """Return crops of equal shape together, (N, Y, X, S) float32."""
        return self._scale(np.stack([self.raw(int(i)) for i in indices]))

    def take(self, indices: Sequence[int] | npt.NDArray[np.intp]) -> ScaledCrops:
        """Return some of the crops, as they are held."""
        return ScaledCrops([self.images[int(i)] for i in indices], self.limits)

    def _scale(self, values: Image) -> FloatArray:
        low, high = self.limits
        narrow = values.dtype.itemsize <= 2 or values.dtype == np.float32
        out = np.empty(values.shape, np.float32)
        np.subtract(values, low, out=out, casting="unsafe", dtype=np.float32 if narrow else np.float64)
        out /= high - low
        return out


def take(X: Sequence[FloatArray], indices: Sequence[int] | npt.NDArray[np.intp]) -> Sequence[FloatArray]:
    """Return some of the images; crops stay as they are held."""
    if isinstance(X, ScaledCrops):
        return X.take(indices)
    return [X[int(i)] for i in indices]


def shapes_of(X: Sequence[FloatArray]) -> list[tuple[int, ...]]:
    """Return the shape (Y, X, S) of every image, without making any."""
    if isinstance(X, ScaledCrops):
        return [X.shape(i) for i in range(len(X))]
    return [image.shape for image in X]
