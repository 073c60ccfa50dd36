"""Ridges of a plane: their directions, centre lines and widths, in pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..estimation import estimate_sigma
from ..images import FloatArray, PlaneImage
from .skeletons import BoolArray, Branch, thinned

_WINDOW = 2.5  # pixels: over what the structure tensor is averaged
_GRADIENT = 1.0  # pixels: the Gaussian whose derivative is the gradient
_RIDGE_NOISE = 0.244  # √(3 / 16π): the ridge filter's answer to white noise of σ = 1, at 1 pixel; it falls with scale
_SURE, _POSSIBLE = 6.0, 4.0  # times that: a ridge starts, and goes on
_SMOOTHING = 0.7  # pixels: against holes that noise leaves in the mask
_SMALLEST_HOLE = 16  # pixels: smaller ones would become rings
_FINE = 6  # the distance transform is taken on a grid so many times finer
_PIXELS = 1 / 6  # variance of the blur of pixels, 1/12, and of interpolating between them, as much again


def normalised(image: npt.ArrayLike, dark: bool) -> FloatArray | None:
    """Return bright fibres from 0 to 1, or None for a flat image."""
    from skimage.color import rgb2gray

    array = np.asarray(image)
    wrapped = PlaneImage.wrap(array, rgb=array.ndim == 3)
    plane = wrapped.raw_plane(()).astype(np.float64)
    if wrapped.rgb:
        plane = rgb2gray(plane[..., :3])
    low, high = float(plane.min()), float(plane.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return None
    plane = (plane - low) / (high - low)
    return np.asarray(1 - plane if dark else plane, np.float32)


def directions(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return orientation in degrees and coherence from the structure tensor."""
    from scipy import ndimage as ndi

    across = ndi.gaussian_filter(plane, _GRADIENT, order=(0, 1), mode="nearest")
    up = -ndi.gaussian_filter(plane, _GRADIENT, order=(1, 0), mode="nearest")
    products = np.stack([across * across, across * up, up * up])
    # Gradients near the border know of pixels that are not there: they do not count.
    rim = min(2, (min(plane.shape) - 1) // 2)
    if rim:
        inside = np.zeros(plane.shape, bool)
        inside[rim:-rim, rim:-rim] = True
        products *= inside
    xx, xy, yy = (ndi.gaussian_filter(p, _WINDOW, mode="constant") for p in products)
    strength = xx + yy
    anisotropy = np.hypot(xx - yy, 2 * xy)
    coherence = np.divide(anisotropy, strength, out=np.zeros_like(strength), where=strength > 1e-12)
    orientation = (np.degrees(np.arctan2(2 * xy, xx - yy)) / 2 + 90) % 180  # fibres run across their gradients
    return orientation.astype(np.float32), np.clip(coherence, 0, 1).astype(np.float32)


class Level(NamedTuple):
    """A plane without its noisiest detail, and its local background."""

    smooth: FloatArray
    background: FloatArray


def centre_lines(plane: FloatArray, max_width: float) -> tuple[BoolArray, Level]:
    """Thin the ridges that stand out of the noise to lines.

    Parameters
    ----------
    plane : (Y, X) float32
        From `normalised`.
    max_width : float
        Of a fibre, in pixels.

    Returns
    -------
    skeleton : (Y, X) bool
    level : Level
        For `widths`.
    """
    from scipy import ndimage as ndi
    from skimage.filters import apply_hysteresis_threshold, sato, threshold_otsu
    from skimage.morphology import remove_small_holes

    level = Level(ndi.gaussian_filter(plane, _SMOOTHING), _floor(plane, max_width))
    # Photon noise becomes even, and faint fibres count beside bright ones.
    root = np.sqrt(plane)
    noise = estimate_sigma(root[..., None]) / 255
    scales = np.geomspace(1, max(max_width / 2, 1), 2 + round(2 * np.log2(max(max_width / 2, 1))))
    ridge, surely, possibly = np.zeros(plane.shape), np.zeros(plane.shape, bool), np.zeros(plane.shape, bool)
    for scale in scales:
        one = sato(root, [scale], black_ridges=False, mode="reflect")
        answer = _RIDGE_NOISE * noise / scale
        surely |= one > _SURE * answer
        possibly |= one > _POSSIBLE * answer
        np.maximum(ridge, one, out=ridge)
    ridge[~possibly] = 0
    if not ridge.any():
        return possibly, level
    # Far below this lies the rounding of integers and floats, not a fibre.
    threshold = max(threshold_otsu(ridge), 0.01)
    binary = apply_hysteresis_threshold(ridge * possibly, threshold / 2, threshold)
    binary &= apply_hysteresis_threshold(possibly.astype(float) + surely, 0.5, 1.5)
    # The widest scales see bundles as well: no centre line runs through the dark gap between two fibres.
    binary &= level.smooth > (level.background + _ceiling(level.smooth, max_width)) / 2
    return thinned(remove_small_holes(binary, max_size=_SMALLEST_HOLE)), level


def _disk(diameter: float) -> npt.NDArray[np.uint8]:
    from skimage.morphology import disk

    return np.asarray(disk(int(np.ceil(diameter / 2))), np.uint8)


def _floor(plane: FloatArray, max_width: float) -> FloatArray:
    """Return the background: what a disk that fits into no fibre sees at its darkest."""
    from scipy import ndimage as ndi

    from ..opencv import cv2

    opened = cv2.morphologyEx(ndi.gaussian_filter(plane, 1.5), cv2.MORPH_OPEN, _disk(2 * max_width))
    return np.asarray(ndi.gaussian_filter(opened, max_width / 2))


def _ceiling(smooth: FloatArray, max_width: float) -> FloatArray:
    """Return the brightness of the fibres around."""
    from scipy import ndimage as ndi

    from ..opencv import cv2

    return np.asarray(ndi.gaussian_filter(cv2.dilate(smooth, _disk(max_width / 2)), max_width / 4))


def widths(level: Level, skeleton: BoolArray, max_width: float, blur: float) -> tuple[BoolArray, FloatArray]:
    """Return the pixels above half height, and on the skeleton the diameter in pixels.

    Parameters
    ----------
    level : Level
    skeleton : (Y, X) bool
    max_width, blur : float
        Pixels.
    """
    smooth, background = level
    from scipy import ndimage as ndi

    from ..opencv import cv2

    width = np.zeros(smooth.shape, np.float32)
    if not skeleton.any():
        return skeleton.copy(), width
    weight = ndi.gaussian_filter(skeleton.astype(np.float32), 2.0)
    peak = np.where(skeleton, cv2.dilate(smooth, np.ones((3, 3), np.uint8)), 0)  # thinning misses it by a pixel
    top = ndi.gaussian_filter(peak, 2.0) / np.maximum(weight, 1e-6)
    distance, nearest = ndi.distance_transform_edt(~skeleton, return_indices=True)
    half = ((background + top[tuple(nearest)]) / 2).astype(np.float32)
    above = np.where(distance <= max_width, smooth - half, -np.abs(half) - 1e-3).astype(np.float32)
    mask = above > 0
    rows, columns = smooth.shape
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    halo = int(np.ceil(max_width)) + 2
    radius = np.zeros(smooth.shape, np.float32)
    for start in range(0, rows, 512):  # in strips: the fine grid is 36 times as large
        first, last = max(start - halo, 0), min(start + 512 + halo, rows)
        strip = above[first:last]
        fine = cv2.resize(strip, (columns * _FINE, len(strip) * _FINE), interpolation=cv2.INTER_LINEAR)
        away = cv2.distanceTransform((fine > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # A skeleton pixel lies up to a pixel off the middle.
        best = away.reshape(len(strip), _FINE, columns, _FINE).max(axis=(1, 3))
        best = cv2.dilate(best, cross)
        stop = min(start + 512, rows)
        radius[start:stop] = best[start - first : stop - first]
    # Pixels off the middle measure too little, distances to the middles of pixels too much: they cancel.
    diameter = radius[skeleton] * np.float32(2 / _FINE)
    width[skeleton] = _sharpened(diameter, float(np.sqrt(_SMOOTHING**2 + _PIXELS + blur**2)))
    return mask, width


def _sharpened(measured: FloatArray, sigma: float) -> FloatArray:
    """Return the widths of sharp fibres which, blurred, are so wide at half of their height."""
    from scipy.special import ndtr

    widths = np.linspace(0.5, 8, 76)  # all in units of sigma; wider ones keep their width
    profile_at = np.linspace(0, 6, 1201)
    profiles = ndtr(profile_at + widths[:, None] / 2) - ndtr(profile_at - widths[:, None] / 2)
    blurred = 2 * profile_at[(profiles > profiles[:, :1] / 2).sum(axis=1)]
    ratio = measured / sigma
    return np.where(ratio < blurred[-1], sigma * np.interp(ratio, blurred, widths), measured).astype(np.float32)


def extended(branch: Branch, width: FloatArray) -> Branch:
    """Add to free ends what thinning took: half the width, unless the image ends first."""
    extra = 0.0
    for free, end in zip(branch.free, (branch.path[0], branch.path[-1]), strict=True):
        if free:
            y, x = np.rint(end).astype(int)
            border = min(end[0], end[1], width.shape[0] - 1 - end[0], width.shape[1] - 1 - end[1]) + 0.5
            extra += min(float(width[y, x]) / 2, max(border, 0.0))
    return Branch(branch.path, branch.length + extra, branch.straightness, branch.free)
