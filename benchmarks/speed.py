"""How fast and how large: this program beside what a user would run instead, as ratios measured in one run.

    python benchmarks/speed.py                          # all rows, as a Markdown table
    python benchmarks/speed.py --rows dncnn unet --repeats 3
    python benchmarks/speed.py --write docs/speed_table.md
    python benchmarks/speed.py --save benchmarks/speed_baseline.json
    python benchmarks/speed.py --compare benchmarks/speed_baseline.json --slack 0.5

Each row runs both programs in turn, ``--repeats`` times after a first run that does not count, and prints the medians
and the ratio of them. Memory is the peak of the second run in a process of its own, above what it held before that
run. ``--compare`` ends with exit code 1 where a ratio is below ``slack`` times the one saved: it is meant for a machine
that is not busy, and has no place among the tests. Rows whose other program is not installed are left out:
``pip install bm3d careamics``.

Networks and images are random or synthetic (seed 0): time does not depend on them. Rows are exact (float32) if not said
otherwise, whatever the processor can.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.networks import build
from napari_denoise_classify.core.denoise.neural import open_network
from napari_denoise_classify.core.device import PRECISION_VARIABLE, best_device, prefers_bfloat16, processors
from napari_denoise_classify.core.inference import predict_iter
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.tuning import processor_name

SIDE = 1024
LEVEL = 0.1


class Pair(NamedTuple):
    """Two programs for one piece of work; they return the result as (Y, X, S)."""

    ours: Callable[[], np.ndarray]
    theirs: Callable[[], np.ndarray]


def image(samples: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).random((1, side, side, samples), np.float32)


def whole(forward: Callable[[torch.Tensor], torch.Tensor], planes: np.ndarray) -> np.ndarray:
    """One plain call on the whole image, as a script would do it."""
    with torch.inference_mode():
        # A gray plane has room for both layouts in its strides: state PyTorch's usual one, as image[None, None] would.
        x = torch.from_numpy(planes).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        return forward(x)[0].permute(1, 2, 0).numpy()


def tiled(network: torch.nn.Module, planes: np.ndarray, level: float | None = None) -> np.ndarray:
    work = predict_iter(network, planes, network.halo, multiple=network.multiple, blend=not network.exact, level=level)
    return run(work)[0]


# --- the rows -------------------------------------------------------------------------------------------------------


def fast(make: Callable[[], Pair]) -> Pair:
    """The same in bfloat16, where the processor has it."""
    if not prefers_bfloat16(best_device()):
        raise ImportError("this processor does not compute in bfloat16")
    ours, theirs = make()

    def ours_fast() -> np.ndarray:
        os.environ[PRECISION_VARIABLE] = "fast"
        try:
            return ours()
        finally:
            os.environ[PRECISION_VARIABLE] = "exact"

    return Pair(ours_fast, theirs)


def dncnn() -> Pair:
    """DnCNN, beside deepinv's on the whole image with the same weights."""
    import deepinv

    ours = open_network("dncnn", "auto", 1)[0].network
    theirs = deepinv.models.DnCNN(1, 1, depth=ours.depth, bias=True, nf=64, pretrained=None).eval()
    mine = [layer for layer in ours.model if isinstance(layer, torch.nn.Conv2d)]
    other = [layer for layer in theirs.modules() if isinstance(layer, torch.nn.Conv2d)]
    order = [theirs.in_conv, *theirs.conv_list, theirs.out_conv]
    assert len(mine) == len(other) == len(order)
    with torch.no_grad():
        for a, b in zip(mine, order, strict=True):
            sign = -1 if b is theirs.out_conv else 1  # ours predicts the noise, theirs what is to be added
            b.weight.copy_(sign * a.weight)
            b.bias.copy_(sign * a.bias)
    planes = image(1)

    return Pair(lambda: tiled(ours, planes), lambda: whole(lambda x: theirs(x, LEVEL), planes))


def shipped(step: str, samples: int) -> Pair:
    network = open_network(step, "auto", samples)[0].network
    plain = open_copy(network, step, samples)
    planes = image(samples)
    return Pair(lambda: tiled(network, planes), lambda: whole(plain, planes))


def open_copy(network: torch.nn.Module, step: str, samples: int) -> torch.nn.Module:
    """The same network in PyTorch's usual layout: ours puts the channels last."""
    import copy

    return copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()


def drunet() -> Pair:
    torch.manual_seed(0)
    network = build("drunet", samples=1).eval()
    plain = open_copy(network, "drunet", 1)
    planes = image(1)
    return Pair(lambda: tiled(network, planes, LEVEL), lambda: whole(lambda x: plain(x, LEVEL), planes))


def noisy_waves(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / 20
    clean = 128 + 60 * np.sin(x) * np.cos(y)
    return np.clip(clean + np.random.default_rng(0).normal(0, 25, clean.shape), 0, 255).astype(np.float32)


def bm3d() -> Pair:
    """BM3D on 512 × 512, beside the authors' own program."""
    import bm3d as package

    noisy = noisy_waves(512)
    return Pair(
        lambda: ndc.denoise(noisy, "bm3d", sigma=25, intensity_range=(0, 255))[..., None],
        lambda: package.bm3d(noisy, 25)[..., None],
    )


def bm3d_deepinv() -> Pair:
    """BM3D on 1024 × 1024, beside deepinv's in PyTorch."""
    import deepinv

    noisy = noisy_waves(SIDE)
    theirs = deepinv.models.BM3D(use_legacy=False)
    return Pair(
        lambda: ndc.denoise(noisy, "bm3d", sigma=25, intensity_range=(0, 255))[..., None],
        lambda: theirs(torch.from_numpy(noisy[None, None] / 255), 25 / 255)[0, 0].numpy()[..., None] * 255,
    )


def careamics() -> Pair:
    """Their U-Net, run by their tiled prediction and by ours, with the same halo."""
    import logging

    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.disable(logging.INFO)
    from careamics import CAREamist
    from careamics.config import create_n2v_config
    from careamics.config.data.normalization_config import MeanStdConfig

    config = create_n2v_config("speed", data_type="array", axes="YX", patch_size=(64, 64), batch_size=1, num_epochs=1)
    config.data_config.normalization = MeanStdConfig(input_means=[0.5], input_stds=[0.3])
    trained = CAREamist(config, work_dir=tempfile.mkdtemp(), enable_progress_bar=False)
    network = trained.model.model.eval()
    planes = image(1)
    scaled = (planes - np.float32(0.5)) / np.float32(0.3)

    def theirs() -> np.ndarray:
        results, _ = trained.predict(
            planes[0, ..., 0], data_type="array", axes="YX", tile_size=(256, 256), tile_overlap=(48, 48), batch_size=1
        )
        return np.asarray(results[0]).reshape(SIDE, SIDE, 1)

    return Pair(lambda: run(predict_iter(network, scaled, 24, multiple=4))[0] * 0.3 + 0.5, theirs)


ROWS: dict[str, tuple[str, str, float, Callable[[], Pair]]] = {
    "dncnn": ("DnCNN, 1024² gray", "deepinv's DnCNN, whole image", 1.8, dncnn),
    "dncnn_fast": ("the same, fast", "the same", 3.5, partial(fast, dncnn)),
    "unet": ("U-Net, 1024² gray", "PyTorch, whole image", 1.0, partial(shipped, "unet", 1)),
    "irunet": ("IRUNet, 1024² RGB", "PyTorch, whole image", 1.0, partial(shipped, "irunet", 3)),
    "restormer": ("Restormer (small), 1024² RGB", "deepinv, whole image", 1.0, partial(shipped, "restormer", 3)),
    "drunet": ("DRUNet, 1024² gray", "deepinv, whole image", 1.0, drunet),
    "careamics": ("CAREamics' U-Net, 1024² gray, tiled", "CAREamics' tiled prediction", 2.5, careamics),
    "careamics_fast": ("the same, fast", "the same", 2.5, partial(fast, careamics)),
    "bm3d": ("BM3D, 512² gray", "PyPI bm3d", 1.0, bm3d),
    "bm3d_deepinv": ("BM3D, 1024² gray", "deepinv", 1.0, bm3d_deepinv),
}
OPERATIONS = 2 * 9 * 64  # of a 3 × 3 convolution for one pixel, times the other width


# --- measuring ------------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def convolution(side: int) -> Callable[[], Any]:
    """A single 64 → 64 convolution of 3 × 3 on ``side`` × ``side`` pixels."""
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last).eval()
    x = torch.rand(1, 64, side, side).to(memory_format=torch.channels_last)

    def work() -> None:
        with torch.inference_mode():
            layer(x)

    work()
    return work


def peak(work: Callable[[], Any], repeats: int) -> tuple[float, float, int]:
    """Run the work and the best single layer in turn; returns their median seconds, and the layer's side.

    In turn, as the speed of a machine that others share changes within seconds: a layer that was measured at another
    time says nothing about what was there to be had.
    """
    sides = (96, 128, 192, 256, 384, 512)
    layers = {side: convolution(side) for side in sides}

    def once(side: int) -> float:
        """Median of runs of half a second in all."""
        took = [seconds(layers[side])]
        while sum(took) < 0.5:
            took.append(seconds(layers[side]))
        return float(np.median(took))

    rounds = [(seconds(work), [once(side) for side in sides]) for _ in range(repeats)]
    layer = np.median([each for _, each in rounds], axis=0)
    best = int(np.argmin(layer / np.square(sides)))
    return float(np.median([took for took, _ in rounds])), float(layer[best]), sides[best]


def memory_of(row: str, which: str) -> float:
    """Peak of the second run of a process, above what the process held before it, in MB.

    What the first run freed goes back to the system before: else the second would find it there, and seem to take none.
    """
    code = (
        "import gc, sys; sys.path.insert(0, sys.argv[1]); import speed, torch\n"
        "from napari_denoise_classify.core.device import trim\n"
        "pair = speed.ROWS[sys.argv[2]][3]()\n"
        "def held(what):\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith(what))\n"
        "work = getattr(pair, sys.argv[3]); work(); gc.collect(); trim()\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before = held('VmRSS'); work(); print('MB', (held('VmHWM') - before) / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent), row, which],
        capture_output=True,
        text=True,
    )
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("MB ")]
    return float(found[-1]) if found else float("nan")


def start_times() -> dict[str, float]:
    """Seconds for importing the package, and for building a panel in a napari that runs already."""
    found = {}
    code = "import time; a = time.perf_counter(); import napari_denoise_classify; print(time.perf_counter() - a)"
    dock = (
        "import sys, time\nfrom qtpy.QtWidgets import QApplication\napp = QApplication([])\nimport napari\n"
        "viewer = napari.components.ViewerModel()\na = time.perf_counter()\n"
        "from napari_denoise_classify.widgets.denoise import DenoiseDock\nDenoiseDock(viewer)\n"
        "print(time.perf_counter() - a, 'torch' in sys.modules)\n"
    )
    for name, script in (("import", code), ("dock", dock)):
        values = []
        for _ in range(5):
            done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
            with suppress(ValueError, IndexError):
                words = done.stdout.split()
                values.append(float(words[0]))
                assert words[1:] in ([], ["False"]), "a panel imported torch"
        if values:
            found[name] = float(np.median(values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--slack", type=float, default=0.5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ[PRECISION_VARIABLE] = "exact"
    torch.set_num_threads(processors())
    try:
        from importlib.metadata import version

        backend = f"OpenVINO {version('openvino')}"
    except ImportError:
        backend = "no OpenVINO"
    text = []

    def tell(line: str) -> None:
        text.append(line)
        print(line, flush=True)

    tell(f"{processors()} processors ({processor_name()}), PyTorch {torch.__version__}, {backend}.\n")
    ratios: dict[str, float] = {}
    notes = []
    tell("| work | beside | seconds | theirs | faster | target | largest difference | MB | theirs |")
    tell("|---|---|---|---|---|---|---|---|---|")
    for row in options.rows:
        title, beside, target, make = ROWS[row]
        try:
            pair = make()
        except ImportError as error:
            notes.append(f"{title}: left out ({error}).")
            continue
        a, b = pair.ours(), pair.theirs()
        difference = "–" if row.startswith("bm3d") else f"{np.abs(a - b).max():.1e}"  # two programs, two results
        times = [(seconds(pair.ours), seconds(pair.theirs)) for _ in range(options.repeats)]
        ours, theirs = (float(np.median(column)) for column in zip(*times, strict=True))
        ratios[row] = theirs / ours
        memory = ["–", "–"] if options.no_memory else [f"{memory_of(row, w):.0f}" for w in ("ours", "theirs")]
        tell(
            f"| {title} | {beside} | {ours:.2f} | {theirs:.2f} | {ratios[row]:.2f} × | ≥ {target:g} × | "
            f"{difference} | {memory[0]} | {memory[1]} |"
        )
        if row == "dncnn":
            depth = open_network("dncnn", "auto", 1)[0].network.depth
            operations = OPERATIONS * (2 + (depth - 2) * 64) * SIDE**2 / 1e9
            took, layer, side = peak(pair.ours, options.repeats)
            reached, best = operations / took, OPERATIONS * 64 * side**2 / layer / 1e9
            ratios["peak"] = reached / best
            notes.append(
                f"DnCNN reaches {reached:.0f} of {best:.0f} GFLOP/s, the best single layer, measured in turn (64 → 64, "
                f"3 × 3, {side}² px): {ratios['peak']:.0%} (target ≥ 85 %); the halo's pixels count as loss."
            )
    for name, took in start_times().items():
        words = {"import": "import napari_denoise_classify", "dock": "opening the panel Denoise"}[name]
        notes.append(f"{words}: {took:.3f} s (median of 5 processes).")
    tell("\n" + "\n".join(f"- {note}" for note in notes))
    if options.write:
        options.write.write_text("\n".join(text) + "\n")
    if options.save:
        options.save.write_text(json.dumps({name: round(value, 3) for name, value in ratios.items()}, indent=1) + "\n")
    if options.compare:
        saved = json.loads(options.compare.read_text())
        worse = [name for name in ratios if name in saved and ratios[name] < options.slack * saved[name]]
        for name in worse:
            print(f"{name}: {ratios[name]:.2f}, was {saved[name]:.2f}")
        sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
