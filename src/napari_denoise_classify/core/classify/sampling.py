"""From one large image to crops: around points, and around the objects of a label image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..images import Index, PlaneImage
from .datasets import Image


def crop_around(source: PlaneImage, centres: npt.NDArray[np.floating[Any]], size: int) -> list[Image]:
    """Cut square crops around positions; borders are reflected.

    Parameters
    ----------
    source : PlaneImage
    centres : (N, D) array
        In pixels: the leading axes (rounded to the nearest plane), then Y, X.
    size : int
        Side of the crops.

    Returns
    -------
    list of array
        Each (size, size) or (size, size, 3).

    Raises
    ------
    ValueError
        If a position lies outside the image, or ``size`` is not allowed.
    """
    if size < 1:
        raise ValueError(f"size={size} is not allowed: crops need at least 1 pixel.")
    centres = np.asarray(centres, float)
    n_lead = len(source.lead_shape)
    if centres.ndim != 2 or centres.shape[1] != n_lead + 2:
        raise ValueError(f"Positions need {n_lead + 2} coordinates each; these have shape {centres.shape}.")
    # NaN and infinity are nowhere in the image either.
    rounded = np.rint(np.where(np.isfinite(centres), centres, -1)).astype(int)
    limits = np.array((*source.lead_shape, *source.plane_shape))
    outside = ((rounded < 0) | (rounded >= limits)).any(axis=1)
    if outside.any():
        first = centres[outside][0].round(1).tolist()
        raise ValueError(
            f"{int(outside.sum())} of {len(centres)} positions lie outside the image; the first is {first}."
        )
    crops: list[Image | None] = [None] * len(centres)
    lead, inverse = np.unique(rounded[:, :n_lead], axis=0, return_inverse=True)
    for k, index in enumerate(lead):
        here = np.flatnonzero(inverse.ravel() == k)
        plane = source.raw_plane(tuple(int(i) for i in index))
        for i, crop in zip(
            here, _cut(plane[..., :3] if source.rgb else plane, rounded[here, n_lead:], size), strict=True
        ):
            crops[i] = crop
    return [crop for crop in crops if crop is not None]


def _cut(plane: Image, corners: npt.NDArray[np.int_], size: int) -> Image:
    """Cut all crops of one plane at once, (N, size, size[, 3])."""
    half = size // 2
    pad = [(half, size - half)] * 2 + [(0, 0)] * (plane.ndim - 2)
    # numpy reflects over and over where a crop is larger than the plane; a side of 1 pixel can only be repeated.
    padded = np.pad(plane, pad, mode="reflect" if min(plane.shape[:2]) > 1 else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    cut = windows[corners[:, 0], corners[:, 1]]
    return np.ascontiguousarray(np.moveaxis(cut, 1, -1) if plane.ndim == 3 else cut)


def object_centres(labels: Any) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Find where the objects of a label image are.

    An object that spans several planes is taken in the plane where it is largest.

    Parameters
    ----------
    labels : (…, Y, X) array of int
        0 is background.

    Returns
    -------
    ids : (N,) array of int
    centres : (N, D) array
        Leading indices, then the centroid (Y, X), in pixels.

    Raises
    ------
    ValueError
        If there are no objects.
    """
    from skimage.measure import regionprops_table

    source = PlaneImage.wrap(labels)
    if source.data.dtype.kind not in "ui":
        raise ValueError(f"A label image holds whole numbers, one for each object; this one is {source.data.dtype}.")
    best: dict[int, tuple[float, Index, float, float]] = {}
    for index in source.indices():
        # Numbered anew: scikit-image makes a list as long as the largest number.
        values, compact = np.unique(source.raw_plane(index), return_inverse=True)
        plane = np.where(values > 0, np.arange(1, len(values) + 1), 0)[compact].reshape(source.plane_shape)
        table = regionprops_table(plane, properties=("label", "area", "centroid"))
        table["label"] = values[table["label"] - 1]
        for label, area, y, x in zip(*(table[k] for k in ("label", "area", "centroid-0", "centroid-1")), strict=True):
            if int(label) not in best or area > best[int(label)][0]:
                best[int(label)] = (area, index, y, x)
    if not best:
        raise ValueError("The label image holds no objects.")
    ids = np.array(sorted(best))
    return ids, np.array([(*best[i][1], *best[i][2:]) for i in ids.tolist()], float)


def default_size(source: PlaneImage) -> int:
    """Return the side of a crop where nothing else says it: 32 pixels, or the image's shorter side if less."""
    return min(32, *source.plane_shape)
