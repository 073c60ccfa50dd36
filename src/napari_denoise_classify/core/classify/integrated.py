"""A denoiser and a CNN as one network, fine-tuned end to end.

What the denoiser removes is then decided by what helps to tell the classes apart, not by what looks clean. Compare Liu,
Wen, Liu, Wang, Huang: When image denoising meets high-level vision tasks. IJCAI (2018).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..denoise.networks import TITLES, build_from
from ..denoise.neural import open_network
from ..images import FloatArray
from ..progress import Steps
from .calibrated_cnn import CalibratedCNN
from .cnn import CNNClassifier
from .residual import WIDTH, SmallResNet

_PREFIX = "denoiser."


class DenoisingResNet(SmallResNet):
    """A denoiser before a `SmallResNet`; features, head and stages are the latter's.

    Parameters
    ----------
    denoiser : torch.nn.Module
        One of `core.denoise.networks`, for images of as many samples, or gray.
    samples, n_classes, input_size, width
        As for `SmallResNet`.
    learning_rate_factor : float
        What the learning rate is multiplied by for the denoiser; at 0 it stays as it is.
    scale : (float, float)
        Mean and standard deviation of what a denoiser sees as 0 and 1; (0, 1) for those that see images from 0 to 1.
    """

    scale: torch.Tensor

    def __init__(
        self,
        denoiser: nn.Module,
        samples: int,
        n_classes: int,
        input_size: int,
        width: int = WIDTH,
        learning_rate_factor: float = 0.1,
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(samples, n_classes, input_size, width)
        self.denoiser = denoiser
        self.learning_rate_factor = learning_rate_factor
        self.register_buffer("scale", torch.tensor(scale))
        denoiser.requires_grad_(learning_rate_factor > 0)

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise images (N, S, Y, X) in 0..1, of any size from 16 pixels on."""
        network: Any = self.denoiser
        n, samples, height, width = x.shape
        mean, std = self.scale
        z = (x - mean) / std
        if network.samples == 1 and samples > 1:  # a gray network sees each colour by itself
            z = z.reshape(n * samples, 1, height, width)
        # The mirror image beyond the borders, as the step's tiles have it; torch pads only without the border itself.
        z = torch.cat([z, z.flip(-2)[..., : -height % network.multiple, :]], dim=-2)
        z = torch.cat([z, z.flip(-1)[..., : -width % network.multiple]], dim=-1)
        z = network(z)[..., :height, :width].reshape(x.shape)
        clean: torch.Tensor = z * std + mean
        return clean

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last stage's maps of the denoised images (N, width, y, x)."""
        return super().features(self.denoise(x))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the parameters to train, each group with its learning rate."""
        own = [p for name, p in self.named_parameters() if not name.startswith(_PREFIX)]
        groups: list[dict[str, Any]] = [{"params": own, "lr": learning_rate}]
        if self.learning_rate_factor > 0:
            # No decay: it would pull a trained denoiser towards doing nothing at all.
            rate = learning_rate * self.learning_rate_factor
            groups.append({"params": list(self.denoiser.parameters()), "lr": rate, "weight_decay": 0.0})
        return groups


def _statistics(X: Sequence[FloatArray]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all pixels; 1 in place of 0."""
    moments = np.array([(image.size, image.mean(dtype=np.float64), image.var(dtype=np.float64)) for image in X])
    sizes, means, variances = moments.T
    mean = float(np.average(means, weights=sizes))
    variance = float(np.average(variances + (means - mean) ** 2, weights=sizes))
    return mean, variance**0.5 or 1.0


class IntegratedClassifier(CalibratedCNN):
    """Denoiser and residual network, trained together; see `CalibratedCNN` for the parameters that are not below.

    Images are resized before they are denoised: at the crops' own size, their noise stays what it is.

    Parameters
    ----------
    denoiser : {"irunet", "dncnn", "unet"}
    denoiser_weights : str
        To start from: ``"auto"``, a name from the registry, or a file.
    denoiser_learning_rate : float
        Part of the learning rate that the denoiser gets; 0 leaves it as it is.
    """

    def __init__(
        self,
        denoiser: str = "irunet",
        denoiser_weights: str = "auto",
        denoiser_learning_rate: float = 0.1,
        input_size: int = 64,
        epochs: int = 40,
        batch_size: int = 32,
        learning_rate: float = 0.001,
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
            balance=balance,
            calibration=calibration,
            random_state=random_state,
            width=width,
            augmentation=augmentation,
            views=views,
            validation=validation,
        )
        self.denoiser = denoiser
        self.denoiser_weights = denoiser_weights
        self.denoiser_learning_rate = denoiser_learning_rate

    def fit_iter(
        self, X: Sequence[FloatArray], y: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> Steps[CNNClassifier]:
        """Train both, with progress; see `CNNClassifier.fit_iter`."""
        _, entry = open_network(self.denoiser, self.denoiser_weights, X[0].shape[-1])
        self._pixels = _statistics(X)
        yield from super().fit_iter(X, y, groups)
        del self._pixels
        self.record_["denoiser"] = {"weights": entry.name, "sha256": entry.sha256}
        return self

    def build(self, samples: int, n_classes: int) -> DenoisingResNet:
        """Return a network whose denoiser is trained and whose other half is not."""
        loaded, _ = open_network(self.denoiser, self.denoiser_weights, samples)
        # Weights with a scale of their own were trained on images of mean 0 and deviation 1: these crops are made so.
        scale = (0.0, 1.0) if loaded.normalisation is None else getattr(self, "_pixels", (0.0, 1.0))
        return self._join(copy.deepcopy(loaded.network), samples, n_classes, scale)

    def rebuild(self, samples: int, n_classes: int, state: Mapping[str, torch.Tensor]) -> DenoisingResNet:
        """Return the network that had these weights; the denoiser's own file is not needed any more."""
        part = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
        denoiser = build_from(part, "The denoiser of this file")
        if denoiser.step != self.denoiser or denoiser.upscale != 1 or denoiser.samples not in (1, samples):
            raise ValueError(f"its denoiser is not a {TITLES[self.denoiser]} for such images")
        network = self._join(denoiser, samples, n_classes)
        network.load_state_dict(dict(state))
        return network

    def _join(
        self, denoiser: nn.Module, samples: int, n_classes: int, scale: tuple[float, float] = (0.0, 1.0)
    ) -> DenoisingResNet:
        factor = self.denoiser_learning_rate
        return DenoisingResNet(denoiser, samples, n_classes, self.input_size, self.width, factor, scale)
