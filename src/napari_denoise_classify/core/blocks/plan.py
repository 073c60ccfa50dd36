"""How an image is cut into blocks."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

from ..images import Index, PlaneImage
from ..inference import Tile, grow
from ..steps import Reach
from .memory import check_block

if TYPE_CHECKING:
    from ..recipe import Recipe

BLOCK = 2048
"""Side of a block in pixels, about."""
CHUNK = 1024
"""Blocks begin on multiples of this, so that no two of them write into one chunk of a file."""
_FADE = 64  # pixels over which a block fades into its neighbours, where it is not exact


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
    return Tile((rows, columns), (grow(rows, halo, shape[0]), grow(columns, halo, shape[1])))


def fade_of(reach: Reach, rows: list[slice], columns: list[slice]) -> int:
    """Return over how many pixels blocks that are not exact fade into their neighbours; see `plan_blocks`."""
    shortest: int = min(rows[0].stop, columns[0].stop)
    return min(-(-_FADE // reach.multiple) * reach.multiple, shortest)


def blocks_of(
    source: PlaneImage, recipe: Recipe, block: int = BLOCK, chunk: int = CHUNK
) -> tuple[list[slice], list[slice], Reach | None]:
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
    check_block(source, recipe, area)
    return rows, columns, reach


def parts_of(source: PlaneImage, recipe: Recipe, block: int = BLOCK, chunk: int = CHUNK) -> list[Part]:
    """Cut an image into what is processed at once; see `write_iter`."""
    rows, columns, reach = blocks_of(source, recipe, block, chunk)
    if len(rows) * len(columns) == 1:
        tile = with_halo(rows[0], columns[0], None, source.plane_shape)
        return [Part(indices, tile) for indices in source.chunks()]
    tiles = [with_halo(y, x, reach, source.plane_shape) for y, x in product(rows, columns)]
    return [Part([index], tile) for index in source.indices() for tile in tiles]
