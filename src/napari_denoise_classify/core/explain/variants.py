"""What every question of the kind "and if this part were gone?" shares: the blur that hides, and many variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..classify.scaled import shapes_of
from ..images import FloatArray
from ..progress import Steps, within

if TYPE_CHECKING:
    from ..classify.bundle import Classifier

BLUR = 1 / 8
"""Sigma of the blur that hides a part, as a fraction of the shorter side: no nucleus keeps its inside."""
_CHUNK_FLOATS = 2**22
_BLOCK_FLOATS = 2**24


def blurred(image: FloatArray) -> FloatArray:
    """Return an image without its details: what takes the place of a part that is hidden.

    Unlike a constant colour it makes no edges that a classifier never saw.

    Parameters
    ----------
    image : (Y, X, S) float32

    Returns
    -------
    (Y, X, S) float32
    """
    from ..opencv import cv2

    sigma = BLUR * min(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)).reshape(image.shape)


def tent(size: int) -> FloatArray:
    """Return the (size, size) float32 weights of a patch: 1 in its middle, falling to little at its border."""
    ramp = 1 - np.abs((np.arange(size) + 0.5) / size * 2 - 1) * (1 - 1 / size)
    return np.outer(ramp, ramp).astype(np.float32)


def starts(length: int, size: int, stride: int) -> list[int]:
    """Return where patches begin along a side so that they cover all of it."""
    size = min(size, length)
    return sorted({*range(0, length - size + 1, stride), length - size})


def blocks(scaled: Sequence[FloatArray]) -> Iterator[slice]:
    """Cut images into parts that may be in memory together, as floats and with what is computed of them."""
    largest = max((int(np.prod(shape)) for shape in shapes_of(scaled)), default=1)
    size = max(1, _BLOCK_FLOATS // largest)
    for start in range(0, len(scaled), size):
        yield slice(start, min(start + size, len(scaled)))


def proba_of_variants_iter(
    classifier: Classifier, count: int, make: Callable[[int], FloatArray], floats: int, message: str = ""
) -> Steps[npt.NDArray[np.float64]]:
    """Classify variants of images that are made a batch at a time.

    Parameters
    ----------
    classifier : Classifier
    count : int
    make : callable
        ``make(k)`` returns variant k, (Y, X, S) float32.
    floats : int
        Numbers in the largest variant: decides how many are in memory.
    message : str, optional

    Returns
    -------
    (count, classes) float64
    """
    size = max(1, _CHUNK_FLOATS // floats)
    parts = [np.empty((0, len(classifier.classes)))]
    for start in range(0, count, size):
        stop = min(start + size, count)
        chunk = [make(k) for k in range(start, stop)]
        work = classifier.proba_of_scaled_iter(chunk)
        parts.append((yield from within(work, start / count, stop / count, message)))
    return np.concatenate(parts)
