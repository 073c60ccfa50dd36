"""What a convolutional network sees in crops, as features for other classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from ..device import place
from ..images import FloatArray
from ..progress import Steps, within
from .features import ImageFeatures, Names

if TYPE_CHECKING:
    from .cnn import CNNClassifier

_SIDES = (16, 64)
_TRAINING: dict[str, Any] = {"batch_size": 128, "learning_rate": 0.001, "augmentation": "light", "views": 1}


class CNNEmbedding(ImageFeatures):
    """Train a `CNNClassifier` on the training crops, and hand on what its last linear layer sees.

    The network has seen the classes of its training crops: figures of those crops look better than figures of others.
    Judge whatever is fitted on top by crops that neither has seen.

    Parameters
    ----------
    input_size : int, optional
        Side to which crops are resized, in pixels. Default: the median side of the training crops, from 16 to 64.
    epochs : int, optional
        As for the CNN.
    random_state : int

    Attributes
    ----------
    weights_ : dict of str to array
        The network's, as plain arrays: it is built from them when it is needed.
    """

    supervised: ClassVar[bool] = True

    def __init__(self, input_size: int | None = None, epochs: int | None = None, random_state: int = 0) -> None:
        self.input_size = input_size
        self.epochs = epochs
        self.random_state = random_state

    def fit_transform_iter(
        self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None
    ) -> Steps[FloatArray]:
        """Train the network, and embed its training crops."""
        if y is None:
            raise ValueError("CNNEmbedding learns from classes: give y.")
        low, high = _SIDES
        self.size_ = int(self.input_size or np.clip(np.median([min(image.shape[:2]) for image in X]), low, high))
        self.samples_ = int(X[0].shape[-1])
        self.n_classes_ = len(np.unique(np.asarray(y)))
        cnn = self._untrained()
        yield from within(cnn.fit_iter(X, y, groups), 0.0, 0.95)
        self.weights_ = {key: tensor.cpu().numpy().copy() for key, tensor in cnn.network_.state_dict().items()}
        self._cnn = cnn
        table = yield from within(self.transform_iter(X), 0.95, 1.0)
        self.width_ = table.shape[1]
        return table

    def transform_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        """Embed."""
        check_is_fitted(self)
        found: npt.NDArray[np.float64] = yield from self.network().embed_iter(X)
        return found.astype(np.float32)

    def network(self) -> CNNClassifier:
        """Return the trained CNN.

        Raises
        ------
        RuntimeError
            If the weights are not those of such a network.
        """
        if not hasattr(self, "_cnn"):
            import torch

            cnn = self._untrained()
            cnn.classes_, cnn.temperature_ = np.arange(self.n_classes_), 1.0
            cnn.network_ = cnn.build(self.samples_, self.n_classes_)
            cnn.network_.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in self.weights_.items()})
            place(cnn.network_.eval(), torch.device("cpu"))  # as after training: another layout rounds otherwise
            self._cnn = cnn
        return self._cnn

    def get_feature_names_out(self, input_features: Any = None) -> Names:
        """Return the names of the columns."""
        check_is_fitted(self)
        return np.array([f"embedding_{k}" for k in range(self.width_)], dtype=object)

    def _untrained(self) -> CNNClassifier:
        from .cnn import CNNClassifier

        given = _TRAINING if self.epochs is None else {**_TRAINING, "epochs": self.epochs}
        return CNNClassifier(input_size=self.size_, random_state=self.random_state, **given)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_cnn"}


class JoinedFeatures(ImageFeatures):
    """The figures of several transformers side by side.

    Parameters
    ----------
    parts : tuple of ImageFeatures
    """

    supervised: ClassVar[bool] = True  # one part may be

    def __init__(self, parts: tuple[ImageFeatures, ...]) -> None:
        self.parts = parts

    def fit_transform_iter(
        self, X: Sequence[FloatArray], y: Any = None, groups: npt.ArrayLike | None = None
    ) -> Steps[FloatArray]:
        """Fit the parts."""
        from sklearn.base import clone

        self.parts_ = [clone(part) for part in self.parts]
        tables = []
        for k, part in enumerate(self.parts_):
            share = k / len(self.parts_), (k + 1) / len(self.parts_)
            tables.append((yield from within(part.fit_transform_iter(X, y, groups), *share)))
        return np.hstack(tables)

    def transform_iter(self, X: Sequence[FloatArray]) -> Steps[FloatArray]:
        """Ask the parts."""
        check_is_fitted(self)
        tables = []
        for k, part in enumerate(self.parts_):
            share = k / len(self.parts_), (k + 1) / len(self.parts_)
            tables.append((yield from within(part.transform_iter(X), *share)))
        return np.hstack(tables)

    def get_feature_names_out(self, input_features: Any = None) -> Names:
        """Return the names of the columns."""
        check_is_fitted(self)
        return np.concatenate([part.get_feature_names_out() for part in self.parts_])
