"""From crops in their own dtype to what an estimator sees: the recipe applied, values from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..images import FloatArray, IntensityRange, PlaneImage
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from .datasets import Image
from .scaled import ScaledCrops

BoolArray: TypeAlias = npt.NDArray[np.bool_]


def dataset_range(images: Sequence[Image]) -> tuple[float, float]:
    """Return the intensity range over all images."""
    ranges: list[tuple[float, float]] = []
    for image in images:
        ranges.extend(PlaneImage.wrap(image, rgb=image.ndim == 3).ranges("image").values())
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def prepare_iter(
    images: Sequence[Image], recipe: Recipe, intensity_range: IntensityRange
) -> Steps[tuple[list[Image], Sequence[FloatArray]]]:
    """Apply a recipe to crops, those of equal shape together, and scale them to 0..1; see `Classifier.prepare_iter`.

    The range of the recipe, where it has one of its own, is for its steps; ``intensity_range`` is for the scale, and
    for the steps of other recipes.
    """
    processed, scaled, _ = yield from prepare_masked_iter(images, recipe, intensity_range)
    return processed, scaled


def prepare_masked_iter(
    images: Sequence[Image], recipe: Recipe, intensity_range: IntensityRange
) -> Steps[tuple[list[Image], Sequence[FloatArray], list[BoolArray] | None]]:
    """As `prepare_iter`; also returns what the recipe's masks kept of each crop, None if it has none."""
    if recipe.upscale != 1:
        raise ValueError(
            "A recipe that enlarges images cannot prepare them for a classifier: set upscale to 1, or enlarge the "
            "images first and train on those."
        )
    if not recipe and isinstance(intensity_range, tuple):
        _refuse_not_finite(images)
        yield Progress(1.0, "preparing")
        return list(images), ScaledCrops(images, intensity_range), None
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(i)
    processed: list[Image] = [np.empty(0)] * len(images)
    floats: list[FloatArray] = [np.empty(0, np.float32)] * (0 if isinstance(intensity_range, tuple) else len(images))
    masks: list[BoolArray] | None = [np.empty(0, bool)] * len(images) if recipe.masks else None
    done = 0
    for shape, indices in shapes.items():
        stack = np.stack([images[i] for i in indices])
        axes = "?YXS" if len(shape) == 3 else "?YX"
        source = PlaneImage.wrap(stack, axes)
        kept = None
        if recipe:
            result = yield from within(
                recipe.apply_iter(source, intensity_range=_range_of_steps(recipe, intensity_range)),
                done / len(images),
                (done + len(indices)) / len(images),
                "preparing",
            )
            source, kept = PlaneImage.wrap(result.image, axes), result.mask
        for k, i in enumerate(indices):
            processed[i] = source.data[k]
            if masks is not None and kept is not None:
                masks[i] = kept[k]
        if not isinstance(intensity_range, tuple):  # each crop has a scale of its own
            planes = source.planes(list(source.indices()), source.ranges(intensity_range))
            for k, i in enumerate(indices):
                floats[i] = planes[k]
        done += len(indices)
        yield Progress(done / len(images), "preparing")
    if not isinstance(intensity_range, tuple):
        return processed, floats, masks
    _refuse_not_finite(processed)
    return processed, ScaledCrops(processed, intensity_range), masks


def _range_of_steps(recipe: Recipe, intensity_range: IntensityRange) -> IntensityRange:
    """Return what maps to the scale on which a recipe's steps see crops."""
    own = recipe.intensity_range
    if own == "image":  # a crop is no image: what belongs together are all crops
        return intensity_range
    return "plane" if own == "stack" else own  # crops of a batch are no stack


def _refuse_not_finite(images: Sequence[Image]) -> None:
    for image in images:
        if image.dtype.kind == "f":
            PlaneImage.wrap(image, rgb=image.ndim == 3).raw_plane(())
