"""Parts of the classical classifiers, as scikit-learn estimators.

Their names are in the files of classifiers: moving one here breaks those that were saved before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import _ovr_decision_function
from sklearn.utils.validation import check_is_fitted

from ..device import available_memory
from ..images import FloatArray, from_float
from ..progress import Progress, Steps
from .features import ImageFeatures
from .kernels import BLOCK_VALUES, DoubleArray, Kernel, Table, blocks, nearest
from .resize import resize
from .scaled import ScaledCrops, shapes_of

LARGEST_DEFAULT_SIDE = 64
_GREY_LEVELS = ("uint8", "uint16")


class PixelFeatures(ImageFeatures):
    """Resize images and flatten their pixels.

    Pixels of 8 and 16 bits stay what they are, in a half or a quarter of the memory of floats.

    Parameters
    ----------
    input_size : int, optional
        Side in pixels. Default: the median side of the training images, but at most 64.

    Attributes
    ----------
    size_ : int
    dtype_ : str
        ``"uint8"`` or ``"uint16"`` if the training images are `ScaledCrops` of such; else there is none, and pixels are
        floats. Images of other kinds are then rounded to the grey levels of the training images.
    limits_ : (float, float)
        The grey levels that stand for 0 and 1; only with ``dtype_``.
    """

    def __init__(self, input_size: int | None = None) -> None:
        self.input_size = input_size

    def side(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Return the side to which training images of such shapes (Y, X, S) are resized."""
        return int(self.input_size or min(np.median([min(shape[:2]) for shape in shapes]), LARGEST_DEFAULT_SIDE))

    def fit_transform_iter(
        self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None
    ) -> Steps[FloatArray]:
        """Settle the size, and what pixels are."""
        self.size_ = self.side(shapes_of(X))
        for name in ("dtype_", "limits_"):
            self.__dict__.pop(name, None)
        if isinstance(X, ScaledCrops) and X.dtype in _GREY_LEVELS:
            self.dtype_, self.limits_ = str(X.dtype), X.limits
        return (yield from self.transform_iter(X))

    def transform_iter(self, X: Sequence[FloatArray]) -> Steps[npt.NDArray[Any]]:
        """Return (N, size² · S), float32 or of the training images' dtype."""
        yield Progress(0.0, "resizing")
        dtype = getattr(self, "dtype_", None)
        if dtype is None:
            return resize(X, self.size_).reshape(len(X), -1)
        if isinstance(X, ScaledCrops) and str(X.dtype) == dtype and X.limits == self.limits_:
            return resize([X.raw(i) for i in range(len(X))], self.size_, dtype).reshape(len(X), -1)
        low, high = self.limits_
        made = np.empty((len(X), self.size_**2 * (X[0].shape[-1] if len(X) else 1)), dtype)
        for i, image in enumerate(X):
            values = resize([image], self.size_).ravel().astype(np.float64)
            made[i] = from_float(values * (high - low) + low, dtype)
        return made


class ExactKNN(KNeighborsClassifier):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's k nearest neighbours; those of 8 and 16 bits are kept so, and found by blocked exact products.

    Of equally near ones, those that come first in the training set count.
    """

    def kneighbors(
        self, X: Table | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[DoubleArray, npt.NDArray[np.intp]] | npt.NDArray[np.intp]:
        """Return the distances (N, k) and the indices (N, k) of the nearest training samples, or the latter."""
        known, k = self._fit_X, self.n_neighbors if n_neighbors is None else n_neighbors
        own = isinstance(X, np.ndarray) and X.dtype == known.dtype and X.ndim == 2 and X.shape[1:] == known.shape[1:]
        exact = own and str(known.dtype) in _GREY_LEVELS and self.effective_metric_ == "euclidean"
        if not exact or not 1 <= k <= len(known):
            found: tuple[DoubleArray, npt.NDArray[np.intp]] = super().kneighbors(X, n_neighbors, return_distance)
            return found
        assert X is not None
        distances, indices = nearest(known, X, k)
        return (distances, indices) if return_distance else indices


class BalancedKNN(ExactKNN):
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


class StandardSVC(SVC):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's support vector machine on standardised figures; its kernel comes from blocked matrix products.

    Figures stay in their own dtype, and are standardised a block at a time. It takes the kernels ``"rbf"``, with
    ``gamma="scale"``, and ``"linear"``.

    Attributes
    ----------
    mean_, scale_ : (features,) arrays
        Of the training samples.
    support_vectors_ : (vectors, features) array
        Rows of the training table as they were given, not standardised.
    """

    def fit(self, X: Table, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> StandardSVC:
        """Fit.

        Raises
        ------
        ValueError
            For another kernel, or figures that are not finite.
        """
        if self.kernel not in ("rbf", "linear") or self.gamma != "scale":
            raise ValueError(f"kernel={self.kernel!r} with gamma={self.gamma!r} is not allowed: give rbf or linear.")
        X = np.asarray(X)
        scaler = StandardScaler()
        for rows in blocks(*X.shape):
            scaler.partial_fit(X[rows].astype(np.float64))
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        spread = float((scaler.var_ / scaler.scale_**2).mean())  # the variance of the standardised table
        self._gamma = 1 / (X.shape[1] * spread) if spread > 0 else 1.0
        kernel = self._kernel()
        if self._precomputes(*X.shape):
            inner = SVC(**{**self.get_params(), "kernel": "precomputed"}).fit(kernel.matrix(X), y, sample_weight)
        else:  # far slower
            inner = SVC(**self.get_params()).fit(kernel.standardised(X), y, sample_weight)
        wanted = {key: value for key, value in vars(inner).items() if key not in (*self.get_params(), "_gamma")}
        self.__dict__.update(wanted)
        self.support_vectors_ = X[self.support_]
        self.shape_fit_ = X.shape
        self.n_features_in_ = X.shape[1]
        return self

    @staticmethod
    def fitting_memory(samples: int, features: int) -> float:
        """Return how many bytes fitting takes besides the table and the support vectors, about."""
        matrix, doubles = 8.0 * samples**2, 8.0 * samples * features
        needed = min(matrix, doubles)
        if StandardSVC._precomputes(samples, features):
            needed = matrix + 16.0 * min(samples * features, max(BLOCK_VALUES, samples)) + 2**15 * samples
        return needed + min(200e6, 4.0 * samples**2)  # scikit-learn's cache

    @staticmethod
    def _precomputes(samples: int, features: int) -> bool:
        """Tell whether the kernel of all samples is to be held: not if it would take nearly all memory."""
        return 10.0 * samples**2 < available_memory() or samples < features

    def decision_function(self, X: Table) -> DoubleArray:
        """Return the margins as `sklearn.svm.SVC` does: (N,) of two classes, else (N, classes) or (N, pairs)."""
        pairs = self._pairs(X)
        if len(self.classes_) == 2:
            return np.asarray(-pairs[:, 0])
        if self.decision_function_shape != "ovr":
            return pairs
        margins: DoubleArray = _ovr_decision_function(pairs < 0, -pairs, len(self.classes_))
        return margins

    def predict(self, X: Table) -> npt.NDArray[Any]:
        """Return the class that wins most pairs; of two such, the first."""
        pairs = self._pairs(X)
        votes = np.zeros((len(pairs), len(self.classes_)), int)
        for (i, j), margin in zip(combinations(range(len(self.classes_)), 2), pairs.T, strict=True):
            votes[:, i] += margin > 0
            votes[:, j] += margin <= 0
        labels: npt.NDArray[Any] = self.classes_[votes.argmax(axis=1)]
        return labels

    def _kernel(self) -> Kernel:
        return Kernel(self.mean_, self.scale_, self._gamma if self.kernel == "rbf" else None)

    def _pairs(self, X: Table) -> DoubleArray:
        """Return the margin between the classes of each pair, (N, pairs); above 0 for the first."""
        check_is_fitted(self)
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.n_features_in_:
            raise ValueError(f"The table has shape {X.shape}: give {self.n_features_in_} columns.")
        ends = np.cumsum(self._n_support)
        weights = np.zeros((len(self.support_vectors_), len(self._intercept_)))
        for pair, (i, j) in enumerate(combinations(range(len(self.classes_)), 2)):
            first, second = slice(ends[i] - self._n_support[i], ends[i]), slice(ends[j] - self._n_support[j], ends[j])
            weights[first, pair] = self._dual_coef_[j - 1, first]
            weights[second, pair] = self._dual_coef_[i, second]
        return np.asarray(self._kernel().weighted(X, self.support_vectors_, weights) + self._intercept_)
