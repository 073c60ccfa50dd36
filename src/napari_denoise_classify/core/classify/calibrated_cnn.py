"""The CNN with a choice of what to do about rare classes, and with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_consistent_length

from ..images import FloatArray
from ..progress import Steps, within
from .balancing import oversample
from .calibration import calibration_record, cross_calibrated, fit_temperature, softmax
from .cnn import CNNClassifier
from .residual import WIDTH, SmallResNet
from .scaled import take
from .splits import IntArray, TooFewGroupsError, balanced_parts, by_groups, holdout

CALIBRATION_FRACTION = 0.15


class CalibratedCNN(CNNClassifier):
    """Residual network; see `CNNClassifier` for the parameters that are not below.

    Parameters
    ----------
    balance : {"weights", "sampling", "none"}
        Rare classes weigh more in the loss, are drawn as often as others in every epoch, or nothing is done.
    calibration : {"none", "temperature"}
        Guo et al., On calibration of modern neural networks, ICML (2017). Its one number is fitted to a part of the
        training crops that the network is not trained on, whole groups where there are enough; and not the part that
        early stopping watches, since that has chosen the network. The class that is most probable stays so.

    Attributes
    ----------
    record_ : dict
        ``calibration``, where there is one: its error before and after, on that part.
    """

    def __init__(
        self,
        input_size: int = 224,
        epochs: int = 40,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        patience: int = 10,
        balance: str = "weights",
        calibration: str = "none",
        random_state: int = 0,
        width: int = WIDTH,
        augmentation: str = "strong",
        views: int | None = None,
        validation: float = 0.15,
    ) -> None:
        super().__init__(
            input_size=input_size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            random_state=random_state,
            width=width,
            augmentation=augmentation,
            views=views,
            validation=validation,
        )
        self.balance = balance
        self.calibration = calibration

    def rebuild(self, samples: int, n_classes: int, state: Mapping[str, torch.Tensor]) -> SmallResNet:
        """Return the network that had these weights.

        Raises
        ------
        RuntimeError
            If they are not those of such a network.
        """
        network = self.build(samples, n_classes)
        network.load_state_dict(dict(state))
        return network

    def fit_iter(
        self, X: Sequence[FloatArray], y: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> Steps[CNNClassifier]:
        """Train, then calibrate, with progress; see `CNNClassifier.fit_iter`."""
        for name, allowed in (("balance", ("weights", "sampling", "none")), ("calibration", ("none", "temperature"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give one of {', '.join(allowed)}.")
        check_consistent_length(range(len(X)), y, groups)
        y = np.asarray(y)
        groups = None if groups is None else np.asarray(groups)
        self.record_: dict[str, Any] = {}
        learnt, kept, by_group = np.arange(len(y)), np.empty(0, np.intp), False
        if self.calibration != "none":
            learnt, kept, by_group = self._hold_out(y, groups)
        self._codes = np.unique(y[learnt], return_inverse=True)[1]
        part = None if groups is None else groups[learnt]
        fitting = super().fit_iter(take(X, learnt), y[learnt], part)
        yield from within(fitting, 0.0, 0.98 if len(kept) else 1.0)
        del self._codes
        if len(kept):
            scores = yield from within(self.scores_iter(take(X, kept)), 0.98, 1.0, "calibrating")
            codes = np.searchsorted(self.classes_, y[kept])
            self.temperature_ = fit_temperature(scores, codes)
            halves = _halves(codes, None if groups is None else groups[kept], self.random_state)
            after = cross_calibrated(scores, codes, halves, "temperature")
            self.record_["calibration"] = {
                **calibration_record("temperature", softmax(scores), after, codes, by_group),
                "temperature": self.temperature_,
            }
        return self

    def _hold_out(self, y: npt.NDArray[Any], groups: npt.NDArray[Any] | None) -> tuple[IntArray, IntArray, bool]:
        seed = self.random_state + 1  # another draw than that of early stopping
        (learnt, kept), by_group = by_groups(lambda whole: holdout(y, whole, CALIBRATION_FRACTION, seed), groups)
        return learnt, kept, by_group

    def class_weights(self, codes: IntArray, training: bool) -> npt.NDArray[np.float64]:
        """Return the weight of each class; early stopping judges as training does, one way or the other."""
        if self.balance == "none" or (self.balance == "sampling" and training):
            return np.ones(codes.max() + 1)
        return super().class_weights(codes, training)

    def epoch_order(self, train: IntArray, rng: np.random.Generator) -> IntArray:
        """Return the crops of an epoch; with sampling, about as many of each class."""
        if self.balance != "sampling":
            return super().epoch_order(train, rng)
        return rng.permutation(train[oversample(self._codes[train], rng)])[: len(train)]


def _halves(codes: IntArray, groups: npt.NDArray[Any] | None, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Cut samples in two, each to be judged by the other: whole groups if there are two."""

    def halves(whole: npt.NDArray[Any] | None) -> list[tuple[IntArray, IntArray]]:
        parts = balanced_parts(codes, whole, 2, seed)
        if len(parts) < 2:
            raise TooFewGroupsError("All samples are of one group: halves by group need at least 2 groups.")
        return [(parts[1], parts[0]), (parts[0], parts[1])]

    return by_groups(halves, groups)[0]
