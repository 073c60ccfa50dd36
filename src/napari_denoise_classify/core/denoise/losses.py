"""What training minimises: differences to clean images, or what needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..deepinverse import import_deepinv

if TYPE_CHECKING:
    import torch

Forward: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
Loss: TypeAlias = "Callable[[Forward, torch.Tensor], torch.Tensor]"

SUPERVISED = ("mae", "mse", "charbonnier")
SELF_SUPERVISED = ("neighbour2neighbour", "blind_spot", "r2r", "sure")
_CHARBONNIER = 1e-3


def supervised(name: str, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Compare the output with the clean image, pixel by pixel.

    Parameters
    ----------
    name : {"mae", "mse", "charbonnier"}
        Mean absolute error; mean squared error; √(d² + 10⁻⁶) of Charbonnier et al., ICIP (1994).
    output, target : (N, S, Y, X)
    weight : (N, 1, Y, X), optional
    """
    difference = output - target
    if name == "mae":
        error = difference.abs()
    elif name == "mse":
        error = difference.square()
    else:
        error = (difference.square() + _CHARBONNIER**2).sqrt()
    if weight is None:
        return error.mean()
    return (error * weight).sum() / (weight.sum() * error.shape[1]).clamp_min(1.0)


def choose(noise: str) -> str:
    """Choose the loss for noisy images alone by the kind of their noise.

    Gaussian noise of known level allows R2R; Poisson-Gaussian noise of known gain allows SURE; of any other noise it
    is only supposed that pixels are independent, which is enough for Neighbor2Neighbor.
    """
    return {"gaussian": "r2r", "poisson_gaussian": "sure"}.get(noise, "neighbour2neighbour")


def self_supervised(name: str, *, sigma: float = 0.0, gain: float = 0.0) -> Loss:
    """Make a loss that needs no clean images.

    Parameters
    ----------
    name : {"neighbour2neighbour", "blind_spot", "r2r", "sure"}
        Huang et al., Neighbor2Neighbor, CVPR (2021); random pixels hidden and predicted, after Batson & Royer,
        Noise2Self, ICML (2019); Pang et al., Recorrupted-to-Recorrupted, CVPR (2021); Stein's unbiased risk
        estimate, Metzler et al. (2018), for Poisson-Gaussian noise Le Montagner et al., IEEE TIP 23 (2014).
    sigma : float
        Standard deviation of the Gaussian part, on the scale that the loss sees.
    gain : float
        Variance per unit of intensity of the Poisson part; 0 for none.

    Returns
    -------
    callable
        From (network, noisy (N, S, Y, X)) to a scalar. In evaluation mode nothing about it is random but the seed.
    """
    deepinv = import_deepinv()
    loss = deepinv.loss
    import torch

    class Plain(torch.nn.Module):
        """A network that is called with the physics, as deepinv does."""

        def __init__(self, network: Forward) -> None:
            super().__init__()
            self.network = network

        def forward(self, y: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            result: torch.Tensor = self.network(y)
            return result

    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(max(sigma, 1e-6)))
    if name == "neighbour2neighbour":
        neighbours = loss.Neighbor2Neighbor()

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            value: torch.Tensor = neighbours(y=y, physics=physics, model=Plain(network))
            return value.mean()

    elif name == "sure":
        risk = loss.SurePGLoss(sigma=sigma, gain=gain) if gain > 0 else loss.SureGaussianLoss(sigma=sigma)

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            model = Plain(network)
            value: torch.Tensor = risk(y=y, x_net=model(y), physics=physics, model=model)
            return value.mean()

    elif name in ("r2r", "blind_spot"):

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            if name == "r2r":
                term = loss.R2RLoss(noise_model=deepinv.physics.GaussianNoise(sigma), alpha=0.15)
            else:
                size = (y.shape[1], *y.shape[2:])
                masks = deepinv.physics.generator.BernoulliSplittingMaskGenerator(size, 0.9, device=y.device)
                term = loss.SplittingLoss(split_ratio=0.9, mask_generator=masks)
            model = term.adapt_model(Plain(network))
            model.train()  # it splits or corrupts anew; the network itself has no mode
            x = model(y, physics, update_parameters=True)
            value: torch.Tensor = term(x_net=x, y=y, physics=physics, model=model)
            return value.mean()

    else:
        raise ValueError(f"loss={name!r} is not allowed: give one of {', '.join(SELF_SUPERVISED)}.")
    return compute
