"""Compiled networks compute the same, share nothing between threads, and give their memory back."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from napari_denoise_classify.core import compiled as module
from napari_denoise_classify.core.compiled import compiled, forget
from napari_denoise_classify.core.denoise.networks import build
from napari_denoise_classify.core.inference import predict_iter
from napari_denoise_classify.core.progress import run

pytest.importorskip("openvino")

SMALL: dict[str, dict[str, Any]] = {
    "dncnn": {"depth": 4, "features": 8},
    "unet": {"features": 4, "levels": 2},
    "irunet": {"features": 4},
    "restormer": {"dim": 8, "num_blocks": (1, 1, 1, 1), "heads": (1, 2, 2, 4)},
    "drunet": {"nc": (4, 4, 8, 8), "nb": 1},
}


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    net = build(name, **SMALL[name]).eval()
    for p in net.parameters() if name != "restormer" else ():  # whose attention such weights would make chaotic
        torch.nn.init.normal_(p, std=0.2)
    return net


def told(name: str, level: float) -> tuple[torch.Tensor, ...]:
    return (torch.tensor([level]),) if name == "drunet" else ()


@pytest.mark.parametrize("name", SMALL)
def test_the_result_is_that_of_the_network(name: str) -> None:
    net = network(name)
    fast = compiled(net, (torch.zeros(1, net.samples, 64, 64), *told(name, 0.1)))
    assert fast is not None
    for shape, level in (((2, net.samples, 48, 32), 0.3), ((1, net.samples, 16, 80), 0.05)):
        x = torch.rand(*shape)
        with torch.inference_mode():
            expected = net(x, *told(name, level))
        torch.testing.assert_close(fast(x, *told(name, level)), expected, atol=1e-5, rtol=1e-5)
    fast.close()


@pytest.mark.parametrize("name", ["dncnn", "unet", "irunet", "drunet"])
def test_large_runs_are_compiled_and_equal_small_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_denoise_classify.core import inference

    net = network(name)
    planes = np.random.default_rng(0).random((2, 75, 90, net.samples), np.float32)
    options = {"multiple": net.multiple, "level": 0.1 if name == "drunet" else None, "tile": 256}
    plain = run(predict_iter(net, planes, net.halo, **options))
    assert net not in module._models
    monkeypatch.setattr(inference, "_COMPILE_FROM", 1)
    fast = run(predict_iter(net, planes, net.halo, **options))
    assert net in module._models
    np.testing.assert_allclose(fast, plain, atol=1e-4 * np.abs(plain).max())


def test_threads_use_one_network_at_once() -> None:
    net = network("dncnn")
    images = [torch.rand(1, 1, 60 + 3 * i, 50) for i in range(8)]
    with torch.inference_mode():
        expected = [net(x) for x in images]

    def work(x: torch.Tensor) -> torch.Tensor:
        mine = compiled(net, (torch.zeros(1, 1, 64, 64),))
        assert mine is not None
        result = mine(x)
        mine.close()
        return result

    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(work, images), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert module._models[net][False].users == 0


def test_a_network_that_is_gone_is_forgotten() -> None:
    net = network("dncnn")
    one = compiled(net, (torch.zeros(1, 1, 64, 64),))
    assert one is not None
    assert net in module._models
    forget()
    assert net not in module._models
    x = torch.rand(1, 1, 20, 20)
    with torch.inference_mode():
        torch.testing.assert_close(one(x), net(x), atol=1e-5, rtol=1e-5)  # what is in use goes on
    one.close()


def test_what_openvino_cannot_do_is_left_to_pytorch() -> None:

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no graph")

    assert compiled(Broken(), (torch.zeros(1, 1, 8, 8),)) is None


def test_without_openvino_everything_runs() -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "import numpy as np\n"
        "from napari_denoise_classify.core import inference\n"
        "from napari_denoise_classify.core.progress import run\n"
        "from napari_denoise_classify.core.denoise.networks import build\n"
        "inference._COMPILE_FROM = 1\n"
        "net = build('dncnn', depth=3, features=4)\n"
        "print(run(inference.predict_iter(net, np.ones((1, 30, 30, 1), 'f'), 3)).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 30, 30, 1)"


def test_released_memory_comes_back() -> None:
    code = (
        "import numpy as np, napari_denoise_classify as ndc\n"
        "from napari_denoise_classify.core import inference\n"
        "def held():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) / 1024\n"
        "small, large = np.zeros((40, 40), 'f'), np.random.default_rng(0).random((420, 420)).astype('f')\n"
        "inference._COMPILE_FROM = 1\n"
        "ndc.denoise(small, 'irunet'); before = held()\n"
        "ndc.denoise(large, 'irunet'); after = held()\n"
        "ndc.release_memory(); released = held()\n"
        "print(before, after, released)\n"
        "again = ndc.denoise(large, 'irunet')\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    before, after, released = map(float, done.stdout.split())
    assert after < before * 1.1
    assert released <= after
