"""How to run a network fast on this computer: measured once, then remembered.

Tiles must be small enough for the processor's caches and large enough for their halo, and bfloat16 is faster on some
processors only. Neither can be told from the outside, so a run that will take a while first measures both on a small
pattern, for this network; the cache folder keeps what was found.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .device import Precision, precision, prefers_bfloat16, processors
from .files import cache_folder
from .progress import Progress, Steps
from .whole import write_whole

if TYPE_CHECKING:
    import torch

TILE = 512
CANDIDATES = (256, 384, 512)
"""Sides of tiles that are tried on a CPU."""
MEASURE_FROM = 2**22
"""Runs of fewer pixels are over before measuring tiles would pay."""
FAST_FROM = 2**20
"""Runs of fewer pixels are over before measuring bfloat16 would pay on a CPU."""
FILE = "tuning.json"
LOSS = 0.02
"""What bfloat16 may cost at most, in dB of PSNR."""
FAST = "Computed fast, in bfloat16."
"""What people are told of such a run."""
GAIN = 1.2
"""How many times as fast bfloat16 must be to be used."""

Call = Callable[["torch.Tensor", bool], "torch.Tensor"]
"""Runs the network on (N, S, Y, X), in bfloat16 if the second argument is true."""


@dataclass(frozen=True)
class Tuning:
    """How to run one network on one device.

    Attributes
    ----------
    tile : int
        Largest side of a tile's inner part, in pixels.
    fast : bool
        Whether to compute in bfloat16.
    """

    tile: int = TILE
    fast: bool = False


def tune_iter(
    network: torch.nn.Module,
    call: Call,
    device: torch.device,
    *,
    samples: int,
    halo: int,
    multiple: int,
    pixels: int,
    backend: str,
) -> Steps[Tuning]:
    """Find how to run a network, by measuring it where that pays.

    Parameters
    ----------
    network : torch.nn.Module
    call : callable
        Runs it.
    device : torch.device
    samples, halo, multiple
        As for `predict_iter`.
    pixels : int
        How many the run has, in all planes.
    backend : str
        What computes: part of what the measurements are remembered under.
    """
    wanted: Precision = precision()
    pays = wanted == "fast" or (wanted == "auto" and (pixels >= FAST_FROM or device.type != "cpu"))
    may_be_fast = pays and prefers_bfloat16(device)
    measure = device.type == "cpu" and pixels >= MEASURE_FROM
    if not (measure or may_be_fast):
        return Tuning()
    parts = (processor_name(), f"{processors()} threads", device.type, backend, f"halo {halo}", _fingerprint(network))
    key = " · ".join(parts)
    known = _remembered()
    found: dict[str, Any] = known.get(key, {})
    before = dict(found)
    if measure and "tile" not in found:
        yield Progress(0.0, "measuring this computer, once for this network")
        found["tile"] = yield from _best_tile(call, samples, halo, multiple)
    if may_be_fast and "loss" not in found:
        yield Progress(0.0, "measuring this computer, once for this network")
        found |= _bfloat16(call, device, samples, multiple)
    if found != before:
        _remember(key, found)
    fast = may_be_fast and found["loss"] <= LOSS and (wanted == "fast" or found["gain"] >= GAIN)
    return Tuning(int(found.get("tile", TILE)) if measure else TILE, fast)


def _best_tile(call: Call, samples: int, halo: int, multiple: int) -> Steps[int]:
    """Return the side for which a tile with its halo takes the least time for each pixel that is kept."""
    costs: dict[int, float] = {}
    for tile in CANDIDATES:
        side = -(-(tile + 2 * halo) // multiple) * multiple
        _, x = _pattern(side, samples)
        seconds = min(_seconds(partial(call, x, False)) for _ in range(2))
        costs[tile] = seconds / tile**2
        yield Progress(0.0, "measuring this computer, once for this network")
    return min(costs, key=costs.__getitem__)


def _bfloat16(call: Call, device: torch.device, samples: int, multiple: int) -> dict[str, float]:
    side = -(-256 // multiple) * multiple
    clean, noisy = _pattern(side, samples)
    noisy = noisy.to(device)

    def compute(fast: bool) -> torch.Tensor:
        return call(noisy, fast).float().cpu()  # fetching it waits for a GPU

    results = {fast: compute(fast) for fast in (False, True)}
    factor = results[False].shape[-1] // side  # of a network that enlarges
    clean = clean.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    times = {fast: min(_seconds(partial(compute, fast)) for _ in range(3)) for fast in results}
    error = {fast: float((results[fast] - clean).square().mean()) for fast in results}
    return {
        "loss": 10 * float(np.log10(max(error[True], 1e-12) / max(error[False], 1e-12))),
        "gain": times[False] / max(times[True], 1e-9),
    }


def _pattern(side: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a smooth pattern with edges, and the same with noise of σ 25 grey levels."""
    import torch

    y, x = np.mgrid[:side, :side] / 32
    waves = 0.5 + 0.2 * np.sin(x) * np.cos(y) + 0.2 * (np.hypot(x - x.mean(), y - y.mean()) % 2 < 1)
    clean = np.broadcast_to(waves.astype(np.float32), (1, samples, side, side))
    noise = np.random.default_rng(0).normal(0, 25 / 255, clean.shape)
    return torch.from_numpy(clean.copy()), torch.from_numpy((clean + noise).astype(np.float32))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _fingerprint(network: torch.nn.Module) -> str:
    """Identify a network by its shapes and weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def processor_name() -> str:
    """Return what the processor calls itself."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    import platform

    return platform.processor() or platform.machine()


def _remembered() -> dict[str, Any]:
    with suppress(OSError, ValueError):
        read = json.loads((cache_folder() / FILE).read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return {key: value for key, value in read.items() if _plausible(value)}
    return {}


def _plausible(value: object) -> bool:
    numbers = {"tile": int, "loss": (int, float), "gain": (int, float)}
    return isinstance(value, dict) and all(
        name in numbers and isinstance(n, numbers[name]) and (name != "tile" or n in CANDIDATES)  # type: ignore[arg-type]  # mypy does not see the types in a dict
        for name, n in value.items()
    )


def _remember(key: str, found: dict[str, Any]) -> None:
    text = json.dumps(_remembered() | {key: found}, indent=1, ensure_ascii=False)
    with suppress(OSError):  # where nothing can be kept, it is measured again
        write_whole(cache_folder() / FILE, lambda path: path.write_text(text, encoding="utf-8"))
