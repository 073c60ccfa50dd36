"""Putting what was made of samples back to their places in the image: at once, or where it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from ..images import IntensityRange, PlaneImage
from ..progress import run
from ..recipe import Recipe
from .batches import Samples
from .cutting import cut_iter
from .datasets import Image
from .preparing import prepare_masked_iter

_SIDE = 1024  # of the blocks of a lazy result, in pixels

Patches = Callable[[npt.NDArray[np.intp]], Sequence[Image]]
"""Makes the patches of some samples, given their rows."""


def paste(canvas: npt.NDArray[Any], patch: npt.NDArray[Any], top: int, left: int, combine: Any = None) -> None:
    """Put a patch onto a plane; what hangs over the border is cut off.

    Parameters
    ----------
    canvas : (Y, X) or (Y, X, S) array
    patch : (y, x) or (y, x, S) array
    top, left : int
        Where its upper left corner lies; it may be outside.
    combine : callable, optional
        Takes what is there and what is put onto it; default: the patch covers it.
    """
    height, width = patch.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(canvas.shape[0], top + height), min(canvas.shape[1], left + width)
    part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    here = canvas[y0:y1, x0:x1]
    here[...] = part if combine is None else combine(here, part)


def paste_lazily(samples: Samples, patches: Patches, background: Any, combine: Any = None) -> Any:
    """Put patches into an image where it is looked at.

    Parameters
    ----------
    samples : Samples
        Of a lazy image.
    patches : callable
        Called with the rows of the samples that meet a block.
    background : dask array, or dtype
        What is where no sample is: leading axes, Y, X and perhaps S; or 0 of this dtype everywhere, without S.
    combine
        As for `paste`.

    Returns
    -------
    dask array
        In the background's order of axes.
    """
    import dask.array as da

    source, planes, corners = samples.source, samples.planes_of, samples.corners
    n_lead = len(source.lead_shape)
    side: int = max(source.plane_shape) if samples.sizes is None else _SIDE
    shape = (*source.lead_shape, *source.plane_shape)
    chunks = (*(1 for _ in source.lead_shape), *(min(side, n) for n in source.plane_shape))
    if hasattr(background, "dask"):
        background = background.rechunk((*chunks, *background.shape[n_lead + 2 :]))
    else:
        background = da.zeros(shape, dtype=background, chunks=chunks)
    sizes = np.array(source.plane_shape) if samples.sizes is None else samples.sizes[:, None]
    lock = Lock()  # networks use all cores by themselves

    def block(part: npt.NDArray[Any], block_info: Any = None) -> npt.NDArray[Any]:
        start, stop = np.array(block_info[0]["array-location"])[: n_lead + 2].T
        here = ((corners < stop[n_lead:]) & (corners + sizes > start[n_lead:])).all(axis=1)
        rows = np.flatnonzero(here & (planes == start[:n_lead]).all(axis=1))
        if len(rows) == 0:
            return part
        out = part.copy()
        plane = out[(0,) * n_lead]
        plane = plane[..., :3] if plane.ndim == 3 else plane
        with lock:
            made = patches(rows)
        for row, patch in zip(rows.tolist(), made, strict=True):
            top, left = (corners[row] - start[n_lead:]).tolist()
            paste(plane, patch, top, left, combine)
        return out

    meta = np.empty((0,) * background.ndim, background.dtype)
    # napari keeps what dask computed by name: no two results may share one
    return da.map_blocks(block, background, name=f"pasted-{uuid4().hex}", dtype=background.dtype, meta=meta)


def prepared_lazily(samples: Samples, recipe: Recipe, scale: IntensityRange, kept: Any = None) -> tuple[Any, Any]:
    """Return what a recipe makes of samples, at their places in a lazy image.

    Parameters
    ----------
    samples, recipe, scale
        As for `classify_samples_iter`.
    kept : sequence of arrays, optional
        The prepared samples in the image's dtype, where they are at hand; else they are made again where they are
        looked at.

    Returns
    -------
    image : dask array
        In the image's axes; where no sample is, it is as it was.
    mask : dask array of bool, or None
        What the recipe's masks kept, without S.
    """
    source = samples.source
    if not recipe:
        return source.unwrap(source.data), None

    def prepared(rows: npt.NDArray[np.intp], masks: bool = False) -> list[Any]:
        images: list[Image] = [np.empty(0)] * len(rows)
        if samples.sizes is None:
            images = [source.raw_plane(tuple(index)) for index in samples.planes_of[rows].tolist()]
            images = [image[..., :3] if source.rgb else image for image in images]
        else:
            positions = np.rint(samples.positions[rows]).astype(int)
            for some, cut in cut_iter(source, positions, samples.sizes[rows]):
                for k, crop in zip(some.tolist(), cut, strict=True):
                    images[k] = crop
        made, _, what = run(prepare_masked_iter(images, recipe, scale))
        return list(what or ()) if masks else made

    def at_hand(rows: npt.NDArray[np.intp]) -> list[Image]:
        return [kept[row] for row in rows.tolist()]

    image = source.unwrap(paste_lazily(samples, prepared if kept is None else at_hand, source.data))
    if not recipe.masks:
        return image, None
    mask = paste_lazily(samples, lambda rows: prepared(rows, masks=True), np.bool_, np.logical_or)
    return image, PlaneImage(mask, source.axes.replace("S", "")).unwrap(mask)
