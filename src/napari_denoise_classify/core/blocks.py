"""Images of any size: planes are processed in blocks, so that memory stays bounded.

A step declares how far it looks (`Reach`). A block is read with as many pixels around it, processed, and written
without them; where all steps of a recipe declare their reach, the result is that of whole planes. A step that
declares none sees whole planes, which have to fit into memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .device import available_memory
from .images import Index, PlaneImage, from_float
from .inference import Tile
from .progress import Progress, Steps, run, within
from .steps import Reach

if TYPE_CHECKING:
    from .recipe import Recipe

BLOCK = 2048
"""Side of a block in pixels, about."""
CHUNK = 1024
"""Blocks begin on multiples of this, so that no two of them write into one chunk of a file."""
_FADE = 64  # pixels over which a block fades into its neighbours, where it is not exact
_WORKING = 40  # bytes of memory for each value of a block under work, about
_SPARE = 0.9  # the part of the free memory that is used

Ranges = dict[Index, tuple[float, float]]


class Target(Protocol):
    """What results are written into, region by region: an array, a memory map, a zarr array."""

    def __getitem__(self, region: tuple[slice, ...], /) -> npt.NDArray[Any]: ...

    def __setitem__(self, region: tuple[slice, ...], values: npt.NDArray[Any], /) -> None: ...


class Part(NamedTuple):
    """What is processed at once: a block of one plane, or several small planes."""

    indices: list[Index]
    tile: Tile


def plan_blocks(
    height: int, width: int, reach: Reach | None, block: int = BLOCK, chunk: int = CHUNK
) -> tuple[list[slice], list[slice]]:
    """Cut a plane into blocks.

    Parameters
    ----------
    height, width : int
    reach : Reach or None
        None: one block, the whole plane.
    block : int
        About how long a side is; the last one of a row may be up to a quarter longer.
    chunk : int
        Blocks begin on multiples of this, and of the reach's own multiple.

    Returns
    -------
    rows, columns : list of slice
    """
    if reach is None:
        return [slice(0, height)], [slice(0, width)]
    unit = math.lcm(reach.multiple, chunk)
    step = max(1, round(block / unit)) * unit

    def spans(length: int) -> list[slice]:
        count = max(1, -(-(length - step // 4) // step))
        return [slice(a, b) for a, b in pairwise([*range(0, count * step, step), length])]

    return spans(height), spans(width)


def with_halo(rows: slice, columns: slice, reach: Reach | None, shape: tuple[int, int]) -> Tile:
    """Return a block with its halo, within a plane of this shape."""
    if reach is None:
        return Tile((rows, columns), (rows, columns))
    halo = -(-reach.halo // reach.multiple) * reach.multiple
    grown = [slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip((rows, columns), shape, strict=True)]
    return Tile((rows, columns), (grown[0], grown[1]))


def blocks_of(source: PlaneImage, recipe: Recipe, block: int = BLOCK, chunk: int = CHUNK) -> tuple[Any, Any, Any]:
    """Choose the blocks of a recipe's run.

    Returns
    -------
    rows, columns : list of slice
    reach : Reach or None
        None where planes are processed whole.

    Raises
    ------
    MemoryError
        If a block is too large for the memory that is free.
    """
    height, width = source.plane_shape
    one_is_enough = max(height, width) <= block + block // 4
    reach = None if one_is_enough else recipe.reach(source.samples)
    rows, columns = plan_blocks(height, width, reach, block, chunk)
    area = max(s.stop - s.start for s in rows) * max(s.stop - s.start for s in columns)
    needed = area * source.samples * recipe.upscale**2 * _WORKING
    if needed > 2**28 and needed > _SPARE * (free := available_memory()):
        raise MemoryError(
            f"One plane of {height} × {width} pixels needs about {_gigabytes(needed)} of memory, and "
            f"{_gigabytes(free)} are free: {_advice(recipe, source.samples)}."
        )
    return rows, columns, reach


def _advice(recipe: Recipe, samples: int) -> str:
    """Tell what would need less memory."""
    for s in recipe.steps:
        if s.spec.reach(samples, s.parameters) is not None:
            continue
        if "sigma" in s.parameters and s.spec.reach(samples, {**s.parameters, "sigma": 25.0}) is not None:
            return f"give the sigma of {s.id}, so that it can work on blocks, or crop the image"
        return (
            f"{s.id} needs whole planes; crop the image, or choose a method that works on blocks, as gaussian or dncnn"
        )
    return "close other programs, or crop the image"


def _gigabytes(n: float) -> str:
    return f"{n / 1e9:.1f} GB"


def check_result(source: PlaneImage, recipe: Recipe) -> None:
    """Refuse a result that does not fit into memory.

    Raises
    ------
    MemoryError
    """
    values = math.prod(source.data.shape) * recipe.upscale**2
    needed = values * source.data.dtype.itemsize + recipe.masks * values // (source.data.shape[-1] if source.rgb else 1)
    if needed > 2**28 and needed > _SPARE * (free := available_memory()):
        raise MemoryError(
            f"The result takes {_gigabytes(needed)}, and {_gigabytes(free)} of memory are free: write it to a file "
            "(.zarr) instead, or process a part of the image."
        )


def part_iter(
    recipe: Recipe, here: PlaneImage, tile: Tile, ranges: Sequence[tuple[float, float]]
) -> Steps[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Process what was read of some planes.

    Parameters
    ----------
    recipe : Recipe
    here : PlaneImage
        From `PlaneImage.read`: the outer part of ``tile``.
    tile : Tile
    ranges : sequence of (low, high)
        Of each plane.

    Returns
    -------
    (N, Y, X) or (N, Y, X, S) array, and (N, Y, X) bool
        The inner part, enlarged where the recipe enlarges, in the image's dtype; and the pixels that masks keep.
    """
    indices = list(here.indices())
    known = dict(zip(indices, ranges, strict=True))
    done = yield from recipe.process_iter(here.planes(indices, known), np.array(ranges, np.float64))
    pixels = done.restore(here, indices, known, same=recipe.only_masks)
    rows, columns = (_times(s, recipe.upscale) for s in tile.crop)
    return pixels[:, rows, columns], done.kept[:, rows, columns]


def _times(span: slice, factor: int) -> slice:
    return slice(span.start * factor, span.stop * factor)


def write_iter(
    recipe: Recipe,
    source: PlaneImage,
    ranges: Ranges,
    target: Target,
    mask: Target | None = None,
    block: int = BLOCK,
    chunk: int = CHUNK,
) -> Steps[float]:
    """Process an image block by block.

    Parameters
    ----------
    recipe : Recipe
    source : PlaneImage
        Read block by block.
    ranges : dict
        From `PlaneImage.ranges`.
    target : Target
        Of the image's canonical axes, enlarged where the recipe enlarges.
    mask : Target, optional
        Without S; takes what masks keep.
    block, chunk : int
        As for `plan_blocks`.

    Returns
    -------
    float
        The fraction of the pixels that masks keep.

    Raises
    ------
    MemoryError
        If planes have to be processed whole and are too large.
    ValueError
        For NaN or infinite pixels.
    """
    rows, columns, reach = blocks_of(source, recipe, block, chunk)
    if reach is not None and not reach.exact:
        return (yield from _write_fading_iter(recipe, source, ranges, target, rows, columns))
    parts = parts_of(source, recipe, block, chunk)
    blocks = len(parts) > 1 and parts[0].tile.shape != source.plane_shape
    kept = total = 0
    for i, part in enumerate(parts):
        note = f"block {i + 1} of {len(parts)}" if blocks else ""
        yield Progress(i / len(parts), note)
        work = write_part_iter(recipe, source, part, [ranges[index] for index in part.indices], target, mask)
        some, all_ = yield from within(work, i / len(parts), (i + 1) / len(parts), note)
        kept += some
        total += all_
    return kept / total


def parts_of(source: PlaneImage, recipe: Recipe, block: int = BLOCK, chunk: int = CHUNK) -> list[Part]:
    """Cut an image into what is processed at once; see `write_iter`."""
    rows, columns, reach = blocks_of(source, recipe, block, chunk)
    if len(rows) * len(columns) == 1:
        tile = with_halo(rows[0], columns[0], None, source.plane_shape)
        return [Part(indices, tile) for indices in source.chunks()]
    tiles = [with_halo(y, x, reach, source.plane_shape) for y, x in product(rows, columns)]
    return [Part([index], tile) for index in source.indices() for tile in tiles]


def write_part_iter(
    recipe: Recipe,
    source: PlaneImage,
    part: Part,
    ranges: Sequence[tuple[float, float]],
    target: Target,
    mask: Target | None = None,
) -> Steps[tuple[int, int]]:
    """Process a part of an image and write it; see `write_iter`.

    Returns
    -------
    (int, int)
        How many pixels masks keep, out of how many.
    """
    here = source.read(part.indices, *part.tile.outer)
    pixels, keep = yield from part_iter(recipe, here, part.tile, ranges)
    region = tuple(_times(s, recipe.upscale) for s in part.tile.inner)
    for k, index in enumerate(part.indices):
        lead = tuple(slice(n, n + 1) for n in index)
        shape = (1,) * len(lead)
        colour = (slice(None),) * (pixels.ndim - 3)
        target[(*lead, *region, *colour)] = pixels[k].reshape(*shape, *pixels.shape[1:])
        if mask is not None:
            mask[(*lead, *region)] = keep[k].reshape(*shape, *keep.shape[1:])
    return int(keep.sum()), keep.size


def _write_fading_iter(
    recipe: Recipe, source: PlaneImage, ranges: Ranges, target: Target, rows: list[slice], columns: list[slice]
) -> Steps[float]:
    """As `write_iter`, but let blocks fade into each other: first those of a row, then the rows."""
    reach = recipe.reach(source.samples)
    assert reach is not None
    fade, factor = min(-(-_FADE // reach.multiple) * reach.multiple, rows[0].stop, columns[0].stop), recipe.upscale
    ramp = ((np.arange(fade * factor) + 0.5) / (fade * factor))[:, None]
    total = len(rows) * len(columns) * math.prod(source.lead_shape)
    done = 0
    for index in source.indices():
        lead = tuple(slice(n, n + 1) for n in index)
        for y in rows:
            top = fade if y.start else 0
            above: list[npt.NDArray[np.float64]] = []  # what this row's blocks say of the last lines of the row before
            for x in columns:
                note = f"block {done + 1} of {total}"
                left = fade if x.start else 0
                grown = slice(y.start - top, y.stop), slice(x.start - left, x.stop)
                tile = with_halo(*grown, reach, source.plane_shape)
                here = source.read([index], *tile.outer)
                work = part_iter(recipe, here, tile, [ranges[index]])
                pixels, _ = yield from within(work, done / total, (done + 1) / total, note)
                values = pixels[0].astype(np.float64).reshape(*pixels.shape[1:3], -1)
                upper, lower = values[: top * factor], values[top * factor :]
                if left:
                    n = left * factor
                    strip = (*lead, _times(y, factor), _times(slice(grown[1].start, x.start), factor))
                    before = _plain(target, strip, source.rgb)
                    lower[:, :n] = before + ramp * (lower[:, :n] - before)
                    if top:
                        above[-1][:, -n:] += ramp * (upper[:, :n] - above[-1][:, -n:])
                above.append(upper[:, left * factor :])
                _put(target, (*lead, *(_times(s, factor) for s in (y, grown[1]))), lower, source)
                done += 1
            if top:
                strip = (*lead, _times(slice(y.start - top, y.start), factor), slice(0, None))
                before = _plain(target, strip, source.rgb)
                _put(target, strip, before + ramp[:, :, None] * (np.concatenate(above, axis=1) - before), source)
    return 1.0


def _plain(target: Target, region: tuple[slice, ...], rgb: bool) -> npt.NDArray[np.float64]:
    """Read a region of one plane, (Y, X, samples)."""
    values = np.asarray(target[(*region, slice(None)) if rgb else region], np.float64)
    return values.reshape(*values.shape[len(region) - 2 : len(region)], -1)


def _put(target: Target, region: tuple[slice, ...], values: npt.NDArray[np.float64], source: PlaneImage) -> None:
    colour = (slice(None),) if source.rgb else ()
    shape = (*(1 for _ in region[2:]), *values.shape[:2], *(values.shape[2:] if source.rgb else ()))
    target[(*region, *colour)] = from_float(values, source.data.dtype).reshape(shape)


def lazily(recipe: Recipe, source: PlaneImage, ranges: Ranges, block: int = BLOCK, chunk: int = CHUNK) -> Any:
    """Return the result as a dask array; computing a region of it reads and processes the blocks there only.

    Parameters
    ----------
    recipe : Recipe
    source : PlaneImage
        Of a dask array.
    ranges : dict
        From `PlaneImage.ranges`.
    block, chunk : int
        As for `plan_blocks`. Blocks of attention networks (see `Reach`) do not fade into each other here.

    Returns
    -------
    dask array
        In the image's own order of axes. Its graph can be sent to other processes.

    Raises
    ------
    MemoryError
        If planes have to be processed whole and are too large.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    rows, columns, reach = blocks_of(source, recipe, block, chunk)
    n_lead = len(source.lead_shape)
    data = source.data.rechunk({n_lead + 2: -1}) if source.rgb else source.data
    bounds = [np.cumsum([0, *sizes]) for sizes in data.chunks[: n_lead + 2]]
    colour = (0,) * (data.ndim - n_lead - 2)
    how = (recipe.record(source.samples), sorted(ranges.items()), reach, block, chunk)
    name = f"{recipe.steps[0].id if recipe.steps else 'raw'}-{tokenize(data.name, *how)}"
    tiles = [
        (by, bx, with_halo(y, x, reach, source.plane_shape))
        for (by, y), (bx, x) in product(enumerate(rows), enumerate(columns))
    ]
    graph: dict[Any, Any] = {}
    for index in source.indices():
        chunks, inside = (
            zip(*(_locate(b, i) for b, i in zip(bounds, index, strict=False)), strict=True) if index else ((), ())
        )
        for by, bx, tile in tiles:
            (i, j), corner = zip(
                *(_covered(b, s) for b, s in zip(bounds[n_lead:], tile.outer, strict=True)), strict=True
            )
            keys = [[(data.name, *chunks, y, x, *colour) for x in j] for y in i]
            one = _Block(recipe, source.rgb, tile, ranges[index], inside, corner)
            graph[(name, *index, by, bx, *colour)] = (one, keys)
    factor = recipe.upscale
    sizes = (
        *((1,) * n for n in source.lead_shape),
        *(tuple((s.stop - s.start) * factor for s in spans) for spans in (rows, columns)),
        *data.chunks[n_lead + 2 :],
    )
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[data])
    meta = np.empty((0,) * data.ndim, data.dtype)
    return source.unwrap(da.Array(layers, name, chunks=sizes, meta=meta))


def _locate(bounds: npt.NDArray[np.int64], i: int) -> tuple[int, int]:
    """Return the chunk that holds a position, and where in the chunk it is."""
    chunk = int(np.searchsorted(bounds, i, side="right")) - 1
    return chunk, i - int(bounds[chunk])


def _covered(bounds: npt.NDArray[np.int64], span: slice) -> tuple[range, int]:
    """Return the chunks that a span meets, and where in the first of them it begins."""
    first, start = _locate(bounds, span.start)
    last, _ = _locate(bounds, span.stop - 1)
    return range(first, last + 1), start


@dataclass(frozen=True)
class _Block:
    """One task of a lazy result."""

    recipe: Recipe
    rgb: bool
    tile: Tile
    range: tuple[float, float]
    inside: tuple[int, ...]
    corner: tuple[int, int]

    def __call__(self, chunks: list[list[npt.NDArray[Any]]]) -> npt.NDArray[Any]:
        """Process the block that these chunks cover."""
        (y, x), (height, width) = self.corner, self.tile.shape
        pixels = np.concatenate(
            [np.concatenate([chunk[self.inside] for chunk in row], axis=1) for row in chunks], axis=0
        )[None, y : y + height, x : x + width]
        source = PlaneImage(pixels, "?YXS" if self.rgb else "?YX")
        here = source.read([(0,)], slice(None), slice(None))
        done, _ = run(part_iter(self.recipe, here, self.tile, [self.range]))
        return done.reshape((1,) * len(self.inside) + done.shape[1:])
