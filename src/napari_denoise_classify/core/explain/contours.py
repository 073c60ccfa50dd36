"""The critical area: contours around the most influential part of a heat map."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_SMALLEST_PART = 0.01


def critical_mask(heat: npt.ArrayLike, fraction: float = 0.2) -> npt.NDArray[np.bool_]:
    """Find the most influential pixels.

    Parameters
    ----------
    heat : (Y, X) array
        Not negative; 0 is no influence.
    fraction : float
        Part of the pixels, between 0 and 1. Equal areas can be compared between recipes.

    Returns
    -------
    (Y, X) array of bool
        Without specks smaller than 1 % of the area, and never a pixel of no influence: all False for a map of zeros.

    Raises
    ------
    ValueError
        If the map is not a plane of finite, non-negative numbers, or the fraction not allowed.
    """
    from skimage.measure import label

    heat = np.asarray(heat, np.float64)
    if heat.ndim != 2 or heat.size == 0:
        raise ValueError(f"heat must be a plane (Y, X); it has shape {heat.shape}.")
    if not np.isfinite(heat).all() or (heat < 0).any():
        raise ValueError("heat holds negative, NaN or infinite values: give a heat map as explain returns it.")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction!r} is not allowed: give a number between 0 and 1.")
    mask = (heat >= np.quantile(heat, 1 - fraction)) & (heat > 0)
    parts = label(mask, connectivity=1)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept: npt.NDArray[np.bool_] = mask & (sizes >= _SMALLEST_PART * mask.sum())[parts]
    return kept


def critical_area(heat: npt.ArrayLike, fraction: float = 0.2) -> list[npt.NDArray[np.float64]]:
    """Outline the most influential part of a heat map.

    Parameters
    ----------
    heat : (Y, X) array
        From `explain`.
    fraction : float
        Part of the pixels that the contours enclose.

    Returns
    -------
    list of (N, 2) float64
        Closed contours in pixel coordinates (Y, X), largest first; a hole has one of its own. Empty for a map of
        zeros, which is no evidence.

    Raises
    ------
    ValueError
        If the map is not a plane of finite, non-negative numbers, or the fraction not allowed.
    """
    from skimage.measure import find_contours

    mask = critical_mask(heat, fraction)
    if not mask.any():
        return []
    padded = np.pad(mask.astype(np.float64), 1)
    contours: list[Any] = [c - 1.0 for c in find_contours(padded, 0.5)]
    return sorted(contours, key=lambda c: -abs(_area(c)))


def _area(contour: npt.NDArray[np.float64]) -> float:
    y, x = contour.T
    return float(np.dot(y[:-1], x[1:]) - np.dot(y[1:], x[:-1])) / 2
