"""Parts of the classical classifiers, as scikit-learn estimators.

Their names are in the files of classifiers: moving one here breaks those that were saved before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_class_weight

from ..images import FloatArray
from ..progress import Progress, Steps
from .features import ImageFeatures
from .resize import resize
from .splits import folds

LARGEST_DEFAULT_SIDE = 64


class PixelFeatures(ImageFeatures):
    """Resize images and flatten their pixels.

    Parameters
    ----------
    input_size : int, optional
        Side in pixels. Default: the median side of the training images, but at most 64.
    """

    def __init__(self, input_size: int | None = None) -> None:
        self.input_size = input_size

    def fit_transform_iter(
        self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None
    ) -> Steps[FloatArray]:
        """Settle the size."""
        sides = [min(image.shape[:2]) for image in X]
        self.size_ = int(self.input_size or min(np.median(sides), LARGEST_DEFAULT_SIDE))
        return (yield from self.transform_iter(X))

    def transform_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        """Return (N, size² · S) float32."""
        yield Progress(0.0, "resizing")
        return resize(X, self.size_).reshape(len(X), -1)


class CalibratedSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The support vector machine of files of version 1: probabilities by Platt's sigmoid on held-out folds.

    Parameters
    ----------
    C : float
    kernel : str
    random_state : int
        Of the folds.
    """

    def __init__(self, C: float = 1.0, kernel: str = "rbf", random_state: int = 0) -> None:
        self.C = C
        self.kernel = kernel
        self.random_state = random_state

    def fit(self, X: FloatArray, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> CalibratedSVM:
        """Fit; ``groups`` are kept together in the folds that calibrate the probabilities."""
        try:
            cv = folds(y, groups, 3, self.random_state)
        except ValueError:  # too few groups for that: calibrate on mixed ones
            cv = folds(y, None, 3, self.random_state)
        svm = SVC(C=self.C, kernel=self.kernel, class_weight="balanced", cache_size=1000)
        self.model_ = CalibratedClassifierCV(svm, method="sigmoid", cv=cv, ensemble=False).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: FloatArray) -> npt.NDArray[np.float64]:
        """Return (N, classes)."""
        proba: npt.NDArray[np.float64] = self.model_.predict_proba(X)
        return proba

    def predict(self, X: FloatArray) -> npt.NDArray[Any]:
        """Return the most probable class of each sample."""
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels


class BalancedKNN(KNeighborsClassifier):  # type: ignore[misc]  # as above
    """k nearest neighbours; votes count by nearness and against the class's frequency in the training set."""

    def fit(self, X: FloatArray, y: npt.ArrayLike) -> BalancedKNN:
        """Fit, and weigh the classes."""
        if self.n_neighbors > len(X):
            raise ValueError(f"knn: neighbours={self.n_neighbors} is not allowed; there are {len(X)} training crops.")
        super().fit(X, y)
        self.class_weight_ = compute_class_weight("balanced", classes=self.classes_, y=np.asarray(y))
        return self

    def predict_proba(self, X: FloatArray) -> npt.NDArray[np.float64]:
        """Return (N, classes)."""
        votes: npt.NDArray[np.float64] = super().predict_proba(X) * self.class_weight_
        votes /= votes.sum(axis=1, keepdims=True)
        return votes

    def predict(self, X: FloatArray) -> npt.NDArray[Any]:
        """Return the most probable class of each sample."""
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels
