"""How good a denoised image is: figures beside a reference, and what the denoiser took away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .images import FloatArray, PlaneImage
from .progress import Progress, Steps, run, within

if TYPE_CHECKING:
    import pandas as pd

FIGURES = ("psnr", "ssim", "psnr_matched", "rmse", "nrmse")
"""The columns of `compare`'s table that hold figures."""

NOT_FOR_QUANTIFICATION = "Denoised intensities are not for quantification unless checked."

_ALIKE = 0.1  # correlation of neighbours; noise that is white has 0
_STEEP = 1.5  # residual variance at edges over that in smooth parts; noise has 1
_PLANES = 8  # of a stack, for the residual's structure; evenly spaced


def compare(
    reference: Any,
    images: Any,
    axes: str | None = None,
    rgb: bool = False,
    value_range: float | None = None,
) -> pd.DataFrame:
    """Compare one or several images with a reference, plane by plane.

    Parameters
    ----------
    reference : array-like
        The clean image, of any axes.
    images : array-like, or mapping from name to array-like
        Of the reference's shape; other dtypes are allowed.
    axes, rgb
        As for `denoise`; an alpha sample is left out.
    value_range : float, optional
        The peak of the PSNR and the range of the SSIM, in the reference's units. Default: the reference's own
        range, 255 if it is 8-bit, else from its lowest to its highest value after a 3 × 3 median.

    Returns
    -------
    pandas.DataFrame
        A row for each image and plane, and a row whose ``plane`` is ``"mean"`` for each image of several planes.

        psnr
            10 log10(range² / mean squared error), in dB.
        ssim
            Structural similarity of Wang et al. (2004): Gaussian window of σ 1.5, population covariance. NaN for
            planes of less than 11 pixels.
        psnr_matched
            The PSNR of a · image + b, with the a and b of least squares: for images stretched in another way than
            their reference. It is never lower than ``psnr``.
        rmse
            Root mean squared error, in the reference's units.
        nrmse
            The same over the standard deviation of the reference; 1 is no better than its mean.
        range
            The one that was used.

    Raises
    ------
    ValueError
        If shapes differ, a range is not above 0, or pixels are NaN or infinite.

    Examples
    --------
    >>> import numpy as np, napari_denoise_classify as ndc
    >>> clean = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    >>> ndc.compare(clean, {"brighter": clean + 5})[["psnr", "psnr_matched"]].round(1)
       psnr  psnr_matched
    0  34.2           inf
    """
    named = images if isinstance(images, Mapping) else {"image": images}
    wrapped = {name: PlaneImage.wrap(image, axes, rgb) for name, image in named.items()}
    return run(compare_iter(PlaneImage.wrap(reference, axes, rgb), wrapped, value_range))


def compare_iter(
    reference: PlaneImage, images: Mapping[str, PlaneImage], value_range: float | None = None
) -> Steps[pd.DataFrame]:
    """As `compare`, with progress."""
    import pandas as pd

    if not images:
        raise ValueError("There is nothing to compare: give at least one image.")
    if value_range is not None and not 0 < value_range < np.inf:
        raise ValueError(f"value_range={value_range} is not allowed: give a number above 0.")
    for name, image in images.items():
        _check_alike(reference, image, f"{name} and the reference")
    how: Any = "image" if value_range is None else (0.0, float(value_range))
    ranges = yield from within(reference.ranges_iter(how), 0.0, 0.2)
    rows: list[dict[str, Any]] = []
    indices = list(reference.indices())
    for k, (name, image) in enumerate(images.items()):
        found = []
        for i, index in enumerate(indices):
            yield Progress(0.2 + 0.8 * (k + i / len(indices)) / len(images), f"comparing {name}")
            low, high = ranges[index]
            figures = _figures(_samples(reference, index), _samples(image, index), high - low)
            found.append(figures)
            plane = " ".join(f"{letter}={at}" for letter, at in zip(reference.lead_names, index, strict=True))
            rows.append({"image": name, "plane": plane, **figures})
        if len(indices) > 1:
            with np.errstate(invalid="ignore"):
                mean = pd.DataFrame(found).mean()
            rows.append({"image": name, "plane": "mean", **mean})
    return pd.DataFrame(rows)


def _check_alike(one: PlaneImage, other: PlaneImage, what: str) -> None:
    if one.data.shape != other.data.shape or one.rgb != other.rgb:
        raise ValueError(
            f"{what} do not fit: their shapes are {other.data.shape} and {one.data.shape}, and must be the same."
        )


def _samples(image: PlaneImage, index: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Read a plane as (Y, X, S) in the image's own units, without alpha."""
    plane = image.raw_plane(index).astype(np.float64)
    return plane[..., :3] if image.rgb else plane[..., None]


def _figures(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], width: float) -> dict[str, float]:
    """Compare two planes (Y, X, S) of which the first is the reference."""
    error = float(np.mean((x - y) ** 2))
    spread = float(y.var())
    slope = float(np.mean((y - y.mean()) * (x - x.mean()))) / spread if spread > 0 else 0.0
    left = float(np.mean((slope * (y - y.mean()) + x.mean() - x) ** 2))
    rounding = (np.finfo(float).eps * max(np.abs(x).max(), np.abs(slope * y).max())) ** 2
    deviation = float(x.std())
    return {
        "psnr": _decibels(width, error),
        "ssim": _ssim(x, y, width),
        "psnr_matched": _decibels(width, 0.0 if left <= 16 * rounding else min(left, error)),
        "rmse": float(np.sqrt(error)),
        "nrmse": float(np.sqrt(error)) / deviation if deviation > 0 else np.nan,
        "range": width,
    }


def _decibels(width: float, error: float) -> float:
    return float(10 * np.log10(width**2 / error)) if error > 0 else np.inf


def _ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], width: float) -> float:
    from skimage.metrics import structural_similarity

    if min(x.shape[:2]) < 11:
        return np.nan
    return float(
        structural_similarity(
            x, y, data_range=width, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def residual(before: Any, after: Any, axes: str | None = None, rgb: bool = False) -> FloatArray:
    """Return what was taken away: before − after.

    Parameters
    ----------
    before, after : array-like
        Of the same shape.
    axes, rgb
        As for `denoise`.

    Returns
    -------
    float32 array
        With the axes of ``before``, in its units; an alpha sample is left out.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    one, other = PlaneImage.wrap(before, axes, rgb), PlaneImage.wrap(after, axes, rgb)
    return run(residual_iter(one, other))


def residual_iter(before: PlaneImage, after: PlaneImage) -> Steps[FloatArray]:
    """As `residual`, with progress."""
    _check_alike(before, after, "The image after and the one before")
    out = np.empty((*before.lead_shape, *before.plane_shape, before.samples), np.float32)
    indices = list(before.indices())
    for i, index in enumerate(indices):
        yield Progress(i / len(indices), "subtracting")
        out[index] = _samples(before, index) - _samples(after, index)
    result: FloatArray = before.unwrap(out if before.rgb else out[..., 0])
    return result


@dataclass(frozen=True)
class ResidualStructure:
    """Whether a residual looks like noise.

    Attributes
    ----------
    structured : bool
    autocorrelation : tuple of float
        Mean correlation of residuals 1, 2 and 3 pixels apart; 0 for white noise.
    bound : float
        White noise stays below this with 99.9 % probability, on images of this size.
    edges : float
        Variance of the slightly smoothed residual on the steepest tenth of the denoised image over that on its
        smooth half, among pixels of equal brightness: 1 for noise, also for noise that grows with the signal.
    sentence : str
    """

    structured: bool
    autocorrelation: tuple[float, ...]
    bound: float
    edges: float
    sentence: str


def residual_structure(before: Any, after: Any, axes: str | None = None, rgb: bool = False) -> ResidualStructure:
    """Tell whether what a denoiser took away looks like noise.

    Two signs of removed detail are looked for. Neighbouring residuals are alike, which those of white noise are
    not. Or the residual is stronger at edges than in smooth parts of the same brightness; comparing equal brightness
    leaves out that photon noise is stronger where the image is bright. Negative correlation is no such sign: a weak
    filter leaves it, which only takes a part of the noise.

    Parameters
    ----------
    before, after : array-like
        The noisy and the denoised image, of the same shape. Of a stack, a few planes are looked at.
    axes, rgb
        As for `denoise`.

    Returns
    -------
    ResidualStructure

    Raises
    ------
    ValueError
        If the shapes differ, or planes are smaller than 16 × 16.
    """
    one, other = PlaneImage.wrap(before, axes, rgb), PlaneImage.wrap(after, axes, rgb)
    return run(residual_structure_iter(one, other))


def residual_structure_iter(before: PlaneImage, after: PlaneImage) -> Steps[ResidualStructure]:
    """As `residual_structure`, with progress."""
    _check_alike(before, after, "The image after and the one before")
    if min(before.plane_shape) < 16:
        raise ValueError("The residual's structure needs planes of at least 16 × 16 pixels.")
    indices = list(before.indices())
    indices = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, _PLANES).round().astype(int))]
    rows, weights = [], []
    for i, index in enumerate(indices):
        yield Progress(i / len(indices), "looking at the residual")
        denoised = _samples(after, index)
        left = _samples(before, index) - denoised
        for s in range(left.shape[-1]):
            if left[..., s].any():
                rows.append([*_autocorrelation(left[..., s]), _edge_ratio(left[..., s], denoised[..., s])])
                weights.append(left[..., s].size)
    if not rows:
        return ResidualStructure(False, (0.0, 0.0, 0.0), 0.0, 1.0, "The two images are the same: nothing was removed.")
    *lags, edges = np.mean(rows, axis=0).tolist()
    bound = 3.3 / float(np.sqrt(2 * np.sum(weights)))  # each is a mean over two directions
    signs = []
    if max(lags) > max(_ALIKE, 2 * bound):
        signs.append(f"neighbouring pixels are alike, correlation {max(lags):.2f}")
    chance = 3 * float(np.sqrt(250 / np.sum(weights)))  # a tenth of the pixels, 12 of which the smoothing makes one
    if edges > _STEEP + chance:
        signs.append(f"{edges:.1f} times as strong at edges as in smooth parts")
    words = "The residual looks like noise."
    if signs:
        words = (
            f"The residual still shows structure ({'; '.join(signs)}): the denoiser removes detail; "
            "lower its strength (sigma or kernel size)."
        )
    return ResidualStructure(bool(signs), tuple(lags), bound, edges, words)


def _autocorrelation(left: npt.NDArray[np.float64]) -> list[float]:
    """Return the mean correlation along Y and X at distances of 1, 2 and 3 pixels."""
    left = left - left.mean()
    power = float(np.mean(left**2))
    if power == 0:  # a constant is no pattern of the image
        return [0.0, 0.0, 0.0]
    return [float(np.mean(left[k:] * left[:-k]) + np.mean(left[:, k:] * left[:, :-k])) / (2 * power) for k in (1, 2, 3)]


def _edge_ratio(left: npt.NDArray[np.float64], denoised: npt.NDArray[np.float64]) -> float:
    """Compare the residual's variance on steep and on smooth parts of equal brightness."""
    from .opencv import cv2

    left, denoised = np.ascontiguousarray(left), np.ascontiguousarray(denoised)
    smooth = cv2.GaussianBlur(denoised, (0, 0), 1.5)  # noise that was left must not pass for edges
    steepness = np.hypot(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)).ravel()
    # Edges keep their sign over some pixels, noise does not: smoothing brings them out of it.
    power = (cv2.GaussianBlur(left - left.mean(), (0, 0), 1.0) ** 2).ravel()
    order = np.argsort(smooth, axis=None)
    steep, flat = 0.0, 0.0
    for part in np.array_split(order, 16):  # classes of equal brightness
        ranked = part[np.argsort(steepness[part])]
        steep += float(power[ranked[-max(1, len(part) // 10) :]].mean())
        flat += float(power[ranked[: len(part) // 2]].mean())
    return steep / flat if flat > 0 else np.inf if steep > 0 else 1.0
