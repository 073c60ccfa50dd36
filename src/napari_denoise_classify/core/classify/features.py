"""Features of crops for classical classifiers: intensity, texture, shape and fibres, each with a name.

All transformers take samples as the classifiers do: a sequence of float32 images (Y, X, S) with values from 0 to 1,
whose sizes may differ. What they learn from the training crops is which figures stand in for missing ones, and
whether the objects are darker than their surroundings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..images import FloatArray
from ..progress import Progress, Steps, run
from .fibres import DESCRIPTORS, fibre_map
from .rings import describe_rings, ring_names

FEATURE_KINDS = ("intensity", "texture", "shape", "rings")
_INTENSITY = ("mean", "sd", "p5", "p25", "p50", "p75", "p95", "skewness", "kurtosis", "entropy")
_GLCM = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
_DISTANCES = (1, 2, 4)
_GREY_LEVELS = 32
_LBP = ((8, 1), (16, 2))  # points, radius in pixels
_SHAPE = (
    "area_fraction",
    "eccentricity",
    "axis_major_length",
    "axis_minor_length",
    "perimeter",
    "circularity",
    "solidity",
    "extent",
    "contrast_with_surroundings",
)
_BINS = 64  # of the entropy
_REPORT_EVERY = 16
Names = npt.NDArray[np.object_]


class ImageFeatures(TransformerMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """Base of transformers from images to a table of figures, which report how far they are.

    Attributes
    ----------
    supervised : bool
        Whether the classes of the training crops shape the figures. Then the figures of a crop are only honest if it
        was not among those it was fitted to.
    """

    supervised: ClassVar[bool] = False

    def fit(self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None) -> Any:
        """Learn what the figures need; see `fit_transform_iter`."""
        run(self.fit_transform_iter(X, y, groups))
        return self

    def fit_transform(self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None) -> FloatArray:
        """Learn, and return the figures of the training crops: (N, features) float32."""
        return run(self.fit_transform_iter(X, y, groups))

    def transform(self, X: Sequence[FloatArray]) -> FloatArray:
        """Return (N, features) float32, all finite."""
        return run(self.transform_iter(X))

    @abstractmethod
    def fit_transform_iter(
        self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None
    ) -> Steps[FloatArray]:
        """As `fit_transform`, with progress; for subclasses."""

    @abstractmethod
    def transform_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        """As `transform`, with progress; for subclasses."""


class _NamedFeatures(ImageFeatures):
    """Base: figures by name for each image; those that are missing are the median of the training crops."""

    def fit_transform_iter(
        self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None
    ) -> Steps[FloatArray]:
        """Learn the medians, and measure."""
        self.samples_ = int(X[0].shape[-1]) if len(X) else 1
        self._prepare(X)
        table = yield from self._table_iter(X)
        known = np.isfinite(table)
        self.fill_ = np.zeros(table.shape[1], np.float32)
        for k in np.flatnonzero(known.any(axis=0)):
            self.fill_[k] = np.median(table[known[:, k], k])
        return np.where(known, table, self.fill_)

    def transform_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        """Measure."""
        check_is_fitted(self)
        table = yield from self._table_iter(X)
        return np.where(np.isfinite(table), table, self.fill_)

    def get_feature_names_out(self, input_features: Any = None) -> Names:
        """Return the names of the columns."""
        check_is_fitted(self)
        return np.array(self._names(), dtype=object)

    def _table_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        names = self._names()
        rows = []
        for i, image in enumerate(X):
            if image.shape[-1] != self.samples_:
                kind = {1: "gray", 3: "RGB"}
                raise ValueError(
                    f"The features were learnt on {kind.get(self.samples_, self.samples_)} images: give such ones."
                )
            figures = self._describe(np.asarray(image, np.float32))
            rows.append([figures[name] for name in names])
            if i % _REPORT_EVERY == 0:
                yield Progress(i / len(X), f"measuring crop {i + 1} of {len(X)}")
        return np.array(rows, np.float32).reshape(len(X), len(names))

    def _prepare(self, X: Sequence[FloatArray]) -> None:
        """Learn more."""

    @abstractmethod
    def _names(self) -> list[str]:
        """Name the columns; for subclasses."""

    @abstractmethod
    def _describe(self, image: FloatArray) -> dict[str, float]:
        """Measure one image; for subclasses."""


class FibreFeatures(_NamedFeatures):
    """The fifteen fibre descriptors, lengths in pixels; the mean orientation as its doubled angle's cosine and sine.

    As a number of degrees, 179° would be far from 0°: so there are sixteen columns. What a crop without fibres lacks is
    the median of the training crops; its densities are 0.

    Parameters
    ----------
    dark, max_width, min_length, blur
        As for `fibre_map`.
    """

    def __init__(
        self, dark: bool = False, max_width: float = 12.0, min_length: float = 10.0, blur: float = 0.0
    ) -> None:
        self.dark = dark
        self.max_width = max_width
        self.min_length = min_length
        self.blur = blur

    def _names(self) -> list[str]:
        return ["orientation_cos2", "orientation_sin2", *(d.name for d in DESCRIPTORS[1:])]

    def _describe(self, image: FloatArray) -> dict[str, float]:
        plane = image if image.shape[-1] == 3 else image[..., 0]
        found = fibre_map(
            plane, dark=self.dark, max_width=self.max_width, min_length=self.min_length, blur=self.blur
        ).describe()
        doubled = np.radians(2 * found.pop("orientation_mean"))
        return {"orientation_cos2": float(np.cos(doubled)), "orientation_sin2": float(np.sin(doubled)), **found}


class TextureFeatures(_NamedFeatures):
    """Intensity, texture, shape, and what lies in rings around the middle.

    Intensity, for each sample (red, green, blue): mean, standard deviation, percentiles, skewness, excess kurtosis, and
    entropy in bits over 64 bins. Texture: properties of grey-level co-occurrence matrices (Haralick et al., IEEE TSMC 3
    (1973)) of 32 levels, the mean over four directions, at distances of 1, 2 and 4 pixels; histograms of uniform local
    binary patterns (Ojala et al., IEEE TPAMI 24 (2002)). Shape: of the object in the middle, found by Otsu's
    threshold; lengths in pixels. Rings: colour and structure by the distance from the middle, see `describe_rings`.

    Parameters
    ----------
    kinds : tuple of {"intensity", "texture", "shape", "rings"}
    """

    _LETTERS: ClassVar[dict[int, tuple[str, ...]]] = {1: ("",), 3: ("red_", "green_", "blue_")}

    def __init__(self, kinds: tuple[str, ...] = FEATURE_KINDS) -> None:
        self.kinds = kinds

    def _prepare(self, X: Sequence[FloatArray]) -> None:
        unknown = [kind for kind in self.kinds if kind not in FEATURE_KINDS]
        if unknown or not self.kinds:
            raise ValueError(f"kinds={self.kinds!r} is not allowed: give some of {', '.join(FEATURE_KINDS)}.")
        # One polarity for all crops: it would be noise, chosen anew for each.
        self.dark_ = float(np.median([_middle_contrast(_gray(image)) for image in X] or [0])) < 0

    def _names(self) -> list[str]:
        names: list[str] = []
        if "intensity" in self.kinds:
            names += [f"{letter}{name}" for letter in self._LETTERS[self.samples_] for name in _INTENSITY]
        if "texture" in self.kinds:
            names += [f"glcm_{name}_{distance}px" for name in _GLCM for distance in _DISTANCES]
            names += [f"lbp_{points}_{k}" for points, _ in _LBP for k in range(points + 2)]
        if "shape" in self.kinds:
            names += [f"shape_{name}" for name in _SHAPE]
        if "rings" in self.kinds:
            names += ring_names(self.samples_)
        return names

    def _describe(self, image: FloatArray) -> dict[str, float]:
        found: dict[str, float] = {}
        gray = _gray(image)
        if "intensity" in self.kinds:
            for k, letter in enumerate(self._LETTERS[self.samples_]):
                found.update({f"{letter}{name}": value for name, value in _intensity(image[..., k]).items()})
        if "texture" in self.kinds:
            found.update(_texture(gray))
        if "shape" in self.kinds:
            found.update({f"shape_{name}": value for name, value in _shape(1 - gray if self.dark_ else gray).items()})
        if "rings" in self.kinds:
            found.update(describe_rings(image))
        return found


def _gray(image: FloatArray) -> FloatArray:
    from skimage.color import rgb2gray

    return np.asarray(rgb2gray(image) if image.shape[-1] == 3 else image[..., 0], np.float32)


def _middle_contrast(gray: FloatArray) -> float:
    """Return how much brighter the middle is than the rest."""
    rows, columns = gray.shape
    middle = np.zeros(gray.shape, bool)
    middle[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = True
    return float(gray[middle].mean() - gray[~middle].mean()) if (~middle).any() else 0.0


def _intensity(plane: FloatArray) -> dict[str, float]:
    values = plane.ravel().astype(np.float64)
    mean, sd = values.mean(), values.std()
    z = (values - mean) / sd if sd > 1e-7 else np.zeros_like(values)  # a flat image is not skewed
    squares = z * z  # z**4 takes ten times as long
    bins = np.minimum(np.clip(values, 0, 1) * _BINS, _BINS - 1).astype(np.intp)
    shares = np.bincount(bins) / len(values)
    shares = shares[shares > 0]
    percentiles = np.percentile(values, (5, 25, 50, 75, 95))
    kurtosis = (squares * squares).mean() - 3 if sd > 1e-7 else 0.0
    entropy = abs((shares * np.log2(shares)).sum())
    figures = (mean, sd, *percentiles, (squares * z).mean(), kurtosis, entropy)
    return {name: float(value) for name, value in zip(_INTENSITY, figures, strict=True)}


def _texture(gray: FloatArray) -> dict[str, float]:
    from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

    found: dict[str, float] = {}
    levels = np.clip(gray * _GREY_LEVELS, 0, _GREY_LEVELS - 1).astype(np.uint8)
    angles = np.arange(4) * np.pi / 4
    found.update({f"glcm_{name}_{distance}px": np.nan for distance in _DISTANCES for name in _GLCM})
    near = [distance for distance in _DISTANCES if distance < min(gray.shape)]  # else no two pixels are so far apart
    if near:
        matrix = graycomatrix(levels, near, angles, _GREY_LEVELS, symmetric=True, normed=True)
        for name in _GLCM:
            for distance, value in zip(near, graycoprops(matrix, name).mean(axis=1), strict=True):
                found[f"glcm_{name}_{distance}px"] = float(value)
    eight_bit = np.clip(np.rint(gray * 255), 0, 255).astype(np.uint8)  # rounding errors of floats are no pattern
    for points, radius in _LBP:
        padded = np.pad(eight_bit, radius, mode="edge")  # outside the image is not black
        patterns = local_binary_pattern(padded, points, radius, "uniform").astype(int)
        patterns = patterns[radius:-radius, radius:-radius]
        shares = np.bincount(patterns.ravel(), minlength=points + 2) / patterns.size
        found.update({f"lbp_{points}_{k}": float(share) for k, share in enumerate(shares)})
    return found


def _shape(bright: FloatArray) -> dict[str, float]:
    """Describe the bright object that is nearest to the middle."""
    from scipy import ndimage as ndi
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops

    nothing = dict.fromkeys(_SHAPE, np.nan)
    smooth = ndi.gaussian_filter(bright, 1.0)
    if smooth.max() - smooth.min() < 1e-3:
        return {**nothing, "area_fraction": 0.0}
    mask = ndi.binary_fill_holes(smooth > threshold_otsu(smooth))
    opened = ndi.binary_opening(mask)
    labels = label(opened if opened.any() else mask)
    middle = (np.array(bright.shape) - 1) / 2
    at = np.argwhere(labels)
    chosen = labels[tuple(at[np.linalg.norm(at - middle, axis=1).argmin()])]
    inside = labels == chosen
    region = regionprops(inside.astype(np.uint8))[0]
    perimeter = float(region.perimeter)
    area = float(region.area)
    convex = float(ndi.sum_labels(region.image_convex)) if area > 2 and min(region.image.shape) > 1 else area
    figures = (
        area / bright.size,
        region.eccentricity,
        region.axis_major_length,
        region.axis_minor_length,
        perimeter,
        min(4 * np.pi * area / perimeter**2, 1.0) if perimeter else np.nan,
        area / convex,
        region.extent,
        bright[inside].mean() - bright[~inside].mean() if (~inside).any() else np.nan,
    )
    return {name: float(value) for name, value in zip(_SHAPE, figures, strict=True)}
