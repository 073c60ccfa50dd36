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
that ends at the image border is padded by the network just as the whole image would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from .device import best_device, is_out_of_memory, place
from .images import FloatArray
from .progress import Progress, Steps

if TYPE_CHECKING:
    import torch

TILE = 512
_BATCH_PIXELS = {"cpu": 2**19, "cuda": 2**22, "mps": 2**20}


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
        Tile((rows, columns), (_grow(rows, halo, height), _grow(columns, halo, width)))
        for rows in _spans(height, tile, multiple)
        for columns in _spans(width, tile, multiple)
    ]


def _spans(length: int, tile: int, multiple: int) -> list[slice]:
    cells = length // multiple
    count = -(-cells // max(1, tile // multiple))
    edges = [round(i * cells / count) * multiple for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _grow(span: slice, halo: int, length: int) -> slice:
    return slice(max(0, span.start - halo), min(length, span.stop + halo))


def _enlarged(part: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
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
    tile: int = TILE,
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
    tile : int
        Largest side of a tile's inner part.
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
    pixels = _BATCH_PIXELS.get(device.type, 2**19)
    call = forward or network
    size = planes.shape[1:3]
    halo = -(-halo // multiple) * multiple
    planes = np.pad(planes, ((0, 0), *((0, -n % multiple) for n in size), (0, 0)), mode="symmetric")
    height, width = planes.shape[1:3]
    out = np.empty((len(planes), height * upscale, width * upscale, planes.shape[-1]), np.float32)
    note = ""
    while True:
        try:
            place(network.eval(), device)
            tiles = plan_tiles(height, width, tile, halo, multiple)
            total, done = len(planes) * len(tiles), 0
            for batch in _batches(len(planes), tiles, pixels):
                stack = np.stack([planes[i][t.outer] for i, t in batch])
                with torch.inference_mode():
                    x = torch.from_numpy(stack).permute(0, 3, 1, 2).to(device)  # a view: channels last already
                    y = call(x).permute(0, 2, 3, 1).to("cpu", torch.float32).numpy()
                for (i, t), result in zip(batch, y, strict=True):
                    out[i][_enlarged(t.inner, upscale)] = result[_enlarged(t.crop, upscale)]
                done += len(batch)
                yield Progress(done / total, f"tile {done} of {total}{note}")
            return out[:, : size[0] * upscale, : size[1] * upscale]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if pixels > (tile + 2 * halo) ** 2:
                pixels //= 2
            elif tile > max(64, multiple):
                tile //= 2
            elif device.type != "cpu":
                device, note = torch.device("cpu"), " (on the CPU: the GPU's memory is full)"
                tile, pixels = TILE, _BATCH_PIXELS["cpu"]
            else:
                raise MemoryError(
                    "There is not enough memory for this network: close other programs, or crop the image."
                ) from error
