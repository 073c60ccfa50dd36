"""Weights: the registry, downloads, and files that are not what they should be."""

from __future__ import annotations

import functools
import hashlib
import pickle
import socket
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.networks import build_from
from napari_denoise_classify.core.denoise.networks.dncnn import DnCNN
from napari_denoise_classify.core.denoise.weights import (
    SHIPPED,
    Weights,
    about_text,
    locate,
    names,
    read_about,
    read_tensors,
    registry,
    resolve,
    sha256_of,
)
from napari_denoise_classify.core.files import cache_folder


class Quiet(SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """What the server sends as ``net.safetensors``."""
    folder = tmp_path / "served"
    folder.mkdir()
    save_file(DnCNN(1, 3, 4).state_dict(), folder / "net.safetensors")
    return (folder / "net.safetensors").read_bytes()


@pytest.fixture
def address(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(Quiet, "requests", 0)
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/net.safetensors"
        server.shutdown()
        thread.join()


def entry(url: str, sha256: str) -> Weights:
    return Weights("net", "dncnn", 1, (0, 55), sha256, 1000, "MIT", "net.safetensors", url)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- downloads ------------------------------------------------------------------------------------------------------


def test_a_download_is_checked_kept_and_not_repeated(address: str, content: bytes, cache: Path) -> None:
    wanted = entry(address, sha(content))
    assert locate(wanted) == wanted.path == cache / "net.safetensors"
    assert wanted.path.read_bytes() == content
    locate(wanted)
    assert Quiet.requests == 1


def test_a_damaged_file_in_the_cache_is_replaced(address: str, content: bytes, cache: Path) -> None:
    cache.mkdir()
    (cache / "net.safetensors").write_bytes(content[:-1])
    assert locate(entry(address, sha(content))).read_bytes() == content


def test_another_file_than_expected_is_not_kept(address: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"not the expected file .* nothing was kept"):
        locate(entry(address, "0" * 64))
    assert list(cache.rglob("*.*")) == []


def test_no_server_is_a_connection_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net.safetensors"
        with pytest.raises(ConnectionError, match=r"could not be downloaded from http.* weights='auto'"):
            locate(entry(url, "0" * 64))
    assert list(cache.rglob("*.*")) == []


def test_a_missing_page_is_a_connection_error(address: str, cache: Path) -> None:
    with pytest.raises(ConnectionError, match="could not be downloaded"):
        locate(entry(address + ".gone", "0" * 64))
    assert list(cache.rglob("*.*")) == []


def test_the_environment_moves_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("NAPARI_DENOISE_CLASSIFY_CACHE")
    assert cache_folder() != cache


# --- registry -------------------------------------------------------------------------------------------------------


def test_the_registry_is_complete() -> None:
    assert registry()["kair_dncnn_25"].sha256.startswith("0451a70de9b672ae")
    for name, known in registry().items():
        assert name == known.name
        assert len(known.sha256) == 64
        assert known.size > 0
        assert known.licence
        assert 0 <= known.sigma[0] <= known.sigma[1]
        assert known.samples in (1, 3)
        assert known.step in {spec.id for spec in ndc.steps("denoise")}
        assert known.upscale in (1, 2)
        assert not known.url or known.url.startswith("https://")
    assert names("dncnn")[0] == "auto"


@pytest.mark.parametrize("samples", [1, 3])
def test_auto_is_shipped_whole_and_of_the_right_kind(samples: int) -> None:
    shipped = resolve("dncnn", "auto", samples)
    assert not shipped.url
    assert locate(shipped).parent == SHIPPED
    assert shipped.path.stat().st_size == shipped.size
    network = build_from(read_tensors(shipped.path), shipped.name)
    assert network.samples == shipped.samples == samples


@pytest.mark.parametrize("name", [name for name, known in registry().items() if not known.url])
def test_shipped_files_are_what_the_registry_tells(name: str) -> None:
    known = registry()[name]
    assert sha256_of(known.path) == known.sha256
    assert known.path.stat().st_size == known.size
    network = build_from(read_tensors(known.path), name)
    assert (network.step, network.samples, network.upscale) == (known.step, known.samples, known.upscale)
    assert known.training["command"]


def test_names_are_of_the_step() -> None:
    for step in ("dncnn", "drunet", "restormer", "irunet", "unet"):
        assert names(step) == ["auto", *(n for n, e in registry().items() if e.step == step)]
    assert {e.path.name for e in registry().values() if not e.url} == {
        p.name for p in SHIPPED.iterdir() if p.suffix == ".safetensors"
    }


def test_steps_without_weights_of_their_own_say_so() -> None:
    for step, upscale, words in (("unet", 2, "no weights that enlarge for gray images"), ("nothing", 1, "no weights")):
        with pytest.raises(ValueError, match=rf"{step}: there are {words}.*choose a file"):
            resolve(step, "auto", 1, upscale)


@pytest.mark.parametrize("sigma", [None, 7, [1], ["a", "b"], [5, 1], [10**400, 10**400], [-1, 3], {"a": 1}])
def test_odd_noise_levels_in_a_file_are_any(tmp_path: Path, sigma: Any) -> None:
    path = tmp_path / "net.safetensors"
    save_file(DnCNN(1, 3, 4).state_dict(), path, metadata=about_text({"sigma": sigma}))
    assert resolve("dncnn", str(path), 1).sigma == (0, float("inf"))
    save_file(DnCNN(1, 3, 4).state_dict(), path, metadata=about_text({"sigma": [5, 20]}))
    assert resolve("dncnn", str(path), 1).sigma == (5, 20)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"a": 1'])
def test_odd_headers_are_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"napari_denoise_classify": text})
    assert read_about(path) == {}


def test_a_damaged_shipped_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"are damaged: their SHA-256 differs"):
        locate(Weights("net", "dncnn", 1, (0, 55), "0" * 64, 7, "MIT", str(path)))


@pytest.mark.parametrize("weights", ["nonsense", "", ".", "none.pth"])
def test_unknown_weights(weights: str) -> None:
    with pytest.raises(ValueError, match=r"dncnn: weights=.* the known names are auto, "):
        ndc.denoise(np.zeros((8, 8), np.uint8), "dncnn", weights=weights)


def _rgb_dncnns() -> list[str]:
    return [n for n, e in registry().items() if e.samples == 3 and e.step == "dncnn"]


def test_rgb_weights_do_not_fit_gray_images(tmp_path: Path) -> None:
    save_file(DnCNN(3, 3, 4).state_dict(), tmp_path / "rgb.safetensors")
    for weights in [str(tmp_path / "rgb.safetensors"), *_rgb_dncnns()]:
        with pytest.raises(ValueError, match=r"dncnn: weights=.* for RGB images, and this image is gray"):
            ndc.denoise(np.zeros((8, 8), np.uint8), "dncnn", weights=weights)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("key", ["", "params", "state_dict"])
def test_kinds_of_files_that_are_read(tmp_path: Path, suffix: str, key: str) -> None:
    state = DnCNN(1, 3, 4).state_dict()
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({key: state} if key else state, path)
    loaded = read_tensors(path)
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[k], state[k]) for k in state)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("how", ["pickle", "torch", "torch legacy"])
def test_code_in_a_file_does_not_run(tmp_path: Path, suffix: str, how: str) -> None:
    proof, path = tmp_path / "it ran", tmp_path / f"net{suffix}"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"model.0.weight": Payload(proof)}))
    else:
        torch.save({"model.0.weight": Payload(proof)}, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ValueError, match=rf"The weights net{suffix} cannot be read"):
        ndc.denoise(np.zeros((8, 8), np.uint8), "dncnn", weights=str(path))
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 8, 100, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"net{suffix}"
    state = DnCNN(1, 3, 4).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match="cannot be read"):
        read_tensors(path)


@pytest.mark.parametrize("loaded", [[1, 2], {"a": 1}, {"params": {"a": "text"}}, torch.zeros(3)])
def test_files_without_a_state_dict(tmp_path: Path, loaded: Any) -> None:
    torch.save(loaded, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"hold no state dict"):
        read_tensors(tmp_path / "net.pth")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    image = np.random.default_rng(0).random((16, 16), np.float32)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = DnCNN(1, 3, 4)
        torch.nn.init.normal_(net.model[-1].weight)
        save_file(net.state_dict(), path)
        results.append(ndc.denoise(image, "dncnn", weights=str(path)))
        assert recorded_sha(path) == sha256_of(path)
    assert np.abs(results[0] - results[1]).max() > 1e-3


def recorded_sha(path: Path) -> str:
    return ndc.Recipe([("dncnn", {"weights": str(path)})]).record()["details"][0]["sha256"]
