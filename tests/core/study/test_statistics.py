"""The statistics of a study: known answers, oracles, and simulations of how often the intervals are right."""

from __future__ import annotations

import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from napari_denoise_classify.core.study import statistics
from napari_denoise_classify.core.study.intervals import (
    effective_groups,
    holm,
    jackknife_t,
    paired_t,
    percentile,
    resampled_sums,
)
from napari_denoise_classify.core.study.scores import auc_parts, sample_rows, scores_of
from napari_denoise_classify.core.study.tables import each_condition

from .fabricated import CLASSES, make_result

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "study_statistics.py"
numbers = st.lists(st.floats(-1, 1).filter(lambda x: abs(x) > 1e-6 or x == 0), min_size=2, max_size=30)


# --- intervals ------------------------------------------------------------------------------------------------------


@given(numbers)
def test_without_correction_it_is_the_paired_t_test(d: list[float]) -> None:
    if np.std(d) < 1e-6:
        return
    oracle = stats.ttest_1samp(d, 0)
    low, high = oracle.confidence_interval(0.95)
    np.testing.assert_allclose(paired_t(d), (low, high, oracle.pvalue), rtol=1e-6, atol=1e-9)


def test_the_correction_widens_by_nadeau_and_bengio() -> None:
    d = [0.01, 0.03, -0.01, 0.02, 0.04]
    naive, corrected = paired_t(d), paired_t(d, 0.25)
    # (1/5 + 1/4) / (1/5) of the variance: 1.5 times as wide, around the same mean.
    assert corrected.high - corrected.low == pytest.approx(1.5 * (naive.high - naive.low))
    assert corrected.high + corrected.low == pytest.approx(naive.high + naive.low)
    assert corrected.p > naive.p


def test_a_published_gain_is_not_significant_after_correction() -> None:
    """A mean gain of 0.02 over ten splits in half that a naive t-test takes for sure."""
    d = 0.02 + 0.0118 * stats.norm.ppf((np.arange(10) + 0.5) / 10)
    assert paired_t(d).p < 0.001 < 0.05 < paired_t(d, 1.0).p


@given(numbers)
def test_the_jackknife_of_a_mean_is_the_t_interval(d: list[float]) -> None:
    values = np.array(d)
    left = (values.sum() - values) / (len(values) - 1)
    np.testing.assert_allclose(jackknife_t(values.mean(), left), paired_t(values), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("units", [12, 30, 400])
@pytest.mark.parametrize("shift", [0.0, 1.2, 2.0, 3.0])
def test_the_bootstrap_interval_is_that_of_t_for_a_mean(units: int, shift: float) -> None:
    rng = np.random.default_rng(units)
    values = rng.standard_normal((units, 1)) + shift / np.sqrt(units)
    found = percentile(resampled_sums(values, 20000)[:, 0] / units, units)
    oracle = paired_t(values[:, 0])
    width = oracle.high - oracle.low
    assert found.low == pytest.approx(oracle.low, abs=0.06 * width)
    assert found.high == pytest.approx(oracle.high, abs=0.06 * width)
    assert found.p == pytest.approx(oracle.p, abs=0.03)


@given(st.integers(2, 60), st.floats(-3, 3))
def test_interval_and_p_value_agree(units: int, shift: float) -> None:
    replicates = stats.norm.ppf((np.arange(2000) + 0.5) / 2000) + shift
    found = percentile(replicates, units)
    assert found.low <= shift <= found.high
    if not 0.03 < found.p < 0.07:  # near the limit the quantiles of resamples are a little coarse
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_resamples_draw_as_many_units_as_there_are() -> None:
    sums = resampled_sums(np.c_[np.ones(50), np.arange(50)], 2000, seed=3)
    np.testing.assert_array_equal(sums[:, 0], 50)
    assert sums[:, 1].mean() / 50 == pytest.approx(24.5, abs=0.2)
    assert sums[:, 1].std() / 50 == pytest.approx(np.arange(50).std() / np.sqrt(50), rel=0.06)
    np.testing.assert_array_equal(sums, resampled_sums(np.c_[np.ones(50), np.arange(50)], 2000, seed=3))


def test_groups_of_unequal_size_count_less() -> None:
    assert effective_groups([7] * 12) == pytest.approx(12)
    assert effective_groups([10, 10, 10, 0]) == pytest.approx(3)
    assert effective_groups([1000, 1, 1]) == pytest.approx(1, abs=0.01)
    replicates = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    few, many = percentile(replicates, 8.5), percentile(replicates, 20)
    assert few.high - few.low > many.high - many.low


def test_two_thousand_resamples_take_less_than_a_second() -> None:
    rows = np.eye(16)[np.random.default_rng(0).integers(16, size=1400)]
    start = time.process_time()
    scores_of(resampled_sums(np.c_[rows, rows], 2000)[:, :16], CLASSES)
    assert time.process_time() - start < 1


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03]), [0.03, np.nan, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


# --- scores ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(8, 80))
def test_scores_are_those_of_scikit_learn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % 4)
    proba = rng.dirichlet(np.ones(4), size=n)
    predicted = proba.argmax(axis=1)
    found = scores_of(sample_rows(truth, predicted, proba).sum(axis=0), CLASSES)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert found["brier"] == pytest.approx(((proba - np.eye(4)[truth]) ** 2).sum(axis=1).mean())
    confidence, error = proba.max(axis=1), 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            gap = confidence[inside].mean() - (predicted == truth)[inside].mean()
            error += abs(gap) * inside.mean()
    assert found["ece"] == pytest.approx(error)
    rounded = np.round(proba, 1)  # ties
    expected = np.mean([sk.roc_auc_score(truth == c, rounded[:, c]) for c in range(4)])
    assert auc_parts(truth, rounded)[0] == pytest.approx(expected)


def test_the_error_of_the_auc_is_that_of_leaving_one_out() -> None:
    rng = np.random.default_rng(1)
    truth = rng.permutation(np.arange(200) % 4)
    proba = rng.dirichlet(np.ones(4), size=200) + 0.3 * np.eye(4)[truth]
    auc, influence = auc_parts(truth, proba)
    left = [auc_parts(np.delete(truth, i), np.delete(proba, i, axis=0))[0] for i in range(200)]
    one, other = jackknife_t(auc, left), jackknife_t(auc, auc + influence * 200 / 199)
    assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.03)
    assert influence.sum() == pytest.approx(0, abs=1e-9)


# --- what a result says ---------------------------------------------------------------------------------------------


def test_effects_are_found_and_named() -> None:
    result = make_result(n=2000, effects={("knn", "dncnn"): 0.5, ("cnn", "gaussian"): -0.5}, own=0.3)
    table = statistics.tests(result).set_index(["classifier", "recipe"])
    assert table.loc[("knn", "dncnn"), "decision"] == "raises"
    assert table.loc[("cnn", "gaussian"), "decision"] == "lowers"
    assert set(table["method"]) == {"bootstrap over samples"}
    assert set(table["units"]) == {1000}
    text = table.loc[("knn", "dncnn"), "sentence"]
    assert text.startswith("dncnn raises KNN's macro-F1 by ")
    assert text.endswith("].")
    text, row = table.loc[("cnn", "gaussian"), "sentence"], table.loc[("cnn", "gaussian")]
    assert f"lowers CNN's macro-F1 by {-row['difference']:.1f} points [{-row['high']:.1f}, {-row['low']:.1f}]" in text
    assert (table["p_holm"] >= table["p_corrected"]).all()
    assert table.loc[("knn", "dncnn"), "beyond_margin"] == "yes"
    # The estimate is that of all test predictions together.
    pooled = statistics.summary(result).set_index(["classifier", "recipe"])["macro_f1_pooled"]
    gain = 100 * (pooled["knn", "dncnn"] - pooled["knn", "none"])
    assert table.loc[("knn", "dncnn"), "difference"] == pytest.approx(gain)


@pytest.mark.parametrize(
    "design",
    ["partitions", "holdout", "cross-validation:folds=5,repeats=2", "holdout:repeats=4", "partitions:repeats=2"],
)
@pytest.mark.parametrize("groups", [0, 6, 25])
def test_recipes_that_change_nothing_are_equivalent(design: str, groups: int) -> None:
    table = statistics.tests(make_result(design, own=0.0, groups=groups), ["macro_f1", "ece", "roc_auc"])
    np.testing.assert_allclose(table[["difference", "low", "high"]].to_numpy(float), 0, atol=1e-9)
    assert (table["p_corrected"] == 1).all()
    assert (table["decision"] == "equivalent within the margin").all()


@pytest.mark.parametrize(
    ("design", "groups", "method", "units"),
    [
        ("cross-validation:folds=5,repeats=2", 25, "corrected t over folds", 10),
        ("holdout:repeats=4", 25, "corrected t over repeats", 4),
        ("partitions:repeats=3", 0, "corrected t over repeats", 3),
        ("partitions", 25, "bootstrap over groups", 25),
        ("holdout", 6, "jackknife t over groups", 6),
        ("holdout", 0, "bootstrap over samples", 200),
    ],
)
def test_the_interval_follows_the_design(design: str, groups: int, method: str, units: int) -> None:
    result = make_result(design, groups=groups)
    table = statistics.tests(result)
    assert set(table["method"]) == {method}
    assert set(table["units"]) == {units}
    said = " ".join(statistics.remarks(result))
    assert ("trained once" in said) == ("corrected" not in method)
    assert ("too few for a bootstrap" in said) == ("jackknife" in method)


def test_folds_are_corrected_by_their_sizes() -> None:
    result = make_result("cross-validation:folds=5")
    cells = result.cells.set_index(["classifier", "recipe", "fold"]).sort_index()["macro_f1"]
    d = cells["knn", "dncnn"] - cells["knn", "none"]
    row = statistics.tests(result).set_index(["classifier", "recipe"]).loc[("knn", "dncnn")]
    expected = paired_t(d, 80 / 320)
    assert (row["low"], row["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert row["p_corrected"] == pytest.approx(expected.p)
    assert row["p_naive"] == pytest.approx(stats.ttest_rel(cells["knn", "dncnn"], cells["knn", "none"]).pvalue)
    assert row["p_wilcoxon"] == pytest.approx(stats.wilcoxon(d).pvalue)


def test_one_group_tells_nothing_of_others() -> None:
    result = make_result(groups=1)
    table = statistics.tests(result)
    assert table[["low", "high", "p_corrected"]].isna().all(axis=None)
    assert (table["decision"] == "no effect shown").all()
    assert "too few folds or groups" in table["sentence"][0]
    assert "All test samples are of one group" in " ".join(statistics.remarks(result))


def test_failed_cells_are_left_out() -> None:
    result = make_result("cross-validation:folds=5", effects={("knn", "gaussian"): 0.6})
    cells = result.cells.copy()
    lost = (cells["recipe"] == "dncnn") & (cells["fold"] == 4)
    gone = (cells["recipe"] == "gaussian") & (cells["classifier"] == "cnn")
    cells.loc[lost | gone, "status"] = "failed"
    scores = [name for name in cells.columns if name.startswith(("macro", "acc", "bal", "roc", "ece", "brier", "f1_"))]
    cells.loc[lost | gone, scores] = np.nan
    broken = replace(result, cells=cells)
    table = statistics.tests(broken).set_index(["classifier", "recipe"])
    assert table.loc[("knn", "dncnn"), "units"] == 4
    assert np.isnan(table.loc[("cnn", "gaussian"), "difference"])
    assert "not tested" in table.loc[("cnn", "gaussian"), "sentence"]
    # Holm counts what was compared: three of the four.
    assert table["p_holm"].min() == pytest.approx(min(1, 3 * table["p_corrected"].min()))
    assert "7 of 30 cells failed" in statistics.remarks(broken)[0]
    means = statistics.summary(broken).set_index(["classifier", "recipe"])
    assert list(means.loc[("knn", "dncnn"), ["n", "failed"]]) == [4, 1]


def test_a_failed_partition_is_left_out_of_the_bootstrap() -> None:
    result = make_result()
    lost = (result.cells["recipe"] == "dncnn") & (result.cells["fold"] == 9)
    gone = (result.predictions["recipe"] == "dncnn") & (result.predictions["fold"] == 9)
    cells = result.cells.assign(status=np.where(lost, "failed", "done"))
    table = statistics.tests(replace(result, cells=cells, predictions=result.predictions[~gone]))
    assert table.set_index(["classifier", "recipe"])["units"].to_dict() == {
        ("cnn", "gaussian"): 200,
        ("cnn", "dncnn"): 180,
        ("knn", "gaussian"): 200,
        ("knn", "dncnn"): 180,
    }


def test_other_samples_are_refused() -> None:
    result = make_result("holdout")
    moved = result.predictions.copy()
    moved.loc[moved["recipe"] == "dncnn", "sample"] += 1
    with pytest.raises(ValueError, match="not tested on the same samples"):
        statistics.tests(replace(result, predictions=moved))
    with pytest.raises(ValueError, match="is not allowed: give one of macro_f1"):
        statistics.tests(result, ["f2"])


def test_conditions_stand_below_one_another_and_are_corrected_together() -> None:
    result = make_result("holdout", noise=("", "gaussian:25"))
    table = statistics.tests(result)
    assert list(table["condition"]) == [""] * 4 + ["gaussian:25"] * 4
    assert table["p_holm"].min() == pytest.approx(min(1, 8 * table["p_corrected"].min()))
    assert table["sentence"][7].startswith("With gaussian:25: ")
    _, alone = each_condition(result)[1]
    np.testing.assert_allclose(statistics.tests(alone)["low"], table["low"][4:])
    assert (statistics.summary(result)["condition"] == "gaussian:25").sum() == 7


def test_the_summary_holds_means_and_the_majority_class() -> None:
    result = make_result("cross-validation:folds=5")
    table = statistics.summary(result)
    expected = result.cells.groupby(["classifier", "recipe"])["macro_f1"].agg(["mean", "std"])
    row = table.set_index(["classifier", "recipe"]).loc[("knn", "dncnn")]
    assert row["macro_f1"] == pytest.approx(expected.loc[("knn", "dncnn"), "mean"])
    assert row["macro_f1_sd"] == pytest.approx(expected.loc[("knn", "dncnn"), "std"])
    last = table.iloc[-1]
    assert last["classifier"] == "majority class"
    assert last["balanced_accuracy"] == pytest.approx(0.25)
    assert 0.05 < last["macro_f1"] < 0.15
    known = replace(result, record={"majority": [{"repeat": 0, "fold": 0, "macro_f1": 0.2, "accuracy": 0.4}]})
    assert statistics.summary(known).iloc[-1]["macro_f1"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.1, 9.0, "raises"),
        (0.1, 1.0, "raises"),
        (-4.0, -0.1, "lowers"),
        (-1.9, 1.9, "equivalent within the margin"),
        (-1.9, 2.1, "no effect shown"),
        (float("nan"), float("nan"), "no effect shown"),
    ],
)
def test_the_interval_decides(low: float, high: float, decision: str) -> None:
    assert statistics.decide(low, high, 2.0) == decision


def test_a_sentence_tells_of_chance_and_of_the_margin() -> None:
    row = {"metric": "macro_f1", "classifier": "svm", "recipe": "bm3d", "difference": 1.0, "low": 0.2, "high": 1.8}
    row |= {"decision": "raises", "p_holm": 0.21, "comparisons": 12}
    assert statistics.sentence(row, 2.0) == (
        "bm3d raises SVM's macro-F1 by 1.0 points [0.2, 1.8], less than the margin of 2; among 12 comparisons that may "
        "be chance (Holm's p = 0.21)."
    )
    row |= {"difference": -0.4, "low": -2.1, "high": 1.3, "decision": "no effect shown"}
    assert statistics.sentence(row, 2.0) == "No effect of bm3d on SVM's macro-F1 is shown (−0.4 points [−2.1, 1.3])."
    row |= {"difference": 0.0, "low": 0.0, "high": 0.0, "decision": "no effect"}
    assert statistics.sentence(row, 2.0) == (
        "bm3d changes nothing about SVM's macro-F1: it is the same wherever it was tested."
    )


# --- simulations ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    if not BENCHMARK.is_file():
        pytest.skip("benchmarks/study_statistics.py is not here.")
    spec = importlib.util.spec_from_file_location("study_statistics", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.RESAMPLES, module.TRAININGS, module.TESTED = 500, 100, 1000  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(("n", "groups"), [(200, 0), (300, 5), (500, 20)])
def test_trained_once(simulation: ModuleType, n: int, groups: int) -> None:
    """Of 200 repetitions, 95 % have a standard error of 1.5 %: three of them are allowed around what is promised."""
    rates = simulation.once(n, groups, 200, seed=7)
    found = rates["shipped"]
    assert found.false_positives <= 6 + 4.5
    assert found.coverage >= 93 - 4.5
    if groups == 5:  # why the plain bootstrap of groups is not used
        assert rates["plain percentile"].coverage < found.coverage - 5
    if groups:  # and why groups must not be ignored
        assert rates["groups ignored"].false_positives > found.false_positives


@pytest.mark.parametrize("repeats", [1, 4])
def test_cross_validation(simulation: ModuleType, repeats: int) -> None:
    rates = simulation.cross_validated(simulation.neighbours, 120, 0, 5, repeats, 100, seed=3)
    assert rates["shipped"].false_positives <= 6 + 6
    assert rates["shipped"].coverage >= 93 - 6
    assert rates["naive t"].false_positives > rates["shipped"].false_positives
