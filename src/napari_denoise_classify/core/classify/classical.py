"""The classical classifiers of crops: features, a classifier, and what goes around them.

Around means: copies of the training crops, rare classes, and probabilities that mean what they say. All of it happens
within ``fit``, on training crops only, so that scikit-learn's cross-validation stays honest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from ..images import FloatArray
from ..progress import Progress, Steps, run, within
from .augmentation import augment
from .balancing import oversample
from .calibration import calibration_folds, calibration_record, cross_calibrated, fit_calibrator, softmax
from .embedding import CNNEmbedding, JoinedFeatures
from .estimators import BalancedKNN, PixelFeatures
from .features import FibreFeatures, ImageFeatures, TextureFeatures
from .splits import IntArray

AUGMENTATION_NOISE = "gaussian:0-20"
FIBRE_TREES = 100
TREES = 300
_BLOCK = 2048  # forests and distances: sklearn takes as long for one row as for many


def make_features(name: str, input_size: int | None, seed: int) -> ImageFeatures:
    """Return the transformer that a choice of features means, not fitted.

    Parameters
    ----------
    name : {"pixels", "texture", "embedding", "texture+embedding", "fibres"}
    input_size : int, optional
        Of pixels and of the embedding's network.
    seed : int
        Of the embedding's network.

    Raises
    ------
    ValueError
        If there are no such features.
    """
    makers: dict[str, Callable[[], ImageFeatures]] = {
        "pixels": lambda: PixelFeatures(input_size),
        "texture": lambda: TextureFeatures(),
        "embedding": lambda: CNNEmbedding(input_size, random_state=seed),
        "texture+embedding": lambda: JoinedFeatures((TextureFeatures(), CNNEmbedding(input_size, random_state=seed))),
        "fibres": lambda: FibreFeatures(),
    }
    if name not in makers:
        raise ValueError(f"features={name!r} is not allowed: give one of {', '.join(makers)}.")
    return makers[name]()


class CropClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base of the classical classifiers of crops; subclasses have these parameters and their own.

    Samples are a sequence of float32 images (Y, X, S) from 0 to 1, whose sizes may differ.

    Parameters
    ----------
    features : {"pixels", "texture", "embedding", "texture+embedding", "fibres"}
    input_size : int, optional
        Side to which crops are resized for pixels and embedding.
    balance : {"weights", "sampling", "none"}
        What is done about rare classes: they weigh more, are drawn more often, or nothing.
    calibration : {"none", "sigmoid", "isotonic"}
        By folds of the training crops, whole groups where there are enough. Probabilities are then those of the
        training crops' class frequencies, whatever the balance.
    augment : {"none", "turns", "turns+noise"}
        Turned and mirrored copies of the training crops. Crops that calibrate are never among them.
    random_state : int

    Attributes
    ----------
    classes_ : array of str
    features_ : ImageFeatures
    model_ : sklearn.pipeline.Pipeline
        From features to the classes' indices.
    calibrator_ : CalibratedClassifierCV or None
        From the model's scores to probabilities.
    record_ : dict
        ``calibration``, where there is one: its error before and after, on held-out training crops.
    """

    features: str
    input_size: int | None
    balance: str
    calibration: str
    augment: str
    random_state: int

    # --- for subclasses -------------------------------------------------------------------------------------------

    def final(self, n_samples: int | None = None) -> Pipeline:
        """Return the classifier of features, not fitted; of so many samples at least."""
        raise NotImplementedError

    def check(self, n_samples: int) -> None:
        """Refuse parameters that do not fit so many training crops."""

    def scores(self, model: Pipeline, table: FloatArray) -> npt.NDArray[np.float64]:
        """Return what calibration starts from, (N, classes)."""
        proba: npt.NDArray[np.float64] = model.predict_proba(table)
        return proba

    def uncalibrated(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return probabilities as the classifier itself has them."""
        return scores

    # --- fitting --------------------------------------------------------------------------------------------------

    def fit(self, X: Sequence[FloatArray], y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> CropClassifier:
        """Fit; see `fit_iter`."""
        return run(self.fit_iter(X, y, groups))

    def fit_iter(
        self, X: Sequence[FloatArray], y: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> Steps[CropClassifier]:
        """Fit, with progress.

        Parameters
        ----------
        X : sequence of (Y, X, S) float32
        y : (N,) array
        groups : (N,) array, optional
            Kept together in the folds that calibrate.

        Raises
        ------
        ValueError
            For parameters that are not allowed or do not fit the crops.
        """
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give one of {', '.join(allowed)}.")
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"There is only the class {str(self.classes_[0])!r}: a classifier needs at least two.")
        self.check(len(codes))
        groups = None if groups is None else np.asarray(groups)
        parts: list[tuple[IntArray, IntArray]] = []
        by_group = False
        if self.calibration != "none":
            parts, by_group = calibration_folds(codes, groups, self.random_state)
        images, sources = self._copies(X, codes)
        again = make_features(self.features, self.input_size, self.random_state).supervised and bool(parts)
        rounds = 1 + len(parts) if again else 1
        everything = np.arange(len(codes))
        describing = self._describe_iter(everything, X, codes, groups, images, sources)
        self.features_, rows, table = yield from within(describing, 0.0, 0.9 / rounds)
        scores = np.empty((len(codes), len(self.classes_)))
        for k, (train, test) in enumerate(parts):
            part_rows, part_table = np.flatnonzero(np.isin(sources, train)), table
            if again:  # these features have seen the classes of the held-out crops: make others
                describing = self._describe_iter(train, X, codes, groups, images, sources)
                share = 0.9 * (k + 1) / rounds, 0.9 * (k + 2) / rounds
                extractor, part_rows, made = yield from within(describing, *share, f"calibration {k + 1}")
                part_table = np.empty((len(images), made.shape[1]), np.float32)
                part_table[part_rows] = made
                part_table[test] = extractor.transform([X[int(i)] for i in test])
            model = self._fit_rows(part_table[part_rows], codes[sources[part_rows]])
            scores[test] = self.scores(model, part_table[test])
            if not again:
                yield Progress(0.9 + 0.1 * (k + 1) / len(parts), "calibrating")
        self.model_ = self._fit_rows(table, codes[sources[rows]])
        self.calibrator_ = None
        self.record_: dict[str, Any] = {}
        if parts:
            self.calibrator_ = fit_calibrator(scores, codes, self.calibration)
            after = cross_calibrated(scores, codes, parts, self.calibration)
            before = self.uncalibrated(scores)
            self.record_["calibration"] = calibration_record(self.calibration, before, after, codes, by_group)
        yield Progress(1.0, "fitted")
        return self

    def _copies(self, X: Sequence[FloatArray], codes: IntArray) -> tuple[list[FloatArray], IntArray]:
        """Return the crops, then their copies, and which crop each is of."""
        if self.augment == "none":
            return list(X), np.arange(len(X))
        noise = AUGMENTATION_NOISE if self.augment == "turns+noise" else None
        made = augment(list(X), codes, rng=self.random_state, noise=noise, intensity_range=(0.0, 1.0))
        return made.images, made.sources

    def _describe_iter(
        self,
        train: IntArray,
        X: Sequence[FloatArray],
        codes: IntArray,
        groups: npt.NDArray[Any] | None,
        images: list[FloatArray],
        sources: IntArray,
    ) -> Steps[tuple[ImageFeatures, IntArray, FloatArray]]:
        """Fit the features to training crops; return them, the indices of these crops and their copies, and a table."""
        extractor = make_features(self.features, self.input_size, self.random_state)
        own = extractor.fit_transform_iter(
            [X[int(i)] for i in train], codes[train], None if groups is None else groups[train]
        )
        copies = np.flatnonzero(np.isin(sources, train) & (np.arange(len(sources)) >= len(X)))
        split = 1.0 if not len(copies) else (0.6 if extractor.supervised else 1 / 8)
        tables = [(yield from within(own, 0.0, split))]
        if len(copies):
            tables.append((yield from within(extractor.transform_iter([images[i] for i in copies]), split, 1.0)))
        return extractor, np.concatenate([train, copies]), np.concatenate(tables)

    def _fit_rows(self, table: FloatArray, codes: IntArray) -> Pipeline:
        if self.balance == "sampling":
            drawn = oversample(codes, np.random.default_rng(self.random_state))
            table, codes = table[drawn], codes[drawn]
        with warnings.catch_warnings():  # a forest's threads leave Python's list of filters in any state
            model = self.final(len(codes)).fit(table, codes)
        if "n_jobs" in model[-1].get_params():
            model[-1].n_jobs = 1  # sums in the order of threads would differ in their last digits
        return model

    # --- predicting -----------------------------------------------------------------------------------------------

    def predict_proba(self, X: Sequence[FloatArray]) -> npt.NDArray[np.float64]:
        """Return (N, classes)."""
        return run(self.predict_proba_iter(X))

    def predict_proba_iter(self, X: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Return (N, classes), with progress."""
        table = yield from self.features_iter(X)
        return self.proba_of_features(table)

    def predict(self, X: Sequence[FloatArray]) -> npt.NDArray[Any]:
        """Return the most probable class of each sample."""
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def features_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        """Return the figures that it classifies by, before any scaling: (N, features) float32, with progress."""
        check_is_fitted(self)
        return (yield from self.features_.transform_iter(X))

    def proba_of_features(self, table: FloatArray) -> npt.NDArray[np.float64]:
        """Classify a table as `features_iter` returns it: (N, classes)."""
        parts = [self.scores(self.model_, table[i : i + _BLOCK]) for i in range(0, len(table), _BLOCK)]
        scores = np.concatenate(parts) if parts else np.empty((0, len(self.classes_)))
        if self.calibrator_ is None:
            return self.uncalibrated(scores)
        proba: npt.NDArray[np.float64] = self.calibrator_.predict_proba(scores)
        return proba

    @property
    def feature_names_(self) -> tuple[str, ...] | None:
        """The names of the features' columns; None for pixels."""
        check_is_fitted(self)
        return None if self.features == "pixels" else tuple(map(str, self.features_.get_feature_names_out()))


_CHOICES = {
    "features": ("pixels", "texture", "embedding", "texture+embedding", "fibres"),
    "balance": ("weights", "sampling", "none"),
    "calibration": ("none", "sigmoid", "isotonic"),
    "augment": ("none", "turns", "turns+noise"),
}


class SVMClassifier(CropClassifier):
    """Support vector machine; see `CropClassifier`.

    Without calibration its probabilities are the softmax of its margins: their order is right, their size means
    nothing.

    Parameters
    ----------
    C : float
    kernel : {"rbf", "linear"}
    """

    def __init__(
        self,
        features: str = "pixels",
        input_size: int | None = None,
        C: float = 1.0,
        kernel: str = "rbf",
        balance: str = "weights",
        calibration: str = "sigmoid",
        augment: str = "none",
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.input_size = input_size
        self.C = C
        self.kernel = kernel
        self.balance = balance
        self.calibration = calibration
        self.augment = augment
        self.random_state = random_state

    def final(self, n_samples: int | None = None) -> Pipeline:
        """Return standardisation and a machine."""
        weight = "balanced" if self.balance == "weights" else None
        svm = SVC(C=self.C, kernel=self.kernel, class_weight=weight, cache_size=1000)
        return Pipeline([("scale", StandardScaler()), ("classify", svm)])

    def scores(self, model: Pipeline, table: FloatArray) -> npt.NDArray[np.float64]:
        """Return the margins, one class against the others."""
        margins: npt.NDArray[np.float64] = model.decision_function(table)
        return margins if margins.ndim == 2 else np.column_stack([-margins, margins])

    def uncalibrated(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the softmax of the margins."""
        return softmax(scores)


class ForestClassifier(CropClassifier):
    """Random forest; see `CropClassifier`.

    Parameters
    ----------
    trees : int, optional
        Default: 100 for fibres, 300 for other features.
    """

    def __init__(
        self,
        features: str = "pixels",
        input_size: int | None = None,
        trees: int | None = None,
        balance: str = "weights",
        calibration: str = "none",
        augment: str = "none",
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.input_size = input_size
        self.trees = trees
        self.balance = balance
        self.calibration = calibration
        self.augment = augment
        self.random_state = random_state

    def final(self, n_samples: int | None = None) -> Pipeline:
        """Return a forest."""
        trees = self.trees or (FIBRE_TREES if self.features == "fibres" else TREES)
        weight = "balanced_subsample" if self.balance == "weights" else None
        forest = RandomForestClassifier(
            n_estimators=trees, class_weight=weight, random_state=self.random_state, n_jobs=-1
        )
        return Pipeline([("classify", forest)])


class NeighboursClassifier(CropClassifier):
    """K nearest neighbours; see `CropClassifier`. Votes count by nearness.

    Parameters
    ----------
    neighbours : int
    """

    def __init__(
        self,
        features: str = "pixels",
        input_size: int | None = None,
        neighbours: int = 5,
        balance: str = "weights",
        calibration: str = "none",
        augment: str = "none",
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.input_size = input_size
        self.neighbours = neighbours
        self.balance = balance
        self.calibration = calibration
        self.augment = augment
        self.random_state = random_state

    def check(self, n_samples: int) -> None:
        """Refuse more neighbours than training crops."""
        if self.neighbours > n_samples:
            raise ValueError(f"knn: neighbours={self.neighbours} is not allowed; there are {n_samples} training crops.")

    def final(self, n_samples: int | None = None) -> Pipeline:
        """Return the neighbours; figures of different units are brought to one scale first."""
        kind = BalancedKNN if self.balance == "weights" else KNeighborsClassifier
        k = self.neighbours if n_samples is None else min(self.neighbours, n_samples)  # a fold may hold fewer
        knn = kind(n_neighbors=k, weights="distance", algorithm="brute", n_jobs=-1)
        scale = [] if self.features == "pixels" else [("scale", StandardScaler())]
        return Pipeline([*scale, ("classify", knn)])
