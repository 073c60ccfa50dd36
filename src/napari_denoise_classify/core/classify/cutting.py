"""Cutting many crops out of an image: views where it is in memory, and a region at a time where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..images import Index, PlaneImage
from .datasets import Image

IntArray: TypeAlias = npt.NDArray[np.int_]
_REGION = 2048  # side, in pixels, of the regions of a lazy image that are read at a time; or one chunk of it


def cut_iter(
    source: PlaneImage, positions: IntArray, sizes: IntArray, most: int | None = None
) -> Iterator[tuple[npt.NDArray[np.intp], list[Image]]]:
    """Cut square crops; borders are reflected.

    Crops of one plane come together, so that each plane is read once. Of a lazy image only the regions in which crops
    lie are read, one at a time.

    Parameters
    ----------
    source : PlaneImage
    positions : (N, D) array of int
        Within the image: leading axes, Y, X.
    sizes : (N,) array of int
    most : int, optional
        So many crops at a time.

    Yields
    ------
    rows : (M,) array of int
        Which crops.
    crops : list of M arrays
        Each (size, size) or (size, size, 3); many are views of the image.

    Raises
    ------
    ValueError
        If pixels that are read are NaN or infinite.
    """
    n_lead = len(source.lead_shape)
    corners = positions[:, n_lead:] - sizes[:, None] // 2
    over: npt.NDArray[np.bool_] = np.any((corners < 0) | (corners + sizes[:, None] > source.plane_shape), axis=1)
    regions = np.maximum(corners, 0) // _region(source)
    keys, inverse = np.unique(np.column_stack([positions[:, :n_lead], regions]), axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(inverse.ravel()))
    for key, here in zip(keys.tolist(), np.split(order, ends[:-1]), strict=True):
        pixels, top, left = _read(source, tuple(key[:n_lead]), corners[here], sizes[here])
        for start in range(0, len(here), most or len(here)):
            rows = here[start : start + (most or len(here))]
            first = corners[rows] - (top, left)
            crops = [
                pixels[y : y + size, x : x + size]
                for (y, x), size in zip(first.tolist(), sizes[rows].tolist(), strict=True)
            ]
            for k in np.flatnonzero(over[rows]).tolist():
                crops[k] = _over_the_border(source, pixels, corners[rows[k]], (top, left), int(sizes[rows[k]]))
            yield rows, crops


def reflected(positions: IntArray, n: int) -> IntArray:
    """Return the pixels that stand at positions beyond the borders of ``n`` pixels, as numpy's mode "reflect"."""
    if n == 1:
        return np.zeros_like(positions)
    period = 2 * (n - 1)
    folded = positions % period
    return np.minimum(folded, period - folded)


def _over_the_border(source: PlaneImage, pixels: Image, corner: IntArray, origin: tuple[int, int], size: int) -> Image:
    area, pads, crop = [], [], []
    for start, n in zip(corner.tolist(), source.plane_shape, strict=True):
        before, after = max(0, -start), max(0, start + size - n)
        low, high = min(max(start, 0), n - 1 - after), max(min(start + size, n), before + 1)
        area.append((low, high))
        pads.append((before, after))
        crop.append(slice(0 if before else start - low, (0 if before else start - low) + size))
    if all(low >= 0 and high <= n for (low, high), n in zip(area, source.plane_shape, strict=True)):
        y, x = (slice(low - first, high - first) for (low, high), first in zip(area, origin, strict=True))
        padded: Image = np.pad(pixels[y, x], [*pads, (0, 0)][: pixels.ndim], mode="reflect")
        return padded[tuple(crop)]
    # The crop is larger than the plane, which is reflected over and over.
    takes = [
        reflected(np.arange(first, first + size), n) - start
        for first, start, n in zip(corner.tolist(), origin, source.plane_shape, strict=True)
    ]
    return pixels[np.ix_(*takes)]


def _region(source: PlaneImage) -> IntArray:
    """Return height and width of the regions that are read at a time: whole chunks, or the whole plane."""
    if not source.lazy:
        return np.array(source.plane_shape)
    n_lead = len(source.lead_shape)
    chunks = np.array([max(lengths) for lengths in source.data.chunks[n_lead : n_lead + 2]])
    whole: IntArray = chunks * np.maximum(1, _REGION // chunks)
    return whole


def _read(source: PlaneImage, index: Index, corners: IntArray, sizes: IntArray) -> tuple[Image, int, int]:
    """Read the part of a plane that crops need, reflections included; and where it begins."""
    area = [slice(None), slice(None)]
    if source.lazy:
        for axis, n in enumerate(source.plane_shape):
            first, last = corners[:, axis], corners[:, axis] + sizes - 1
            low, high = np.minimum(first, 2 * (n - 1) - last).min(), np.maximum(last, -first).max()
            area[axis] = slice(max(0, int(low)), min(n, int(high) + 1))
        pixels = source.read([index], area[0], area[1]).data[0]
    else:
        pixels = source.raw_plane(index)
    return pixels[..., :3] if source.rgb else pixels, area[0].start or 0, area[1].start or 0
