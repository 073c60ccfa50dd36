"""Tiled inference: plan, halo, batches, out-of-memory fallback.

A plane is cut into tiles whose inner parts cover it once. The network sees the outer part, which is the inner one
plus a halo on every side that has a neighbour; the halo is thrown away::

        outer ┌───────────────────┐
              │  halo             │
              │   ┌───────────┐   │
              │   │  inner    │   │      only the inner part is kept
              │   └───────────┘   │
              └───────────────────┘

Where the halo is at least the network's receptive radius, the result equals the one without tiles: an outer part
that ends at the image border is padded by the network just as the whole image would be. Networks with attention see
the whole tile: there, neighbouring tiles are blended into each other where they overlap, so that no seam shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .compiled import Compiled, compiled
from .device import ON_CPU, best_device, is_out_of_memory, place
from .images import FloatArray
from .progress import Progress, Steps
from .tuning import FAST, TILE, Call, tune_iter

if TYPE_CHECKING:
    import torch

_ORIENTATIONS = 8  # turns by right angles, and their mirror images
_BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**22, "mps": 2**20}
_COMPILE_FROM = 2**20  # pixels: for fewer, compiling would take longer than it saves


@dataclass(frozen=True)
class Tile:
    """One tile of a plane.

    Attributes
    ----------
    inner, outer : tuple of slice
        (rows, columns) in the plane: what is kept, and what the network sees.
    """

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the outer part."""
        rows, columns = self.outer
        return (rows.stop - rows.start, columns.stop - columns.start)

    @property
    def crop(self) -> tuple[slice, slice]:
        """Where the inner part lies in the outer one."""
        rows, columns = (
            slice(i.start - o.start, i.stop - o.start) for i, o in zip(self.inner, self.outer, strict=True)
        )
        return (rows, columns)


def plan_tiles(height: int, width: int, tile: int, halo: int, multiple: int = 1) -> list[Tile]:
    """Cut a plane into tiles.

    Parameters
    ----------
    height, width : int
    tile : int
        Largest side of an inner part, in pixels. Tiles are as even as can be.
    halo : int
        Pixels around the inner part that the network also sees.
    multiple : int
        All edges lie on multiples of this; height, width and halo must be such.

    Returns
    -------
    list of Tile
        Whose inner parts cover the plane exactly once.

    Raises
    ------
    ValueError
        If ``tile`` is less than 1 or ``halo`` negative, or the sizes are no multiples.
    """
    if any(n % multiple for n in (height, width, halo)):
        raise ValueError(f"height={height}, width={width} and halo={halo} must be multiples of {multiple}.")
    if tile < 1 or halo < 0:
        raise ValueError(f"tile={tile}, halo={halo} is not allowed: tile must be at least 1, halo at least 0.")
    return [
        Tile((rows, columns), (grow(rows, halo, height), grow(columns, halo, width)))
        for rows in _spans(height, tile, multiple)
        for columns in _spans(width, tile, multiple)
    ]


def _spans(length: int, tile: int, multiple: int) -> list[slice]:
    cells = length // multiple
    count = -(-cells // max(1, tile // multiple))
    edges = [round(i * cells / count) * multiple for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def grow(span: slice, halo: int, length: int) -> slice:
    """Return a span with a halo, as far as the plane goes."""
    return slice(max(0, span.start - halo), min(length, span.stop + halo))


def enlarged(part: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    """Return where (rows, columns) of a plane lie in the enlarged one."""
    rows, columns = (slice(s.start * factor, s.stop * factor) for s in part)
    return (rows, columns)


def _batches(n_planes: int, tiles: list[Tile], pixels: int) -> Iterator[list[tuple[int, Tile]]]:
    """Group (plane, tile) pairs of equal outer shape into batches of at most ``pixels`` pixels."""
    jobs = sorted(((i, t) for i in range(n_planes) for t in tiles), key=lambda job: job[1].shape)
    for (height, width), group in groupby(jobs, key=lambda job: job[1].shape):
        same = list(group)
        size = max(1, pixels // (height * width))
        for start in range(0, len(same), size):
            yield same[start : start + size]


def predict_iter(
    network: torch.nn.Module,
    planes: FloatArray,
    halo: int,
    *,
    multiple: int = 1,
    upscale: int = 1,
    blend: bool = False,
    level: float | None = None,
    self_ensemble: bool = False,
    tile: int | None = None,
    device: torch.device | None = None,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Steps[FloatArray]:
    """Run an image-to-image network over planes.

    Parameters
    ----------
    network : torch.nn.Module
        From (N, S, Y, X) to the same shape, or an enlarged one.
    planes : (N, Y, X, S) float32
    halo : int
        At least the network's receptive radius, in pixels, for an exact result.
    multiple : int
        What the network is given has sides that are multiples of this; the image is extended by its mirror image.
    upscale : int
        How many times as large the network's output is, along Y and X.
    blend : bool
        Whether tiles fade into each other where they overlap: for networks that no halo makes exact.
    level : float, optional
        The network's second argument, if it takes one: the noise level.
    self_ensemble : bool
        Average the results of the eight orientations of each tile. Timofte, Rothe, Van Gool: Seven ways to improve
        example-based single image super resolution. CVPR (2016).
    tile : int, optional
        Largest side of a tile's inner part; default: what suits this computer.
    device : torch.device, optional
        Default: the best there is. When its memory is full the batch is halved, then the tile, then the CPU does it.
    forward : callable, optional
        What to call instead of ``network``.

    Yields
    ------
    Progress
        After each batch of tiles.

    Returns
    -------
    (N, Y, X, S) float32, Y and X enlarged
    """
    import torch

    device = device or best_device()
    pixels = _BATCH_PIXELS.get(device.type, 2**18)
    size = planes.shape[1:3]
    halo = -(-halo // multiple) * multiple
    if any(n % multiple for n in size):
        planes = np.pad(planes, ((0, 0), *((0, -n % multiple) for n in size), (0, 0)), mode="symmetric")
    height, width = planes.shape[1:3]
    out = np.empty((len(planes), height * upscale, width * upscale, planes.shape[-1]), np.float32)
    orientations = _ORIENTATIONS if self_ensemble else 1
    work = orientations * len(planes) * height * width
    note, fast = "", False
    engine: _Engine | None = None
    while True:
        try:
            engine = _Engine(network, planes.shape[-1], device, work, forward, level)
            if tile is None and forward is None:
                tuning = yield from tune_iter(
                    network,
                    engine,
                    device,
                    samples=planes.shape[-1],
                    halo=halo,
                    multiple=multiple,
                    pixels=work,
                    backend=engine.name,
                )
                tile, fast = tuning.tile, tuning.fast
            tile = tile or TILE
            tiles = plan_tiles(height, width, tile, halo, multiple)
            out.fill(0)  # tiles are added to it
            put = _Blend(out, tiles, halo, upscale) if blend and len(tiles) > 1 else partial(_put, out, upscale)
            total, done, word = orientations * len(planes) * len(tiles), 0, "fast" if fast else "exact"
            waiting: tuple[list[tuple[int, Tile]], Callable[[], FloatArray]] | None = None
            jobs = [(b, k) for b in _batches(len(planes), tiles, pixels) for k in range(orientations)]
            for job in [*jobs, None]:
                # One batch computes on the device while the last one's result is fetched and stored.
                started = None if job is None else (job[0], _start(engine, planes, *job, device, fast))
                if waiting is not None:
                    for (i, t), result in zip(waiting[0], waiting[1](), strict=True):
                        put(i, t, result)
                    done += len(waiting[0])
                    yield Progress(done / total, f"tile {done} of {total}, {word}", note=note or (FAST if fast else ""))
                waiting = started
            out /= orientations
            return out[:, : size[0] * upscale, : size[1] * upscale]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            waiting = None
            tile = tile or TILE
            if pixels > (tile + 2 * halo) ** 2:
                pixels //= 2
            elif tile > max(64, multiple):
                tile //= 2
            elif device.type != "cpu":
                device, note = torch.device("cpu"), ON_CPU
                tile, pixels, fast = TILE, _BATCH_PIXELS["cpu"], False
            else:
                raise MemoryError(
                    "There is not enough memory for this network: close other programs, or crop the image."
                ) from error
        finally:
            if engine is not None:
                engine.close()


class _Engine:
    """What runs a network on a device: OpenVINO where that pays, else PyTorch.

    Parameters
    ----------
    network : torch.nn.Module
    samples : int
        Of a pixel.
    device : torch.device
    pixels : int
        How many the run has.
    forward, level
        As for `predict_iter`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        samples: int,
        device: torch.device,
        pixels: int,
        forward: Callable[[torch.Tensor], torch.Tensor] | None,
        level: float | None,
    ) -> None:
        import torch

        self._device, self._network, self._forward = device, place(network.eval(), device), forward or network
        self._told = () if level is None else (torch.tensor([level], dtype=torch.float32),)
        self._example = (torch.zeros(1, samples, 64, 64), *self._told)
        may_compile = device.type == "cpu" and forward is None and pixels >= _COMPILE_FROM
        self._compiled: dict[bool, Compiled | None] = {False: compiled(network, self._example) if may_compile else None}
        self.name = "OpenVINO" if self._compiled[False] else f"PyTorch {torch.__version__}"

    def __call__(self, x: torch.Tensor, fast: bool) -> torch.Tensor:
        """Run the network on (N, S, Y, X), in bfloat16 if ``fast``."""
        import torch

        if fast:
            # A network that subtracts noise must subtract it from what it saw: the rounding of the image is noise, too.
            x = x.to(torch.bfloat16).to(torch.float32)
        exact = self._compiled[False]
        if exact is not None:
            if fast not in self._compiled:
                self._compiled[fast] = compiled(self._network, self._example, fast)
            return (self._compiled[fast] or exact)(x, *self._told)
        context: Any = torch.autocast(self._device.type, torch.bfloat16) if fast else nullcontext()
        with torch.inference_mode(), context:
            result: torch.Tensor = self._forward(x, *(t.to(self._device) for t in self._told))
            return result

    def close(self) -> None:
        """Give back what only this run needed."""
        import torch

        for one in self._compiled.values():
            if one is not None:
                one.close()
        self._compiled = {False: None}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _start(
    call: Call, planes: FloatArray, batch: list[tuple[int, Tile]], orientation: int, device: torch.device, fast: bool
) -> Callable[[], FloatArray]:
    """Start computing a batch in one orientation; what is returned waits for the result, (N, Y, X, S), turned back."""
    import torch

    mirror = slice(None, None, -1 if orientation > 3 else 1)  # after four turns, which are none, the mirror images

    def turned_back(results: FloatArray) -> FloatArray:
        return np.rot90(results[:, :, mirror], -orientation, (1, 2))

    stack = torch.from_numpy(np.stack([np.rot90(planes[i][t.outer], orientation)[:, mirror] for i, t in batch]))
    if device.type != "cuda":
        x = stack.permute(0, 3, 1, 2).to(device)  # a view: channels last already
        on_cpu = turned_back(call(x, fast).permute(0, 2, 3, 1).to("cpu", torch.float32).numpy())
        return lambda: on_cpu
    # Pinned memory is copied while the device computes.
    y = call(stack.pin_memory().to(device, non_blocking=True).permute(0, 3, 1, 2), fast).permute(0, 2, 3, 1)
    host = torch.empty(y.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(y, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(device))

    def wait() -> FloatArray:
        ready.synchronize()
        return turned_back(host.numpy())

    return wait


def _put(out: FloatArray, upscale: int, plane: int, tile: Tile, result: FloatArray) -> None:
    """Add a tile's inner part."""
    out[plane][enlarged(tile.inner, upscale)] += result[enlarged(tile.crop, upscale)]


class _Blend:
    """Let tiles fade into each other, linearly over the part that two neighbours both see.

    The weights of all tiles add up to 1 at every pixel::

        1 ────────╲   ╱────────
                   ╲ ╱
                    ╳            from inner edge - fade to inner edge + fade
                   ╱ ╲
        0         ╱   ╲
    """

    def __init__(self, out: FloatArray, tiles: list[Tile], halo: int, upscale: int) -> None:
        self._out, self._upscale = out, upscale
        # No pixel may lie in two fades of one axis: a fade ends at the middle of the narrowest tile.
        narrowest = min(s.stop - s.start for t in tiles for s in t.inner)
        self._fade = min(halo, narrowest // 2) * upscale

    def __call__(self, plane: int, tile: Tile, result: FloatArray) -> None:
        """Add a tile's outer part, weighted."""
        rows, columns = (
            self._weights(inner, outer)
            for inner, outer in zip(
                enlarged(tile.inner, self._upscale), enlarged(tile.outer, self._upscale), strict=True
            )
        )
        self._out[plane][enlarged(tile.outer, self._upscale)] += result * (rows[:, None] * columns)[..., None]

    def _weights(self, inner: slice, outer: slice) -> FloatArray:
        position = np.arange(outer.start, outer.stop, dtype=np.float32) + 0.5
        weights = np.ones(len(position), np.float32)
        if self._fade == 0:
            weights[(position < inner.start) | (position > inner.stop)] = 0
            return weights
        if inner.start > outer.start:
            weights *= np.clip((position - inner.start) / (2 * self._fade) + 0.5, 0, 1)
        if inner.stop < outer.stop:
            weights *= np.clip((inner.stop - position) / (2 * self._fade) + 0.5, 0, 1)
        return weights
