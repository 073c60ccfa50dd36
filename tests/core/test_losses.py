"""Losses: known values, and what those without clean images are least for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_denoise_classify.core.denoise import losses
from napari_denoise_classify.core.denoise.losses import SELF_SUPERVISED, choose, self_supervised, supervised

OUTPUT = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
TARGET = torch.tensor([[[[1.0, 0.0], [0.0, 8.0]]]])
WEIGHT = torch.tensor([[[[1.0, 1.0], [0.5, 0.0]]]])


@pytest.mark.parametrize(
    ("name", "plain", "weighted"),
    [
        ("mae", 9 / 4, 3.5 / 2.5),
        ("mse", 29 / 4, 8.5 / 2.5),
        (
            "charbonnier",
            sum(math.sqrt(d**2 + 1e-6) for d in (0, 2, 3, 4)) / 4,
            (1e-3 + math.sqrt(4 + 1e-6) + math.sqrt(9 + 1e-6) / 2) / 2.5,
        ),
    ],
)
def test_known_values(name: str, plain: float, weighted: float) -> None:
    assert float(supervised(name, OUTPUT, TARGET, None)) == pytest.approx(plain)
    assert float(supervised(name, OUTPUT, TARGET, WEIGHT)) == pytest.approx(weighted)
    colour = [t.repeat(1, 3, 1, 1) for t in (OUTPUT, TARGET)]
    assert float(supervised(name, *colour, WEIGHT)) == pytest.approx(weighted)
    assert float(supervised(name, OUTPUT, TARGET, torch.ones_like(WEIGHT))) == pytest.approx(plain)
    assert float(supervised(name, OUTPUT, TARGET, WEIGHT / 1000)) == pytest.approx(weighted)


@pytest.mark.parametrize("name", losses.SUPERVISED)
def test_pixels_without_weight_do_not_count(name: str) -> None:
    output = OUTPUT.clone().requires_grad_()
    other = TARGET.clone()
    other[0, 0, 1, 1] = 1e6
    assert float(supervised(name, output, other, WEIGHT).detach()) == float(supervised(name, OUTPUT, TARGET, WEIGHT))
    supervised(name, output, other, WEIGHT).backward()
    assert output.grad[0, 0, 1, 1] == 0
    assert float(supervised(name, OUTPUT, TARGET, 0 * WEIGHT)) == 0


@pytest.mark.parametrize(
    ("noise", "loss"),
    [
        ("gaussian", "r2r"),
        ("poisson_gaussian", "neighbour2neighbour"),
        ("", "neighbour2neighbour"),
        ("poisson", "neighbour2neighbour"),
        ("salt_and_pepper", "neighbour2neighbour"),
    ],
)
def test_the_noise_chooses_the_loss(noise: str, loss: str) -> None:
    assert choose(noise) == loss
    assert loss in SELF_SUPERVISED


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="loss='mae' is not allowed"):
        self_supervised("mae")


# --- without clean images -------------------------------------------------------------------------------------------


class Shrink(torch.nn.Module):
    """y → a · y."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.a * y


class Blur(torch.nn.Module):
    """The mean of each pixel, weighing ``centre``, and its eight neighbours."""

    def __init__(self, centre: float) -> None:
        super().__init__()
        self.centre = torch.nn.Parameter(torch.tensor(centre))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(y, (1, 1, 1, 1), mode="reflect")
        around = (torch.nn.functional.avg_pool2d(padded, 3, 1) * 9 - y) / 8
        return self.centre * y + (1 - self.centre) * around


def smooth(side: int = 128, samples: int = 1) -> torch.Tensor:
    line = torch.linspace(0, 3 * math.pi, side)
    plane = torch.sin(line)[:, None] * torch.cos(line)[None]
    return (0.5 + 0.4 * plane)[None, None].repeat(1, samples, 1, 1)


def noisy(clean: torch.Tensor, sigma: float, gain: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(0)
    values = clean.numpy()
    if gain:
        values = gain * rng.poisson(values / gain)
    return torch.from_numpy((values + rng.normal(0, sigma, values.shape)).astype(np.float32))


@pytest.mark.parametrize("gain", [0.0, 0.02])
@pytest.mark.parametrize("a", [0.0, 0.4, 0.8, 1.0])
def test_sure_is_the_true_error(a: float, gain: float) -> None:
    clean, sigma = smooth(256), 0.1
    y = noisy(clean, sigma, gain)
    torch.manual_seed(0)
    with torch.no_grad():
        true = float((Shrink(a)(y) - clean).square().mean())
        found = float(self_supervised("sure", sigma=sigma, gain=gain)(Shrink(a), y))
    variance = sigma**2 + gain * float(clean.mean())
    assert found == pytest.approx(true, abs=0.05 * variance)


@pytest.mark.parametrize("name", SELF_SUPERVISED)
@pytest.mark.parametrize("samples", [1, 3])
def test_losses_prefer_what_removes_the_noise(name: str, samples: int) -> None:
    """The identity is the worst denoiser; a blur that leaves the centre out is far better for a smooth image."""
    sigma = 0.2
    clean = smooth(samples=samples)
    y = noisy(clean, sigma)
    loss = self_supervised(name, sigma=sigma, scoring=True)
    torch.manual_seed(0)
    with torch.no_grad():
        values = {c: np.mean([float(loss(Blur(c), y)) for _ in range(3)]) for c in (0.0, 0.12, 1.0)}
        true = {c: float((Blur(c)(y) - clean).square().mean()) for c in values}
    assert true[0.12] < true[1.0] / 4
    assert max(values[0.0], values[0.12]) < values[1.0]


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_losses_have_a_gradient_and_follow_the_seed(name: str) -> None:
    loss, y = self_supervised(name, sigma=0.2, gain=0.01), noisy(smooth(32), 0.2)
    found = []
    for seed in (0, 0, 1):
        net = Blur(1.0)
        torch.manual_seed(seed)
        loss(net, y).backward()
        found.append(float(net.centre.grad))
    assert found[0] == found[1] != found[2]
    assert found[0] > 0  # less of the centre is better


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_each_call_draws_anew(name: str) -> None:
    loss, y = self_supervised(name, sigma=0.2), noisy(smooth(32), 0.2)
    torch.manual_seed(0)
    with torch.no_grad():
        values = {float(loss(Blur(0.5), y)) for _ in range(3)}
    assert len(values) == 3


@pytest.mark.parametrize("name", ["neighbour2neighbour", "blind_spot", "r2r", "sure"])
def test_learning_by_a_loss_removes_noise(name: str) -> None:
    from napari_denoise_classify.core.denoise.networks.unet import UNet

    sigma = 0.3
    clean = smooth(64)
    y = noisy(clean, sigma)
    torch.manual_seed(0)
    net, loss = UNet(1, 6, 1), self_supervised(name, sigma=sigma)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(80):
        optimiser.zero_grad()
        loss(net, y).backward()
        optimiser.step()
    with torch.no_grad():
        error = float((net(y) - clean).square().mean())
    assert error < sigma**2 / 2
