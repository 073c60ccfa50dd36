"""From crops in their own dtype to what an estimator sees: the recipe applied, values from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..images import FloatArray, IntensityRange, PlaneImage
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from .datasets import Image


def dataset_range(images: Sequence[Image]) -> tuple[float, float]:
    """Return the intensity range over all images."""
    ranges: list[tuple[float, float]] = []
    for image in images:
        ranges.extend(PlaneImage.wrap(image, rgb=image.ndim == 3).ranges("image").values())
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def prepare_iter(
    images: Sequence[Image], recipe: Recipe, intensity_range: IntensityRange
) -> Steps[tuple[list[Image], list[FloatArray]]]:
    """Apply a recipe to crops, those of equal shape together, and scale them to 0..1; see `Classifier.prepare_iter`."""
    if recipe.upscale != 1:
        raise ValueError(
            "A recipe that enlarges images cannot prepare them for a classifier: set upscale to 1, or enlarge the "
            "images first and train on those."
        )
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(i)
    processed: list[Image] = [np.empty(0)] * len(images)
    scaled: list[FloatArray] = [np.empty(0, np.float32)] * len(images)
    done = 0
    for shape, indices in shapes.items():
        stack = np.stack([images[i] for i in indices])
        axes = "?YXS" if len(shape) == 3 else "?YX"
        source = PlaneImage.wrap(stack, axes)
        if recipe:
            result = yield from within(
                recipe.apply_iter(source, intensity_range=intensity_range),
                done / len(images),
                (done + len(indices)) / len(images),
                "preparing",
            )
            source = PlaneImage.wrap(result.image, axes)
        planes = list(source.indices())
        floats = source.planes(planes, source.ranges(intensity_range))
        for k, i in enumerate(indices):
            processed[i], scaled[i] = source.data[k], floats[k]
        done += len(indices)
        yield Progress(done / len(images), "preparing")
    return processed, scaled
