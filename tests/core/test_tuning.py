"""How a network is run: measured once where it pays, remembered, and never trusted blindly."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_denoise_classify.core import tuning
from napari_denoise_classify.core.denoise.networks.dncnn import DnCNN
from napari_denoise_classify.core.device import PRECISION_VARIABLE, precision, processors
from napari_denoise_classify.core.files import CACHE_VARIABLE
from napari_denoise_classify.core.inference import predict_iter
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.tuning import CANDIDATES, FILE, Tuning, tune_iter

CPU = torch.device("cpu")
LARGE = tuning.MEASURE_FROM


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: Clock.now))
    return tmp_path


class Clock:
    """A network that takes a stated time for each pixel, and more outside the cache; it counts its calls.

    Its time is the only one that passes: what is chosen must not depend on how busy the machine is.
    """

    now = 0.0

    def __init__(self, cache: int = 10**9, error: float = 0.0, gain: float = 3.0) -> None:
        self.calls, self.cache, self.error, self.gain = 0, cache, error, gain

    def __call__(self, x: torch.Tensor, fast: bool) -> torch.Tensor:
        self.calls += 1
        seconds = x.numel() * 2e-8 * (4 if x.numel() > self.cache else 1)
        Clock.now += seconds / self.gain if fast else seconds
        smooth = torch.nn.functional.avg_pool2d(x, 9, 1, 4)
        return smooth + self.error if fast else smooth


def tune(call: Clock, pixels: int = LARGE, net: torch.nn.Module | None = None) -> Tuning:
    work = tune_iter(net or DnCNN(1, 3, 2), call, CPU, samples=1, halo=60, multiple=1, pixels=pixels, backend="a clock")
    return run(work)


def test_small_runs_do_not_wait_for_a_measurement(folder: Path) -> None:
    clock = Clock()
    assert tune(clock, tuning.FAST_FROM - 1) == Tuning()
    assert clock.calls == 0
    assert not (folder / FILE).exists()


@pytest.mark.parametrize(("cache", "tile"), [(10**9, 512), (150_000, 256)])
def test_tiles_fit_the_cache(cache: int, tile: int) -> None:
    assert tune(Clock(cache)).tile == tile


def test_measurements_are_remembered_for_each_network(folder: Path) -> None:
    torch.manual_seed(0)
    net, clock = DnCNN(1, 3, 2), Clock()
    first = tune(clock, net=net)
    count = clock.calls
    assert count > 0
    assert tune(clock, net=net) == first
    assert clock.calls == count
    tune(clock, net=DnCNN(1, 4, 2))
    assert clock.calls > count
    assert len(json.loads((folder / FILE).read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', "\x00"])
def test_damaged_measurements_are_made_again(folder: Path, content: str) -> None:
    (folder / FILE).write_text(content)
    assert tune(Clock()).tile in CANDIDATES


@pytest.mark.parametrize("value", [{"tile": 10**9}, {"tile": "512"}, {"tile": 512.5}, 3, {"other": 1}])
def test_impossible_measurements_are_made_again(folder: Path, value: object) -> None:
    net, clock = DnCNN(1, 3, 2), Clock()
    tune(clock, net=net)
    (key,) = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({key: value}))
    count = clock.calls
    assert tune(clock, net=net).tile in CANDIDATES
    assert clock.calls > count


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "folder"))
    assert tune(Clock()).tile in CANDIDATES


@pytest.mark.parametrize(
    ("word", "error", "gain", "fast"),
    [
        ("auto", 0.0, 3.0, True),
        ("auto", 0.0, 0.5, False),  # no faster
        ("auto", 0.5, 3.0, False),  # too much is lost
        ("fast", 0.0, 0.5, True),
        ("fast", 0.5, 3.0, False),
        ("exact", 0.0, 3.0, False),
    ],
)
def test_bfloat16_is_used_where_it_pays_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, word: str, error: float, gain: float, fast: bool
) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, word)
    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: True)
    assert tune(Clock(error=error, gain=gain)).fast is fast


@pytest.mark.parametrize(("word", "fast"), [("auto", False), ("fast", True)])
def test_small_runs_are_fast_only_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, word: str, fast: bool
) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, word)
    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: True)
    clock = Clock()
    assert tune(clock, tuning.FAST_FROM - 1).fast is fast
    assert (clock.calls > 0) is fast


def test_a_megapixel_is_worth_bfloat16_but_no_measurement_of_tiles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: True)
    assert tune(Clock(cache=150_000), tuning.FAST_FROM) == Tuning(fast=True)
    (known,) = json.loads((folder / FILE).read_text()).values()
    assert "tile" not in known


def test_networks_that_enlarge_are_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enlarging(Clock):
        def __call__(self, x: torch.Tensor, fast: bool) -> torch.Tensor:
            return super().__call__(x, fast).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: True)
    assert tune(Enlarging()).fast
    assert not tune(Enlarging(error=0.5)).fast


@pytest.mark.parametrize("word", ["auto", "fast"])
def test_processors_without_bfloat16_stay_exact(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, word)
    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: False)
    clock = Clock()
    assert not tune(clock, 100).fast
    assert clock.calls == 0


def test_bfloat16_is_close_and_is_not_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = DnCNN(1, 4, 8)
    torch.nn.init.normal_(net.model[-1].weight, std=0.1)
    planes = np.random.default_rng(0).random((1, 64, 64, 1), np.float32)
    exact = run(predict_iter(net, planes, net.halo))
    monkeypatch.setenv(PRECISION_VARIABLE, "fast")
    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: True)
    monkeypatch.setattr(tuning, "LOSS", 100.0)
    fast = run(predict_iter(net, planes, net.halo))
    assert fast.dtype == np.float32
    assert 0 < np.abs(fast - exact).max() < 0.1


def test_in_bfloat16_noise_is_taken_from_what_the_network_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    class AllIsNoise(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = torch.nn.Conv2d(1, 1, 1, bias=False)
            torch.nn.init.ones_(self.same.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - self.same(x)

    monkeypatch.setenv(PRECISION_VARIABLE, "fast")
    monkeypatch.setattr(tuning, "prefers_bfloat16", lambda device: True)
    monkeypatch.setattr(tuning, "LOSS", 100.0)
    planes = np.random.default_rng(0).random((1, 64, 64, 1), np.float32)
    assert not run(predict_iter(AllIsNoise().eval(), planes, 0)).any()


def test_an_unknown_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "sloppy")
    with pytest.raises(ValueError, match="'sloppy' is not allowed: give exact, fast or auto"):
        precision()


def test_threads_are_no_more_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    most = processors()
    assert most >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert processors() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert processors() == most
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert processors() == 1
    finally:
        torch.set_num_threads(before)
