"""The critical area: contours around the most influential part of a heat map."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..parameters import param
from ..steps import get_step, step

_SMALLEST_PART = 0.01
Mode: TypeAlias = Literal["top", "half-maximum", "half-mass"]


@step("critical_area", kind="area", title="Critical area")
def critical_mask(
    heat: npt.ArrayLike,
    *,
    mode: Annotated[
        Mode,
        param(
            "top: an equal part of every map, so that areas can be compared; half-maximum: all that is at least half "
            "as hot as the hottest pixel; half-mass: the hottest pixels that hold half of the influence."
        ),
    ] = "top",
    fraction: Annotated[
        float, param("Part of the pixels in the critical area, for the mode top.", ge=0.001, le=0.999, step=0.05)
    ] = 0.2,
) -> npt.NDArray[np.bool_]:
    """Find the most influential pixels.

    Parameters
    ----------
    heat : (Y, X) array
        Not negative; 0 is no influence.
    mode : {"top", "half-maximum", "half-mass"}
    fraction : float
        Part of the pixels. Equal areas can be compared between recipes.

    Returns
    -------
    (Y, X) array of bool
        Without specks smaller than 1 % of the area, and never a pixel of no influence: all False for a map of zeros.

    Raises
    ------
    ValueError
        If the map is not a plane of finite, non-negative numbers, or the mode or fraction not allowed.
    """
    from skimage.measure import label

    heat = np.asarray(heat, np.float64)
    if heat.ndim != 2 or heat.size == 0:
        raise ValueError(f"heat must be a plane (Y, X); it has shape {heat.shape}.")
    if not np.isfinite(heat).all() or (heat < 0).any():
        raise ValueError("heat holds negative, NaN or infinite values: give a heat map as explain returns it.")
    checked = get_step("critical_area").validate({"mode": mode, "fraction": fraction})
    mask = (heat >= _threshold(heat, **checked)) & (heat > 0)
    parts = label(mask, connectivity=1)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept: npt.NDArray[np.bool_] = mask & (sizes >= _SMALLEST_PART * mask.sum())[parts]
    return kept


def _threshold(heat: npt.NDArray[np.float64], mode: Mode, fraction: float) -> float:
    """Return the lowest heat inside the area."""
    if mode == "top":
        return float(np.quantile(heat, 1 - fraction))
    if mode == "half-maximum":
        return float(heat.max()) / 2
    falling = np.sort(heat, axis=None)[::-1]
    mass = np.cumsum(falling)
    return float(falling[np.searchsorted(mass, mass[-1] / 2)])


def critical_area(heat: npt.ArrayLike, fraction: float = 0.2, *, mode: Mode = "top") -> list[npt.NDArray[np.float64]]:
    """Outline the most influential part of a heat map.

    Parameters
    ----------
    heat : (Y, X) array
        From `explain`.
    fraction : float
        Part of the pixels that the contours enclose, for the mode ``"top"``.
    mode : {"top", "half-maximum", "half-mass"}
        ``"top"``: the hottest ``fraction`` of the pixels. ``"half-maximum"``: all that is at least half as hot as the
        hottest. ``"half-mass"``: the hottest pixels that hold half of the influence.

    Returns
    -------
    list of (N, 2) float64
        Closed contours in pixel coordinates (Y, X), largest first; a hole has one of its own. Empty for a map of
        zeros, which is no evidence.

    Raises
    ------
    ValueError
        If the map is not a plane of finite, non-negative numbers, or the mode or fraction not allowed.
    """
    return outlines(critical_mask(heat, mode=mode, fraction=fraction))


def outlines(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float64]]:
    """Return the closed contours of a (Y, X) mask, largest first; a hole has one of its own."""
    from skimage.measure import find_contours

    if not mask.any():
        return []
    padded = np.pad(mask.astype(np.float64), 1)
    contours: list[Any] = [c - 1.0 for c in find_contours(padded, 0.5)]
    return sorted(contours, key=lambda c: -abs(_area(c)))


def _area(contour: npt.NDArray[np.float64]) -> float:
    y, x = contour.T
    return float(np.dot(y[:-1], x[1:]) - np.dot(y[1:], x[:-1])) / 2
