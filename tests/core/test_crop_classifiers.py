"""Features, rare classes and copies: the choices of the classical classifiers, and scikit-learn's manners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops
from napari_denoise_classify.core.classify.balancing import oversample
from napari_denoise_classify.core.classify.calibrated_cnn import CalibratedCNN
from napari_denoise_classify.core.classify.classical import ForestClassifier, NeighboursClassifier, SVMClassifier
from napari_denoise_classify.core.classify.cnn import CNNClassifier
from napari_denoise_classify.core.classify.crop_classifier import CropClassifier
from napari_denoise_classify.core.classify.embedding import CNNEmbedding
from napari_denoise_classify.core.classify.training import fit_estimator_iter, train_classifier_iter
from napari_denoise_classify.core.progress import Progress, run

KINDS = pytest.mark.parametrize("kind", [SVMClassifier, ForestClassifier, NeighboursClassifier])
METHODS = pytest.mark.parametrize("method", ["svm", "random_forest", "knn"])
SMALL: dict[str, dict[str, Any]] = {"svm": {}, "random_forest": {"trees": 10}, "knn": {}}


@pytest.fixture(scope="module")
def few(make_crops: Callable[..., Crops]) -> Crops:
    return make_crops(n=12)


@pytest.fixture(scope="module")
def scaled(few: Crops) -> list[np.ndarray]:
    return [image[..., None].astype(np.float32) / 255 for image in few.images]


# --- scikit-learn's manners -----------------------------------------------------------------------------------------


@KINDS
def test_they_are_estimators(kind: type[CropClassifier], few: Crops, scaled: list[np.ndarray]) -> None:
    extra = {"trees": 30} if kind is ForestClassifier else {}
    model = kind(calibration="sigmoid", augment="turns", balance="sampling", random_state=3, **extra)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert clone(model).set_params(features="texture").features == "texture"
    proba = model.fit(scaled, few.labels, few.groups).predict_proba(scaled)
    np.testing.assert_array_equal(copy.fit(scaled, few.labels, few.groups).predict_proba(scaled), proba)
    assert not hasattr(clone(model), "model_")
    np.testing.assert_array_equal(model.predict(scaled), model.classes_[proba.argmax(axis=1)])


@pytest.mark.parametrize("kind", [SVMClassifier, ForestClassifier, NeighboursClassifier, CNNClassifier, CalibratedCNN])
def test_what_does_not_fit_together_or_is_not_fitted_is_refused(
    kind: type[Any], few: Crops, scaled: list[np.ndarray]
) -> None:
    assert few.groups is not None
    for y, groups in ((few.labels[:-1], few.groups), (few.labels, few.groups[:-1]), (few.labels[:-1], None)):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            kind().fit(scaled, y, groups)
    for predict in (kind().predict, kind().predict_proba):
        with pytest.raises(NotFittedError):
            predict(scaled)


@KINDS
def test_cross_validation_and_pipelines(kind: type[CropClassifier], few: Crops, scaled: list[np.ndarray]) -> None:
    extra = {"trees": 20} if kind is ForestClassifier else {}
    model = Pipeline([("classify", kind(**extra))])
    assert cross_val_score(model, scaled, few.labels, cv=3).mean() > 0.9
    assert cross_val_score(kind(**extra), scaled, few.labels, groups=few.groups, cv=GroupKFold(3)).min() > 0.7


def test_embedding_is_a_transformer(few: Crops, scaled: list[np.ndarray]) -> None:
    import pickle

    model = CNNEmbedding(epochs=2, random_state=1)
    table = model.fit_transform(scaled, few.labels)
    assert table.shape == (len(scaled), len(model.get_feature_names_out()))
    assert table.dtype == np.float32
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(scaled), table)
    assert all(type(value) is np.ndarray for value in model.weights_.values())
    cnn = model.network()
    np.testing.assert_allclose(run(cnn.embed_iter(scaled)), table, atol=1e-6)
    with pytest.raises(ValueError, match="learns from classes"):
        CNNEmbedding().fit(scaled)


# --- features -------------------------------------------------------------------------------------------------------


@METHODS
@pytest.mark.parametrize("features", ["pixels", "texture", "fibres"])
def test_features_lead_to_the_same_probabilities(method: str, features: str, few: Crops) -> None:
    classifier = ndc.train_classifier(few, method, features=features, calibration="sigmoid", **SMALL[method])
    X = run(classifier.prepare_iter(few.images))[1]
    expected = classifier.predict_proba(few.images)
    if features == "pixels":
        assert classifier.feature_names is None
        with pytest.raises(ValueError, match="looks at pixels"):
            run(classifier.features_iter(X))
        return
    table = run(classifier.features_iter(X))
    assert classifier.feature_names is not None
    assert table.shape == (len(few), len(classifier.feature_names))
    np.testing.assert_array_equal(classifier.proba_of_features(table), expected)
    with pytest.raises(ValueError, match="one column for each"):
        classifier.proba_of_features(table[:, 1:])


def test_permuting_what_matters_costs_probability(few: Crops) -> None:
    classifier = ndc.train_classifier(few, "random_forest", features="texture", trees=30)
    table = run(classifier.features_iter(run(classifier.prepare_iter(few.images))[1]))
    truth = (few.labels == "spot").astype(int)

    def right(changed: np.ndarray) -> float:
        return float(classifier.proba_of_features(changed)[np.arange(len(truth)), truth].mean())

    assert (classifier.proba_of_features(table).argmax(axis=1) == truth).all()
    mixed = np.random.default_rng(0).permutation(table, axis=0)
    assert right(mixed) < right(table) - 0.2


def test_texture_and_embedding_are_joined(few: Crops, scaled: list[np.ndarray]) -> None:
    model = ForestClassifier(features="texture+embedding", input_size=8, trees=10).fit(scaled, few.labels, few.groups)
    names = model.feature_names_
    assert names is not None
    assert names[0] == "mean"
    assert names[-1].startswith("embedding_")
    assert run(model.features_iter(scaled)).shape[1] == len(names) == len(set(names))
    assert model.score(scaled, few.labels) > 0.9


def test_calibration_asks_networks_that_have_not_seen_the_crop(
    few: Crops, scaled: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []
    original = CNNEmbedding.fit_transform_iter

    def counted(self: CNNEmbedding, X: Any, y: Any = None, groups: Any = None) -> Any:
        fitted.append(len(X))
        self.epochs = 1
        return original(self, X, y, groups)

    monkeypatch.setattr(CNNEmbedding, "fit_transform_iter", counted)
    NeighboursClassifier(features="embedding", calibration="sigmoid").fit(scaled, few.labels, few.groups)
    assert len(fitted) == 4
    assert fitted[0] == len(scaled)
    assert sum(fitted[1:]) == 2 * len(scaled)


def test_fewer_trees_for_fibres() -> None:
    assert ForestClassifier(features="fibres").final()[-1].n_estimators == 100
    assert ForestClassifier().final()[-1].n_estimators == 300
    assert ForestClassifier(features="fibres", trees=7).final()[-1].n_estimators == 7


def test_figures_of_different_units_are_scaled() -> None:
    steps = {
        name: [type(s).__name__ for _, s in NeighboursClassifier(name).final().steps] for name in ("pixels", "texture")
    }
    assert steps["pixels"] == ["BalancedKNN"]
    assert steps["texture"] == ["StandardScaler", "BalancedKNN"]


# --- rare classes ---------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(0, 99))
def test_oversampling(labels: list[str], seed: int) -> None:
    y = np.array(labels)
    drawn = oversample(y, np.random.default_rng(seed))
    times = np.bincount(drawn, minlength=len(y))
    assert times.min() >= 1
    for name in set(labels):
        assert times[y == name].sum() == max(labels.count(other) for other in set(labels))
        assert np.ptp(times[y == name]) <= 1


def overlapping(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Flat crops: the brightness of nine in ten is drawn around 0.45 ("common"), that of the others around 0.55."""
    rng = np.random.default_rng(seed)
    rare = np.arange(n) % 10 == 0
    values = rng.normal(np.where(rare, 0.55, 0.45), 0.07)
    return [np.full((4, 4, 1), v, np.float32) for v in values], np.where(rare, "rare", "common")


@KINDS
def test_balance_finds_more_of_the_rare(kind: type[CropClassifier]) -> None:
    X, y = overlapping(300)
    new, truth = overlapping(300, 1)
    recall = {}
    for balance in ("weights", "sampling", "none"):
        # a smooth decision for all three: few leaves and many neighbours
        extra = {NeighboursClassifier: {"neighbours": 60}, ForestClassifier: {"trees": 30}}.get(kind, {})
        model = kind(balance=balance, calibration="none", input_size=2, **extra).fit(X, y)
        recall[balance] = float((model.predict(new)[truth == "rare"] == "rare").mean())
    if kind is not ForestClassifier:  # fully grown trees know every crop, whatever its weight
        assert recall["weights"] > recall["none"] + 0.2
        assert recall["sampling"] > recall["none"] + 0.2
    else:
        assert min(recall["weights"], recall["sampling"]) > 0


@pytest.mark.parametrize("balance", ["weights", "sampling", "none"])
def test_balance_of_a_network(balance: str) -> None:
    codes = np.array([0] * 30 + [1] * 10)
    model = CalibratedCNN(balance=balance)
    model._codes = codes
    expected = [1, 1] if balance != "weights" else [40 / 60, 40 / 20]
    np.testing.assert_allclose(model.class_weights(codes, True), expected)
    watched = [1, 1] if balance == "none" else [40 / 60, 40 / 20]
    np.testing.assert_allclose(model.class_weights(codes, False), watched)
    order = model.epoch_order(np.arange(40), np.random.default_rng(0))
    assert len(order) == 40
    rare = (order >= 30).sum()
    assert rare == 10 if balance != "sampling" else 14 <= rare <= 26


# --- copies ---------------------------------------------------------------------------------------------------------


@KINDS
def test_copies_teach_every_orientation(kind: type[CropClassifier]) -> None:
    rng = np.random.default_rng(0)

    def halves(n: int, turns: int) -> tuple[list[np.ndarray], np.ndarray]:
        X = [rng.normal(0.5, 0.02, (8, 8, 1)).astype(np.float32) for _ in range(n)]
        for x in X[::2]:
            x[:, :3] += 0.3  # one side is brighter
        return [np.ascontiguousarray(np.rot90(x, turns)) for x in X], np.array(["side", "flat"] * (n // 2))

    extra = {"trees": 50} if kind is ForestClassifier else {}
    X, y = halves(24, 0)
    other, truth = halves(24, 1)
    plain = kind(calibration="none", **extra).fit(X, y).score(other, truth)
    taught = kind(calibration="none", augment="turns", **extra).fit(X, y).score(other, truth)
    assert taught == 1
    assert taught >= plain
    noisy = kind(calibration="none", augment="turns+noise", **extra).fit(X, y)
    assert noisy.score(other, truth) > 0.9
    if kind is NeighboursClassifier:
        known = noisy.model_[-1]._fit_X
        assert len(known) == 8 * len(X)
        difference = known[len(X)] - np.rot90(X[0], 1).ravel()
        assert 0 < difference.std() < 20 / 255 * 1.5


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        (SVMClassifier, {"features": "colour"}, "features='colour' is not allowed"),
        (ForestClassifier, {"balance": "both"}, "balance='both' is not allowed"),
        (NeighboursClassifier, {"calibration": "temperature"}, "calibration='temperature' is not allowed"),
        (NeighboursClassifier, {"augment": "noise"}, "augment='noise' is not allowed"),
        (NeighboursClassifier, {"neighbours": 99}, "neighbours=99 is not allowed"),
        (CalibratedCNN, {"balance": "both"}, "balance='both' is not allowed"),
        (CalibratedCNN, {"calibration": "sigmoid"}, "calibration='sigmoid' is not allowed"),
    ],
)
def test_bad_parameters(
    kind: type, parameters: dict[str, Any], words: str, few: Crops, scaled: list[np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**parameters).fit(scaled, few.labels)


@METHODS
def test_one_class_is_refused(method: str, scaled: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="only the class 'a'"):
        run(fit_estimator_iter(method, {}, 0, scaled, np.array(["a"] * len(scaled)), None))


@pytest.mark.parametrize(("features", "augment"), [("texture", "none"), ("embedding", "turns")])
def test_progress_never_goes_back(few: Crops, features: str, augment: str) -> None:
    seen: list[Progress] = []
    work = train_classifier_iter(few, "knn", features=features, input_size=4, calibration="sigmoid", augment=augment)
    run(work, seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1
    assert all(p.message for p in seen)


def test_training_can_be_cancelled(few: Crops) -> None:
    work = train_classifier_iter(few, "random_forest", features="texture")
    for _ in range(4):
        next(work)
    work.close()
    with pytest.raises(StopIteration):
        next(work)
