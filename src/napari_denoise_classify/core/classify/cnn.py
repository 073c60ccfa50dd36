"""The small residual network as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import nn

from ..compiled import Compiled, compiled
from ..device import best_device, keeping_memory, place, precision, prefers_bfloat16, trains_in_bfloat16, with_room_iter
from ..fitting import Fit, fit_iter
from ..images import FloatArray
from ..progress import Progress, Steps, run
from .base import ClassifierBase
from .memory import check_memory
from .residual import WIDTH, SmallResNet, activations, fused
from .resize import resize
from .scaled import ScaledCrops
from .splits import by_groups, holdout
from .variation import VIEWS, vary, views

_WEIGHT_DECAY = 0.05
AUGMENTATIONS = ("light", "strong")
_PREDICT_PIXELS = 2**21  # in a batch on a GPU
_CACHED_PIXELS, _CACHED_CROPS = 2**18, 64  # in a batch on a CPU, whose cache then holds the activations
_WORTH_FUSING = 16  # crops: copying the network takes as long as one or two
_WORTH_COMPILING = 2**21  # pixels: for fewer, starting OpenVINO takes longer than it saves
_LARGEST_VIEWED = 64  # pixels: so far, eight views take no time that anyone would mind


def _graph(network: nn.Module) -> Any:
    from .graph import embedding_graph  # OpenVINO may be missing

    return embedding_graph(network)


class CNNClassifier(ClassifierBase):
    """Residual network trained from scratch with early stopping.

    Samples are a sequence of float32 images (Y, X, S) in 0..1, of any size; classes are balanced in the loss;
    training images are varied, see `variation.vary`.

    Parameters
    ----------
    input_size : int
        Side to which images are resized, in pixels.
    epochs, batch_size : int
    learning_rate : float
        Peak of the one-cycle schedule.
    patience : int
        Epochs without a better validation loss before it stops; never within the first half of the epochs.
    random_state : int
    width : int
        Maps of the network's first stage.
    augmentation : {"light", "strong"}
        Light: training images are turned by right angles, mirrored, and varied in brightness and colour. Strong: many
        are also turned by any angle, zoomed and shifted, and the stains of RGB images vary; it takes more epochs.
    views : int, optional
        Scores and embeddings are the mean over so many of the eight turns and mirror images of an image: 1, 2, 4 or 8.
        Default: 8 if images are at most 64 pixels wide, else 1. Simonyan and Zisserman: Very deep convolutional
        networks for large-scale image recognition. ICLR (2015).
    validation : float
        Part of the training images that early stopping watches. 0: all are learnt from for all epochs, and the
        network is that of the epoch with the lowest training loss.

    Attributes
    ----------
    temperature_ : float
        Scores are divided by it before the softmax; 1 until the probabilities are calibrated.
    mixed_precision_ : bool
        Whether it was trained in bfloat16, see `device.trains_in_bfloat16`.
    """

    def __init__(
        self,
        input_size: int = 224,
        epochs: int = 40,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        patience: int = 10,
        random_state: int = 0,
        width: int = WIDTH,
        augmentation: str = "strong",
        views: int | None = None,
        validation: float = 0.15,
    ) -> None:
        self.input_size = input_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.random_state = random_state
        self.width = width
        self.augmentation = augmentation
        self.views = views
        self.validation = validation

    def build(self, samples: int, n_classes: int) -> SmallResNet:
        """Return an untrained network for images of 1 or 3 samples."""
        return SmallResNet(samples, n_classes, self.input_size, self.width)

    def fit(self, X: Sequence[FloatArray], y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> CNNClassifier:
        """Train; see `fit_iter`."""
        return run(self.fit_iter(X, y, groups))

    def fit_iter(
        self, X: Sequence[FloatArray], y: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> Steps[CNNClassifier]:
        """Train, with progress.

        Parameters
        ----------
        X : sequence of (Y, X, S) float32
        y : (N,) array
        groups : (N,) or (N, levels) array, optional
            Kept on one side of the split that early stopping watches; see `by_groups`.

        Raises
        ------
        ValueError
            For an augmentation that there is not, or a class with a single image.
        """
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"augmentation={self.augmentation!r} is not allowed: give one of {', '.join(AUGMENTATIONS)}."
            )
        check_consistent_length(range(len(X)), y, groups)
        y = np.asarray(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        train, held_out = self._hold_out_watched(y, groups)
        device = best_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = self.build(X[0].shape[-1], len(self.classes_))
        if device.type == "cpu":
            values = self.batch_size * activations(network, X[0].shape[-1], self.input_size)
            needed = 4 * (3 * values + 4 * sum(p.numel() for p in network.parameters()))  # with gradients and copies
            what = f"Training a network on {self.batch_size} crops of {self.input_size} pixels at a time"
            check_memory(needed, what, "give a smaller input_size, batch_size or width")
        place(network, device)
        weight, watched = (
            torch.from_numpy(self.class_weights(codes, training)).float().to(device) for training in (True, False)
        )
        targets = torch.from_numpy(codes).to(device)
        self.mixed_precision_ = trains_in_bfloat16(device)
        losses: list[float] = []

        def loss(batch: tuple[torch.Tensor, npt.NDArray[np.intp]]) -> torch.Tensor:
            x, chosen = batch
            with torch.autocast(device.type, torch.bfloat16, enabled=self.mixed_precision_):
                scores = network(x)
            value = nn.functional.cross_entropy(scores.float(), targets[chosen], weight, label_smoothing=0.05)
            losses.append(value.item())
            return value

        def score() -> float:
            if not len(held_out):
                mean = float(np.mean(losses))
                losses.clear()
                return -mean
            with torch.inference_mode():
                scores = torch.cat([network(x) for x, _ in self.batches(X, held_out, device)])
                return -float(nn.functional.cross_entropy(scores, targets[held_out], watched))

        self.network_ = network
        self.temperature_ = 1.0
        with keeping_memory():
            self.fit_: Fit = yield from fit_iter(
                network,
                lambda epoch: self._training_batches(X, train, epoch, device),
                loss,
                score,
                epochs=self.epochs,
                steps_per_epoch=max(1, -(-len(train) // self.batch_size)),
                learning_rate=self.learning_rate,
                min_epochs=self.epochs // 2,
                patience=self.patience if len(held_out) else None,
                weight_decay=_WEIGHT_DECAY,
            )
        self.network_.to("cpu")
        return self

    def _hold_out_watched(
        self, y: npt.NDArray[Any], groups: npt.ArrayLike | None
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return what is learnt from and what early stopping watches: whole groups, where there are enough."""
        if self.validation == 0:
            return np.arange(len(y)), np.empty(0, np.intp)
        return by_groups(lambda whole: holdout(y, whole, self.validation, self.random_state), groups)[0]

    def class_weights(self, codes: npt.NDArray[np.intp], training: bool) -> npt.NDArray[np.float64]:
        """Return the weight of each class in the loss, of training or of what early stopping watches."""
        weights: npt.NDArray[np.float64] = compute_class_weight("balanced", classes=np.unique(codes), y=codes)
        return weights

    def epoch_order(self, train: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """Return which of the training crops an epoch takes, in which order; as many as there are."""
        return rng.permutation(train)

    def _training_batches(
        self, X: Sequence[FloatArray], train: npt.NDArray[np.intp], epoch: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.intp]]]:
        rng = np.random.default_rng((self.random_state, epoch))
        n_batches = max(1, -(-len(train) // self.batch_size))
        strong = self.augmentation == "strong"
        for chosen in np.array_split(self.epoch_order(train, rng), n_batches):  # even: none is left with one sample
            x = self._resized(X, chosen)
            # On Apple's GPUs torch cannot reflect at the border: there, images are varied before they are moved.
            place_first = device.type != "mps"
            images = vary(x.to(device) if place_first else x, rng, strong)
            yield images.to(device, memory_format=torch.channels_last), chosen

    def batches(
        self, X: Sequence[FloatArray], indices: npt.NDArray[np.intp], device: torch.device
    ) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.intp]]]:
        """Yield resized images (N, S, Y, X) on the device with their indices, as many as fit into memory."""
        size = self._batch_size(device)
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield self._resized(X, chosen).to(device), chosen

    def _batch_size(self, device: torch.device) -> int:
        """Return how many images the network sees at a time."""
        if device.type == "cpu":
            return max(1, min(_CACHED_PIXELS // self.input_size**2, _CACHED_CROPS))
        return max(1, _PREDICT_PIXELS // self.input_size**2)

    def _resized(self, X: Sequence[FloatArray], chosen: npt.NDArray[np.intp]) -> torch.Tensor:
        """Return some images in the size that the network sees, (N, S, Y, X)."""
        wanted = (self.input_size, self.input_size)
        if isinstance(X, ScaledCrops) and all(X.shape(int(i))[:2] == wanted for i in chosen):
            x = X.stack(chosen)
        else:
            x = resize([X[int(i)] for i in chosen], self.input_size)
        return torch.from_numpy(x).permute(0, 3, 1, 2)

    def predict_proba(self, X: Sequence[FloatArray]) -> npt.NDArray[np.float64]:
        """Return (N, classes)."""
        return run(self.predict_proba_iter(X))

    def predict_proba_iter(self, X: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Return (N, classes), with progress."""
        from scipy.special import softmax

        scores = yield from self.scores_iter(X)
        proba: npt.NDArray[np.float64] = softmax(scores / self.temperature_, axis=1)
        return proba

    def scores_iter(self, X: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Return the scores before the softmax (N, classes), with progress."""
        embedded = yield from self.embed_iter(X)
        weight, bias = (values.detach().cpu().double().numpy() for values in self.network_.head.parameters())
        scores: npt.NDArray[np.float64] = embedded @ weight.T + bias
        return scores

    def embed_iter(self, X: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Return what the last linear layer sees, (N, width), with progress."""
        check_is_fitted(self, "network_")
        return (yield from with_room_iter(best_device(), partial(self._embed_iter, X)))

    def _embed_iter(self, X: Sequence[FloatArray], device: torch.device) -> Steps[npt.NDArray[np.float64]]:
        network = self.network_.to(device).eval()
        count = self.views or (VIEWS if self.input_size <= _LARGEST_VIEWED else 1)
        quick: Compiled | None = None
        embed: Callable[[torch.Tensor], torch.Tensor] = network.embed
        if len(X) >= _WORTH_FUSING:
            samples = X[0].shape[-1]
            if device.type == "cpu":
                crops = self._batch_size(device)
                needed = 4 * crops * activations(network, samples, self.input_size)
                what = f"Classifying {crops} crops of {self.input_size} pixels at a time"
                check_memory(needed, what, "close other programs, or train with a smaller input_size")
                if len(X) * count * self.input_size**2 >= _WORTH_COMPILING:
                    # Only where it was asked for: nobody would know that probabilities are a little different.
                    fast = precision() == "fast" and prefers_bfloat16(device)
                    quick = compiled(network, (torch.empty(1, samples, 1, 1),), fast, _graph)
            embed = quick or fused(network).embed
        # Made before: small arrays that stay between large ones that go would keep memory from being used again.
        found = np.empty((len(X), network.head.in_features))
        done = 0
        try:
            for x, chosen in self.batches(X, np.arange(len(X)), device):
                with torch.inference_mode():
                    seen = torch.stack([embed(view) for view in views(x, count)])
                    found[chosen] = seen.double().mean(0).cpu().numpy()
                done += len(chosen)
                yield Progress(done / len(X), f"{done} of {len(X)} crops")
        finally:
            if quick is not None:
                quick.close()
        return found

    def predict(self, X: Sequence[FloatArray]) -> npt.NDArray[Any]:
        """Return the most probable class of each sample."""
        check_is_fitted(self, "network_")
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels
