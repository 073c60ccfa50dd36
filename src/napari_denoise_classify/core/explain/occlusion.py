"""Occlusion: how much a class loses when a part of the image is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..parameters import param
from ..progress import Steps, within
from ..steps import step
from .variants import blurred, proba_of_variants_iter, starts, tent

if TYPE_CHECKING:
    from ..classify.bundle import Classifier


@step(
    "occlusion",
    kind="explain",
    title="Occlusion",
    reference="Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV (2014), "
    "doi:10.1007/978-3-319-10590-1_53",
)
def occlusion(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    targets: npt.NDArray[np.intp],
    *,
    patch_size: Annotated[
        int | None,
        param("Side of the square that is hidden; nothing = a quarter of the crop's shorter side.", unit="px", ge=1),
    ] = None,
    stride: Annotated[
        int | None, param("How far the square moves; nothing = half of its side.", unit="px", ge=1)
    ] = None,
    fill: Annotated[
        Literal["blurred", "mean"],
        param(
            "What hides: the blurred image, or its mean colour. Blur hides details; the mean hides brightness, too, "
            "but its edges may mislead the classifier."
        ),
    ] = "blurred",
) -> Steps[list[FloatArray]]:
    """Loss of the class's probability where a moving square hides the image; for every classifier."""
    proba = yield from within(classifier.proba_of_scaled_iter(scaled), 0.0, 0.05)
    whole = proba[np.arange(len(scaled)), targets]
    sizes, places = [], []
    for i, image in enumerate(scaled):
        height, width = image.shape[:2]
        size = patch_size or max(1, round(min(height, width) / 4))
        if size > min(height, width):
            raise ValueError(
                f"patch_size={size} is not allowed: give at most the crops' shorter side, {min(height, width)}."
            )
        step_size = stride or max(1, size // 2)
        if step_size > size:
            raise ValueError(f"stride={step_size} is not allowed: give at most the patch size, {size}.")
        sizes.append(size)
        places += [(i, y, x) for y in starts(height, size, step_size) for x in starts(width, size, step_size)]
    covers = [
        blurred(image) if fill == "blurred" else np.broadcast_to(image.mean((0, 1)), image.shape) for image in scaled
    ]

    def occluded(k: int) -> FloatArray:
        i, y, x = places[k]
        here = slice(y, y + sizes[i]), slice(x, x + sizes[i])
        variant = scaled[i].copy()
        variant[here] = covers[i][here]
        return variant

    work = proba_of_variants_iter(classifier, len(places), occluded, max(image.size for image in scaled), "hiding")
    changed = yield from within(work, 0.05, 1.0)
    lost = [np.zeros(image.shape[:2], np.float32) for image in scaled]
    weights = [np.zeros(image.shape[:2], np.float32) for image in scaled]
    for (i, y, x), p in zip(places, changed, strict=True):
        here = slice(y, y + sizes[i]), slice(x, x + sizes[i])
        weight = tent(sizes[i])
        lost[i][here] += weight * (whole[i] - p[targets[i]])
        weights[i][here] += weight
    return [one / weight for one, weight in zip(lost, weights, strict=True)]
