"""Whether probabilities mean what they say, and how they are made to.

Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML (2017), for the temperature and the
expected calibration error; Platt (1999) for the sigmoid; Zadrozny and Elkan: Transforming classifier scores into
accurate multiclass probability estimates. KDD (2002), for isotonic regression and one-versus-rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .base import ClassifierBase
from .splits import IntArray, by_groups, folds

FloatTable = npt.NDArray[np.float64]
BINS = 15
FOLDS = 3
_TEMPERATURES = (0.01, 100.0)


class Reliability(NamedTuple):
    """What confidence is worth, bin by bin.

    Attributes
    ----------
    edges : (bins + 1,) array
        Of the confidence, from 0 to 1.
    samples : (bins,) array of int
        How many are in each bin.
    confidence, accuracy : (bins,) array
        Mean probability of the predicted class, and part that is right; NaN where a bin is empty.
    """

    edges: FloatTable
    samples: IntArray
    confidence: FloatTable
    accuracy: FloatTable

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of the two, weighted by the samples; 0 is perfect."""
        full = self.samples > 0
        distance = np.abs(self.confidence[full] - self.accuracy[full])
        return float((distance * self.samples[full]).sum() / self.samples.sum())


def reliability(proba: npt.ArrayLike, codes: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Compare confidence with accuracy in bins of equal width.

    Parameters
    ----------
    proba : (N, classes) array
    codes : (N,) array of int
        The column of each sample's true class.
    bins : int

    Raises
    ------
    ValueError
        If there are no samples.
    """
    p, truth = np.asarray(proba, np.float64), np.asarray(codes)
    if not len(p):
        raise ValueError("There are no samples: calibration needs some.")
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    # As Guo et al.: a bin holds its upper edge.
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, values, minlength=bins) / count for values in (confidence, right)]
    return Reliability(edges, count, *means)


def expected_calibration_error(proba: npt.ArrayLike, codes: npt.ArrayLike, bins: int = BINS) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width; see `reliability`."""
    return reliability(proba, codes, bins).error


def calibration_folds(
    codes: IntArray, groups: npt.ArrayLike | None, seed: int, n_splits: int = FOLDS
) -> tuple[list[tuple[IntArray, IntArray]], bool]:
    """Return folds, and whether groups are whole in them; they are mixed where there are too few groups."""
    return by_groups(lambda whole: folds(codes, whole, n_splits, seed), groups)


class Scores(ClassifierBase):
    """Hand on scores that were made before: what scikit-learn's calibration then calibrates."""

    def fit(self, X: FloatTable, y: IntArray) -> Scores:
        """Note the classes."""
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X: FloatTable) -> FloatTable:
        """Return the scores; of two classes, those of the second."""
        return X if len(self.classes_) > 2 else X[:, 1]

    def predict(self, X: FloatTable) -> IntArray:
        """Return the class of the highest score."""
        found: IntArray = self.classes_[X.argmax(axis=1)]
        return found


def fit_calibrator(scores: FloatTable, codes: IntArray, method: str) -> Any:
    """Fit the map from scores to probabilities.

    Parameters
    ----------
    scores : (N, classes) float64
        Of samples that the classifier has not been fitted to.
    codes : (N,) array of int
    method : {"sigmoid", "isotonic"}

    Returns
    -------
    sklearn.calibration.CalibratedClassifierCV
        Its ``predict_proba`` takes scores.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    frozen = FrozenEstimator(Scores().fit(scores, codes))
    everything = np.arange(len(codes))
    cv = [(everything, everything)]  # nothing is fitted but the map
    fitted = CalibratedClassifierCV(frozen, method=method, ensemble=False, cv=cv).fit(scores, codes)
    return fitted.set_params(cv=None)  # the indices have served, and would be saved


def cross_calibrated(
    scores: FloatTable, codes: IntArray, parts: Sequence[tuple[IntArray, IntArray]], method: str
) -> FloatTable:
    """Return what calibration makes of each sample when its own fold has not been seen: (N, classes).

    Raises
    ------
    ValueError
        If some class is missing outside of a fold.
    """
    out = np.empty_like(scores)
    for train, test in parts:
        if method == "temperature":
            out[test] = softmax(scores[test] / fit_temperature(scores[train], codes[train]))
        else:
            out[test] = fit_calibrator(scores[train], codes[train], method).predict_proba(scores[test])
    return out


def fit_temperature(scores: npt.ArrayLike, codes: npt.ArrayLike) -> float:
    """Return the number by which to divide scores so that their softmax fits the classes best.

    As in Platt's sigmoid, the truth counts as a little less than certain, by one sample of each class: a few samples
    that are all right would make it 0 otherwise.

    Parameters
    ----------
    scores : (N, classes) array
        Before the softmax.
    codes : (N,) array of int
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    z = np.asarray(scores, np.float64)
    n, n_classes = z.shape
    target = (np.asarray(codes)[:, None] == np.arange(n_classes)) * n / (n + n_classes) + 1 / (n + n_classes)

    def loss(log_temperature: float) -> float:
        return -float((log_softmax(z / np.exp(log_temperature), axis=1) * target).sum())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def softmax(scores: FloatTable) -> FloatTable:
    """Turn scores (N, classes) into probabilities."""
    from scipy.special import softmax as of_scores

    proba: FloatTable = of_scores(scores, axis=1)
    return proba


def calibration_record(
    method: str, before: FloatTable, after: FloatTable, codes: IntArray, grouped: bool
) -> dict[str, Any]:
    """Describe a calibration for the classifier's record.

    Parameters
    ----------
    method : str
    before, after : (N, classes) arrays
        Probabilities of held-out training crops, calibrated by folds that they are not of.
    codes : (N,) array of int
    grouped : bool
        Whether groups were kept whole.
    """
    return {
        "method": method,
        "ece_before": expected_calibration_error(before, codes),
        "ece_after": expected_calibration_error(after, codes),
        "samples": len(codes),
        "by_group": grouped,
    }
