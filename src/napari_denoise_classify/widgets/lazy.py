"""Lazy and multiscale layers: denoised as they are looked at, or written to OME-Zarr block by block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.blocks.lazy import lazily
from ..core.files import ImageFile
from ..core.images import PlaneImage
from ..core.ome_zarr.axes import Axis, unit_name
from ..core.ome_zarr.reading import SUFFIX, OmeZarr, read_ome_zarr
from ..core.progress import Steps, within
from ..core.recipe import Recipe
from ..core.storing import process_file_iter
from .layers import Source, add_image_like, levels_as_shown, transform_of

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

BLOCK = 512
"""Side of the blocks of a lazy layer: small, because a view waits for all that it shows."""

_Ranges = dict[tuple[int, ...], tuple[float, float]]


def is_lazy(layer: Image | None) -> bool:
    """Say whether a layer is made for looking at parts of it: multiscale, or not in memory."""
    return layer is not None and (layer.multiscale or not isinstance(layer.data, np.ndarray))


def render_apart() -> bool:
    """Have napari slice layers in a thread, so that the window does not wait for what is computed.

    napari has one preference for that for all of its layers, and slices in the window's own thread by default.

    Returns
    -------
    bool
        Whether it was switched on now.
    """
    from napari.settings import get_settings

    experimental = get_settings().experimental
    if experimental.async_:
        return False
    experimental.async_ = True
    return True


def lazy_levels_iter(recipe: Recipe, source: Source, layer: Image) -> Steps[list[Any]]:
    """Return each level of a layer denoised by itself, as dask arrays; only the intensity range is found at once.

    Raises
    ------
    MemoryError
        If planes have to be processed whole and are too large.
    """
    import dask.array as da

    data = list(layer.data) if layer.multiscale else [layer.data]
    ranges = yield from within(source.image.ranges_iter(recipe.intensity_range), 0.0, 1.0)
    levels = []
    for level in data:
        array = da.asarray(level) if hasattr(level, "dask") else da.from_array(level)
        levels.append(lazily(recipe, PlaneImage.wrap(array, source.image.axes), ranges, BLOCK, 1))
    return levels


def store_iter(recipe: Recipe, source: Source, layer: Image, path: Path) -> Steps[Path]:
    """Apply a recipe to a layer and write the result to an OME-Zarr folder, block by block.

    Raises
    ------
    ValueError
        If the folder is not called ``.zarr``.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} is no name for OME-Zarr: let it end with .zarr.")
    transform = transform_of(layer)
    spatial = [i for i, letter in enumerate(source.image.axes) if letter != "S"]
    axes = [Axis(letter) for letter in source.image.axes]
    for k, i in enumerate(spatial):
        unit = unit_name(str(transform["units"][k]))
        axes[i] = Axis(source.image.axes[i], float(transform["scale"][k]), float(transform["translate"][k]), unit)
    file = ImageFile(
        source.image.data, source.image.axes, Path(source.name), metadata={"ome_zarr": OmeZarr((), (tuple(axes),))}
    )
    done = yield from process_file_iter(recipe, file, path)
    return done.path


def open_stored(viewer: napari.Viewer, source: Source, path: Path, name: str, record: dict[str, Any]) -> Image:
    """Show what `store_iter` wrote, where its source lies."""
    found = read_ome_zarr(path)
    levels = [levels_as_shown(found.dask(i), found.letters) for i in range(len(found.levels))]
    return add_image_like(viewer, source, levels[0] if len(levels) == 1 else levels, name, record)
