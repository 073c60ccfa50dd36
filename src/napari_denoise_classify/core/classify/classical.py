"""The classical classifiers of crops: support vector machine, random forest and nearest neighbours.

Their names are in the files of classifiers: moving one breaks those that were saved before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ..images import FloatArray
from .calibration import softmax
from .crop_classifier import CropClassifier
from .estimators import BalancedKNN, ExactKNN, StandardSVC
from .kernels import BLOCK_VALUES

FIBRE_TREES = 100
TREES = 300


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
        svm = StandardSVC(C=self.C, kernel=self.kernel, class_weight=weight)
        return Pipeline([("classify", svm)])

    def fitting_memory(self, rows: int, columns: int, itemsize: int, n_classes: int) -> float:
        """Return the size of the kernel or, if that is less, of the table in doubles; and of the support vectors."""
        return StandardSVC.fitting_memory(rows, columns) + rows * columns * itemsize

    def scoring_memory(self, rows: int, columns: int) -> float:
        """Return the size of a block of crops and one of support vectors, and of their kernel."""
        vectors = min(int(self.model_[-1].n_support_.sum()), max(1, BLOCK_VALUES // columns))
        return 16.0 * (rows * columns + vectors * columns + rows * vectors)

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

    def fitting_memory(self, rows: int, columns: int, itemsize: int, n_classes: int) -> float:
        """Return the size of the table in the forest's floats, and of trees that are grown until each leaf is pure."""
        trees = self.trees or (FIBRE_TREES if self.features == "fibres" else TREES)
        return (4.0 * rows * columns if itemsize < 4 else 0.0) + trees * rows * (64.0 + 8 * n_classes)

    def scoring_memory(self, rows: int, columns: int) -> float:
        """Return the size of a block of crops in the forest's floats."""
        return 4.0 * rows * columns


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
        k = self.neighbours if n_samples is None else min(self.neighbours, n_samples)  # a fold may hold fewer
        kind = BalancedKNN if self.balance == "weights" else ExactKNN
        knn = kind(n_neighbors=k, weights="distance", algorithm="brute", n_jobs=-1)
        scale = [] if self.features == "pixels" else [("scale", StandardScaler())]
        return Pipeline([*scale, ("classify", knn)])

    def scoring_memory(self, rows: int, columns: int) -> float:
        """Return the size of blocks of crops and of known ones, and of their distances."""
        known = self.model_[-1]._fit_X
        compared = min(len(known), 2**10, max(1, BLOCK_VALUES // columns))
        width = {1: 1, 2: 10}.get(known.dtype.itemsize, 8)  # those of 16 bits become doubles
        return float(width * (rows + compared) * columns + 40 * rows * compared)
