"""Fibre morphology: where fibres are, which way they run, how wide, long and straight they are.

Angles are axial, in degrees from 0 up to 180: 0 runs along +X, to the right, and angles grow counter-clockwise as
seen on the screen, where Y points down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray, PlaneImage
from ..progress import Progress, Steps, run
from .ridges import centre_lines, directions, extended, normalised, widths
from .skeletons import BoolArray, Branch, Points, trace

if TYPE_CHECKING:
    import pandas as pd

BINS = 36  # of 5°


@dataclass(frozen=True)
class Descriptor:
    """One figure that describes the fibres of a plane.

    Attributes
    ----------
    name, unit : str
    meaning, method : str
        For people.
    """

    name: str
    unit: str
    meaning: str
    method: str


_TENSOR = "structure tensor on fibre pixels, weighted by coherence"
_BRANCHES = "branches of the skeleton"
DESCRIPTORS: tuple[Descriptor, ...] = (
    Descriptor("orientation_mean", "°", "Mean axial direction, 0 to 180; 0 = along +X, counter-clockwise.", _TENSOR),
    Descriptor(
        "alignment", "", "0 = every direction alike, 1 = all parallel.", f"{_TENSOR}: mean of the doubled angles"
    ),
    Descriptor("orientation_sd", "°", "Circular standard deviation of axial directions.", "½ √(−2 ln alignment)"),
    Descriptor(
        "orientation_entropy", "bit", "0 = one direction, 5.17 = every direction alike.", f"{_TENSOR}: 36 bins of 5°"
    ),
    Descriptor(
        "diameter_mean", "µm", "Mean width, at half of the height.", "twice the distance transform on the skeleton"
    ),
    Descriptor("diameter_sd", "µm", "Standard deviation of the width.", "as above"),
    Descriptor("diameter_median", "µm", "Median width.", "as above"),
    Descriptor("length_mean", "µm", "Mean length of a branch.", _BRANCHES),
    Descriptor("length_sd", "µm", "Standard deviation of the lengths.", _BRANCHES),
    Descriptor("length_max", "µm", "The longest branch.", _BRANCHES),
    Descriptor("straightness_mean", "", "End to end over length; 1 = straight.", f"{_BRANCHES}, closed ones 0"),
    Descriptor("straightness_sd", "", "Standard deviation of the straightness.", _BRANCHES),
    Descriptor("fibre_density", "", "Part of the area that fibres cover, 0 to 1.", "half-height mask"),
    Descriptor("skeleton_density", "µm/µm²", "Length of all branches per area.", _BRANCHES),
    Descriptor("branch_point_density", "1/µm²", "Branch points per area.", "skeleton pixels with 3 or more neighbours"),
)
"""The fifteen, in the order of the columns."""


@dataclass(frozen=True, eq=False)
class FibreMap:
    """The fibres of a plane.

    Attributes
    ----------
    skeleton : (Y, X) bool
        Centre lines.
    mask : (Y, X) bool
        Pixels of fibres: brighter than half-way from the background to the centre line.
    orientation : (Y, X) float32
        Axial direction in degrees, 0 to 180, counter-clockwise from +X; of use where the coherence is high.
    coherence : (Y, X) float32
        0 = no direction, 1 = one direction.
    width : (Y, X) float32
        Diameter in pixels on the skeleton, 0 elsewhere.
    branches : list of Branch
        Lengths in pixels; a free end is extended to where the fibre ends.
    branch_points : (M, 2) float64
        Y, X.
    """

    skeleton: BoolArray
    mask: BoolArray
    orientation: FloatArray
    coherence: FloatArray
    width: FloatArray
    branches: list[Branch]
    branch_points: Points

    def overlay(self, thickness: int = 1) -> npt.NDArray[np.uint8]:
        """Colour the skeleton by orientation: the hue goes once round from 0° (red) to 180°.

        Parameters
        ----------
        thickness : int
            Pixels.

        Returns
        -------
        (Y, X, 4) uint8
            RGBA, transparent elsewhere.
        """
        from matplotlib import colormaps
        from scipy import ndimage as ndi

        distance, nearest = ndi.distance_transform_edt(~self.skeleton, return_indices=True)
        shown = (distance <= (thickness - 1) / 2 + 0.25) & self.skeleton.any()
        out = np.zeros((*self.skeleton.shape, 4), np.uint8)
        out[shown] = colormaps["hsv"](self.orientation[tuple(nearest)][shown] / 180, bytes=True)
        return out

    def describe(self, pixel_size: float = 1.0) -> dict[str, float]:
        """Return the fifteen descriptors; see `DESCRIPTORS`.

        Parameters
        ----------
        pixel_size : float
            µm; with 1, lengths are in pixels.
        """
        area = self.mask.size * pixel_size**2
        lengths = np.array([b.length for b in self.branches]) * pixel_size
        straight = np.array([b.straightness for b in self.branches])
        widths = self.width[self.skeleton].astype(float) * pixel_size
        directions = axial_statistics(self.orientation[self.mask], self.coherence[self.mask])
        return {
            **directions,
            **_spread("diameter", widths),
            "diameter_median": float(np.median(widths)) if len(widths) else np.nan,
            **_spread("length", lengths),
            "length_max": float(lengths.max()) if len(lengths) else np.nan,
            **_spread("straightness", straight),
            "fibre_density": float(self.mask.mean()),
            "skeleton_density": float(lengths.sum()) / area,
            "branch_point_density": len(self.branch_points) / area,
        }


def _spread(name: str, values: npt.NDArray[Any]) -> dict[str, float]:
    mean, sd = (float(values.mean()), float(values.std())) if len(values) else (np.nan, np.nan)
    return {f"{name}_mean": mean, f"{name}_sd": sd}


def axial_statistics(angles: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> dict[str, float]:
    """Describe axial directions, for which 0° and 180° are the same (Mardia and Jupp, Directional statistics, 2000).

    Parameters
    ----------
    angles : (N,) array
        Degrees.
    weights : (N,) array, optional
        Of at least 0.

    Returns
    -------
    dict
        ``orientation_mean`` (degrees, 0 to 180), ``alignment`` (length of the mean of the doubled angles),
        ``orientation_sd`` (degrees, ½ √(−2 ln alignment)) and ``orientation_entropy`` (bits, over 36 bins of which
        the first is centred on 0°); NaN without angles.
    """
    doubled = np.radians(2 * np.asarray(angles, float))
    weights = np.ones_like(doubled) if weights is None else np.asarray(weights, float)
    total = weights.sum()
    if total <= 0:
        return dict.fromkeys(("orientation_mean", "alignment", "orientation_sd", "orientation_entropy"), np.nan)
    mean = (weights * np.exp(1j * doubled)).sum() / total
    alignment = float(np.clip(abs(mean), 1e-12, 1))  # directions that cancel exactly have no finite deviation
    bins = np.rint(np.asarray(angles, float) / (180 / BINS)).astype(int) % BINS
    shares = np.bincount(bins.ravel(), weights.ravel(), BINS) / total
    shares = shares[shares > 0]
    return {
        "orientation_mean": float(np.degrees(np.angle(mean)) / 2 % 180) % 180,
        "alignment": alignment,
        "orientation_sd": float(np.degrees(np.sqrt(-2 * np.log(alignment)) / 2)),
        "orientation_entropy": float(abs((shares * np.log2(shares)).sum())),
    }


def fibre_map(
    image: npt.ArrayLike, *, dark: bool = False, max_width: float = 12.0, min_length: float = 10.0, blur: float = 0.0
) -> FibreMap:
    """Find the fibres of one plane. What it finds does not depend on brightness or contrast.

    Ridges (Sato et al., Medical Image Analysis 2 (1998)) at scales from 1 pixel to half of the largest width, above
    noise and Otsu's threshold, are thinned to a skeleton. Pixels brighter than half-way from the local background to
    the nearest centre line are the mask, whose distance transform, on a grid six times finer, gives the width.
    Orientation is that of the structure tensor (Bigün and Granlund, 1987) of Gaussian gradients.

    Parameters
    ----------
    image : (Y, X) or (Y, X, 3) array
        RGB becomes luminance.
    dark : bool
        Fibres are darker than their surroundings.
    max_width : float
        Width of the widest fibres, in pixels; at least 2.
    min_length : float
        Shorter pieces and spurs of the skeleton are ignored, in pixels.
    blur : float
        Standard deviation of the microscope's blur, in pixels: it is taken off the diameters.

    Returns
    -------
    FibreMap
        Without fibres, all masks are empty.

    Raises
    ------
    ValueError
        If the image is not one plane of finite numbers, or a parameter is not allowed.
    """
    _check("max_width", max_width, 2, "a number of at least 2")
    _check("min_length", min_length, 0, "a number of at least 0")
    _check("blur", blur, 0, "a number of at least 0")
    plane = normalised(image, dark)
    if plane is None:
        shape = np.shape(image)[:2]
        nothing, flat = np.zeros(shape, bool), np.zeros(shape, np.float32)
        return FibreMap(nothing, nothing, flat, flat, flat, [], np.empty((0, 2)))
    orientation, coherence = directions(plane)
    skeleton, level = centre_lines(plane, max_width)
    found = trace(skeleton, min_length)
    mask, width = widths(level, found.skeleton, max_width, blur)
    branches = [extended(b, width) for b in found.branches]
    return FibreMap(found.skeleton, mask, orientation, coherence, width, branches, found.branch_points)


def _check(name: str, value: float, least: float, allowed: str) -> None:
    if not (np.isfinite(value) and value >= least):
        raise ValueError(f"{name}={value!r} is not allowed: give {allowed}.")


def fibre_features(
    image: Any,
    axes: str | None = None,
    pixel_size: float = 1.0,
    *,
    rgb: bool = False,
    dark: bool = False,
    max_width: float = 12.0,
    min_length: float = 10.0,
    blur: float = 0.0,
) -> pd.DataFrame:
    """Measure the fibres of every plane.

    Parameters
    ----------
    image : array-like
        Numpy or dask, integers or floats, of any axes.
    axes : str, optional
        As ``"TCZYX"``; S for RGB samples. Default: the last two axes are Y and X, all before are independent planes.
    pixel_size : float
        µm per pixel; with 1, lengths are in pixels.
    rgb : bool
        Whether the last axis holds RGB samples, where ``axes`` is not given.
    dark, max_width, min_length, blur
        As for `fibre_map`.

    Returns
    -------
    pandas.DataFrame
        A row for each plane: its index along the leading axes, then the fifteen columns of `DESCRIPTORS`. Without
        fibres densities are 0 and everything else is NaN.

    Raises
    ------
    ValueError
        As `fibre_map`; for axes that do not fit and for a pixel size that is not above 0.
    """
    how = {"dark": dark, "max_width": max_width, "min_length": min_length, "blur": blur}
    return run(fibre_features_iter(image, axes, pixel_size, rgb=rgb, **how))


def fibre_features_iter(
    image: Any, axes: str | None = None, pixel_size: float = 1.0, *, rgb: bool = False, **how: Any
) -> Steps[pd.DataFrame]:
    """As `fibre_features`, with progress."""
    import pandas as pd

    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"pixel_size={pixel_size!r} is not allowed: give a number above 0, in µm.")
    source = PlaneImage.wrap(image, axes, rgb)
    indices = list(source.indices())
    rows: list[Mapping[str, float]] = []
    for k, index in enumerate(indices):
        yield Progress(k / len(indices), "measuring fibres")
        where = dict(zip(source.lead_names, index, strict=True))
        rows.append({**where, **fibre_map(source.raw_plane(index), **how).describe(pixel_size)})
    return pd.DataFrame(rows)
