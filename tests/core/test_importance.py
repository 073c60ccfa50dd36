"""Permutation importance: scikit-learn as the oracle, and features whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.inspection import permutation_importance
from sklearn.metrics import f1_score

from napari_denoise_classify import Classifier, Crops, feature_importance

from .known import classifier_of


class Thresholds:
    """Says "spot" where the mean is high; the other feature is not looked at."""

    feature_names_ = ("mean", "deviation", "largest")

    def features_iter(self, scaled: list[np.ndarray]):  # type: ignore[no-untyped-def]
        yield from ()
        return np.array([(image.mean(), image.std(), image.max()) for image in scaled], np.float32)

    def proba_of_features(self, table: np.ndarray) -> np.ndarray:
        p = (table[:, 0] > 0.32).astype(float)
        p[np.isnan(table[:, 0])] = 0.5
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def classifier() -> Classifier:
    return classifier_of(Thresholds(), crop_size=16)


def test_only_the_feature_it_looks_at_counts(classifier: Classifier, crops: Crops) -> None:
    table = feature_importance(classifier, crops)
    assert list(table.columns) == ["name", "drop", "sd"]
    assert table["name"][0] == "mean"
    assert table["drop"][0] == pytest.approx(0.5, abs=0.1)  # shuffled, it guesses between two equal classes
    assert table["sd"][0] > 0
    assert (table[["drop", "sd"]][1:] == 0).all(axis=None)


def test_scikit_learn_finds_the_same(classifier: Classifier, crops: Crops) -> None:
    estimator = classifier.estimator

    class Oracle:
        def fit(self, X: np.ndarray, y: np.ndarray) -> Oracle:
            return self

        def score(self, X: np.ndarray, y: np.ndarray) -> float:
            return float(f1_score(y, classifier.label(estimator.proba_of_features(X)), average="macro"))

    X = np.array([(i.mean() / 255, i.std() / 255, i.max() / 255) for i in crops.images], np.float32)
    expected = permutation_importance(Oracle(), X, crops.labels, n_repeats=4, random_state=3)
    table = feature_importance(classifier, crops, repeats=4, seed=3).set_index("name")
    np.testing.assert_allclose(table.loc[list(estimator.feature_names_), "drop"], expected.importances_mean)
    np.testing.assert_allclose(table.loc[list(estimator.feature_names_), "sd"], expected.importances_std)


def test_a_trained_classifier_of_texture(crops: Crops) -> None:
    from napari_denoise_classify import train_classifier

    trained = train_classifier(crops, "random_forest", features="texture", trees=20)
    table = feature_importance(trained, crops, repeats=2)
    assert set(table["name"]) == set(trained.estimator.feature_names_)
    assert table["drop"].is_monotonic_decreasing
    assert table["drop"].between(-1, 1).all()
    assert table.equals(feature_importance(trained, crops, repeats=2))


def test_bad_input(classifier: Classifier, crops: Crops, cnn: Classifier) -> None:
    with pytest.raises(ValueError, match="This cnn classifies by pixels, which have no names: train svm"):
        feature_importance(cnn, crops)
    with pytest.raises(ValueError, match="repeats=0 is not allowed"):
        feature_importance(classifier, crops, repeats=0)
    other = Crops(crops.images, np.full(len(crops), "moon"), None, crops.names)
    with pytest.raises(ValueError, match="does not know the class 'moon'"):
        feature_importance(classifier, other)
