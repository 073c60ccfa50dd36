"""From an image to its classes and their reasons: prepare, classify, explain, outline, in one piece of work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .classify.preparing import BoolArray, prepare_masked_iter
from .classify.sampling import crop_around
from .explain.attribution import check_target, explain_scaled_iter
from .explain.contours import critical_area
from .images import FloatArray, Index, IntensityRange, PlaneImage
from .progress import Progress, Steps, run, within
from .recipe import Recipe

if TYPE_CHECKING:
    from .classify.bundle import Classifier


@dataclass(frozen=True, eq=False)
class Classified:
    """What `classify_iter` found.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each sample: its position in pixels (the leading axes, then ``y`` and ``x``), ``class``,
        ``probability`` of that class, and ``p_<class>`` for each class. ``explained`` is the class that the heat map
        is about, where there is one.
    image : array
        What the recipe made of the image, in its axes and dtype. With positions: of the crops around them; the rest is
        as it was.
    mask : array of bool, or None
        The pixels that the recipe's masks kept, as for `Processed`.
    kept : float
        Fraction of the samples' pixels that the masks kept.
    heat : array of float32, or None
        The image's axes without S; 0 where nothing was explained.
    contours : list of (int, (N, D) array)
        Row of the table, and a closed contour of its critical area.
    crop_size : int or None
        Side of the crops; None for whole planes.
    """

    table: Any
    image: Any
    mask: Any
    kept: float
    heat: FloatArray | None
    contours: list[tuple[int, npt.NDArray[np.float64]]]
    crop_size: int | None
    record: dict[str, Any] = field(default_factory=dict)


def scale_of(classifier: Classifier, source: PlaneImage) -> IntensityRange:
    """Return the intensity range for a classifier's samples out of an image.

    It is that of the training images where the dtype is the same, so that brightness means what it meant then; else
    the range of this image.
    """
    if str(source.data.dtype) == classifier.dtype:
        return classifier.intensity_range
    ranges = source.ranges("image").values()
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def classify(
    image: Any,
    classifier: Classifier,
    *,
    axes: str | None = None,
    rgb: bool = False,
    centres: npt.ArrayLike | None = None,
    ids: npt.ArrayLike | None = None,
    crop_size: int | None = None,
    recipe: Recipe | None = None,
    explain: str | None = None,
    target: str | None = None,
    fraction: float = 0.2,
) -> Classified:
    """Classify an image's planes, or crops around positions, and explain the outcome.

    Parameters
    ----------
    image : array-like
    classifier : Classifier
    axes, rgb
        As for `Recipe.apply`.
    centres : (N, D) array, optional
        Positions in pixels: leading axes, Y, X. Default: each plane is one sample.
    ids : (N,) array of int, optional
        Numbers of the objects at these positions, for the table's column ``label``.
    crop_size : int, optional
        Side of the crops; default: that of the training crops.
    recipe : Recipe, optional
        Instead of the classifier's own.
    explain : str, optional
        Id of a method, to compute heat maps and critical areas.
    target : str, optional
        The class to explain; default: each sample's predicted one.
    fraction : float
        Size of the critical area.

    Returns
    -------
    Classified

    Raises
    ------
    ValueError
        If the image is not of the kind that the classifier knows, or positions lie outside it.
    """
    work = classify_iter(
        image,
        classifier,
        axes=axes,
        rgb=rgb,
        centres=None if centres is None else np.asarray(centres, float),
        ids=ids,
        crop_size=crop_size,
        recipe=recipe,
        explain=explain,
        target=target,
        fraction=fraction,
    )
    return run(work)


def classify_iter(
    image: Any,
    classifier: Classifier,
    *,
    axes: str | None = None,
    rgb: bool = False,
    centres: npt.NDArray[Any] | None = None,
    ids: npt.ArrayLike | None = None,
    crop_size: int | None = None,
    recipe: Recipe | None = None,
    explain: str | None = None,
    target: str | None = None,
    fraction: float = 0.2,
) -> Steps[Classified]:
    """As `classify`, with progress; ``image`` may be a `PlaneImage`."""
    import pandas as pd

    source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
    if source.samples != classifier.samples:
        want, got = ("RGB", "gray") if classifier.samples == 3 else ("gray", "RGB")
        raise ValueError(f"This classifier was trained on {want} images, and this image is {got}.")
    check_target(classifier, target)
    recipe = classifier.recipe if recipe is None else recipe
    yield Progress(0.0, "cutting samples")
    if centres is None:
        indices = list(source.indices())
        crops = [source.raw_plane(index)[..., : 3 if source.rgb else None] for index in indices]
        height, width = source.plane_shape
        positions = np.array([(*index, (height - 1) / 2, (width - 1) / 2) for index in indices], float)
        corners = [(index, 0, 0) for index in indices]
    else:
        crop_size = crop_size or classifier.crop_size
        positions = np.asarray(centres, float)
        if len(positions) == 0:
            raise ValueError("There are no positions to classify: add points or objects first.")
        crops = crop_around(source, positions, crop_size)
        half = crop_size // 2
        n = len(source.lead_shape)
        whole = np.rint(positions).astype(int)
        corners = [(tuple(row[:n].tolist()), int(row[n]) - half, int(row[n + 1]) - half) for row in whole]
    processed, scaled, masks = yield from within(
        prepare_masked_iter(crops, recipe, scale_of(classifier, source)), 0.0, 0.4
    )
    proba = yield from within(classifier.proba_of_scaled_iter(scaled), 0.4, 0.7, "classifying")
    labels = classifier.label(proba)
    table = pd.DataFrame(positions, columns=[*source.lead_names, "y", "x"])
    table["class"] = labels
    table["probability"] = proba.max(axis=1)
    for i, name in enumerate(classifier.classes):
        table[f"p_{name}"] = proba[:, i]
    if ids is not None:
        table["label"] = np.asarray(ids)
    heat, contours = None, []
    if explain is not None:
        table["explained"] = labels if target is None else target
        heats = yield from within(
            explain_scaled_iter(classifier, scaled, explain, target, proba), 0.7, 0.95, "explaining"
        )
        heat = np.zeros((*source.lead_shape, *source.plane_shape), np.float32)
        for row, (one, (index, top, left)) in enumerate(zip(heats, corners, strict=True)):
            _paste(heat[index], one, top, left, np.maximum)
            corner = np.array((top, left))
            for contour in critical_area(one, fraction):
                lead = np.tile(np.array(index, float), (len(contour), 1))
                # A crop may hang over the image's border; its outline must not.
                inside = np.clip(contour + corner, -0.5, np.array(source.plane_shape) - 0.5)
                contours.append((row, np.hstack([lead, inside])))
        heat = PlaneImage(heat, source.axes.replace("S", "")).unwrap(heat)
        yield Progress(0.95, "outlining")
    canvas, mask, kept = _mosaic(source, processed, corners, masks)
    return Classified(
        table=table,
        image=canvas,
        mask=mask,
        kept=kept,
        heat=heat,
        contours=contours,
        crop_size=None if centres is None else crop_size,
        record={
            **recipe.record(source.samples),
            "classifier": classifier.record(),
            "recipe_matches_training": recipe == classifier.recipe,
            "explanation": None if explain is None else {"method": explain, "target": target, "fraction": fraction},
            "crop_size": None if centres is None else crop_size,
        },
    )


def _mosaic(
    source: PlaneImage,
    processed: list[npt.NDArray[Any]],
    corners: list[tuple[Index, int, int]],
    masks: list[BoolArray] | None,
) -> tuple[Any, Any, float]:
    """Put processed samples back at their places: what the classifier saw."""
    canvas = np.array(source.data)
    for sample, (index, top, left) in zip(processed, corners, strict=True):
        plane = canvas[index]
        _paste(plane[..., :3] if source.rgb else plane, sample, top, left)
    if masks is None:
        return source.unwrap(canvas), None, 1.0
    mask = np.zeros((*source.lead_shape, *source.plane_shape), bool)
    for sample, (index, top, left) in zip(masks, corners, strict=True):
        _paste(mask[index], sample, top, left, np.logical_or)
    kept = float(np.mean([sample.mean() for sample in masks]))
    return source.unwrap(canvas), PlaneImage(mask, source.axes.replace("S", "")).unwrap(mask), kept


def _paste(canvas: npt.NDArray[Any], patch: npt.NDArray[Any], top: int, left: int, combine: Any = None) -> None:
    """Put a patch onto a plane; what hangs over the border is cut off."""
    height, width = patch.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(canvas.shape[0], top + height), min(canvas.shape[1], left + width)
    part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    here = canvas[y0:y1, x0:x1]
    here[...] = part if combine is None else combine(here, part)
