"""Heat maps of whole large images, put together from tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray, PlaneImage
from ..progress import Steps, run, within
from .attribution import Method, check_target, influence_iter, normalised, read_method
from .variants import starts, tent

if TYPE_CHECKING:
    from ..classify.bundle import Classifier
    from ..recipe import Recipe

_BATCH_FLOATS = 2**24


def explain_map(
    classifier: Classifier,
    image: Any,
    target: str,
    size: int | None = None,
    stride: int | None = None,
    method: Method = "gradcam",
    *,
    axes: str | None = None,
    rgb: bool = False,
    recipe: Recipe | None = None,
) -> FloatArray:
    """Compute the heat map of a large image for one class.

    Tiles are explained one by one, as the classifier saw crops of that size; where they overlap, their influence is
    averaged, weighted by the nearness to each tile's centre. Influence is put on a scale of 0 to 1 once, for the
    whole image, so that tiles in which nothing speaks for the class stay dark. Memory holds one row of tiles at a
    time, and the result: the image may be lazy.

    Parameters
    ----------
    classifier : Classifier
    image : array-like
        One plane (Y, X) or (Y, X, 3), numpy, dask or zarr; or a `PlaneImage`.
    target : str
        The class.
    size : int, optional
        Side of the tiles in pixels. Default: that of the training crops.
    stride : int, optional
        How far tiles are apart. Default: half of the size.
    method : str or (str, mapping)
    axes, rgb
        As for `Recipe.apply`.
    recipe : Recipe, optional
        Instead of the classifier's own.

    Returns
    -------
    (Y, X) float32
        From 0 to 1.

    Raises
    ------
    ValueError
        If the image has more than one plane or is smaller than a tile, or for a stride above the size.
    """
    work = explain_map_iter(classifier, image, target, size, stride, method, axes=axes, rgb=rgb, recipe=recipe)
    return run(work)


def explain_map_iter(
    classifier: Classifier,
    image: Any,
    target: str,
    size: int | None = None,
    stride: int | None = None,
    method: Method = "gradcam",
    *,
    axes: str | None = None,
    rgb: bool = False,
    recipe: Recipe | None = None,
) -> Steps[FloatArray]:
    """As `explain_map`, with progress."""
    spec, parameters = read_method(method)
    check_target(classifier, target)
    source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
    if any(length != 1 for length in source.lead_shape):
        raise ValueError(f"The image has {int(np.prod(source.lead_shape))} planes: give one plane at a time.")
    plane = source.data[(0,) * len(source.lead_shape)]
    height, width = source.plane_shape
    size = size or classifier.crop_size
    stride = stride or max(1, size // 2)
    if size > min(height, width):
        raise ValueError(
            f"size={size} is not allowed: the image has {height} × {width} pixels; give at most {min(height, width)}."
        )
    if not 1 <= stride <= size:
        raise ValueError(f"stride={stride} is not allowed: give 1 to {size}, so that no pixel is left out.")
    scale = yield from within(classifier.scale_of_iter(source), 0.0, 0.1)
    lefts, tops = starts(width, size, stride), starts(height, size, stride)
    weight = tent(size)
    heat = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    batch = max(1, _BATCH_FLOATS // (size * size * source.samples))
    for row, top in enumerate(tops):
        band = np.asarray(plane[top : top + size])[..., : 3 if source.rgb else None]
        for first in range(0, len(lefts), batch):
            some = lefts[first : first + batch]
            start, stop = ((row + (first + n) / len(lefts)) / len(tops) for n in (0, len(some)))
            tiles = [band[:, left : left + size] for left in some]
            work = _influence_of(classifier, tiles, target, (spec.id, parameters), recipe, scale)
            maps = yield from within(work, 0.1 + 0.9 * start, 0.1 + 0.9 * stop, f"row {row + 1} of {len(tops)}")
            for left, one in zip(some, maps, strict=True):
                here = slice(top, top + size), slice(left, left + size)
                heat[here] += weight * one
                weights[here] += weight
    heat /= weights
    return normalised(heat)


def _influence_of(
    classifier: Classifier,
    tiles: list[npt.NDArray[Any]],
    target: str,
    method: Method,
    recipe: Recipe | None,
    scale: tuple[float, float],
) -> Steps[list[FloatArray]]:
    _, scaled = yield from within(classifier.prepare_iter(tiles, recipe, scale), 0.0, 0.3)
    targets = np.full(len(scaled), classifier.classes.index(target))
    return (yield from within(influence_iter(classifier, scaled, method, targets), 0.3, 1.0))
