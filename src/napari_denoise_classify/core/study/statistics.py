"""What a study's cells say: means, and differences to the reference recipe with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .differences import FEW_GROUPS, FOLDS, GROUPS, POOLED, REPEATS, SAMPLES, differences, pooled
from .intervals import holm
from .scores import sample_rows, scores_of
from .tables import (
    cells_of,
    classes_of,
    codes_of,
    condition_name,
    each_condition,
    metrics_of,
    stack,
)

if TYPE_CHECKING:
    from .result import StudyResult

METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC-AUC",
    "ece": "calibration error",
    "brier": "Brier score",
}
CLASSIFIER_NAMES = {"cnn": "CNN", "svm": "SVM", "knn": "KNN", "random_forest": "random forest"}
MAJORITY = "majority class"
ALPHA = 0.05

DECISIONS = ("raises", "lowers", "no effect shown", "equivalent within the margin")


def metric_name(metric: str) -> str:
    """Return the words for a metric: ``"macro-F1"``, ``"F1 of lymphocyte"``."""
    return METRIC_NAMES.get(metric, f"F1 of {metric[3:]}" if metric.startswith("f1_") else metric)


# --- means ----------------------------------------------------------------------------------------------------------


def summary(result: StudyResult) -> pd.DataFrame:
    """Return the mean and the standard deviation of each metric over folds or partitions.

    Parameters
    ----------
    result : StudyResult

    Returns
    -------
    pandas.DataFrame
        A row for each classifier and recipe, and one for always saying the majority class: ``classifier``,
        ``recipe``, ``n`` (folds or partitions that were done), ``failed``, ``macro_f1_pooled`` (of all test
        predictions of a repeat together, mean over repeats), and each metric with its ``<metric>_sd``. ``ece`` is of
        all predictions of a repeat together, too: of few it is too large. Several conditions make a column
        ``condition``.
    """
    parts = [(name, _summary(part)) for name, part in each_condition(result)]
    return stack(parts)


def _summary(result: StudyResult) -> pd.DataFrame:
    columns = metrics_of(result)
    rows: list[dict[str, Any]] = []
    for classifier in result.study.classifiers:
        for recipe in result.study.recipes:
            cells = cells_of(result, classifier, recipe)
            done = cells[cells["status"] == "done"]
            row: dict[str, Any] = {"classifier": classifier, "recipe": recipe}
            row |= {"n": len(done), "failed": len(cells) - len(done)}
            together = pooled(result, classifier, recipe)
            row["macro_f1_pooled"] = _moments(together, ["macro_f1"])["macro_f1"]
            rows.append(row | _moments(done, columns) | _moments(together, ["ece"]))
    majority = _majority(result)
    row = {"classifier": MAJORITY, "recipe": "", "n": len(majority), "failed": 0, "macro_f1_pooled": math.nan}
    rows.append(row | _moments(majority, columns))
    return pd.DataFrame(rows)


def _moments(table: pd.DataFrame, columns: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for column in columns:
        values = np.array([], float) if column not in table else table[column].to_numpy(float)
        values = values[~np.isnan(values)]
        found[column] = float(values.mean()) if len(values) else math.nan
        found[f"{column}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return found


def _majority(result: StudyResult) -> pd.DataFrame:
    """Score always saying the majority class, of the training samples where the record knows it."""
    known = pd.DataFrame(list(result.record.get("majority", [])))
    if len(known) and "macro_f1" in known:
        if "condition" in known and len(result.conditions) == 1:
            known = known[known["condition"] == result.conditions[0]]
        return known
    classes = classes_of(result)
    first = result.predictions[["repeat", "fold", "sample", "truth"]].drop_duplicates(["repeat", "fold", "sample"])
    if not len(first):
        return pd.DataFrame()
    most = str(first["truth"].astype(str).value_counts().sort_index().idxmax())
    rows = []
    for _, part in first.groupby(["repeat", "fold"]):
        truth, said = codes_of(part.assign(predicted=most), classes)
        sums = sample_rows(truth, said, np.eye(len(classes))[said]).sum(axis=0)
        found = scores_of(sums, classes)
        rows.append({"roc_auc": 0.5} | {key: float(value) for key, value in found.items()})
    return pd.DataFrame(rows)


# --- differences ----------------------------------------------------------------------------------------------------


def tests(result: StudyResult, metrics: Sequence[str] = ("macro_f1",)) -> pd.DataFrame:  # noqa: PT028  # not a test
    """Compare every recipe with the reference recipe, classifier by classifier.

    The samples are the same for both, so differences are paired. Where classifiers were trained several times
    (cross-validation, repeats) the interval is the corrected resampled t interval of Nadeau and Bengio, see
    `intervals.paired_t`; where each was trained once, a bootstrap over the tested samples, or over their groups, see
    `intervals.percentile`; with fewer than ten groups a t interval from leaving one group out.

    Parameters
    ----------
    result : StudyResult
    metrics : sequence of str
        Columns of ``result.cells``.

    Returns
    -------
    pandas.DataFrame
        A row for each metric, classifier and recipe other than the reference:

        difference, low, high
            In points (100 × the metric), with the bounds of the 95 % interval. NaN where there is too little to tell.
        p_naive, p_wilcoxon
            Of the paired t-test and the signed-rank test over folds or partitions. They take these for independent,
            which they are not: for comparison only.
        p_corrected, p_holm
            The p value that belongs to the interval, and that after Holm's correction over all comparisons of the
            metric, of all conditions.
        decision
            By the interval: ``"raises"`` or ``"lowers"`` if it excludes 0, else ``"equivalent within the margin"``
            if it lies within ± the margin, else ``"no effect shown"``.
        beyond_margin
            Whether the gain is above the margin: ``"yes"`` or ``"no"`` if the whole interval says so, else
            ``"open"``.
        method, units
            How the interval was made, and of how many folds, repeats, samples or groups.
        sentence
            The same in words.

    Raises
    ------
    ValueError
        If the recipes were tested on different samples, or a metric is unknown.
    """
    for metric in metrics:
        if metric not in result.cells.columns:
            raise ValueError(f"metric={metric!r} is not allowed: give one of {', '.join(metrics_of(result))}.")
    table = stack([(name, differences(part, metrics)) for name, part in each_condition(result)])
    table["p_holm"], table["comparisons"] = np.nan, 0
    for metric in metrics:
        chosen = (table["metric"] == metric).to_numpy()
        table.loc[chosen, "p_holm"] = holm(table.loc[chosen, "p_corrected"].to_numpy(float))
        table.loc[chosen, "comparisons"] = int(table.loc[chosen, "p_corrected"].notna().sum())
    margin = float(result.study.margin)
    bounds = list(zip(table["low"].to_numpy(float), table["high"].to_numpy(float), strict=True))
    table["decision"] = [decide(low, high, margin) for low, high in bounds]
    table["beyond_margin"] = ["yes" if low > margin else "no" if high <= margin else "open" for low, high in bounds]
    table["sentence"] = [sentence(row, margin) for row in table.to_dict("records")]
    order = [*_COLUMNS, *(name for name in table.columns if name not in _COLUMNS and name != "comparisons")]
    return table[[name for name in order if name in table.columns]]


_COLUMNS = (
    *("condition", "metric", "classifier", "recipe", "reference", "difference", "low", "high"),
    *("p_naive", "p_wilcoxon", "p_corrected", "p_holm", "decision", "beyond_margin", "method", "units", "sentence"),
)


def decide(low: float, high: float, margin: float) -> str:
    """Return what an interval says, one of `DECISIONS`."""
    if low > 0:
        return DECISIONS[0]
    if high < 0:
        return DECISIONS[1]
    return DECISIONS[3] if low > -margin and high < margin else DECISIONS[2]


def sentence(row: dict[Any, Any], margin: float) -> str:
    """Say in words what a row of `tests` says."""
    recipe, metric = row["recipe"], metric_name(row["metric"])
    classifier = CLASSIFIER_NAMES.get(row["classifier"], row["classifier"])
    where = f"With {condition_name(row['condition'])}: " if "condition" in row else ""
    if math.isnan(row["difference"]):
        if row.get("method"):
            return f"{where}{recipe} and {classifier}: no {metric}, as the test samples are of one class."
        return f"{where}{recipe} and {classifier}: not tested, because cells failed."
    points = f"[{number(row['low'])}, {number(row['high'])}]"
    if math.isnan(row["low"]):
        why = "there are too few folds or groups"
        if row.get("method") == POOLED:
            why = "a fold by itself is too small"
        return (
            f"{where}{recipe} and {classifier}: the {metric} differs by {number(row['difference'])} points, and {why} "
            "to say how sure that is."
        )
    if row["difference"] == row["low"] == row["high"] == 0:
        return f"{where}{recipe} changes nothing about {classifier}'s {metric}: it is the same wherever it was tested."
    if row["decision"] == DECISIONS[2]:
        head = "no" if where else "No"
        return (
            f"{where}{head} effect of {recipe} on {classifier}'s {metric} is shown "
            f"({number(row['difference'])} points {points})."
        )
    if row["decision"] == DECISIONS[3]:
        return (
            f"{where}{recipe} leaves {classifier}'s {metric} the same within the margin of {margin:g} points "
            f"({number(row['difference'])} points {points})."
        )
    if row["decision"] == DECISIONS[1]:  # by how much it is lower, from the smallest to the largest
        points = f"[{number(-row['high'])}, {number(-row['low'])}]"
    text = f"{where}{recipe} {row['decision']} {classifier}'s {metric} by {abs(row['difference']):.1f} points {points}"
    if max(abs(row["low"]), abs(row["high"])) < margin:
        text += f", less than the margin of {margin:g}"
    if not row["p_holm"] <= ALPHA:
        text += f"; among {row['comparisons']:.0f} comparisons that may be chance (Holm's p = {row['p_holm']:.2f})"
    return text + "."


def number(value: float) -> str:
    """Write points with one digit and a true minus."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def remarks(result: StudyResult) -> list[str]:
    """Say what the intervals do not cover, and where there was too little for them.

    Parameters
    ----------
    result : StudyResult

    Returns
    -------
    list of str
        Sentences.
    """
    table, design = tests(result), result.study.design
    found = []
    failed = int((result.cells["status"] != "done").sum())
    if failed:
        found.append(f"{failed} of {len(result.cells)} cells failed; differences are taken over the others.")
    methods = set(table["method"])
    if methods & {SAMPLES, GROUPS, FEW_GROUPS}:
        found.append(
            "Every classifier was trained once, so the intervals say how sure the difference between these very "
            "classifiers is; another training sample, or another seed, may give another difference. Repeats, or a "
            "cross-validation, take that into account."
        )
    if FEW_GROUPS in methods:
        units = int(table.loc[table["method"] == FEW_GROUPS, "units"].min())
        found.append(
            f"The test samples are of {units} group{'s' if units != 1 else ''}: too few for a bootstrap. The interval "
            "is a t interval from leaving one group out, and wide for a reason."
            if units > 1
            else "All test samples are of one group, so nothing can be said about other groups: no interval is given."
        )
    if FOLDS in methods and design.repeats == 1:
        found.append(
            f"One cross-validation of {design.folds} folds was done: the corrected interval is then cautious. Repeats "
            "narrow it."
        )
    if REPEATS in methods and design.repeats < 5:
        found.append(f"{design.repeats} repeats are few: the corrected interval is wide for a reason.")
    if len(table) > 1:
        found.append(
            f"{len(table)} comparisons were made; without any effect one in twenty intervals misses 0 by chance."
        )
    return found
