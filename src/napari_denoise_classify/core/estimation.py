"""What noise an image holds, estimated from that image alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .images import FloatArray, PlaneImage, check_intensity_range
from .progress import Progress, Steps, run, within

Doubles: TypeAlias = npt.NDArray[np.float64]
NoiseKind: TypeAlias = Literal["none", "gaussian", "poisson_gaussian", "salt_and_pepper"]

_PATCHES = 60_000  # enough for errors below 1 % where the image is smooth; larger planes are sampled on a grid
_WHITE = 1.25
_PIXELS = 1_000_000
_WEAK = {1: 0.05, 3: 0.1}  # at least this part of the gray or RGB patches counts as weakly textured
_PLANES = 8  # of a stack; evenly spaced
_INVISIBLE = 1.0  # grey levels; rounding to 8 bits alone makes 0.3
_IMPULSES = 0.005  # part of the pixels; fewer are specks, not a noise to filter the whole image for
_TEXTURE = 5.0  # grey levels; up to here, what grows with the signal may as well be fine texture
_DEPENDENT = 2.0  # noise counts as signal-dependent if its variance changes by this factor over the image


def estimate_sigma(plane: FloatArray) -> float:
    """Estimate the level of white Gaussian noise in a plane.

    White noise adds its variance to every eigenvalue of the covariance of small patches, and the image itself fills
    only some of them. Following Liu et al., only patches whose gradients could come from noise alone are used, and
    chosen anew with each better estimate; following Chen et al., the variance is the mean of the smallest
    eigenvalues, as many of them as have a mean equal to their median. Colour samples are taken together, so that
    what they have in common (and a JPEG of them lacks) counts as image.

    Parameters
    ----------
    plane : (Y, X, S) float32
        The intensity range at 0..1.

    Returns
    -------
    float
        Standard deviation on a scale of 0 to 255; 0 for planes of a single row or column.

    References
    ----------
    Liu, Tanaka, Okutomi, Single-image noise level estimation for blind denoising, IEEE TIP 22 (2013),
    doi:10.1109/TIP.2013.2283400. Chen, Zhu, Heng, An efficient statistical method for image noise level estimation,
    ICCV 2015, doi:10.1109/ICCV.2015.62.
    """
    samples = plane.shape[-1]
    side = 6 if samples == 1 else 4
    size = samples * side**2
    if min(plane.shape[:2]) < side or (plane.shape[0] - side + 1) * (plane.shape[1] - side + 1) < 10 * size:
        return _difference_sigma(plane)
    patches = _patches(plane, side)
    across = (patches[..., 2:] - patches[..., :-2]) / 2
    down = (patches[:, :, 2:] - patches[:, :, :-2]) / 2
    texture = np.square(across).sum(axis=(1, 2, 3)) + np.square(down).sum(axis=(1, 2, 3))
    flat = patches.reshape(len(patches), -1)
    varied = texture > 0  # masked areas hold no noise
    if np.count_nonzero(varied) < 10 * size:
        return 0.0
    whole = varied & ~np.isin(flat, _clipped(plane)).any(axis=1)  # where noise is clipped away it looks too weak
    usable = whole if np.count_nonzero(whole) >= 10 * size else varied
    flat, texture = flat[usable], texture[usable]
    weakest = np.partition(texture, k := max(int(_WEAK[samples] * len(texture)), 10 * size) - 1)[k]
    variance = float(_eigenvalues(flat)[0])
    for _ in range(6):
        before = variance
        chosen = flat[texture <= max(variance * _texture_of_noise(side, samples), weakest)]
        variance = _noise_eigenvalue(_eigenvalues(chosen))
        if abs(variance - before) <= 1e-3 * before:
            break
    return 255 * float(np.sqrt(max(variance, 0.0)))


def _clipped(plane: FloatArray) -> list[float]:
    """Return the ends of the plane's values at which many of them lie: it has been clipped there."""
    return [end for end in (plane.min(), plane.max()) if np.mean(plane == end) > 1e-3]


def _patches(plane: FloatArray, side: int) -> FloatArray:
    """Cut out squares on a regular grid: (P, S, side, side)."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (side, side), axis=(0, 1))
    stride = max(1, int(np.ceil(np.sqrt(windows.shape[0] * windows.shape[1] / _PATCHES))))
    patches: FloatArray = windows[::stride, ::stride].reshape(-1, plane.shape[-1], side, side)
    return patches


def _eigenvalues(patches: FloatArray) -> Doubles:
    """Return those of the covariance, ascending."""
    centred = patches - patches.mean(axis=0, dtype=np.float64).astype(np.float32)
    values: Doubles = np.linalg.eigvalsh((centred.T @ centred).astype(np.float64) / len(centred))
    return values


def _noise_eigenvalue(values: Doubles) -> float:
    """Take the largest eigenvalues away until the mean of the others is no more than their median."""
    for k in range(len(values), 1, -1):
        if values[:k].mean() <= np.median(values[:k]):
            return float(values[:k].mean())
    return float(values[0])


@lru_cache(maxsize=4)
def _texture_of_noise(side: int, samples: int) -> float:
    """Return the gradient energy that 99 % of the patches of white noise of variance 1 stay below."""
    from scipy.stats import gamma

    unit = np.eye(side**2).reshape(-1, side, side)
    across, down = (unit[:, :, 2:] - unit[:, :, :-2]) / 2, (unit[:, 2:] - unit[:, :-2]) / 2
    gradients = np.hstack([across.reshape(side**2, -1), down.reshape(side**2, -1)])
    form = gradients @ gradients.T
    mean, spread = samples * np.trace(form), 2 * samples * np.trace(form @ form)
    return float(gamma.ppf(0.99, mean**2 / spread, scale=spread / mean))


def _difference_sigma(plane: FloatArray) -> float:
    """Estimate from diagonal differences; for planes too small for patches."""
    if min(plane.shape[:2]) < 2:
        return 0.0
    diagonal = (plane[1:, 1:] - plane[1:, :-1] - plane[:-1, 1:] + plane[:-1, :-1]) / 2
    return 255 * float(np.median(np.abs(diagonal))) / 0.6745


@dataclass(frozen=True)
class VarianceLine:
    """How the variance of the noise follows the intensity, on a scale of 0 to 255.

    Attributes
    ----------
    gain : float
        Grey levels that one photon makes.
    offset : float
        Grey level without light.
    read_noise : float
        Standard deviation without light, in grey levels.
    dark, bright : float
        The standard deviations at the darkest and the brightest of the intensities that were looked at.
    """

    gain: float
    offset: float
    read_noise: float
    dark: float = 0.0
    bright: float = 0.0

    @property
    def depends(self) -> bool:
        """Whether the noise grows with the signal so much that it has to be treated for it."""
        return self.gain > 0 and self.bright**2 > _DEPENDENT * self.dark**2


def estimate_poisson_gaussian(plane: FloatArray, offset: float | None = None) -> VarianceLine:
    """Estimate gain and read noise of a camera from one plane.

    The variance of the noise is a line over the intensity x, gain · (x − offset) + read_noise². It is measured in a
    high-pass band, in classes of intensity, on the smoother half of each class, and the line is fitted robustly.

    Parameters
    ----------
    plane : (Y, X, S) float32
        The intensity range at 0..1.
    offset : float, optional
        The grey level without light (0..255), if you know it. One image gives two numbers, not three: without it,
        the offset is taken as 0, or, where that would make the read noise imaginary, as the level at which the line
        comes to 0. A variance-stabilising transform does not depend on this choice.

    Returns
    -------
    VarianceLine
        With a gain of 0 where the variance does not grow with the intensity, or the plane is too small or too plain
        to tell.

    References
    ----------
    Foi, Trimeche, Katkovnik, Egiazarian, Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data, IEEE TIP 17 (2008), doi:10.1109/TIP.2008.2001399; this is a simpler relative of theirs.
    """
    means, variances, counts = _variance_of_mean(255 * plane)
    if len(means) < 4:
        sigma = estimate_sigma(plane)
        return VarianceLine(0.0, offset or 0.0, sigma, sigma, sigma)
    gain, start = _robust_line(means, variances, counts)
    if gain <= 0:
        sigma = float(np.sqrt(np.average(variances, weights=counts)))
        return VarianceLine(0.0, offset or 0.0, sigma, sigma, sigma)
    if offset is None:
        offset = 0.0 if start >= 0 else -start / gain
    dark, bright = (float(np.sqrt(max(start + gain * x, 0.0))) for x in (means[0], means[-1]))
    return VarianceLine(gain, offset, float(np.sqrt(max(start + gain * offset, 0.0))), dark, bright)


_HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 6  # of unit norm, blind to planes and most edges
_DIFFERENCE = np.outer([1, -1], [1, -1]).astype(np.float32) / 2  # the same, and sees coarser texture


def _variance_of_mean(levels: FloatArray) -> tuple[Doubles, Doubles, Doubles]:
    """Measure the noise in classes of intensity: their mean intensity, variance and number of pixels."""
    from .opencv import cv2

    if min(levels.shape[:2]) < 16:
        return np.empty(0), np.empty(0), np.empty(0)
    ends = _clipped(levels)
    every = -(-levels[..., 0].size // _PIXELS)  # of large planes, bands of 64 rows at even distances
    bands = [levels[y : y + 64] for y in range(0, len(levels) - 15, 64 * every)] if every > 1 else [levels]
    parts = []
    for plane in (np.ascontiguousarray(plane) for band in bands for plane in np.moveaxis(band, -1, 0)):
        high, middle = cv2.filter2D(plane, -1, _HIGH_PASS), cv2.filter2D(plane, -1, _DIFFERENCE)
        mean, small = cv2.blur(plane, (7, 7)), cv2.blur(plane, (3, 3))
        slope = np.abs(small[6:, 3:-3] - small[:-6, 3:-3]) + np.abs(small[3:-3, 6:] - small[3:-3, :-6])
        cut = cv2.blur(np.isin(plane, ends).astype(np.float32), (7, 7))
        inner = (slice(3, -3), slice(3, -3))
        stacked = np.stack([mean[inner], high[inner], middle[inner], slope, cut[inner]])
        parts.append(stacked[..., 1:-1, 1:-1].reshape(5, -1))
    mean, high, middle, slope, cut = np.concatenate(parts, axis=1).astype(np.float64)
    darkest, brightest = np.quantile(mean, [0.002, 0.998]).tolist()
    edges = np.linspace(darkest, brightest, 33)
    found = []
    for k in range(32):
        inside = np.flatnonzero((mean >= edges[k]) & (mean < edges[k + 1]))
        if len(inside) < 400 or cut[inside].mean() > 0.01:
            continue
        smooth = inside[slope[inside] <= np.median(slope[inside])]
        spread = np.median(np.abs(high[smooth])) / 0.6745
        if np.median(np.abs(middle[smooth])) / 0.6745 > _WHITE * spread:  # white noise is as strong in both bands
            continue
        usual = high[smooth][np.abs(high[smooth]) <= 3 * spread] if spread > 0 else high[smooth]
        found.append((mean[smooth].mean(), np.mean(usual**2) / 0.9733, len(smooth)))  # of a normal law cut at 3 sigma
    means, variances, counts = np.array(found).reshape(-1, 3).T
    return means, variances, counts


def _robust_line(x: Doubles, y: Doubles, counts: Doubles) -> tuple[float, float]:
    """Fit y = slope · x + start; classes in which texture has raised the variance count little."""
    from scipy.optimize import least_squares

    trusted = np.sqrt(np.minimum(counts, 4000) / 2) / 4  # beyond that the image errs, not chance
    slope, start = np.polyfit(x, y, 1)
    for _ in range(3):  # a variance errs in proportion to itself
        scale = trusted / np.maximum(slope * x + start, 0.1 * np.median(y) + 1e-9)
        fit = least_squares(
            lambda p, scale=scale: (p[0] * x + p[1] - y) * scale, (slope, start), loss="cauchy", x_scale="jac"
        )
        slope, start = fit.x
    return float(slope), float(start)


def isolated_extremes(plane: FloatArray) -> float:
    """Return the fraction of samples at an end of the intensity range that stand out from all around them.

    Parameters
    ----------
    plane : (Y, X, S) float32
        The intensity range at 0..1.
    """
    from .opencv import cv2

    if min(plane.shape[:2]) < 3:
        return 0.0
    middle = cv2.medianBlur(np.ascontiguousarray(plane), 3).reshape(plane.shape)
    away = np.abs(plane - middle)
    usual = float(np.median(away[away > 0])) / 0.6745 if np.mean(away > 0) > 0.5 else 0.0
    extreme = (plane <= 0.01) | (plane >= 0.99)
    return float(np.mean(extreme & (away > max(0.15, 5 * usual))))


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of an image. Levels are grey levels on a scale of 0 to 255 of its intensity range.

    Attributes
    ----------
    model : {"none", "gaussian", "poisson_gaussian", "salt_and_pepper"}
    sigma : float
        Standard deviation, taken as if it were the same everywhere.
    gain, offset, read_noise : float
        Of a noise that grows with the signal: its variance is gain · (x − offset) + read_noise². Gain is 0 where it
        does not.
    impulses : float
        Fraction of isolated samples at the ends of the range.
    step : str
        Id of a denoising step to try.
    parameters : dict
        Of that step.
    sentence : str
        All of this in words.
    """

    model: NoiseKind
    sigma: float
    gain: float
    offset: float
    read_noise: float
    impulses: float
    step: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary."""
        return asdict(self)


def estimate_noise(
    image: Any, axes: str | None = None, rgb: bool = False, intensity_range: Any = None
) -> NoiseEstimate:
    """Estimate the noise of an image, and propose a step against it.

    Salt and pepper is looked for first, since it disturbs the other estimates; then noise that grows with the
    signal; then white Gaussian noise. Of a stack, a few planes are looked at and the medians reported.
    After Liu et al. (2013) and Chen et al. (2015) for white noise, and Foi et al. (2008) for noise that grows with the
    signal.

    Parameters
    ----------
    image : array-like
        Numpy or dask, integers or floats, of any axes.
    axes : str, optional
        As ``"TCZYX"``; S for RGB samples. Default: the last two axes are Y and X, all before are independent planes.
    rgb : bool
        Whether the last axis holds RGB samples, where ``axes`` is not given.
    intensity_range : {"image", "stack", "plane"} or (float, float), optional
        As for `denoise`.

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    ValueError
        For images or axes that are not allowed, NaN or infinite pixels, planes that are one pixel wide or high.

    Examples
    --------
    >>> import numpy as np, napari_denoise_classify as ndc
    >>> noisy = np.random.default_rng(0).normal(120, 20, (128, 128)).round().astype(np.uint8)
    >>> found = ndc.estimate_noise(noisy)
    >>> found.model, round(found.sigma)
    ('gaussian', 20)
    """
    return run(estimate_noise_iter(PlaneImage.wrap(image, axes, rgb), intensity_range))


def estimate_noise_iter(image: PlaneImage, intensity_range: Any = None) -> Steps[NoiseEstimate]:
    """As `estimate_noise`, with progress."""
    height, width = image.plane_shape
    if min(height, width) < 2:
        raise ValueError(f"Noise cannot be measured in planes of {height} × {width} pixels: at least 2 × 2 are needed.")
    ranges = yield from within(image.ranges_iter(check_intensity_range(intensity_range)), 0.0, 0.5)
    indices = list(image.indices())
    indices = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, _PLANES).round().astype(int))]
    sigmas, lines, impulses = [], [], []
    for i, index in enumerate(indices):
        yield Progress(0.5 + 0.5 * i / len(indices), f"estimating the noise of plane {i + 1} of {len(indices)}")
        (plane,) = image.planes([index], ranges)
        sigmas.append(estimate_sigma(plane))
        impulses.append(isolated_extremes(plane))
        lines.append(estimate_poisson_gaussian(plane))
    figures = np.median([[line.gain, line.offset, line.read_noise, line.dark, line.bright] for line in lines], axis=0)
    return _judge(float(np.median(sigmas)), VarianceLine(*figures.tolist()), float(np.median(impulses)))


def _judge(sigma: float, line: VarianceLine, impulses: float) -> NoiseEstimate:
    """Name the noise and propose a step."""
    parameters: dict[str, Any] = {}
    model: NoiseKind
    if impulses > _IMPULSES:
        model, step, parameters = "salt_and_pepper", "median", {"kernel_size": 3 if impulses < 0.1 else 5}
        words = f"{impulses:.1%} of the pixels are isolated black or white ones"
    elif sigma < _INVISIBLE and line.bright < _TEXTURE:
        model, step = "none", "none"
        words = f"The noise is below what can be seen (about {sigma:.2g} of 255 grey levels)"
    elif line.depends and line.bright**2 - line.dark**2 > _TEXTURE**2:
        model, step = "poisson_gaussian", "anscombe"
        words = (
            f"The noise grows with the signal, from about {line.dark:.1f} in the dark to {line.bright:.1f} of 255 grey "
            "levels in the bright parts"
        )
    else:
        model, step, parameters = "gaussian", "dncnn", {"sigma": round(sigma, 1)}
        words = f"The noise looks white and Gaussian, with a standard deviation of about {sigma:.1f} of 255 grey levels"
    told = "".join(f", {name} {value:g}" for name, value in parameters.items())
    words += ": there is nothing to remove." if model == "none" else f": try {step}{told}."
    if model != "poisson_gaussian":
        line = VarianceLine(0.0, 0.0, sigma)
    return NoiseEstimate(model, sigma, line.gain, line.offset, line.read_noise, impulses, step, parameters, words)
