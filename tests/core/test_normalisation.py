"""The scale of a network: there and back, kept with its weights, the same for every intensity range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.networks.unet import UNet
from napari_denoise_classify.core.denoise.normalisation import Normalisation
from napari_denoise_classify.core.denoise.weights import about_text

GOOD = {"mean": 900.0, "std": 120.0, "target_mean": 450.0, "target_std": 60.0}
numbers = st.floats(-1e4, 1e4, width=32)
widths = st.floats(0.0625, 1e4, width=32)


@given(mean=numbers, std=widths, low=numbers, span=widths)
def test_to_planes_undoes_of_planes(mean: float, std: float, low: float, span: float) -> None:
    scale = Normalisation(mean, std, mean, std)
    planes = np.random.default_rng(0).random((2, 5, 4, 3), np.float32)
    ranges = np.array([[low, low + span], [low - 1, low + 2 * span]])
    back = scale.to_planes(scale.of_planes(planes, ranges), ranges)
    # what is lost is the last digits of the largest number on the way, as a part of the range
    largest = max(abs(low), abs(mean), span, std, 1.0)
    np.testing.assert_allclose(back, planes, atol=1e-5 * largest / min(span, std) + 1e-5)


def test_planes_are_what_the_training_saw() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(900, 120, (3, 20, 30, 1)).astype(np.float32)
    scale = Normalisation.of(list(raw), [])
    seen = scale.forward(raw)
    assert seen.mean() == pytest.approx(0, abs=1e-5)
    assert seen.std() == pytest.approx(1, abs=1e-5)
    for ranges in ((0.0, 4095.0), (600.0, 1300.0)):
        planes = (raw - ranges[0]) / (ranges[1] - ranges[0])
        found = scale.of_planes(planes.astype(np.float32), np.tile(ranges, (3, 1)))
        np.testing.assert_allclose(found, seen, atol=1e-4)


def test_targets_have_a_scale_of_their_own() -> None:
    scale = Normalisation.of([np.float32([0, 2])], [np.float32([10, 30])])
    assert scale == Normalisation(1, 1, 20, 10)
    np.testing.assert_array_equal(scale.forward_target(np.float32([10, 30])), [-1, 1])
    np.testing.assert_array_equal(scale.to_planes(np.float32([[[[1]]]]), np.array([[0.0, 60.0]])), [[[[0.5]]]])


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e6])
def test_any_unit_gives_the_same_scale(factor: float) -> None:
    """Heights in metres are as good as counts of photons."""
    image = np.random.default_rng(0).random((20, 20, 1), np.float32)
    seen = Normalisation.of([image * np.float32(factor)], []).forward(image * np.float32(factor))
    np.testing.assert_allclose(seen, Normalisation.of([image], []).forward(image), atol=1e-3)


@pytest.mark.parametrize("value", [0, 7, -1e6])
def test_constant_images_have_a_scale(value: float) -> None:
    scale = Normalisation.of([np.full((4, 4, 1), value, np.float32)], [])
    assert scale.std > 0
    np.testing.assert_array_equal(scale.forward(np.full(3, value, np.float32)), 0)


def test_large_numbers_that_lie_close_together() -> None:
    low, span = 4e9, 1000.0
    scale = Normalisation(low + 500, 100, low + 500, 100)
    seen = scale.of_planes(np.float32([[[[0.5]], [[0.6]]]]), np.array([[low, low + span]]))
    np.testing.assert_allclose(seen.ravel(), [0, 1], atol=1e-4)


def test_it_survives_json() -> None:
    scale = Normalisation(**GOOD)
    assert Normalisation.from_dict(json.loads(json.dumps(scale.to_dict()))) == scale


DAMAGED = [
    7,
    "text",
    [],
    {},
    {**GOOD, "std": 0},
    {**GOOD, "std": -1},
    {**GOOD, "target_std": 0},
    {**GOOD, "mean": "much"},
    {**GOOD, "mean": None},
    {**GOOD, "mean": float("nan")},
    {**GOOD, "std": float("inf")},
    {**GOOD, "mean": 10**400},
]


@pytest.mark.parametrize("saved", DAMAGED)
def test_damaged_ones_are_refused(saved: Any) -> None:
    with pytest.raises(ValueError, match="the normalisation is damaged"):
        Normalisation.from_dict(saved)


def write(path: Path, normalisation: Any) -> str:
    torch.manual_seed(0)
    net = UNet(1, 3, 1)
    torch.nn.init.normal_(net.tail.weight, std=0.3)
    save_file(net.state_dict(), path, metadata=about_text({"step": "unet", "normalisation": normalisation}))
    return str(path)


@pytest.mark.parametrize("saved", DAMAGED[:5])
def test_weights_with_a_damaged_one_are_refused(tmp_path: Path, saved: Any) -> None:
    weights = write(tmp_path / "net.safetensors", saved)
    with pytest.raises(
        ValueError, match=r"The weights net\.safetensors cannot be used: the normalisation is damaged\."
    ):
        ndc.denoise(np.zeros((8, 8), np.uint16), "unet", weights=weights)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_intensity_range_of_the_recipe_does_not_matter(tmp_path: Path, dtype: str) -> None:
    weights = write(tmp_path / "net.safetensors", GOOD)
    image = np.random.default_rng(0).normal(900, 120, (2, 21, 30)).astype(dtype)
    how = ["image", "plane", "stack", (0, 65535), (500, 1200)]
    first, *others = (ndc.denoise(image, "unet", intensity_range=h, weights=weights) for h in how)
    assert np.abs(first.astype(float) - image).mean() > 10
    for other in others:
        np.testing.assert_allclose(other, first, atol=1 if dtype == "uint16" else 0.05)


def test_without_one_it_does(tmp_path: Path) -> None:
    weights = write(tmp_path / "net.safetensors", None)
    image = np.random.default_rng(0).normal(900, 120, (21, 30)).astype(np.float32)
    a, b = (ndc.denoise(image, "unet", intensity_range=h, weights=weights) for h in [(0, 65535), (500, 1200)])
    assert np.abs(a - b).max() > 10


def test_networks_for_unit_images_find_their_scale() -> None:
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(100, 300, 200, dtype=np.float32), (200, 1))
    faint = (ramp + rng.normal(0, 2, ramp.shape).astype(np.float32))[..., None]
    scale = Normalisation.onto_unit([faint], [])
    assert (scale.mean, scale.std) == pytest.approx((100, 200), rel=0.05)
    assert (scale.target_mean, scale.target_std) == (scale.mean, scale.std)
    faint[5, 5] = 1e6  # one hot pixel moves nothing
    assert Normalisation.onto_unit([faint], []).std == pytest.approx(scale.std, rel=0.01)


def test_no_noise_is_stronger_than_such_networks_know_it() -> None:
    noise = np.random.default_rng(0).normal(0, 7, (128, 128, 1)).astype(np.float32)
    assert 7 / Normalisation.onto_unit([noise], []).std == pytest.approx(41 / 255, rel=0.03)


def test_targets_of_unit_networks_have_their_own_scale() -> None:
    ramp = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (64, 1))[..., None]
    scale = Normalisation.onto_unit([ramp * 50], [ramp * 1000 + 7])
    assert (scale.target_mean, scale.target_std) == pytest.approx((7, 1000), rel=0.02, abs=2)
