"""Every architecture: its size, its receptive radius, its recognition, and files that are not what they claim."""

from __future__ import annotations

import json
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from skimage import data

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.networks import build, build_from
from napari_denoise_classify.core.denoise.networks.dncnn import DnCNN
from napari_denoise_classify.core.denoise.weights import read_tensors
from napari_denoise_classify.core.inference import predict_iter
from napari_denoise_classify.core.noise import psnr
from napari_denoise_classify.core.progress import run

OFFICIAL = {
    "dim": 48,
    "num_blocks": (4, 6, 6, 8),
    "num_refinement_blocks": 4,
    "heads": (1, 2, 4, 8),
    "ffn_expansion_factor": 2.66,
    "bias": False,
    "LayerNorm_type": "BiasFree",
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "dncnn": ("dncnn", {"depth": 4, "features": 5}),
    "dncnn rgb": ("dncnn", {"samples": 3, "depth": 3, "features": 4}),
    "unet": ("unet", {"features": 3, "levels": 2}),
    "unet rgb": ("unet", {"samples": 3, "features": 2, "levels": 1}),
    "unet twice": ("unet", {"features": 2, "levels": 3, "upscale": 2}),
    "unet rgb twice": ("unet", {"samples": 3, "features": 2, "levels": 1, "upscale": 2}),
    "irunet": ("irunet", {"features": 3}),
    "irunet gray": ("irunet", {"samples": 1, "features": 2}),
    "restormer": ("restormer", {"dim": 4, "num_blocks": (1, 2, 1, 1), "heads": (1, 2, 2, 4)}),
    "restormer gray": ("restormer", {"samples": 1, "dim": 4, "ffn_expansion_factor": 2.66, "bias": True}),
    "drunet": ("drunet", {"nc": (2, 3, 4, 5), "nb": 2}),
    "drunet rgb": ("drunet", {"samples": 3, "nc": (2, 2, 2, 2), "nb": 1}),
}


def random(name: str) -> torch.nn.Module:
    """Build a small network whose weights all matter."""
    torch.manual_seed(0)
    architecture, arguments = SMALL[name]
    net = build(architecture, **arguments).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net


def call(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return net(x, 0.1) if net.step == "drunet" else net(x)


def count(architecture: str, **arguments: Any) -> tuple[int, int]:
    """Count parameters and tensors, without their memory."""
    build(architecture) if architecture == "restormer" else None  # imports what must not be imported on "meta"
    with torch.device("meta"):
        state = build(architecture, **arguments).state_dict()
    return sum(t.numel() for t in state.values()), len(state)


@pytest.mark.parametrize(
    ("architecture", "arguments", "expected"),
    [
        ("irunet", {}, 123_379),
        ("dncnn", {}, 555_137),
        ("restormer", {"samples": 1, **OFFICIAL}, 26_109_076),
        ("restormer", {"samples": 3, **OFFICIAL}, 26_111_668),
        ("drunet", {"samples": 1}, 32_638_656),
    ],
)
def test_parameters_are_those_of_the_papers(architecture: str, arguments: dict[str, Any], expected: int) -> None:
    parameters, tensors = count(architecture, **arguments)
    assert parameters == expected
    assert tensors == {"restormer": 406, "drunet": 64, "dncnn": 34}.get(architecture, tensors)


# --- recognition ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_are_recognised_by_their_content(tmp_path: Path, name: str, suffix: str) -> None:
    net, path = random(name), tmp_path / f"any name{suffix}"
    if suffix == ".pth":
        torch.save({"params" if "rgb" in name else "state_dict": net.state_dict()}, path)
    else:
        save_file(net.state_dict(), path)
    found = build_from(read_tensors(path), "It").eval()
    assert (found.step, found.samples, found.upscale) == (net.step, net.samples, net.upscale)
    assert (found.halo, found.multiple) == (net.halo, net.multiple)
    x = torch.rand(1, net.samples, 32, 48)
    assert torch.equal(call(found, x), call(net, x))


def test_the_official_restormer_is_recognised_from_its_shapes() -> None:
    from napari_denoise_classify.core.denoise.networks.restormer import recognise

    build("restormer")
    with torch.device("meta"):
        state = build("restormer", samples=3, **OFFICIAL).state_dict()
        arguments = recognise({key: tuple(t.shape) for key, t in state.items()})
        assert arguments is not None
        again = build("restormer", **arguments).state_dict()
    assert {key: t.shape for key, t in again.items()} == {key: t.shape for key, t in state.items()}
    assert {key: arguments[key] for key in OFFICIAL if key != "ffn_expansion_factor"} == {
        key: value for key, value in OFFICIAL.items() if key != "ffn_expansion_factor"
    }


@pytest.mark.parametrize("architecture", ["dncnn", "unet", "irunet", "restormer", "drunet"])
@pytest.mark.parametrize("how", ["missing", "extra", "odd", "scalar", "empty"])
def test_checkpoints_that_nearly_fit_are_refused(architecture: str, how: str) -> None:
    state = dict(random(architecture).state_dict())
    keys = sorted(state)
    for key in (keys[0], keys[len(keys) // 2], keys[-1]):
        changed = dict(state)
        if how == "missing":
            del changed[key]
        elif how == "extra":
            changed[key + ".more"] = torch.zeros(2)
        elif how == "odd":
            changed[key] = torch.zeros(*(n + 1 for n in state[key].shape))
        elif how == "scalar":
            changed[key] = torch.tensor(1.0)
        else:
            changed[key] = torch.zeros(0, *state[key].shape[1:])
        with pytest.raises(ValueError, match=r"^It (holds no network|looks like|is a |is larger)[^\n]+\.$"):
            build_from(changed, "It")


@pytest.mark.parametrize("channels", [2, 4])
def test_networks_for_other_channels_are_refused(channels: int) -> None:
    for architecture, arguments in (("dncnn", {"depth": 3, "features": 4}), ("irunet", {"features": 2})):
        state = build(architecture, samples=channels, **arguments).state_dict()
        with pytest.raises(ValueError, match=rf"for images of {channels} channels"):
            build_from(state, "It")


@pytest.mark.parametrize(
    ("name", "step", "title"), [("irunet", "dncnn", "IRUNet"), ("dncnn", "unet", "DnCNN"), ("unet", "drunet", "U-Net")]
)
def test_a_file_for_another_step_is_named(tmp_path: Path, name: str, step: str, title: str) -> None:
    save_file(random(name).state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=rf"net\.safetensors holds the network {title}.*choose the method {title}"):
        ndc.denoise(np.zeros((32, 32, 3), np.uint8), step, rgb=True, weights=str(tmp_path / "net.safetensors"))


# --- forged files ---------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    torch.save(random("unet").state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])


def with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"head.weight": Payload(path.parent / "it ran")}))


def of_numbers(path: Path) -> None:
    torch.save({"head.weight": 3}, path)


def with_numbers_for_names(path: Path) -> None:
    torch.save({**random("irunet").state_dict(), 3: torch.zeros(1)}, path)


def without_memory(path: Path) -> None:
    torch.save(DnCNN(1, 3, 4).to("meta").state_dict(), path)


def sparse(path: Path) -> None:
    state = DnCNN(1, 3, 4).state_dict()
    torch.save({key: tensor.to_sparse() for key, tensor in state.items()}, path)


def stretched(path: Path) -> None:
    """Write a few bytes that claim to be a DnCNN of 4000 features: 9 GB."""
    shapes = {key: t.shape for key, t in DnCNN(1, 17, 1).state_dict().items()}
    state = {key: torch.zeros(1).expand(*(4000 if n == 1 else n for n in s)) for key, s in shapes.items()}
    state["model.0.weight"], state["model.32.weight"] = (
        torch.zeros(1).expand(4000, 1, 3, 3),
        torch.zeros(1).expand(1, 4000, 3, 3),
    )
    state["model.32.bias"] = torch.zeros(1)
    torch.save(state, path)


@pytest.mark.parametrize(
    "make", [empty, cut_short, with_code, of_numbers, with_numbers_for_names, without_memory, sparse, stretched]
)
@pytest.mark.parametrize("step", ["unet", "irunet"])
def test_forged_files_are_refused_in_a_sentence(tmp_path: Path, make: Callable[[Path], None], step: str) -> None:
    path = tmp_path / "net.pth"
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"net\.pth (cannot be read|hold)[^\n]+\.$"):
        ndc.denoise(np.zeros((32, 32, 3), np.uint8), step, rgb=True, weights=str(path))
    assert not (tmp_path / "it ran").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_a_header_of_huge_shapes_is_refused_without_their_memory(tmp_path: Path) -> None:
    """Empty tensors take no bytes in a file, whatever the other sides of their shapes are."""
    shapes = {key: list(t.shape) for key, t in DnCNN(1, 17, 1).state_dict().items()}
    for key, shape in shapes.items():
        shapes[key] = [4000, 4000, 0, 3] if len(shape) == 4 else [0]
    shapes["model.0.weight"] = [4000, 1, 0, 3]
    header = json.dumps({k: {"dtype": "F32", "shape": s, "data_offsets": [0, 0]} for k, s in shapes.items()}).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="some of its 34 tensors are empty"):
        ndc.denoise(np.zeros((32, 32), np.uint8), "dncnn", weights=str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_only_the_first_tensor_is_huge() -> None:
    """The shapes of one tensor decide on the network that is built: it must not be built to find that out."""
    state = dict(DnCNN(1, 17, 1).state_dict())
    state["model.0.weight"] = torch.zeros(1).expand(4000, 1, 3, 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="looks like a DnCNN, but does not fit it"):
        build_from(state, "It")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


# --- receptive radius -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("dncnn", {"depth": 5, "features": 2}),
        *(("unet", {"features": 2, "levels": n, "upscale": k}) for n in (1, 2, 3) for k in (1, 2)),
        ("irunet", {"samples": 1, "features": 2}),
    ],
)
def test_what_a_pixel_depends_on_lies_within_the_halo(architecture: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = build(architecture, **arguments).eval()
    for p in net.parameters():
        torch.nn.init.uniform_(p, 0.01, 0.1)  # nothing cancels, nothing is cut off by a ReLU
    side = -(-(2 * net.halo + 40) // net.multiple) * net.multiple
    middle, k = side // 2 // net.multiple * net.multiple, net.upscale
    reach = 0  # beyond the edges of the cell of the coarsest grid, on which tiles end
    for offset in (0, net.multiple - 1):  # both ends of the cell
        x = torch.rand(1, net.samples, side, side, requires_grad=True)
        net(x.double().float())[0, 0, (middle + offset) * k, (middle + offset) * k].backward()
        lines = torch.nonzero(x.grad[0].abs().sum((0, 1))).ravel()
        assert lines.min() > 0
        assert lines.max() < side - 1
        reach = max(reach, middle - int(lines.min()), int(lines.max()) - (middle + net.multiple - 1))
    assert reach <= net.halo < reach + net.multiple


@settings(max_examples=12)
@given(
    name=st.sampled_from(["unet", "unet rgb", "unet twice", "unet rgb twice", "dncnn", "dncnn rgb"]),
    n=st.integers(1, 3),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(1, 40),
)
def test_tiles_change_nothing(name: str, n: int, height: int, width: int, tile: int) -> None:
    net = random(name)
    planes = np.random.default_rng(0).random((n, height, width, net.samples), np.float32)
    options = {"multiple": net.multiple, "upscale": net.upscale}
    tiled = run(predict_iter(net, planes, net.halo, tile=max(tile, 12), **options))
    padding = ((0, 0), (0, -height % net.multiple), (0, -width % net.multiple), (0, 0))
    whole = call(net, torch.from_numpy(np.pad(planes, padding, mode="symmetric")).permute(0, 3, 1, 2))
    expected = whole.permute(0, 2, 3, 1).numpy()[:, : height * net.upscale, : width * net.upscale]
    assert tiled.shape == (n, height * net.upscale, width * net.upscale, net.samples)
    np.testing.assert_allclose(tiled, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_tiles_change_nothing_for_irunet() -> None:
    net = random("irunet")
    planes = np.random.default_rng(0).random((1, 300, 21, 3), np.float32)
    results = [run(predict_iter(net, planes, net.halo, multiple=16, tile=tile)) for tile in (32, 512)]
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.parametrize("network", ["dncnn", "irunet", "restormer"])
def test_shipped_networks_for_colour_use_it_and_keep_faint_texture(network: str) -> None:
    # Colour shared by the samples tells structure from noise: a network for one sample at a time knows less.
    clean = data.immunohistochemistry()[200:296, 200:296].astype(np.float32)
    rng = np.random.default_rng(0)

    def gain(noisy: np.ndarray, denoised: np.ndarray) -> float:
        return psnr(clean, np.clip(denoised, 0, 255), 255) - psnr(clean, noisy, 255)

    noisy = clean + rng.normal(0, 25, clean.shape).astype(np.float32)
    colour = gain(noisy, ndc.denoise(noisy, network, rgb=True, intensity_range=(0, 255)))
    planes = [ndc.denoise(noisy[..., k].copy(), network, intensity_range=(0, 255)) for k in range(3)]
    assert colour > gain(noisy, np.stack(planes, axis=-1)) + 0.5
    faint = clean + rng.normal(0, 10, clean.shape).astype(np.float32)
    assert gain(faint, ndc.denoise(faint, network, rgb=True, intensity_range=(0, 255))) > 3
