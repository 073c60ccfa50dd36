"""What the classical classifiers of crops share: features, and what goes around a classifier of them.

Around means: copies of the training crops, rare classes, and probabilities that mean what they say. All of it happens
within ``fit``, on training crops only, so that scikit-learn's cross-validation stays honest.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ..images import FloatArray
from ..progress import Progress, Steps, run, within
from .augmentation import augment
from .balancing import oversample
from .base import ClassifierBase
from .calibration import FOLDS, calibration_folds, calibration_record, cross_calibrated, fit_calibrator
from .embedding import CNNEmbedding, JoinedFeatures
from .estimators import PixelFeatures
from .features import FibreFeatures, ImageFeatures, TextureFeatures
from .kernels import BLOCK_VALUES, blocks
from .memory import check_memory
from .scaled import ScaledCrops, shapes_of, take
from .splits import IntArray

AUGMENTATION_NOISE = "gaussian:0-20"
_COLUMNS = {"texture": 432, "fibres": 16, "embedding": 128, "texture+embedding": 560}  # at most
_HELD_OUT_FOLDS = 5  # what is learnt from them likes models as good as the last one, and features are measured once
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


class CropClassifier(ClassifierBase, ABC):
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

    @abstractmethod
    def final(self, n_samples: int | None = None) -> Pipeline:
        """Return the classifier of features, not fitted; of so many samples at least."""

    def check(self, n_samples: int) -> None:
        """Refuse parameters that do not fit so many training crops."""

    def fitting_memory(self, rows: int, columns: int, itemsize: int, n_classes: int) -> float:
        """Return how many bytes fitting to a table takes besides the table, about."""
        return 0.0

    def scoring_memory(self, rows: int, columns: int) -> float:
        """Return how many bytes classifying a block of a table takes besides it, about."""
        return 0.0

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
        self,
        X: Sequence[FloatArray],
        y: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        held_out: npt.NDArray[np.float64] | None = None,
    ) -> Steps[CropClassifier]:
        """Fit, with progress.

        Parameters
        ----------
        X : sequence of (Y, X, S) float32
        y : (N,) array
        groups : (N,) or (N, levels) array, optional
            Kept together in the folds that calibrate; see `by_groups`.
        held_out : (N, classes) float64 array, optional
            Filled with the probabilities of these samples by models that did not learn from them.

        Raises
        ------
        ValueError
            For parameters that are not allowed or do not fit the crops.
        """
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give one of {', '.join(allowed)}.")
        check_consistent_length(range(len(X)), y, groups)
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"There is only the class {str(self.classes_[0])!r}: a classifier needs at least two.")
        self.check(len(codes))
        self._check_memory(X, codes)
        groups = None if groups is None else np.asarray(groups)
        parts: list[tuple[IntArray, IntArray]] = []
        by_group = False
        if self.calibration != "none" or held_out is not None:
            n_splits = FOLDS if held_out is None else _HELD_OUT_FOLDS
            parts, by_group = calibration_folds(codes, groups, self.random_state, n_splits)
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
                part_table = np.empty((len(images), made.shape[1]), made.dtype)
                part_table[part_rows] = made
                part_table[test] = extractor.transform(take(X, test))
            model = self._fit_rows(part_table[part_rows], codes[sources[part_rows]])
            scores[test] = self.scores(model, part_table[test])
            if not again:
                yield Progress(0.9 + 0.1 * (k + 1) / len(parts), "calibrating")
        self.model_ = self._fit_rows(table, codes[sources[rows]])
        self.calibrator_ = None
        self.record_: dict[str, Any] = {}
        if self.calibration != "none":
            self.calibrator_ = fit_calibrator(scores, codes, self.calibration)
            before, after = self.uncalibrated(scores), cross_calibrated(scores, codes, parts, self.calibration)
            self.record_["calibration"] = calibration_record(self.calibration, before, after, codes, by_group)
        if held_out is not None:
            held_out[...] = self.uncalibrated(scores) if self.calibration == "none" else after
        yield Progress(1.0, "fitted")
        return self

    def _check_memory(self, X: Sequence[FloatArray], codes: IntArray) -> None:
        """Refuse more training crops than fit into memory."""
        shapes = shapes_of(X)
        copies = 1 if self.augment == "none" else 8
        rows, columns, itemsize = copies * len(X), _COLUMNS.get(self.features, 0), 4
        kept = X.dtype.itemsize if isinstance(X, ScaledCrops) else 4
        if self.features == "pixels":
            side = PixelFeatures(self.input_size).side(shapes)
            columns, itemsize = side * side * shapes[0][-1], kept
        drawn = rows if self.balance != "sampling" else copies * int(np.bincount(codes).max()) * len(self.classes_)
        table = rows * columns * itemsize
        needed: float = (2 if copies > 1 else 1) * table + (drawn * columns * itemsize if drawn > rows else 0)
        needed += (copies - 1) * sum(int(np.prod(shape)) for shape in shapes) * kept
        needed += self.fitting_memory(drawn, columns, itemsize, len(self.classes_))
        name = type(self).__name__.removesuffix("Classifier").lower()
        advice = ["give fewer crops"]
        if self.features == "pixels":
            advice += ["a smaller input_size", "or features='texture'"]
        if copies > 1:
            advice.insert(1, "augment='none'")
        what = f"Training a classifier ({name}) on {len(X):,} crops with {columns:,} figures each ({self.features})"
        check_memory(needed, what, ", ".join(advice))

    def _copies(self, X: Sequence[FloatArray], codes: IntArray) -> tuple[Sequence[FloatArray], IntArray]:
        """Return the crops, then their copies, and which crop each is of."""
        if self.augment == "none":
            return X, np.arange(len(X))
        noise = AUGMENTATION_NOISE if self.augment == "turns+noise" else None
        crops = X if isinstance(X, ScaledCrops) else list(X)
        made = augment(crops, codes, rng=self.random_state, noise=noise, intensity_range=(0.0, 1.0))
        return made.images, made.sources

    def _describe_iter(
        self,
        train: IntArray,
        X: Sequence[FloatArray],
        codes: IntArray,
        groups: npt.NDArray[Any] | None,
        images: Sequence[FloatArray],
        sources: IntArray,
    ) -> Steps[tuple[ImageFeatures, IntArray, FloatArray]]:
        """Fit the features to training crops; return them, the indices of these crops and their copies, and a table."""
        extractor = make_features(self.features, self.input_size, self.random_state)
        own = extractor.fit_transform_iter(take(X, train), codes[train], None if groups is None else groups[train])
        copies = np.flatnonzero(np.isin(sources, train) & (np.arange(len(sources)) >= len(X)))
        split = 1.0 if not len(copies) else (0.6 if extractor.supervised else 1 / 8)
        tables = [(yield from within(own, 0.0, split))]
        if len(copies):
            tables.append((yield from within(extractor.transform_iter(take(images, copies)), split, 1.0)))
        return extractor, np.concatenate([train, copies]), tables[0] if len(tables) == 1 else np.concatenate(tables)

    def _fit_rows(self, table: FloatArray, codes: IntArray) -> Pipeline:
        if self.balance == "sampling":
            drawn = oversample(codes, np.random.default_rng(self.random_state))
            table, codes = table[drawn], codes[drawn]
        with warnings.catch_warnings():  # a forest's threads leave Python's list of filters in any state
            # They empty the list that others of them read, which scikit-learn takes for a mistake of its caller.
            warnings.filterwarnings("ignore", r".*sklearn\.utils\.parallel\.delayed", UserWarning)
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
        check_is_fitted(self)
        parts = [np.empty((0, len(self.classes_)))]
        columns = int(self.model_.n_features_in_)
        rows_at_once = min(len(X), _BLOCK, max(1, BLOCK_VALUES // columns))
        needed = 4 * rows_at_once * columns + self.scoring_memory(rows_at_once, columns)
        check_memory(needed, f"Classifying crops by {columns:,} figures", "close other programs, or use smaller crops")
        for rows in blocks(len(X), columns, _BLOCK):
            work = self.features_.transform_iter(X[rows])
            table = yield from within(work, rows.start / len(X), rows.stop / len(X))
            parts.append(self.proba_of_features(table))
        return np.concatenate(parts)

    def predict(self, X: Sequence[FloatArray]) -> npt.NDArray[Any]:
        """Return the most probable class of each sample."""
        check_is_fitted(self)
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
