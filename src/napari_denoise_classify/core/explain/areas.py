"""What the critical area of each sample is worth: its size, its share, what it decides, how stable it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..progress import Progress, Steps, within
from .attribution import Method, heats_iter
from .contours import critical_mask
from .drift import overlap
from .variants import blocks, blurred, proba_of_variants_iter

if TYPE_CHECKING:
    from ..classify.bundle import Classifier

NOISE = 10 / 255
"""Sigma of the noise that stability is measured with, of an intensity range of 1."""
_STATISTICS = ["probability_kept", "probability_removed", "stability"]


def area_table(heats: list[FloatArray], masks: list[npt.NDArray[np.bool_]]) -> Any:
    """Describe critical areas.

    Parameters
    ----------
    heats : list of (Y, X) float32
    masks : list of (Y, X) array of bool
        From `critical_mask`.

    Returns
    -------
    pandas.DataFrame
        A row for each: ``critical_px``, ``critical_fraction`` of the pixels, and ``critical_influence``, the part of
        the map's sum inside it; NaN for a map of zeros.
    """
    import pandas as pd

    totals = np.array([heat.sum(dtype=np.float64) for heat in heats])
    inside = np.array([heat[mask].sum(dtype=np.float64) for heat, mask in zip(heats, masks, strict=True)])
    return pd.DataFrame(
        {
            "critical_px": [int(mask.sum()) for mask in masks],
            "critical_fraction": [float(mask.mean()) for mask in masks],
            "critical_influence": np.divide(inside, totals, out=np.full(len(heats), np.nan), where=totals > 0),
        }
    )


def area_statistics_iter(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    method: Method,
    targets: npt.NDArray[np.intp],
    masks: list[npt.NDArray[np.bool_]],
    area: dict[str, Any],
    *,
    draws: int = 5,
    seed: int = 0,
) -> Steps[Any]:
    """Ask the classifier what the critical areas decide, and compute them again under small noise.

    Parameters
    ----------
    classifier : Classifier
    scaled : list of (Y, X, S) float32
        From `Classifier.prepare_iter`.
    method : str or (str, mapping)
    targets : (N,) array of int
        Number of the class that each map is about.
    masks : list of (Y, X) array of bool
        The critical areas.
    area : dict
        Parameters of `critical_mask` that they were made with.
    draws : int
        How often noise of σ = 10 of 255 is added.
    seed : int
        Of the noise; a sample's noise depends on its place in the list and the draw only.

    Returns
    -------
    pandas.DataFrame
        A row for each sample: ``probability_kept`` is the explained class's probability where only the critical area
        is left and the rest is blurred, ``probability_removed`` where the area is blurred, and ``stability`` the mean
        intersection over union of the critical areas with and without noise. NaN where there is no area.
    """
    import pandas as pd

    found = np.empty((len(scaled), len(_STATISTICS)))
    for part in blocks(scaled):
        samples = scaled[part], targets[part], masks[part]
        seeds = [[(seed, draw, i) for i in range(len(scaled))[part]] for draw in range(draws)]
        work = _statistics_iter(classifier, *samples, method, area, seeds)
        found[part] = yield from within(work, part.start / len(scaled), part.stop / len(scaled))
    found[[not mask.any() for mask in masks]] = np.nan
    return pd.DataFrame(found, columns=_STATISTICS)


def _statistics_iter(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    targets: npt.NDArray[np.intp],
    masks: list[npt.NDArray[np.bool_]],
    method: Method,
    area: dict[str, Any],
    seeds: Sequence[Sequence[tuple[int, int, int]]],
) -> Steps[npt.NDArray[np.float64]]:
    """Return the figures of `area_statistics_iter`, (N, 3); ``seeds`` are those of the noise, for each draw."""
    covers = [blurred(image) for image in scaled]

    def variant(k: int) -> FloatArray:
        i, removed = divmod(k, 2)
        return np.where(masks[i][..., None] ^ bool(removed), scaled[i], covers[i])

    largest = max(image.size for image in covers)
    work = proba_of_variants_iter(classifier, 2 * len(scaled), variant, largest, "critical areas")
    proba = yield from within(work, 0.0, 0.2)
    probabilities = proba.reshape(len(scaled), 2, -1)[np.arange(len(scaled)), :, targets]
    found = np.zeros((len(seeds), len(scaled)))
    for draw, numbers in enumerate(seeds):
        start, stop = 0.2 + 0.8 * draw / len(seeds), 0.2 + 0.8 * (draw + 1) / len(seeds)
        yield Progress(start, "stability")
        noisy = [
            image + NOISE * np.random.default_rng(number).standard_normal(image.shape, np.float32)
            for number, image in zip(numbers, scaled, strict=True)
        ]
        heats = yield from within(heats_iter(classifier, noisy, method, targets), start, stop, "stability")
        found[draw] = [overlap(mask, critical_mask(heat, **area)) for mask, heat in zip(masks, heats, strict=True)]
    return np.column_stack([probabilities, found.mean(axis=0)])
