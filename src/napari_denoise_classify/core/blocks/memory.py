"""Refuse what does not fit into memory, before the work begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..device import available_memory
from ..images import PlaneImage

if TYPE_CHECKING:
    from ..recipe import Recipe

_WORKING = 40  # bytes of memory for each value of a block under work, about
_SPARE = 0.9  # the part of the free memory that is used
_SMALL = 2**28  # bytes that are always there


def check_block(source: PlaneImage, recipe: Recipe, area: int) -> None:
    """Refuse blocks that are too large.

    Parameters
    ----------
    source : PlaneImage
    recipe : Recipe
    area : int
        Pixels of the largest block.

    Raises
    ------
    MemoryError
        Telling what would need less memory.
    """
    needed = area * source.samples * recipe.upscale**2 * _WORKING
    if needed > _SMALL and needed > _SPARE * (free := available_memory()):
        height, width = source.plane_shape
        raise MemoryError(
            f"One plane of {height} × {width} pixels needs about {_gigabytes(needed)} of memory, and "
            f"{_gigabytes(free)} are free: {_advice(recipe, source.samples)}."
        )


def check_result(source: PlaneImage, recipe: Recipe) -> None:
    """Refuse a result that does not fit into memory.

    Raises
    ------
    MemoryError
    """
    values = math.prod(source.data.shape) * recipe.upscale**2
    needed = values * source.data.dtype.itemsize + recipe.masks * values // (source.data.shape[-1] if source.rgb else 1)
    if needed > _SMALL and needed > _SPARE * (free := available_memory()):
        raise MemoryError(
            f"The result takes {_gigabytes(needed)}, and {_gigabytes(free)} of memory are free: write it to a file "
            "(.zarr) instead, or process a part of the image."
        )


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
