"""A small residual network as a scikit-learn classifier.

He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR (2016). It ends in global average pooling and
one linear layer, so that its Grad-CAM is exact (it equals CAM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from ..device import best_device, place
from ..fitting import Fit, fit_iter
from ..images import FloatArray
from ..progress import Progress, Steps, run
from .resize import resize
from .splits import holdout

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_VALIDATION_FRACTION = 0.15
_PREDICT_PIXELS = 2**21
WIDTHS = (32, 64, 128)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(shortcut(x) + residual(x))."""
        return nn.functional.relu(self.shortcut(x) + self.residual(x))


class SmallResNet(nn.Module):
    """Stem, three residual stages, global average pooling, linear.

    Parameters
    ----------
    samples : int
        1 or 3.
    n_classes : int
    input_size : int
        Decides the stride of the stem, so that the last map has 8 to 16 cells along each side: 4 from 128 pixels on,
        2 from 64 on, else 1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, samples: int, n_classes: int, input_size: int) -> None:
        super().__init__()
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if samples == 3 else ((0.449,), (0.226,))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        stride = 2 if input_size >= 64 else 1
        stem: list[nn.Module] = [
            nn.Conv2d(
                samples,
                WIDTHS[0],
                7 if input_size >= 128 else 3,
                stride,
                3 if input_size >= 128 else 1,
                bias=False,
            ),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        ]
        if input_size >= 128:
            stem.append(nn.MaxPool2d(3, 2, 1))
        self.stem = nn.Sequential(*stem)
        self.stages = nn.Sequential(
            ResidualBlock(WIDTHS[0], WIDTHS[0], 1),
            ResidualBlock(WIDTHS[0], WIDTHS[1], 2),
            ResidualBlock(WIDTHS[1], WIDTHS[2], 2),
        )
        self.head = nn.Linear(WIDTHS[2], n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (N, S, Y, X) in 0..1 to (N, classes) scores."""
        scores: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        return scores

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last stage's maps (N, width, y, x)."""
        maps: torch.Tensor = self.stages(self.stem((x - self.mean) / self.std))
        return maps


class CNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Residual network trained from scratch with early stopping.

    Samples are a sequence of float32 images (Y, X, S) in 0..1, of any size; classes are balanced in the loss;
    training images are flipped, turned by right angles and varied in brightness and colour.

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

    Attributes
    ----------
    temperature_ : float
        Scores are divided by it before the softmax; 1 until the probabilities are calibrated.
    """

    def __init__(
        self,
        input_size: int = 224,
        epochs: int = 40,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        patience: int = 10,
        random_state: int = 0,
    ) -> None:
        self.input_size = input_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.random_state = random_state

    def build(self, samples: int, n_classes: int) -> SmallResNet:
        """Return an untrained network for images of 1 or 3 samples."""
        return SmallResNet(samples, n_classes, self.input_size)

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
        groups : (N,) array, optional
            Kept on one side of the split that early stopping watches.
        """
        y = np.asarray(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        try:
            train, held_out = holdout(y, groups, _VALIDATION_FRACTION, self.random_state)
        except ValueError:
            if groups is None:
                raise
            train, held_out = holdout(y, None, _VALIDATION_FRACTION, self.random_state)
        device = best_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = self.build(X[0].shape[-1], len(self.classes_))
        place(network, device)
        weight = torch.tensor(
            compute_class_weight("balanced", classes=np.arange(len(self.classes_)), y=codes),
            dtype=torch.float32,
            device=device,
        )
        targets = torch.from_numpy(codes).to(device)

        def loss(batch: tuple[torch.Tensor, npt.NDArray[np.intp]]) -> torch.Tensor:
            x, chosen = batch
            return nn.functional.cross_entropy(network(x), targets[chosen], weight, label_smoothing=0.05)

        def score() -> float:
            with torch.inference_mode():
                scores = torch.cat([network(x) for x, _ in self.batches(X, held_out, device)])
                return -float(nn.functional.cross_entropy(scores, targets[held_out], weight))

        self.network_ = network
        self.temperature_ = 1.0
        self.fit_: Fit = yield from fit_iter(
            network,
            lambda epoch: self._training_batches(X, train, epoch, device),
            loss,
            score,
            epochs=self.epochs,
            steps_per_epoch=max(1, -(-len(train) // self.batch_size)),
            learning_rate=self.learning_rate,
            min_epochs=self.epochs // 2,
            patience=self.patience,
            weight_decay=0.01,
        )
        self.network_.to("cpu")
        return self

    def _training_batches(
        self, X: Sequence[FloatArray], train: npt.NDArray[np.intp], epoch: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.intp]]]:
        rng = np.random.default_rng((self.random_state, epoch))
        n_batches = max(1, -(-len(train) // self.batch_size))
        for chosen in np.array_split(rng.permutation(train), n_batches):  # even: none is left with one sample
            x = resize([X[i] for i in chosen], self.input_size)
            for image in x:
                turned = np.rot90(image, int(rng.integers(4)))
                image[:] = turned[:, ::-1] if rng.random() < 0.5 else turned
            # Each sample by itself: stains and illumination vary between slides.
            x *= rng.uniform(0.9, 1.1, (len(x), 1, 1, x.shape[-1])).astype(np.float32)
            x += rng.uniform(-0.05, 0.05, (len(x), 1, 1, x.shape[-1])).astype(np.float32)
            yield self._tensor(x, device), chosen

    def batches(
        self, X: Sequence[FloatArray], indices: npt.NDArray[np.intp], device: torch.device
    ) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.intp]]]:
        """Yield resized images (N, S, Y, X) on the device with their indices, as many as fit into memory."""
        size = max(1, _PREDICT_PIXELS // self.input_size**2)
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield self._tensor(resize([X[i] for i in chosen], self.input_size), device), chosen

    @staticmethod
    def _tensor(x: FloatArray, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(x).permute(0, 3, 1, 2).to(device)

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
        return (yield from self._run_iter(X, lambda network, x: network(x)))

    def embed_iter(self, X: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Return what the last linear layer sees, (N, width), with progress."""
        return (yield from self._run_iter(X, lambda network, x: network.features(x).mean((2, 3))))

    def _run_iter(
        self, X: Sequence[FloatArray], compute: Callable[[SmallResNet, torch.Tensor], torch.Tensor]
    ) -> Steps[npt.NDArray[np.float64]]:
        device = best_device()
        network = self.network_.to(device).eval()
        parts: list[npt.NDArray[np.float64]] = []
        done = 0
        for x, chosen in self.batches(X, np.arange(len(X)), device):
            with torch.inference_mode():
                parts.append(compute(network, x).double().cpu().numpy())
            done += len(chosen)
            yield Progress(done / len(X), f"{done} of {len(X)} crops")
        return np.concatenate(parts)

    def predict(self, X: Sequence[FloatArray]) -> npt.NDArray[Any]:
        """Return the most probable class of each sample."""
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def cam_iter(self, X: Sequence[FloatArray], targets: npt.NDArray[np.intp]) -> Steps[list[FloatArray]]:
        """Compute Grad-CAM on the last stage.

        Selvaraju et al.: Grad-CAM: visual explanations from deep networks via gradient-based localization. ICCV (2017).

        Parameters
        ----------
        X : sequence of (Y, X, S) float32
        targets : (N,) array of int
            The class to explain, for each image.

        Returns
        -------
        list of (y, x) float32
            Not normalised, at the resolution of the stage's maps.
        """
        device = best_device()
        network = self.network_.to(device).eval()
        maps: list[FloatArray] = []
        for x, chosen in self.batches(X, np.arange(len(X)), device):
            with torch.inference_mode(False), torch.enable_grad():
                features = network.features(x.clone()).detach().requires_grad_(True)
                scores = network.head(features.mean((2, 3)))
                wanted = torch.from_numpy(targets[chosen]).to(device)
                scores.gather(1, wanted[:, None]).sum().backward()
                if features.grad is None:
                    raise RuntimeError("The network gave no gradient.")
                weights = features.grad.mean((2, 3), keepdim=True)
                cam = (weights * features).sum(1).relu()
            maps.extend(cam.detach().float().cpu().numpy())
            yield Progress(len(maps) / len(X), f"{len(maps)} of {len(X)} crops")
        return maps
