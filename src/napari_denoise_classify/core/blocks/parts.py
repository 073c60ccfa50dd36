"""Process one part of an image: a block of a plane, or several small planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..images import Index, PlaneImage
from ..inference import Tile, enlarged
from ..progress import Steps
from .plan import Part

if TYPE_CHECKING:
    from ..recipe import Recipe

Ranges = dict[Index, tuple[float, float]]


class Target(Protocol):
    """What results are written into, region by region: an array, a memory map, a zarr array."""

    def __getitem__(self, region: tuple[slice, ...], /) -> npt.NDArray[Any]: ...

    def __setitem__(self, region: tuple[slice, ...], values: npt.NDArray[Any], /) -> None: ...


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
    rows, columns = enlarged(tile.crop, recipe.upscale)
    return pixels[:, rows, columns], done.kept[:, rows, columns]


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
    region = enlarged(part.tile.inner, recipe.upscale)
    for k, index in enumerate(part.indices):
        lead = tuple(slice(n, n + 1) for n in index)
        shape = (1,) * len(lead)
        colour = (slice(None),) * (pixels.ndim - 3)
        target[(*lead, *region, *colour)] = pixels[k].reshape(*shape, *pixels.shape[1:])
        if mask is not None:
            mask[(*lead, *region)] = keep[k].reshape(*shape, *keep.shape[1:])
    return int(keep.sum()), keep.size
