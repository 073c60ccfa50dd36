"""Paired differences to the reference recipe: which interval belongs to which design."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .intervals import FEW, UNKNOWN, Interval, effective_groups, jackknife_t, paired_t, percentile, resampled_sums
from .scores import auc_parts, sample_rows, scores_of
from .tables import cells_of, classes_of, codes_of, predictions_of, proba_of

if TYPE_CHECKING:
    from .result import StudyResult

FOLDS, REPEATS, SAMPLES, GROUPS, FEW_GROUPS, POOLED = (
    "corrected t over folds",
    "corrected t over repeats",
    "bootstrap over samples",
    "bootstrap over groups",
    "jackknife t over groups",
    "all folds together",
)


_COLUMNS = (
    *("metric", "classifier", "recipe", "reference", "difference", "method", "units", "low", "high", "p_corrected"),
    *("p_naive", "p_wilcoxon"),
)


def differences(result: StudyResult, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the differences of one condition with their intervals; the columns are those of `statistics.tests`."""
    study = result.study
    rows: list[dict[str, Any]] = []
    once: list[tuple[dict[str, Any], frozenset[tuple[int, int]]]] = []
    for metric in metrics:
        for classifier in study.classifiers:
            for recipe in study.recipes:
                if recipe == study.reference:
                    continue
                row: dict[str, Any] = {"metric": metric, "classifier": classifier, "recipe": recipe}
                row["reference"] = study.reference
                rows.append(row)
                pairs = _pairs(result, classifier, recipe, metric)
                known = pairs[pairs["difference"].notna()]
                d = known["difference"].to_numpy(float)
                row |= {"difference": math.nan, "method": "", "units": 0, **_named(UNKNOWN)}
                row |= {"p_naive": math.nan, "p_wilcoxon": math.nan}
                if not len(pairs):
                    continue
                if metric != "ece":  # that of a single fold or partition says little
                    row |= {"p_naive": paired_t(d).p, "p_wilcoxon": _wilcoxon(d)}
                layout = study.design.layout
                if layout != "cross-validation" and pairs["repeat"].nunique() == 1:
                    # Here all parts count together: also those that have no figure of their own.
                    once.append((row, frozenset(zip(pairs["repeat"], pairs["fold"], strict=True))))
                elif metric == "ece":
                    _calibration(row, result, pairs)
                else:
                    _several(row, known, layout)
    _trained_once(result, once)
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _named(interval: Interval) -> dict[str, float]:
    return {"low": 100 * interval.low, "high": 100 * interval.high, "p_corrected": interval.p}


def _pairs(result: StudyResult, classifier: str, recipe: str, metric: str) -> pd.DataFrame:
    """Put the cells of a recipe and of the reference side by side, where both were done."""
    keys = ["repeat", "fold"]
    one, other = (
        cells.loc[cells["status"] == "done", [*keys, "n_train", "n_test", metric]]
        for cells in (cells_of(result, classifier, name) for name in (recipe, result.study.reference))
    )
    both = one.merge(other[[*keys, metric]], on=keys, suffixes=("", "_reference"))
    both["difference"] = both[metric] - both[f"{metric}_reference"]
    return both


def _wilcoxon(d: npt.NDArray[np.float64]) -> float:
    from scipy import stats

    if len(d) < 2:
        return math.nan
    if not np.any(d):
        return 1.0
    ranked = np.round(d, 12)  # differences that are alike but for rounding are ties
    exact = len(d) <= 50 and np.all(ranked) and len(np.unique(np.abs(ranked))) == len(d)
    return float(stats.wilcoxon(ranked, method="exact" if exact else "asymptotic").pvalue)


def _several(row: dict[str, Any], pairs: pd.DataFrame, layout: str) -> None:
    """Fill in the corrected t interval over folds, or over repeats of a split."""
    row["method"] = FOLDS
    if layout != "cross-validation":
        # The parts of one test set share a trained classifier: they count once.
        sizes = {"difference": "mean", "n_test": "sum", "n_train": "mean"}
        pairs, row["method"] = pairs.groupby("repeat").agg(sizes), REPEATS
    d = pairs["difference"].to_numpy(float)
    if not len(d):
        return
    ratio = float((pairs["n_test"] / pairs["n_train"]).mean())
    row |= {"difference": 100 * float(d.mean()), "units": len(d), **_named(paired_t(d, ratio))}


def _calibration(row: dict[str, Any], result: StudyResult, pairs: pd.DataFrame) -> None:
    """Fill in the difference of the calibration errors of all predictions of a repeat together.

    Of few predictions the calibration error is too large, and the more so the fewer they are: differences of single
    folds are differences of that. Repeats of a split give an interval; folds of one data set do not.
    """
    keys = pd.MultiIndex.from_frame(pairs[["repeat", "fold"]])
    one, other = (
        pooled(result, row["classifier"], row[name], keys)["ece"].to_numpy(float) for name in ("recipe", "reference")
    )
    d = one - other
    row |= {"difference": 100 * float(d.mean()), "method": POOLED, "units": len(d)}
    if not np.any(np.abs(d) > 1e-12):
        row |= _named(Interval(0.0, 0.0, 1.0))
    elif result.study.design.layout != "cross-validation":
        sizes = pairs.groupby("repeat").agg({"n_test": "sum", "n_train": "mean"})
        row |= {"method": REPEATS, **_named(paired_t(d, float((sizes["n_test"] / sizes["n_train"]).mean())))}


def pooled(result: StudyResult, classifier: str, recipe: str, keys: pd.MultiIndex | None = None) -> pd.DataFrame:
    """Return the scores of all test predictions of each repeat together.

    Parameters
    ----------
    result : StudyResult
    classifier, recipe : str
    keys : MultiIndex of (repeat, fold), optional
        Of these parts only.

    Returns
    -------
    pandas.DataFrame
        A row for each repeat, with the columns of `scores_of`.
    """
    predictions, classes = predictions_of(result, classifier, recipe), classes_of(result)
    if keys is not None:
        predictions = predictions[pd.MultiIndex.from_frame(predictions[["repeat", "fold"]]).isin(keys)]
    scores = [
        scores_of(sample_rows(*codes_of(part, classes), proba_of(part, classes)).sum(axis=0), classes)
        for _, part in predictions.groupby("repeat")
    ]
    return pd.DataFrame(scores, columns=None if scores else ["macro_f1", "ece"], dtype=float)


def _trained_once(result: StudyResult, asked: list[tuple[dict[str, Any], frozenset[tuple[int, int]]]]) -> None:
    """Fill in the bootstrap, or jackknife, of pairs that were trained once; those of the same samples together."""
    for shared in dict.fromkeys(folds for _, folds in asked):
        rows = [row for row, folds in asked if folds == shared]
        recipes = {(row["classifier"], name) for row in rows for name in (row["recipe"], row["reference"])}
        sums = _UnitSums(result, sorted(recipes), shared)
        for row in rows:
            sums.fill(row, (row["classifier"], row["recipe"]), (row["classifier"], row["reference"]))


class _UnitSums:
    """The sums of `sample_rows` over units (samples or groups) for some cells of the grid, and their resamples."""

    def __init__(self, result: StudyResult, cells: list[tuple[str, str]], shared: frozenset[tuple[int, int]]) -> None:
        self.classes = classes_of(result)
        blocks, self.influences, self.auc = [], {}, {}
        self._said: dict[tuple[str, str], tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]] = {}
        self._without: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
        self.samples: npt.NDArray[Any] | None = None
        for cell in cells:
            table = predictions_of(result, *cell)
            here = [key in shared for key in zip(table["repeat"], table["fold"], strict=True)]
            table = table[here]
            samples = table["sample"].to_numpy()
            if self.samples is None:
                self.samples = samples
                self.by_group = bool((table["group"].astype(str) != "").any())
                names = table["group"].astype(str).where(table["group"].astype(str) != "", table["sample"].astype(str))
                unit = (names if self.by_group else table["sample"]).to_numpy()
                self.unit = np.unique(unit, return_inverse=True)[1]
            elif not np.array_equal(samples, self.samples):
                raise ValueError(f"{cell[1]} and {cell[0]} were not tested on the same samples as others: run again.")
            truth, predicted = codes_of(table, self.classes)
            proba = proba_of(table, self.classes)
            self._said[cell] = truth, proba
            blocks.append(self._sum(sample_rows(truth, predicted, proba)))
            self.auc[cell], influence = auc_parts(truth, proba)
            self.influences[cell] = self._sum(influence[:, None])[:, 0]
        self.units = int(self.unit.max()) + 1
        self.few = self.by_group and self.units < FEW
        self.effective = effective_groups(np.bincount(self.unit)) if self.by_group else float(self.units)
        stacked = np.concatenate(blocks, axis=1)
        total = stacked.sum(axis=0)
        resampled = total - stacked if self.few else resampled_sums(stacked, seed=result.study.seed)
        # One piece at a time is a view; the scores of each cell are computed once.
        width = blocks[0].shape[1]
        part = [slice(i * width, (i + 1) * width) for i in range(len(cells))]
        self.whole = {cell: scores_of(total[part[i]], self.classes) for i, cell in enumerate(cells)}
        self.resampled = {cell: scores_of(resampled[:, part[i]], self.classes) for i, cell in enumerate(cells)}

    def _sum(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        out = np.zeros((int(self.unit.max()) + 1, rows.shape[1]))
        np.add.at(out, self.unit, rows)
        return out

    def _auc_without(self, cell: tuple[str, str]) -> npt.NDArray[np.float64]:
        """Return the ROC-AUC of a cell without each group."""
        if cell not in self._without:
            truth, proba = self._said[cell]
            rest = (self.unit != unit for unit in range(self.units))
            self._without[cell] = np.array([auc_parts(truth[here], proba[here])[0] for here in rest])
        return self._without[cell]

    def fill(self, row: dict[str, Any], cell: tuple[str, str], reference: tuple[str, str]) -> None:
        """Put the difference and its interval into a row of `tests`."""
        metric = row["metric"]
        row["method"] = FEW_GROUPS if self.few else GROUPS if self.by_group else SAMPLES
        row["units"] = self.units
        if metric == "roc_auc":
            estimate = self.auc[cell] - self.auc[reference]
            if self.by_group:  # influences are linear, and understate a group that outweighs the others
                row["method"] = FEW_GROUPS
                left_out = self._auc_without(cell) - self._auc_without(reference)
            else:
                row["method"] = "DeLong t over samples"
                influence = self.influences[cell] - self.influences[reference]
                left_out = estimate + influence * self.units / max(self.units - 1, 1)
            interval = jackknife_t(estimate, left_out, self.effective)
        else:
            estimate = float(self.whole[cell][metric] - self.whole[reference][metric])
            differences = self.resampled[cell][metric] - self.resampled[reference][metric]
            known = (differences, self.effective)
            interval = jackknife_t(estimate, *known) if self.few else percentile(*known)
        row |= {"difference": 100 * estimate, **_named(interval)}
