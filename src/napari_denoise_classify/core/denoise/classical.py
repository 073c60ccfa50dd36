"""Denoising without networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np

from ..images import FloatArray
from ..inference import plan_tiles
from ..parameters import ODD, param
from ..progress import Progress, Steps, within
from ..steps import step

Sigma: TypeAlias = Annotated[
    float | None,
    param(
        "Noise level of the image on a scale of 0 to 255; nothing = estimated in every plane.",
        unit="grey levels",
        ge=0.1,
        le=255,
        step=1,
    ),
]
Strength: TypeAlias = Annotated[
    float, param("How much to smooth, relative to the noise level.", ge=0.05, le=10, step=0.1)
]

# Rows: luminance, red against blue, green against both. Orthonormal: white noise keeps its level in every row.
_OPPONENT: FloatArray = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
_OPPONENT /= np.linalg.norm(_OPPONENT, axis=1, keepdims=True)


_MEASURED = 0.1  # the part of a run that measuring the noise counts for
_WAVELET_SIDE = 32  # the shortest side that a wavelet transform of a few levels can do


def opponent(planes: FloatArray) -> FloatArray:
    """Turn RGB into one luminance and two colour differences; gray planes stay as they are.

    Parameters
    ----------
    planes : (..., S) float32
        With S = 1 or 3.

    Returns
    -------
    (..., S) float32
        White noise has the same level in every sample as before, and stays white.
    """
    return np.dot(planes, _OPPONENT.T) if planes.shape[-1] == 3 else planes


def from_opponent(planes: FloatArray) -> FloatArray:
    """Undo `opponent`."""
    return np.dot(planes, _OPPONENT) if planes.shape[-1] == 3 else planes


def noise_levels_iter(planes: FloatArray, sigma: float | None) -> Steps[list[float]]:
    """Find the noise level of every plane; there is progress before each that is measured.

    Parameters
    ----------
    planes : (N, Y, X, S) float32
    sigma : float or None
        In grey levels; None = estimated.

    Returns
    -------
    list of float
        On the scale of the planes, 0..1.
    """
    from ..estimation import estimate_sigma

    if sigma is not None:
        return [sigma / 255] * len(planes)
    levels = []
    for i, plane in enumerate(planes):
        yield Progress(i / len(planes), f"measuring the noise of plane {i + 1} of {len(planes)}")
        levels.append(estimate_sigma(plane) / 255)
    return levels


def by_parts(
    planes: FloatArray,
    levels: list[float],
    denoise: Callable[[FloatArray, float], FloatArray],
    *,
    tile: int | None = None,
    halo: int = 0,
) -> Steps[FloatArray]:
    """Denoise planes one after the other, each with its noise level.

    Parameters
    ----------
    planes : (N, Y, X, S) float32
    levels : list of float
        From `noise_levels_iter`. A plane without noise stays as it is.
    denoise : callable
        From a plane or a part of one, (Y, X, S) float32, and its noise level to the same shape.
    tile : int, optional
        Largest side of the parts. Default: whole planes.
    halo : int
        Pixels around a part that ``denoise`` also sees.

    Yields
    ------
    Progress
        After each part.

    Returns
    -------
    (N, Y, X, S) float32
    """
    height, width = planes.shape[1:3]
    tiles = plan_tiles(height, width, tile or max(height, width), halo)
    out = planes.copy()
    total = len(planes) * len(tiles)
    for done, (i, part) in enumerate(product(range(len(planes)), tiles)):
        yield Progress(done / total, f"part {done + 1} of {total}")
        if levels[i] > 0:
            out[i][part.inner] = denoise(np.ascontiguousarray(planes[i][part.outer]), levels[i])[part.crop]
    return out


def _measured_iter(
    planes: FloatArray,
    sigma: float | None,
    denoise: Callable[[FloatArray, float], FloatArray],
    *,
    tile: int | None = None,
    halo: int = 0,
) -> Steps[FloatArray]:
    """As `by_parts`, with the noise level that is given, or each plane's own."""
    levels = yield from within(noise_levels_iter(planes, sigma), 0.0, start := 0.0 if sigma is not None else _MEASURED)
    return (yield from within(by_parts(planes, levels, denoise, tile=tile, halo=halo), start, 1.0))


def _kernel_halo(samples: int, *, kernel_size: int, **_: Any) -> int:
    return kernel_size // 2


def _bilateral_halo(samples: int, *, sigma: float | None, width: float, **_: Any) -> int | None:
    return None if sigma is None else max(1, round(3 * width))


def _nlm_halo(samples: int, *, sigma: float | None, search_distance: int, patch_size: int, **_: Any) -> int | None:
    return None if sigma is None else search_distance + patch_size


@step("none", kind="denoise", title="None", reference="", halo=0)
def none(planes: FloatArray) -> FloatArray:
    """Leave the image as it is."""
    return planes


@step(
    "gaussian",
    kind="denoise",
    title="Gaussian",
    reference="OpenCV GaussianBlur",
    halo=_kernel_halo,
)
def gaussian(
    planes: FloatArray,
    *,
    kernel_size: Annotated[int, param("Side of the square kernel.", unit="px", ge=1, le=101, step=2), ODD] = 5,
    blur_sigma: Annotated[
        float | None,
        param("Width of the Gaussian; nothing = taken from the kernel size.", unit="px", ge=0.1, le=50),
    ] = None,
) -> FloatArray:
    """Weighted mean of the neighbourhood; fast, blurs edges."""
    from ..opencv import cv2

    # OpenCV derives the width from the kernel size (0.3 ((k - 1) / 2 - 1) + 0.8) where it is given as 0.
    blurred = [
        cv2.GaussianBlur(p, (kernel_size, kernel_size), blur_sigma or 0, borderType=cv2.BORDER_REFLECT_101)
        for p in planes
    ]
    return np.stack(blurred).reshape(planes.shape)


@step(
    "median",
    kind="denoise",
    title="Median",
    reference="OpenCV medianBlur; scipy.ndimage.median_filter",
    halo=_kernel_halo,
)
def median(
    planes: FloatArray,
    *,
    kernel_size: Annotated[int, param("Side of the square neighbourhood.", unit="px", ge=1, le=51, step=2), ODD] = 5,
) -> FloatArray:
    """Median of the neighbourhood; removes single bad pixels, keeps edges."""
    from ..opencv import cv2

    if kernel_size <= 5:  # all that OpenCV does on floats
        return np.stack([cv2.medianBlur(p, kernel_size) for p in planes]).reshape(planes.shape)
    from scipy.ndimage import median_filter

    size = (1, kernel_size, kernel_size, 1)
    filtered: FloatArray = median_filter(planes, size=size, mode="nearest")
    return filtered


@step(
    "bilateral",
    kind="denoise",
    title="Bilateral",
    reference="Tomasi & Manduchi, Bilateral filtering for gray and color images, ICCV 1998, "
    "doi:10.1109/ICCV.1998.710815; OpenCV bilateralFilter",
    halo=_bilateral_halo,
)
def bilateral(
    planes: FloatArray,
    *,
    sigma: Sigma = None,
    strength: Strength = 3.0,
    width: Annotated[float, param("Width of the neighbourhood's Gaussian.", unit="px", ge=0.3, le=20, step=0.1)] = 1.5,
) -> Steps[FloatArray]:
    """Weighted mean of the neighbours that look alike; keeps strong edges."""
    from ..opencv import cv2

    def denoise(plane: FloatArray, level: float) -> FloatArray:
        reach = strength * level * plane.shape[-1]  # OpenCV sums the differences of all samples
        # A neighbourhood of three widths; its border reflects.
        filtered: FloatArray = cv2.bilateralFilter(plane, 2 * max(1, round(3 * width)) + 1, reach, width)
        return filtered.reshape(plane.shape)

    return (yield from _measured_iter(planes, sigma, denoise))


@step(
    "tv",
    kind="denoise",
    title="Total variation",
    reference="Chambolle, An algorithm for total variation minimization, J. Math. Imaging Vis. 20 (2004), "
    "doi:10.1023/B:JMIV.0000011325.36760.1e; skimage denoise_tv_chambolle",
)
def tv(planes: FloatArray, *, sigma: Sigma = None, strength: Strength = 0.8) -> Steps[FloatArray]:
    """Flattest image that fits the noise level; sharp edges, patchy gradients."""
    from skimage.restoration import denoise_tv_chambolle

    def denoise(plane: FloatArray, level: float) -> FloatArray:
        smooth: FloatArray = denoise_tv_chambolle(opponent(plane), weight=strength * level, channel_axis=-1)
        return from_opponent(smooth)

    return (yield from _measured_iter(planes, sigma, denoise, tile=1024, halo=64))


@step(
    "wavelet",
    kind="denoise",
    title="Wavelet",
    reference="Chang et al., Adaptive wavelet thresholding for image denoising and compression, IEEE TIP 9 (2000), "
    "doi:10.1109/83.862633; Coifman & Donoho, Translation-invariant de-noising (1995), "
    "doi:10.1007/978-1-4612-2544-7_9; skimage denoise_wavelet",
)
def wavelet(
    planes: FloatArray,
    *,
    sigma: Sigma = None,
    wavelet: Annotated[
        Literal["haar", "db2", "db4", "sym4", "sym8", "coif2"],
        param("Shape of the wavelet: haar for sharp edges, longer ones for smooth images."),
    ] = "db2",
    levels: Annotated[int, param("Scales of details that are looked at; fewer in small images.", ge=1, le=8)] = 4,
    shifts: Annotated[
        int, param("Average over this many shifts along Y and along X, against ringing; slower.", ge=1, le=8)
    ] = 4,
) -> Steps[FloatArray]:
    """Remove the small wavelet coefficients (BayesShrink)."""
    from pywt import dwtn_max_level
    from skimage.restoration import denoise_wavelet

    height, width = planes.shape[1:3]
    # A transform needs a few pixels; and windows that move over a reflected border have no seam.
    tall, wide = max(height + shifts, _WAVELET_SIDE), max(width + shifts, _WAVELET_SIDE)
    border = ((0, 0), (shifts, tall - height), (shifts, wide - width), (0, 0))
    padded = np.pad(opponent(planes), border, mode="symmetric")
    depth = min(levels, dwtn_max_level((tall, wide), wavelet))

    def denoise(plane: FloatArray, level: float) -> FloatArray:
        smooth: FloatArray = denoise_wavelet(
            plane, sigma=level, wavelet=wavelet, wavelet_levels=depth, rescale_sigma=False, channel_axis=-1
        )
        return smooth.reshape(plane.shape)

    noise = yield from within(noise_levels_iter(planes, sigma), 0.0, 0.0)
    total = np.zeros_like(planes)
    for k, (y, x) in enumerate(product(range(shifts), repeat=2)):
        window = padded[:, y : y + tall, x : x + wide]
        smooth = yield from within(by_parts(window, noise, denoise), k / shifts**2, (k + 1) / shifts**2)
        total += smooth[:, shifts - y : shifts - y + height, shifts - x : shifts - x + width]
    total /= shifts**2
    return from_opponent(total)


@step(
    "nlm",
    kind="denoise",
    title="Non-local means",
    reference="Buades et al., A non-local algorithm for image denoising, CVPR 2005, doi:10.1109/CVPR.2005.38; "
    "skimage denoise_nl_means",
    halo=_nlm_halo,
)
def nlm(
    planes: FloatArray,
    *,
    sigma: Sigma = None,
    strength: Strength = 0.6,
    patch_size: Annotated[
        int, param("Side of the patches that are compared.", unit="px", ge=1, le=21, step=2), ODD
    ] = 5,
    search_distance: Annotated[int, param("How far away to look for like patches.", unit="px", ge=1, le=50)] = 10,
) -> Steps[FloatArray]:
    """Weighted mean of pixels whose surroundings look alike; keeps texture that repeats."""
    from skimage.restoration import denoise_nl_means

    def denoise(plane: FloatArray, level: float) -> FloatArray:
        filtered: FloatArray = denoise_nl_means(
            plane,
            patch_size=patch_size,
            patch_distance=search_distance,
            h=strength * level,
            sigma=level,
            fast_mode=True,
            channel_axis=-1,
        )
        return filtered.reshape(plane.shape)

    # The filter pads by reflection, so parts need every pixel that the patches reach.
    return (yield from _measured_iter(planes, sigma, denoise, tile=512, halo=search_distance + patch_size))
