"""Resizing samples to the size that a classifier sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def resize(images: Sequence[npt.NDArray[Any]], size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Resize images to squares.

    Parameters
    ----------
    images : sequence of (Y, X, S) arrays
    size : int
        Side in pixels.
    dtype : dtype
        Of the images: float32, uint8 or uint16.

    Returns
    -------
    (N, size, size, S) array
        Averaged where it shrinks, linearly interpolated where it grows.
    """
    from ..opencv import cv2

    samples = images[0].shape[-1] if len(images) else 1
    out = np.empty((len(images), size, size, samples), dtype)
    for i, image in enumerate(images):
        if image.shape[:2] == (size, size):
            out[i] = image
            continue
        shrinks = image.shape[0] > size or image.shape[1] > size
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        out[i] = cv2.resize(image, (size, size), interpolation=method).reshape(size, size, samples)
    return out
