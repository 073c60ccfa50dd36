"""Deletion and insertion curves, and the dummies that a heat map must beat.

Petsiuk, Das, Saenko: RISE: randomized input sampling for explanation of black-box models. BMVC (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..progress import Steps
from .attribution import normalised
from .variants import blurred, proba_of_variants_iter

if TYPE_CHECKING:
    from ..classify.bundle import Classifier

LEVELS = 20
"""Steps of a curve."""
DUMMIES = ("centred Gaussian", "smooth noise")


def dummies(shapes: list[tuple[int, ...]], seed: int) -> dict[str, list[FloatArray]]:
    """Draw heat maps that know nothing of the image.

    Parameters
    ----------
    shapes : list of (int, int)
    seed : int

    Returns
    -------
    dict
        For each of `DUMMIES` a list of (Y, X) float32 from 0 to 1: a Gaussian in the centre, whose σ is a quarter of
        the shorter side, and Gaussian noise smoothed with half of that.
    """
    from scipy import ndimage as ndi

    centred, smooth = [], []
    for i, (height, width) in enumerate(shapes):
        side = min(height, width)
        y, x = np.ogrid[:height, :width]
        squared = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2
        centred.append(np.exp(-squared / (2 * (side / 4) ** 2)).astype(np.float32))
        noise = np.random.default_rng((seed, i)).standard_normal((height, width))
        noise = ndi.gaussian_filter(noise, side / 8, mode="reflect")
        smooth.append(normalised((noise - noise.min()).astype(np.float32)))
    return dict(zip(DUMMIES, (centred, smooth), strict=True))


def curves_iter(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    heats: list[FloatArray],
    targets: npt.NDArray[np.intp],
    seed: int,
) -> Steps[npt.NDArray[np.float64]]:
    """Delete and insert the hottest pixels bit by bit, and ask for the probability of the class.

    Parameters
    ----------
    classifier : Classifier
    scaled : list of (Y, X, S) float32
    heats : list of (Y, X) float32
    targets : (N,) array of int
    seed : int
        Of the order among equally hot pixels.

    Returns
    -------
    (2, N, LEVELS + 1) float64
        Probability of the class with the hottest 0, 1/20, … all pixels blurred, and with only those left sharp.
    """
    covers = [blurred(image) for image in scaled]
    orders = [_order(heat, np.random.default_rng((seed, i))) for i, heat in enumerate(heats)]

    def variant(k: int) -> FloatArray:
        inserted, i, level = np.unravel_index(k, (2, len(scaled), LEVELS + 1))
        hottest = orders[i] < level / LEVELS
        return np.where(hottest[..., None] ^ (inserted == 0), scaled[int(i)], covers[i])

    count = 2 * len(scaled) * (LEVELS + 1)
    proba = yield from proba_of_variants_iter(classifier, count, variant, max(image.size for image in scaled))
    curves = proba.reshape(2, len(scaled), LEVELS + 1, -1)
    return np.take_along_axis(curves, targets[None, :, None, None], axis=-1)[..., 0]


def _order(heat: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return for each pixel the part of the pixels that are hotter, 0 to below 1."""
    by_heat = np.lexsort((rng.random(heat.size), -heat.ravel()))
    rank = np.empty(heat.size)
    rank[by_heat] = np.arange(heat.size) / heat.size
    return rank.reshape(heat.shape)


def areas_under(curves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the area under each curve, 0 to 1; the last axis is the levels."""
    from scipy.integrate import trapezoid

    areas: npt.NDArray[np.float64] = trapezoid(curves, dx=1 / LEVELS, axis=-1)
    return areas
