"""Probabilities that mean what they say: known answers, and scikit-learn as the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, roc_auc_score

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops
from napari_denoise_classify.core.classify import calibrated_cnn, calibration, cnn
from napari_denoise_classify.core.classify.augmentation import augment
from napari_denoise_classify.core.classify.calibrated_cnn import CalibratedCNN
from napari_denoise_classify.core.classify.calibration import (
    Scores,
    calibration_folds,
    cross_calibrated,
    expected_calibration_error,
    fit_calibrator,
    fit_temperature,
    reliability,
    softmax,
)
from napari_denoise_classify.core.classify.classical import SVMClassifier
from napari_denoise_classify.core.classify.evaluation import Evaluation
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study.cells import fit_iter
from napari_denoise_classify.core.study.declaration import Candidate


def drawn(n: int, n_classes: int, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores, and classes drawn from the softmax of scores / temperature."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (n, n_classes))
    chances = softmax(scores / temperature).cumsum(axis=1)
    return scores, (rng.random((n, 1)) > chances).sum(axis=1).clip(0, n_classes - 1)


# --- the error ------------------------------------------------------------------------------------------------------


def test_known_errors() -> None:
    sure = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(sure, [0] * 9 + [1]) == pytest.approx(0)
    assert expected_calibration_error(sure, [0] * 4 + [1] * 6) == pytest.approx(0.5)
    two = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 30)
    codes = [0] * 10 + [1] * 15 + [0] * 15  # 10 too modest by 0.1, 30 too bold by 0.1
    assert expected_calibration_error(two, codes) == pytest.approx(0.1)
    assert expected_calibration_error([[1.0, 0.0]], [0]) == 0


def test_bins_hold_every_sample_once() -> None:
    scores, codes = drawn(500, 3)
    found = reliability(softmax(scores), codes)
    assert found.samples.sum() == 500
    assert len(found.samples) == 15
    full = found.samples > 0
    assert (found.confidence[full] > found.edges[:-1][full]).all()
    assert (found.confidence[full] <= found.edges[1:][full]).all()
    assert (found.accuracy[full] * found.samples[full]).sum() == (scores.argmax(axis=1) == codes).sum()
    with pytest.raises(ValueError, match="no samples"):
        reliability(np.empty((0, 2)), [])


@given(st.integers(1, 60), st.integers(2, 4), st.integers(0, 50))
def test_the_error_is_between_0_and_1(n: int, n_classes: int, seed: int) -> None:
    scores, codes = drawn(n, n_classes, seed=seed)
    assert 0 <= expected_calibration_error(softmax(scores), codes) <= 1


# --- maps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_temperature_is_found(n_classes: int, temperature: float) -> None:
    scores, codes = drawn(6000, n_classes, temperature)
    found = fit_temperature(scores, codes)
    assert found == pytest.approx(temperature, rel=0.08)
    if n_classes > 2:  # scikit-learn takes two classes for one margin
        frozen = FrozenEstimator(Scores().fit(scores, codes))
        oracle = CalibratedClassifierCV(frozen, method="temperature").fit(scores, codes)
        np.testing.assert_allclose(softmax(scores / found), oracle.predict_proba(scores), atol=0.01)


def test_a_few_samples_that_are_all_right_do_not_make_it_certain() -> None:
    scores = np.array([[3.0, 0.0], [0.0, 3.0]] * 4)
    proba = softmax(scores / fit_temperature(scores, [0, 1] * 4))
    assert proba.max() == pytest.approx(0.9, abs=0.01)  # (8 + 1) / (8 + 2)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration_helps_those_that_were_not_seen(method: str) -> None:
    scores, codes = drawn(3000, 3, 4.0)
    parts, _ = calibration_folds(codes, None, 0)
    after = cross_calibrated(scores, codes, parts, method)
    np.testing.assert_allclose(after.sum(axis=1), 1)
    before = expected_calibration_error(softmax(scores), codes)
    assert before > 0.15
    assert expected_calibration_error(after, codes) < before / 3


def test_folds_keep_groups_together_where_there_are_enough() -> None:
    codes = np.array([0, 1] * 12)
    groups = np.repeat(np.arange(6), 4)
    parts, by_group = calibration_folds(codes, groups, 0)
    assert by_group
    assert all(not set(groups[train]) & set(groups[test]) for train, test in parts)
    parts, by_group = calibration_folds(codes, np.zeros(24), 0)
    assert not by_group
    assert len(parts) == 3


@pytest.mark.parametrize("holding", [2, 3, 4])
def test_whole_groups_are_found_wherever_they_leave_every_class_to_learn_from(holding: int) -> None:
    groups = np.repeat(np.arange(12), 10)
    codes = np.where((groups < holding) & (np.arange(120) % 10 < 5), 2, np.arange(120) % 2)
    for seed in range(50):
        parts, by_group = calibration_folds(codes, groups, seed)
        assert by_group
        for train, test in parts:
            assert not set(groups[train]) & set(groups[test])
            assert set(codes[train]) == {0, 1, 2}
            assert len(test) == 40


# --- classifiers ----------------------------------------------------------------------------------------------------


def scaled(data: Crops) -> list[np.ndarray]:
    return [image[..., None].astype(np.float32) / 255 for image in data.images]


@pytest.fixture(scope="module")
def hard(make_crops: Callable[..., Crops]) -> Crops:
    """Crops of two classes with a fifth of the labels wrong."""
    data = make_crops(n=40)
    labels = data.labels.copy()
    labels[::5] = np.where(labels[::5] == "spot", "empty", "spot")
    return Crops(data.images, labels, data.groups, data.names)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_machine_is_calibrated_as_by_scikit_learn(hard: Crops, method: str) -> None:
    X, codes = scaled(hard), np.unique(hard.labels, return_inverse=True)[1]
    model = SVMClassifier(calibration=method).fit(X, hard.labels, hard.groups)
    table = run(model.features_iter(X))
    cv, _ = calibration_folds(codes, hard.groups, 0)
    oracle = CalibratedClassifierCV(model.final(), method=method, cv=cv, ensemble=False).fit(table, codes)
    np.testing.assert_allclose(model.predict_proba(X), oracle.predict_proba(table), atol=1e-6)


def test_copies_of_crops_that_calibrate_are_not_learnt_from(hard: Crops) -> None:
    X, codes = scaled(hard), np.unique(hard.labels, return_inverse=True)[1]
    model = SVMClassifier(calibration="sigmoid", augment="turns").fit(X, hard.labels, hard.groups)
    scores = np.empty((len(X), 2))
    assert hard.groups is not None
    for train, test in calibration_folds(codes, hard.groups, 0)[0]:
        made = augment([X[i] for i in train], codes[train])
        table = np.stack(made.images).reshape(len(made.images), -1)
        part = model.final().fit(table, made.labels)
        scores[test] = model.scores(part, np.stack([X[i] for i in test]).reshape(len(test), -1))
    expected = fit_calibrator(scores, codes, "sigmoid")
    table = np.stack(X).reshape(len(X), -1)
    np.testing.assert_allclose(
        model.predict_proba(X), expected.predict_proba(model.scores(model.model_, table)), atol=1e-4
    )


@pytest.mark.parametrize("method", ["svm", "cnn"])
def test_copies_of_a_study_stay_with_their_sample_where_groups_cannot(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    rng = np.random.default_rng(0)
    groups = np.array([f"g{i % 4}" for i in range(40)])
    y = np.where(groups == "g0", "b", "a")  # one class in one group only
    X = [rng.normal(0.4 + 0.2 * (name == "b"), 0.2, (16, 16, 1)).astype(np.float32) for name in y]
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def noted(split: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any) -> Any:
            parts = split(*given)
            found.extend(parts if isinstance(parts, list) else [parts])
            return parts

        return wrapped

    for module, name in ((calibration, "folds"), (calibrated_cnn, "holdout"), (cnn, "holdout")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    small = {"input_size": 16, "epochs": 1, "width": 8, "calibration": "temperature"} if method == "cnn" else {}
    fitted = run(fit_iter(Candidate.of((method, small)), 0, X, y, groups, "turns"))
    assert fitted.estimator.record_["calibration"]["by_group"] is False
    sources = augment(X, y).sources
    assert len(found) == (3 if method == "svm" else 2)
    if method == "cnn":  # the second split is of what the first has left to learn from
        (learnt, _), (train, watched) = found
        found[1] = learnt[train], learnt[watched]
    for train, test in found:
        assert not set(sources[train]) & set(sources[test])


@pytest.mark.parametrize("method", ["svm", "random_forest", "knn"])
def test_the_record_tells_the_error_before_and_after(hard: Crops, method: str) -> None:
    extra = {"trees": 20} if method == "random_forest" else {}
    plain = ndc.train_classifier(hard, method, calibration="none", **extra)
    assert "calibration" not in plain.training
    record = ndc.train_classifier(hard, method, calibration="isotonic", **extra).training["calibration"]
    assert record["method"] == "isotonic"
    assert record["samples"] == len(hard)
    assert record["by_group"] is True
    assert 0 <= record["ece_after"] <= 1
    assert 0 <= record["ece_before"] <= 1


def test_the_temperature_of_a_network(hard: Crops) -> None:
    X = scaled(hard)
    how = {"input_size": 16, "epochs": 4, "batch_size": 8, "learning_rate": 0.01}
    network = CalibratedCNN(**how, calibration="temperature").fit(X, hard.labels, hard.groups)
    record = network.record_["calibration"]
    assert network.temperature_ == record["temperature"] != 1
    assert 0 < record["samples"] < len(X) / 3
    calibrated = network.predict_proba(X)
    scores = run(network.scores_iter(X))
    np.testing.assert_array_equal(calibrated.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_allclose(calibrated, softmax(scores / network.temperature_))
    # what calibrates is not learnt from: with other crops there, the network is the same
    _, kept, by_group = network._hold_out(hard.labels, hard.groups)
    assert by_group
    other = [np.zeros_like(x) if i in set(kept) else x for i, x in enumerate(X)]
    again = CalibratedCNN(**how, calibration="temperature").fit(other, hard.labels, hard.groups)
    np.testing.assert_array_equal(run(again.scores_iter(X)), scores)


# --- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
def test_figures_of_probabilities(n_classes: int) -> None:
    scores, codes = drawn(200, n_classes)
    proba, classes = softmax(scores), ("a", "b", "c")[:n_classes]
    truth = np.array(classes)[codes]
    found = Evaluation.of(truth, np.array(classes)[proba.argmax(1)], classes, proba)
    assert found.brier == pytest.approx(brier_score_loss(truth, proba, labels=list(classes), scale_by_half=False))
    area = roc_auc_score(truth, proba[:, 1] if n_classes == 2 else proba, multi_class="ovr")
    assert found.roc_auc == pytest.approx(area)
    assert found.ece == pytest.approx(expected_calibration_error(proba, codes))
    assert found.to_dict()["ece"] == found.ece
    assert "ROC-AUC" in str(found)


def test_figures_without_probabilities_or_without_a_second_class() -> None:
    plain = Evaluation.of(["a", "b"], ["a", "b"], ("a", "b"))
    assert (plain.ece, plain.brier, plain.roc_auc) == (None, None, None)
    assert "Brier" not in str(plain)
    lone = Evaluation.of(["a", "a"], ["a", "a"], ("a", "b"), [[0.8, 0.2], [1.0, 0.0]])
    assert np.isnan(lone.roc_auc)
    assert lone.to_dict()["roc_auc"] is None
    assert lone.brier == pytest.approx((0.04 + 0.04) / 2)
    assert lone.ece == pytest.approx(0.1)
