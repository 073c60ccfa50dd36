"""Intervals and p values for paired differences, with what resampling they need."""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
RESAMPLES = 5000
FEW = 10
"""With fewer groups a bootstrap has too few different resamples; the jackknife takes its place."""

_CHUNK = 4_000_000  # numbers drawn at a time


class Interval(NamedTuple):
    """Bounds of a difference and the p value of no difference; NaN where there is too little to tell."""

    low: float
    high: float
    p: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def paired_t(differences: npt.ArrayLike, test_to_train: float = 0.0, level: float = 0.95) -> Interval:
    """Return the t interval of a mean difference over folds, corrected for training sets that overlap.

    The variance of the mean is (1/J + n_test/n_train) times that of the J differences (Nadeau and Bengio, Inference
    for the generalization error, Machine Learning 52 (2003), doi:10.1023/A:1024068626366); repeats of a
    cross-validation count as more folds (Bouckaert and Frank, PAKDD 2004).

    Parameters
    ----------
    differences : (J,) array
    test_to_train : float
        n_test/n_train; 0 is the usual paired t-test.
    level : float
    """
    from scipy import stats

    d = np.asarray(differences, float)
    if len(d) < 2:
        return UNKNOWN
    error = math.sqrt((1 / len(d) + test_to_train) * float(d.var(ddof=1)))
    return _t_interval(float(d.mean()), error, len(d) - 1, level, stats)


def _t_interval(estimate: float, error: float, freedom: float, level: float, stats: ModuleType) -> Interval:
    t = stats.t
    if error < 1e-12:  # all alike: no spread to judge by
        return Interval(estimate, estimate, 1.0 if abs(estimate) < 1e-12 else 0.0)
    half = float(t.ppf((1 + level) / 2, freedom)) * error
    return Interval(estimate - half, estimate + half, float(2 * t.sf(abs(estimate) / error, freedom)))


def jackknife_t(
    estimate: float, left_out: npt.ArrayLike, effective: float | None = None, level: float = 0.95
) -> Interval:
    """Return the t interval from estimates that each leave one group out.

    Parameters
    ----------
    estimate : float
    left_out : (U,) array
        The estimate without each group.
    effective : float, optional
        How many groups of equal size tell as much, see `effective_groups`: with one group that outweighs the others,
        their number says nothing about how well the spread is known. Default: U.
    level : float
    """
    from scipy import stats

    left = np.asarray(left_out, float)
    units = len(left)
    freedom = (units if effective is None else effective) - 1
    if units < 2 or freedom <= 0 or not np.isfinite(left).all():
        return UNKNOWN
    error = math.sqrt((units - 1) / units * float(((left - left.mean()) ** 2).sum()))
    return _t_interval(estimate, error, freedom, level, stats)


def effective_groups(sizes: npt.ArrayLike) -> float:
    """Return how many groups of equal size tell as much as these of unequal size: Kish's (Σ n)² / Σ n².

    Parameters
    ----------
    sizes : (U,) array
        Samples of each group.
    """
    n = np.asarray(sizes, float)
    return float(n.sum() ** 2 / (n**2).sum())


def percentile(replicates: npt.ArrayLike, units: float, level: float = 0.95) -> Interval:
    """Return the expanded percentile interval of a bootstrap.

    The plain one is too short by a factor of √((U - 1)/U) and takes normal for t quantiles; further quantiles mend
    both (Hesterberg, What teachers should know about the bootstrap, The American Statistician 69 (2015),
    doi:10.1080/00031305.2015.1089789).

    Parameters
    ----------
    replicates : (R,) array
        Differences in the resamples.
    units : float
        How many samples or groups were drawn from, U; see `effective_groups`.
    level : float
    """
    from scipy import stats

    r = np.asarray(replicates, float)
    if units <= 1:
        return UNKNOWN
    stretch = math.sqrt(units / (units - 1))
    tail = float(stats.norm.cdf(-stretch * stats.t.ppf((1 + level) / 2, units - 1)))
    if tail * len(r) < 1:  # no resample lies so far out
        return _t_interval(float(r.mean()), stretch * float(r.std()), units - 1, level, stats)
    low, high = np.quantile(r, [tail, 1 - tail])
    # The level at which the interval would just touch 0; no resample there still leaves one in R + 1.
    beyond = (min(int((r <= 0).sum()), int((r >= 0).sum())) + 1) / (len(r) + 1)
    p = 1.0 if beyond >= 0.5 else float(2 * stats.t.sf(-stats.norm.ppf(beyond) / stretch, units - 1))
    return Interval(float(low), float(high), p)


def resampled_sums(rows: npt.NDArray[np.floating], n: int = RESAMPLES, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return the sums of rows drawn with replacement.

    Parameters
    ----------
    rows : (U, K) array
        One row per sample or group.
    n : int
        Number of resamples, each of U rows.
    seed : int

    Returns
    -------
    (n, K) array of float32
    """
    rng = np.random.default_rng(seed)
    values = np.asarray(rows, np.float32)
    units = len(values)
    out = np.empty((n, values.shape[1]), np.float32)
    step = max(1, _CHUNK // units)
    for start in range(0, n, step):
        count = min(step, n - start)
        drawn = rng.integers(units, size=(count, units)) + np.arange(count)[:, None] * units
        weights = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        out[start : start + count] = weights.astype(np.float32) @ values
    return out


def holm(p: npt.ArrayLike) -> FloatArray:
    """Return p values adjusted for their number by Holm's method; NaN stays NaN and does not count.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    values = np.asarray(p, float)
    adjusted = values.copy()
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * steps), 1.0)
    return adjusted
