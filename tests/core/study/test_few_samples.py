"""What a study says of few samples, of parts without a class, and of groups of unequal size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_denoise_classify.core.classify.calibration import expected_calibration_error
from napari_denoise_classify.core.study import statistics
from napari_denoise_classify.core.study.cells import Outcome, score_rows
from napari_denoise_classify.core.study.designs import Split
from napari_denoise_classify.core.study.intervals import effective_groups, jackknife_t
from napari_denoise_classify.core.study.scores import auc_parts

from .fabricated import CLASSES, make_result


def test_the_calibration_error_is_of_all_predictions_together() -> None:
    """Of the few of a fold it is too large: 0.2 of 14 predictions that are perfectly calibrated."""
    result = make_result("partitions")
    table = statistics.summary(result).set_index(["classifier", "recipe"])
    for name in ("cnn", "knn"):
        here = result.predictions.query("classifier == @name and recipe == 'dncnn'")
        codes = pd.Index(CLASSES).get_indexer(here["truth"])
        expected = expected_calibration_error(here[[f"p_{c}" for c in CLASSES]].to_numpy(), codes)
        assert table.loc[(name, "dncnn"), "ece"] == pytest.approx(expected)
        cells = result.cells.query("classifier == @name and recipe == 'dncnn'")
        assert cells["ece"].mean() > expected + 0.05


def test_differences_of_the_calibration_error_are_of_all_folds_together() -> None:
    result = make_result("cross-validation:folds=10")
    row = statistics.tests(result, ["ece"]).iloc[0]
    summary = statistics.summary(result).set_index(["classifier", "recipe"])["ece"]
    expected = summary[row["classifier"], row["recipe"]] - summary[row["classifier"], "none"]
    assert row["difference"] == pytest.approx(100 * expected)
    assert np.isnan(row[["low", "high", "p_corrected", "p_naive"]].to_numpy(float)).all()
    assert "a fold by itself is too small to say how sure that is" in row["sentence"]
    repeated = statistics.tests(make_result("holdout:repeats=4"), ["ece"]).iloc[0]
    assert (repeated["method"], repeated["units"]) == ("corrected t over repeats", 4)
    assert repeated["low"] < repeated["difference"] < repeated["high"]


def test_a_part_without_a_figure_of_its_own_counts_with_the_others() -> None:
    """All samples of a part may be of one class: it has no ROC-AUC, but together with the others it does."""
    result = make_result("partitions")
    whole = statistics.tests(result, ["roc_auc"])
    cells = result.cells.copy()
    cells.loc[cells["fold"] < 4, "roc_auc"] = np.nan
    columns = ["difference", "low", "high", "units"]
    found = statistics.tests(replace(result, cells=cells), ["roc_auc"])
    np.testing.assert_array_equal(found[columns].to_numpy(float), whole[columns].to_numpy(float))
    cells["roc_auc"] = np.nan
    assert not statistics.tests(replace(result, cells=cells), ["roc_auc"])["sentence"].str.contains("failed").any()


def test_samples_of_one_class_have_no_roc_curve() -> None:
    result = make_result("partitions")
    keep = result.predictions["truth"] == CLASSES[0]
    cells = result.cells.assign(roc_auc=np.nan)
    one = replace(result, cells=cells, predictions=result.predictions[keep].reset_index(drop=True))
    sentence = statistics.tests(one, ["roc_auc"])["sentence"].iloc[0]
    assert sentence == "gaussian and CNN: no ROC-AUC, as the test samples are of one class."


@pytest.mark.parametrize("sizes", [(60,) * 5, (240, 15, 15, 15, 15), (200, 100, 50, 25, 12, 6, 5, 2)])
def test_one_group_that_outweighs_the_others_makes_nothing_sure(sizes: tuple[int, ...]) -> None:
    """Without any effect at most 6 % of the intervals miss 0 (and a half, for the chance of 1,000 simulations)."""
    rng = np.random.default_rng(0)
    weight = np.array(sizes, float)
    missed = 0
    for _ in range(1000):
        values = rng.standard_normal(len(weight)) + rng.standard_normal(len(weight)) / np.sqrt(weight)
        total = (weight * values).sum()
        left = (total - weight * values) / (weight.sum() - weight)
        found = jackknife_t(total / weight.sum(), left, effective_groups(weight))
        missed += found.low > 0 or found.high < 0
    assert missed <= 65


def test_areas_over_unequal_groups_are_judged_by_leaving_each_out() -> None:
    result = make_result("holdout", groups=20)
    row = statistics.tests(result, ["roc_auc"]).iloc[0]
    assert row["method"] == "jackknife t over groups"
    by = {name: result.predictions.query("classifier == 'cnn' and recipe == @name") for name in ("gaussian", "none")}

    def area(table: pd.DataFrame) -> float:
        codes = pd.Index(CLASSES).get_indexer(table["truth"])
        return auc_parts(codes, table[[f"p_{c}" for c in CLASSES]].to_numpy())[0]

    def difference(group: str) -> float:
        return float(np.subtract(*(area(table[table["group"] != group]) for table in by.values())))

    sizes = by["none"].groupby("group").size()
    left = [difference(group) for group in sizes.index]
    low, high, p = jackknife_t(difference(""), left, effective_groups(sizes))
    np.testing.assert_allclose(row[["low", "high", "p_corrected"]].to_numpy(float), (100 * low, 100 * high, p))


def test_a_class_that_a_part_does_not_hold_has_no_f1_there() -> None:
    split = Split(0, np.arange(4), [(0, np.array([4, 5])), (1, np.array([6, 7]))])
    y = np.array(["a", "b", "c", "a", "a", "b", "a", "c"])
    outcome = Outcome([np.eye(3)[[0, 1]], np.eye(3)[[0, 2]]], "", 0.0)
    first, second = score_rows(outcome, split, y, ("a", "b", "c"))
    assert (first["f1_b"], second["f1_c"]) == (1, 1)
    assert np.isnan([first["f1_c"], second["f1_b"]]).all()
    assert (first["macro_f1"], second["macro_f1"]) == (1, 1)
