"""DnCNN: its size, its recognition, its noise levels, and real published weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.networks import build_from
from napari_denoise_classify.core.denoise.networks.dncnn import DnCNN, recognise
from napari_denoise_classify.core.denoise.weights import read_tensors
from napari_denoise_classify.core.noise import add_gaussian, psnr


@pytest.mark.parametrize(("samples", "depth", "expected"), [(1, 17, 555_137), (1, 20, 665_921), (3, 20, 668_227)])
def test_parameters(samples: int, depth: int, expected: int) -> None:
    assert sum(p.numel() for p in DnCNN(samples, depth).parameters()) == expected


def test_a_new_network_is_the_identity() -> None:
    x = torch.rand(2, 3, 9, 9)
    assert torch.equal(DnCNN(3, 5)(x), x)


@pytest.mark.parametrize("depth", [3, 5, 17])
def test_the_halo_is_the_receptive_radius(depth: int) -> None:
    net = DnCNN(1, depth, 4)
    for p in net.parameters():
        torch.nn.init.constant_(p, 0.1)
    x = torch.zeros(1, 1, 41, 41, requires_grad=True)
    net(x)[0, 0, 20, 20].backward()
    rows = torch.nonzero(x.grad[0, 0].abs().sum(1)).ravel()
    assert rows.min() == 20 - net.halo
    assert rows.max() == 20 + net.halo


# --- recognition ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(("depth", "features"), [(3, 4), (17, 64), (20, 8)])
def test_checkpoints_are_recognised(samples: int, depth: int, features: int) -> None:
    net = DnCNN(samples, depth, features)
    torch.nn.init.normal_(net.model[-1].weight)
    built = build_from(net.state_dict(), "it")
    x = torch.rand(1, samples, 8, 8)
    assert (built.samples, built.depth, built.halo) == (samples, depth, depth)
    assert torch.equal(built(x), net(x))


def foreign() -> dict[str, tuple[str, dict[str, torch.Tensor]]]:
    good = DnCNN(1, 4, 4).state_dict()
    unknown = r"holds no network that is known here .*: its \d+ tensors begin with"
    return {
        "nothing": (unknown + " nothing", {}),
        "another network": (unknown + r" weight \[3, 3\], bias \[3\]", torch.nn.Linear(3, 3).state_dict()),
        "a key too many": (unknown, {**good, "extra": torch.zeros(1)}),
        "a missing layer": (unknown, {k: v for k, v in good.items() if not k.startswith("model.2")}),
        "a kernel of 5": (
            r"looks like a DnCNN, .* fit it: model\.0\.weight should be \[4, 1, 3, 3\], and is \[4, 1, 5, 5\]",
            {**good, "model.0.weight": torch.zeros(4, 1, 5, 5)},
        ),
        "two samples": ("is a DnCNN for images of 2 channels", DnCNN(2, 4, 4).state_dict()),
        "widths that do not fit": (
            r"looks like a DnCNN, but does not fit it: model\.2\.bias should be \[4\], and is \[5\]",
            {**good, "model.2.bias": torch.zeros(5)},
        ),
        "a number for a kernel": (unknown, {**good, "model.0.weight": torch.tensor(1.0)}),
        "too large": ("is larger than any DnCNN", {**good, "model.2.bias": torch.zeros(5000)}),
    }


@pytest.mark.parametrize("kind", foreign())
def test_foreign_checkpoints_are_refused(kind: str, tmp_path: Path) -> None:
    words, state = foreign()[kind]
    with pytest.raises(ValueError, match=f"^it {words}"):
        build_from(state, "it")
    path = tmp_path / "foreign.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"foreign\.pth {words}"):
        ndc.denoise(np.zeros((8, 8), np.uint8), "dncnn", weights=str(path))


def test_recognise_tells_the_architecture() -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in DnCNN(3, 6, 5).state_dict().items()}
    assert recognise(shapes) == {"samples": 3, "depth": 6, "features": 5}


# --- the step -------------------------------------------------------------------------------------------------------


@pytest.fixture
def net(tmp_path: Path) -> str:
    """A file of gray weights that do something."""
    torch.manual_seed(0)
    made = DnCNN(1, 3, 4)
    torch.nn.init.normal_(made.model[-1].weight, std=0.1)
    save_file(made.state_dict(), tmp_path / "net.safetensors")
    return str(tmp_path / "net.safetensors")


@pytest.mark.parametrize(("axes", "shape"), [("YX", (20, 30)), ("ZYX", (3, 20, 30)), ("SYX", (4, 20, 30))])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_shape_and_dtype_stay(net: str, axes: str, shape: tuple[int, ...], dtype: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    out = ndc.denoise(image, "dncnn", axes, weights=net)
    assert out.shape == image.shape
    assert out.dtype == image.dtype
    assert (out != image).any()


def test_a_gray_network_sees_each_colour_sample_by_itself(net: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    out = ndc.denoise(image, "dncnn", rgb=True, weights=net)
    for sample in range(3):
        np.testing.assert_array_equal(out[..., sample], ndc.denoise(image[..., sample], "dncnn", weights=net))


@pytest.mark.parametrize("sigma", [0, -5, 256, np.nan, np.inf, "much"])
def test_bad_noise_levels(sigma: object) -> None:
    with pytest.raises(ValueError, match=r"dncnn: sigma=.*a number from 0.1 to 255, or nothing"):
        ndc.denoise(np.zeros((8, 8), np.uint8), "dncnn", sigma=sigma)


@pytest.mark.parametrize("samples", [1, 3])
def test_shipped_weights_remove_noise(samples: int) -> None:
    clean = data.astronaut()[:160, 150:310]  # ships with scikit-image
    clean = clean if samples == 3 else clean[..., 1]
    noisy = np.clip(np.rint(add_gaussian(clean, 25, 0)), 0, 255).astype(np.uint8)
    out = ndc.denoise(noisy, "dncnn", rgb=samples == 3)
    assert psnr(clean, out) > psnr(clean, noisy) + 6
    assert psnr(clean, out) > psnr(clean, ndc.denoise(noisy, "gaussian", rgb=samples == 3))


# --- published weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def published(shared_weights: Path, cache: Path) -> Path:
    """The published weights as a download would have left them in the cache."""
    cache.mkdir()
    for path in shared_weights.glob("*.pth"):
        shutil.copy(path, cache)
    return cache


def set12(shared_data: Path, *numbers: int) -> list[np.ndarray]:
    paths = sorted((shared_data / "set12").glob("*.png"))
    return [iio.imread(p) for p in paths if not numbers or int(p.stem) in numbers]


@pytest.mark.slow
def test_published_dncnn_25_reaches_the_published_figure(shared_data: Path, published: Path) -> None:
    images = set12(shared_data)
    assert len(images) == 12
    scores = []
    for i, clean in enumerate(images):
        noisy = add_gaussian(clean, 25, i)
        out = ndc.denoise(noisy, "dncnn", intensity_range=(0, 255), sigma=25, weights="kair_dncnn_25")
        scores.append(psnr(clean, np.clip(np.rint(out), 0, 255)))
    assert np.mean(scores) == pytest.approx(30.44, abs=0.05)


def test_published_blind_dncnn_denoises(shared_data: Path, published: Path) -> None:
    path = published / "dncnn_gray_blind.pth"
    network = build_from(read_tensors(path), path.name)
    assert sum(p.numel() for p in network.parameters()) == 665_921
    (clean,) = set12(shared_data, 3)
    noisy = add_gaussian(clean, 25, 0)
    how = {"intensity_range": (0, 255), "weights": "kair_dncnn_gray_blind"}
    assert psnr(clean, ndc.denoise(noisy, "dncnn", **how)) > psnr(clean, noisy) + 8


def test_weights_of_one_level_see_the_image_rescaled_to_it(shared_data: Path, published: Path) -> None:
    noisy = add_gaussian(set12(shared_data, 1)[0][:100, :100], 50, 0)
    twice = ndc.denoise(noisy, "dncnn", intensity_range=(0, 255), sigma=50, weights="kair_dncnn_25")
    known = ndc.denoise(noisy, "dncnn", intensity_range=(0, 510), sigma=25, weights="kair_dncnn_25")
    np.testing.assert_allclose(twice, known, atol=1e-2)
    # a file with the same content is the same weights, whatever its name
    renamed = published / "renamed.pth"
    shutil.copy(published / "dncnn_25.pth", renamed)
    same = ndc.denoise(noisy, "dncnn", intensity_range=(0, 255), sigma=50, weights=str(renamed))
    np.testing.assert_array_equal(same, twice)
