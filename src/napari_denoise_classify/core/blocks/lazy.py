"""A recipe's result as a dask array: what is looked at is processed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import PlaneImage, from_float
from ..inference import Tile
from ..progress import run
from .parts import Ranges, part_iter
from .plan import BLOCK, CHUNK, blocks_of, fade_of, with_halo

if TYPE_CHECKING:
    from ..recipe import Recipe


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
        As for `plan_blocks`. Blocks of attention networks (see `Reach`) fade into each other: to show one of them,
        its neighbours to the right and below are processed as well.

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
    fade = 0 if reach is None or reach.exact else fade_of(reach, rows, columns)
    made = f"{name}-unfaded" if fade else name  # what the network makes of each block
    tiles = [
        (by, bx, with_halo(_before(y, fade), _before(x, fade), reach, source.plane_shape))
        for (by, y), (bx, x) in product(enumerate(rows), enumerate(columns))
    ]
    factor = recipe.upscale
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
            graph[(made, *index, by, bx, *colour)] = (one, keys)
            if fade:
                beside = [(by, bx), (by, bx + 1), (by + 1, bx), (by + 1, bx + 1)]
                parts = [
                    (made, *index, i, j, *colour) if i < len(rows) and j < len(columns) else None for i, j in beside
                ]
                mixed = _Faded(n_lead, fade * factor, by > 0, bx > 0)
                graph[(name, *index, by, bx, *colour)] = (mixed, *parts)
    sizes = (
        *((1,) * n for n in source.lead_shape),
        *(tuple((s.stop - s.start) * factor for s in spans) for spans in (rows, columns)),
        *data.chunks[n_lead + 2 :],
    )
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[data])
    meta = np.empty((0,) * data.ndim, data.dtype)
    return source.unwrap(da.Array(layers, name, chunks=sizes, meta=meta))


def _before(span: slice, length: int) -> slice:
    """Return a span that begins so much earlier, unless it begins at the border."""
    return slice(span.start - length if span.start else 0, span.stop)


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


@dataclass(frozen=True)
class _Faded:
    """One task of a lazy result whose blocks fade into each other; as `write_iter` does it.

    Attributes
    ----------
    n_lead : int
    fade : int
        Pixels over which they do.
    above, before : bool
        Whether this block has a neighbour above and one before it, into which it reaches.
    """

    n_lead: int
    fade: int
    above: bool
    before: bool

    def __call__(
        self,
        own: npt.NDArray[Any],
        right: npt.NDArray[Any] | None,
        below: npt.NDArray[Any] | None,
        corner: npt.NDArray[Any] | None,
    ) -> npt.NDArray[Any]:
        """Let this block fade into the neighbours that lie over it."""
        lead, n = (0,) * self.n_lead, self.fade
        top, left = n * self.above, n * self.before
        out = own[lead][top:, left:].astype(np.float64)
        ramp = ((np.arange(n) + 0.5) / n).reshape(-1, *(1,) * (out.ndim - 2))
        if right is not None:
            out[:, -n:] += ramp * (right[lead][top:, :n] - out[:, -n:])
        if below is not None:
            strip = below[lead][:n, left:].astype(np.float64)
            if corner is not None:
                strip[:, -n:] += ramp * (corner[lead][:n, :n] - strip[:, -n:])
            out[-n:] += ramp[:, None] * (strip - out[-n:])
        return from_float(out, own.dtype).reshape(*(1,) * self.n_lead, *out.shape)
