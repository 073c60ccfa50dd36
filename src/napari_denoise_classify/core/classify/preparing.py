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

BoolArray: TypeAlias = npt.NDArray[np.bool_]


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
    processed, scaled, _ = yield from prepare_masked_iter(images, recipe, intensity_range)
    return processed, scaled


def prepare_masked_iter(
    images: Sequence[Image], recipe: Recipe, intensity_range: IntensityRange
) -> Steps[tuple[list[Image], list[FloatArray], list[BoolArray] | None]]:
    """As `prepare_iter`; also returns what the recipe's masks kept of each crop, None if it has none."""
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
    masks: list[BoolArray] | None = [np.empty(0, bool)] * len(images) if recipe.masks else None
    done = 0
    for shape, indices in shapes.items():
        stack = np.stack([images[i] for i in indices])
        axes = "?YXS" if len(shape) == 3 else "?YX"
        source = PlaneImage.wrap(stack, axes)
        kept = None
        if recipe:
            result = yield from within(
                recipe.apply_iter(source, intensity_range=intensity_range),
                done / len(images),
                (done + len(indices)) / len(images),
                "preparing",
            )
            source, kept = PlaneImage.wrap(result.image, axes), result.mask
        floats = _scale(source, intensity_range)
        for k, i in enumerate(indices):
            processed[i], scaled[i] = source.data[k], floats[k]
            if masks is not None and kept is not None:
                masks[i] = kept[k]
        done += len(indices)
        yield Progress(done / len(images), "preparing")
    return processed, scaled, masks


def _scale(source: PlaneImage, intensity_range: IntensityRange) -> FloatArray:
    """Return the planes of a stack as `PlaneImage.planes` does, (N, Y, X, S) float32; all at once if of one range."""
    wide = np.float32 if source.data.dtype.itemsize <= 2 or source.data.dtype == np.float32 else np.float64
    if not isinstance(intensity_range, tuple) or (source.data.dtype.kind == "f" and not np.isfinite(source.data).all()):
        return source.planes(list(source.indices()), source.ranges(intensity_range))
    low, high = intensity_range
    data = source.data[..., :3] if source.rgb else source.data[..., None]
    out = np.empty(data.shape, np.float32)
    np.subtract(data, low, out=out, casting="unsafe", dtype=wide)
    out /= high - low
    return out
