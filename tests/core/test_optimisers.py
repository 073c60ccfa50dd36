"""Which optimiser trains what, and what a step of Muon is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from napari_denoise_classify.core.denoise.networks import build
from napari_denoise_classify.core.device import place
from napari_denoise_classify.core.optimisers import make_optimisers


def chain(layout: str = "wide", orthogonal: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(1, 16, 3),
        torch.nn.Conv2d(16, 8, 3),
        torch.nn.Conv2d(8, 12, 1),
        torch.nn.Conv2d(12, 1, 3),
    ]
    net = torch.nn.Sequential(*layers)
    net.orthogonal = orthogonal
    return place(net, torch.device("cpu")) if layout == "wide" else net


def step(net: torch.nn.Module, rate: float = 0.1) -> dict[str, torch.Tensor]:
    """Return how far one step moves each parameter."""
    before = copy.deepcopy(net.state_dict())
    net(torch.rand(2, 1, 9, 9)).square().mean().backward()
    for one in make_optimisers(net, rate, 0.0):
        one.step()
    return {name: value - before[name] for name, value in net.state_dict().items()}


def test_muon_trains_the_kernels_between_hidden_layers_and_adam_the_rest() -> None:
    adam, muon = make_optimisers(chain(), 1e-3, 0.01)
    assert isinstance(adam, torch.optim.AdamW)
    assert isinstance(muon, torch.optim.Muon)
    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(8, 144), (12, 8)]
    assert sum(len(g["params"]) for g in adam.param_groups) == 2 + 4  # first and last kernel, four biases
    assert muon.param_groups[0]["weight_decay"] == adam.param_groups[0]["weight_decay"] == 0.01


def test_networks_that_do_not_ask_are_trained_by_adam_alone() -> None:
    (adam,) = make_optimisers(chain(orthogonal=False), 1e-3, 0.0)
    assert isinstance(adam, torch.optim.AdamW)
    assert sum(len(g["params"]) for g in adam.param_groups) == 8


@pytest.mark.parametrize("layout", ["wide", "plain"])
def test_steps_of_hidden_kernels_are_orthogonal_and_as_large_as_adams(layout: str) -> None:
    moved = step(chain(layout))
    matrix = moved["1.weight"].flatten(1)
    values = torch.linalg.svdvals(matrix)
    assert values.min() > 0.25 * values.max()  # five steps of Newton-Schulz come near to equal, and no nearer
    # Adam moves every weight by the rate; Muon's steps are made 0.2 of it (root mean square), as Adam's are later on.
    assert matrix.square().mean().sqrt() == pytest.approx(0.02, rel=0.3)
    assert moved["0.weight"].abs().max() == pytest.approx(0.1, rel=0.01)


def test_the_memory_layout_changes_nothing() -> None:
    wide, plain = (step(chain(layout)) for layout in ("wide", "plain"))
    for name, value in wide.items():
        np.testing.assert_allclose(value.numpy(), plain[name].numpy(), atol=3e-3)  # it multiplies in bfloat16


def test_gradients_in_another_layout_than_their_kernels_are_understood() -> None:
    nets = [chain(), chain()]
    for net in nets:
        net(torch.linspace(0, 1, 81).reshape(1, 1, 9, 9)).square().mean().backward()
    nets[1][1].weight.grad = nets[1][1].weight.grad.contiguous()
    for net in nets:
        for one in make_optimisers(net, 0.1, 0.0):
            one.step()
    torch.testing.assert_close(nets[0][1].weight, nets[1][1].weight, atol=3e-3, rtol=0)


def test_a_dncnn_is_trained_so_and_learns_to_denoise() -> None:
    torch.manual_seed(0)
    net = place(build("dncnn", depth=5, features=16), torch.device("cpu"))
    optimisers = make_optimisers(net, 2e-3, 0.0)
    assert [type(one).__name__ for one in optimisers] == ["AdamW", "Muon"]
    errors = []
    for _ in range(60):
        clean = torch.rand(4, 1, 1, 1) + torch.linspace(0, 0.5, 24).view(1, 1, 1, -1).expand(4, 1, 24, 24)
        noisy = clean + 0.2 * torch.randn_like(clean)
        error = (net(noisy) - clean).square().mean()
        net.zero_grad()
        error.backward()
        for one in optimisers:
            one.step()
        errors.append(float(error.detach()))
    assert np.mean(errors[-10:]) < 0.25 * np.mean(errors[:3])
