"""Scores that are functions of sums over samples, so that resampled ones cost a matrix product.

Each sample has a row of numbers; the sum of these rows over any set of samples gives the confusion matrix, the Brier
score and the calibration error of that set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BINS = 15
"""Of the calibration error: as many bins of equal width as Guo et al. (2017) use."""


def confidence_bin(confidence: npt.NDArray[Any], bins: int = BINS) -> npt.NDArray[np.intp]:
    """Return the bin of each confidence; the bins are (0, 1/15], (1/15, 2/15], and so on."""
    return np.asarray(np.clip(np.ceil(np.asarray(confidence, float) * bins).astype(np.intp) - 1, 0, bins - 1))


def sample_rows(truth: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp], proba: FloatArray | None) -> FloatArray:
    """Return the row of each sample.

    Parameters
    ----------
    truth, predicted : (N,) arrays of int
        Codes of classes, from 0 to C - 1.
    proba : (N, C) array or None

    Returns
    -------
    (N, C*C) array, or (N, C*C + 1 + 15) array with probabilities
        One-hot of (truth, predicted); the squared error of the probabilities, summed over classes; the confidence
        minus whether it was right, in the column of its bin.
    """
    n, n_classes = proba.shape if proba is not None else (len(truth), int(max(truth.max(), predicted.max())) + 1)
    rows = np.zeros((n, n_classes**2 + (0 if proba is None else 1 + BINS)))
    rows[np.arange(n), truth * n_classes + predicted] = 1
    if proba is not None:
        rows[:, n_classes**2] = ((proba - np.eye(n_classes)[truth]) ** 2).sum(axis=1)
        confidence = proba.max(axis=1)
        gap = confidence - (predicted == truth)
        rows[np.arange(n), n_classes**2 + 1 + confidence_bin(confidence)] = gap
    return rows


def scores_of(sums: npt.NDArray[Any], classes: Sequence[str]) -> dict[str, FloatArray]:
    """Return the scores of sums of `sample_rows`.

    Parameters
    ----------
    sums : (..., K) array
    classes : sequence of str

    Returns
    -------
    dict of (...) arrays
        ``macro_f1``, ``accuracy``, ``balanced_accuracy`` and ``f1_<class>``; ``brier`` and ``ece`` where the rows had
        probabilities. A class that does not occur counts towards neither macro-F1 nor balanced accuracy.
    """
    sums = np.asarray(sums, float)
    n_classes = len(classes)
    confusion = sums[..., : n_classes**2].reshape(*sums.shape[:-1], n_classes, n_classes)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = np.maximum(support.sum(axis=-1), 1e-12)
    f1 = 2 * right / np.maximum(support + predicted, 1e-12)
    present = support > 0
    n_present = np.maximum(present.sum(axis=-1), 1)
    found: dict[str, FloatArray] = {
        "macro_f1": (f1 * present).sum(axis=-1) / n_present,
        "accuracy": right.sum(axis=-1) / total,
        "balanced_accuracy": (right / np.maximum(support, 1e-12)).sum(axis=-1) / n_present,
    }
    found |= {f"f1_{name}": f1[..., i] for i, name in enumerate(classes)}
    if sums.shape[-1] > n_classes**2:
        found["brier"] = sums[..., n_classes**2] / total
        found["ece"] = np.abs(sums[..., n_classes**2 + 1 :]).sum(axis=-1) / total
    return found


def auc_parts(truth: npt.NDArray[np.intp], proba: FloatArray) -> tuple[float, FloatArray]:
    """Return the macro one-against-rest ROC-AUC, and what each sample adds to its error.

    DeLong et al., Comparing the areas under two or more correlated receiver operating characteristic curves,
    Biometrics 44 (1988), doi:10.2307/2531595; summed over groups for samples in groups
    (Obuchowski, Biometrics 53, 1997).

    Parameters
    ----------
    truth : (N,) array of int
    proba : (N, C) array

    Returns
    -------
    auc : float
        NaN if the samples are of one class.
    influence : (N,) array
        Sums to 0; the variance of the AUC is that of this sum.
    """
    from scipy.stats import rankdata

    areas, influence = [], np.zeros(len(truth))
    for code in np.unique(truth):
        inside = truth == code
        n_in, n_out = int(inside.sum()), int((~inside).sum())
        if n_out == 0:
            return float("nan"), influence
        ranks = rankdata(proba[:, code])
        # The share of the other side that lies on the wrong side of a sample, ties counting half.
        below = (ranks[inside] - rankdata(proba[inside, code])) / n_out
        above = 1 - (ranks[~inside] - rankdata(proba[~inside, code])) / n_in
        area = float(below.mean())
        areas.append(area)
        influence[inside] += (below - area) / n_in
        influence[~inside] += (above - area) / n_out
    return float(np.mean(areas)), influence / len(areas)
