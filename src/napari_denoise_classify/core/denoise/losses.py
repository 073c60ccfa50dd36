"""What training minimises: differences to clean images, or what needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ..deepinverse import import_deepinv

if TYPE_CHECKING:
    import torch

Forward: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
Loss: TypeAlias = "Callable[[Forward, torch.Tensor], torch.Tensor]"

Supervised: TypeAlias = Literal["mae", "mse", "charbonnier"]
SelfSupervised: TypeAlias = Literal["neighbour2neighbour", "blind_spot", "r2r", "sure"]
SUPERVISED = get_args(Supervised)
SELF_SUPERVISED = get_args(SelfSupervised)
_CHARBONNIER = 1e-3
_HIDDEN, _REACH = 0.1, 2  # part of the pixels that is hidden, and how far the neighbour may be that replaces it


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
    return (error * weight).sum() / (weight.sum() * error.shape[1]).clamp_min(1e-6)


def choose(noise: str) -> str:
    """Choose the loss for noisy images alone by the kind of their noise.

    Gaussian noise of known level allows R2R, which did best on it; of any other noise it is only supposed that pixels
    are independent, which is enough for Neighbor2Neighbor. SURE needs the level to be known more exactly than it can
    be estimated from one image.
    """
    return "r2r" if noise == "gaussian" else "neighbour2neighbour"


def self_supervised(name: str, *, sigma: float = 0.0, gain: float = 0.0, scoring: bool = False) -> Loss:
    """Make a loss that needs no clean images.

    Parameters
    ----------
    name : {"neighbour2neighbour", "blind_spot", "r2r", "sure"}
        Huang et al., Neighbor2Neighbor, CVPR (2021); random pixels replaced by a neighbour and predicted,
        Krull et al., Noise2Void, CVPR (2019); Pang et al., Recorrupted-to-Recorrupted, CVPR (2021); Stein's unbiased
        risk estimate, Metzler et al. (2018), for Poisson-Gaussian noise Le Montagner et al., IEEE TIP 23 (2014).
    sigma : float
        Standard deviation of the Gaussian part, on the scale that the loss sees.
    gain : float
        Variance per unit of intensity of the Poisson part; 0 for none.
    scoring : bool
        For comparing networks instead of training one: without Neighbor2Neighbor's regularisation, which steers the
        gradient well, but has a value that is least for a network that does nothing.

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
        neighbours = loss.Neighbor2Neighbor(gamma=0.0 if scoring else 2.0)

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            value: torch.Tensor = neighbours(y=y, physics=physics, model=Plain(network))
            return value.mean()

    elif name == "sure":
        risk = loss.SurePGLoss(sigma=sigma, gain=gain) if gain > 0 else loss.SureGaussianLoss(sigma=sigma)

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            model = Plain(network)
            value: torch.Tensor = risk(y=y, x_net=model(y), physics=physics, model=model)
            return value.mean()

    elif name == "blind_spot":

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            # A neighbour takes the place of a hidden pixel: were it 0, the network would learn to spot the holes, and
            # be free to do anything where there is none, which is everywhere once it is used.
            hidden = torch.rand_like(y[:, :1]) < _HIDDEN
            reach = range(-_REACH, _REACH + 1)
            neighbours = torch.stack([y.roll((i, j), (2, 3)) for i in reach for j in reach if i or j])
            chosen = torch.randint(len(neighbours), hidden.shape, device=y.device)
            other = neighbours.gather(0, chosen.expand(1, *y.shape))[0]
            error = (network(torch.where(hidden, other, y)) - y).square() * hidden
            return error.sum() / (hidden.sum() * y.shape[1]).clamp_min(1)

    elif name == "r2r":

        def compute(network: Forward, y: torch.Tensor) -> torch.Tensor:
            term = loss.R2RLoss(noise_model=deepinv.physics.GaussianNoise(sigma), alpha=0.15)
            model = term.adapt_model(Plain(network))
            model.train()  # it corrupts anew; the network itself has no mode
            x = model(y, physics, update_parameters=True)
            value: torch.Tensor = term(x_net=x, y=y, physics=physics, model=model)
            return value.mean()

    else:
        raise ValueError(f"loss={name!r} is not allowed: give one of {', '.join(SELF_SUPERVISED)}.")
    return compute
