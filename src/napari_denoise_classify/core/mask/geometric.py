"""Masks that depend on the shape of the image alone: centre, non-centre, random grid."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt

from ..filling import Fill
from ..images import FloatArray
from ..parameters import param
from ..steps import step

BoolArray: TypeAlias = npt.NDArray[np.bool_]

REFERENCE_SIDE = 224
"""The image side, in pixels, on which the radius is given."""

_Radius = Annotated[
    float,
    param(
        "Radius of the circle on an image of 224 × 224 px; it scales with the shorter side.",
        unit="px",
        ge=1,
        le=160,
        step=1,
    ),
]
_EqualArea = Annotated[
    bool,
    param("Choose the radius so that half of the pixels are kept, for a fair pair with non-centre."),
]


def _circle(planes: FloatArray, radius: float, equal_area: bool) -> BoolArray:
    height, width = planes.shape[1:3]
    y = np.arange(height) - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    squared = y[:, None] ** 2 + x[None, :] ** 2
    limit = np.median(squared) if equal_area else (radius * min(height, width) / REFERENCE_SIDE) ** 2
    return np.broadcast_to(squared <= limit, planes.shape[:3])


@step("centre", kind="mask", title="Centre", reference="Circular crop at the image centre")
def centre(
    planes: FloatArray, *, radius: _Radius = 80.0, equal_area: _EqualArea = False, fill: Fill = "zero"
) -> BoolArray:
    """Keep a circle at the centre; everything around it is filled."""
    return _circle(planes, radius, equal_area)


@step("non_centre", kind="mask", title="Non-centre", reference="Complement of the centre mask")
def non_centre(
    planes: FloatArray, *, radius: _Radius = 80.0, equal_area: _EqualArea = False, fill: Fill = "zero"
) -> BoolArray:
    """Keep everything around a circle at the centre; the circle is filled."""
    return ~_circle(planes, radius, equal_area)


@step("random", kind="mask", title="Random grid", reference="Random grid occlusion")
def random(
    planes: FloatArray,
    *,
    grid: Annotated[int, param("Cells along each side.", ge=1, le=200)] = 10,
    fraction: Annotated[float, param("Part of the cells that is kept.", ge=0.0, le=1.0, step=0.05)] = 0.5,
    seed: Annotated[int, param("Which cells: the same seed keeps the same ones.", ge=0, le=2**31 - 1)] = 0,
    fill: Fill = "zero",
) -> BoolArray:
    """Keep randomly chosen cells of a grid, the same for every plane; the others are filled."""
    height, width = planes.shape[1:3]
    if grid > min(height, width):
        raise ValueError(
            f"random: grid={grid} is not allowed for planes of {height} × {width} px; "
            f"give at most {min(height, width)}."
        )
    cells = np.zeros(grid * grid, bool)
    chosen = np.random.default_rng(seed).permutation(grid * grid)
    cells[chosen[: round(fraction * grid * grid)]] = True
    # Pixel y lies in cell floor(y · grid / height), so that sides need not be multiples of the grid.
    row = (np.arange(height) * grid) // height
    column = (np.arange(width) * grid) // width
    mask = cells.reshape(grid, grid)[row[:, None], column[None, :]]
    return np.broadcast_to(mask, planes.shape[:3])
