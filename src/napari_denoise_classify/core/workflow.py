"""From an image to its classes and their reasons: prepare, classify, explain, outline, in one piece of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .classify.batches import Samples, classify_samples_iter
from .classify.fields import Sizes
from .classify.memory import check_memory
from .classify.neighbours import Places
from .classify.pasting import paste, paste_lazily, prepared_lazily
from .classify.scaled import ScaledCrops
from .explain.attribution import Method, check_target, read_method
from .explain.contours import outlines
from .explain.reasons import answer_iter, ask
from .images import FloatArray, PlaneImage
from .progress import Progress, Steps, run, within
from .recipe import Recipe

if TYPE_CHECKING:
    from .classify.bundle import Classifier
    from .explain.trust import ExplanationCheck

_RANGE = 0.05  # the part of a run that finding the intensity range counts for
_WORKING = 40  # bytes of memory for each value of a plane under work, about


@dataclass(frozen=True, eq=False)
class Classified:
    """What `classify_iter` found.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each sample: its position in pixels (the leading axes, then ``y`` and ``x``), ``class``,
        ``probability`` of that class, and ``p_<class>`` for each class; ``group`` and ``label`` (the object's number)
        where they were given. With an explanation,
        ``explained`` is the class that it is about, ``critical_px``, ``critical_fraction`` and ``critical_influence``
        are the critical area's size, its part of the pixels and of the influence; with statistics,
        ``probability_kept`` and ``probability_removed`` are the explained class's probability where all but the
        critical area is blurred and where only it is, and ``stability`` tells how well it stays under small noise, 0
        to 1.
    image : array
        What the recipe made of the image, in its axes and dtype. With positions: of the crops around them; the rest is
        as it was. Without a recipe it is the image itself. Of a lazy image it is lazy: made where it is looked at.
    mask : array of bool, or None
        The pixels that the recipe's masks kept, as for `Processed`; lazy where the image is.
    kept : float
        Fraction of the samples' pixels that the masks kept.
    heat : array of float32, or None
        The image's axes without S; 0 where nothing was explained; lazy where the image is.
    contours : list of (int, (N, D) array)
        Row of the table, and a closed contour of its critical area.
    crop_size : int or None
        Side of the crops, the median where they differ; None for whole planes.
    record : dict
        How it was made: recipe, classifier and explanation.
    """

    table: Any
    image: Any
    mask: Any
    kept: float
    heat: FloatArray | None
    contours: list[tuple[int, npt.NDArray[np.float64]]]
    crop_size: int | None
    record: dict[str, Any] = field(default_factory=dict)


def classify(
    image: Any,
    classifier: Classifier,
    *,
    axes: str | None = None,
    rgb: bool = False,
    centres: npt.ArrayLike | None = None,
    ids: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    crop_size: Sizes | None = None,
    pixel_size: float | None = None,
    recipe: Recipe | None = None,
    explain: Method | None = None,
    target: str | None = None,
    fraction: float = 0.2,
    area: str = "top",
    statistics: bool = False,
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
    groups : (N,) array of str, optional
        Patient, slide or field of each position, for the table's column ``group``.
    crop_size : int or (N,) array of int, optional
        Side of the crops in pixels, one for all or one for each; default: that of the training crops.
    pixel_size : float, optional
        Micrometres per pixel: a classifier that was trained on crops of so many µm then takes as many, and one that
        looks at neighbours looks as far.
    recipe : Recipe, optional
        Instead of the classifier's own.
    explain : str or (str, mapping), optional
        Id of a method, or a pair of it and its parameters, to compute heat maps and critical areas.
    target : str, optional
        The class to explain; default: each sample's predicted one.
    fraction : float
        Part of the pixels in the critical area, where ``area`` is ``"top"``.
    area : {"top", "half-maximum", "half-mass"}
        What the critical area is, see `critical_area`.
    statistics : bool
        Whether to ask the classifier what each critical area decides and how stable it is.

    Returns
    -------
    Classified

    Raises
    ------
    ValueError
        If the image is not of the kind that the classifier knows, positions lie outside it, or numbers or groups are
        not one for each.
    """
    work = classify_iter(
        image,
        classifier,
        axes=axes,
        rgb=rgb,
        centres=None if centres is None else np.asarray(centres, float),
        ids=ids,
        groups=groups,
        crop_size=crop_size,
        pixel_size=pixel_size,
        recipe=recipe,
        explain=explain,
        target=target,
        fraction=fraction,
        area=area,
        statistics=statistics,
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
    groups: npt.ArrayLike | None = None,
    crop_size: Sizes | None = None,
    pixel_size: float | None = None,
    recipe: Recipe | None = None,
    explain: Method | None = None,
    target: str | None = None,
    fraction: float = 0.2,
    area: str = "top",
    statistics: bool = False,
) -> Steps[Classified]:
    """As `classify`, with progress; ``image`` may be a `PlaneImage`."""
    import pandas as pd

    source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
    classifier.check_samples(source.samples)
    check_target(classifier, target)
    question = None if explain is None else ask(classifier, explain, target, area, fraction, statistics)
    recipe = classifier.recipe if recipe is None else recipe
    yield Progress(0.0, "cutting samples")
    if centres is None:
        samples = _planes(source, recipe)
    else:
        size = classifier.crop_side(pixel_size) if crop_size is None else crop_size
        samples = Samples.around(source, centres, size)
    for name, given in (("ids", ids), ("groups", groups)):
        if given is not None and np.shape(given) != (len(samples.positions),):
            raise ValueError(
                f"There are {len(samples.positions)} samples, but {name} has the shape {np.shape(given)}: give one for "
                "each."
            )
    scale = yield from within(classifier.scale_of_iter(source), 0.0, _RANGE)
    work = classify_samples_iter(samples, classifier, recipe, scale, keep=explain is not None)
    proba, mosaic, scaled = yield from within(work, _RANGE, 0.98 if explain is None else 0.7)
    if samples.sizes is not None:
        proba = classifier.in_context(proba, Places.of(samples.positions), pixel_size)
    labels = classifier.label(proba)
    table = pd.DataFrame(samples.positions, columns=[*source.lead_names, "y", "x"])
    table["class"] = labels
    table["probability"] = proba.max(axis=1)
    for i, name in enumerate(classifier.classes):
        table[f"p_{name}"] = proba[:, i]
    if groups is not None:
        table["group"] = np.asarray(groups, dtype=np.str_)
    if ids is not None:
        table["label"] = np.asarray(ids)
    heat, contours = None, []
    if question is not None:
        planes_of, corners_of = samples.planes_of.tolist(), samples.corners.tolist()
        corners = [(tuple(index), *corner) for index, corner in zip(planes_of, corners_of, strict=True)]
        heats, areas, reasons = yield from within(
            answer_iter(classifier, scaled, proba, question), 0.7, 0.95, "explaining"
        )
        table = pd.concat([table, reasons], axis=1)
        if source.lazy:
            heat = paste_lazily(samples, lambda rows: [heats[row] for row in rows.tolist()], np.float32, np.maximum)
        else:
            heat = np.zeros((*source.lead_shape, *source.plane_shape), np.float32)
        for row, (one, (index, top, left)) in enumerate(zip(heats, corners, strict=True)):
            if not source.lazy:
                paste(heat[index], one, top, left, np.maximum)
            corner = np.array((top, left))
            for contour in outlines(areas[row]):
                lead = np.tile(np.array(index, float), (len(contour), 1))
                # A crop may hang over the image's border; its outline must not.
                inside = np.clip(contour + corner, -0.5, np.array(source.plane_shape) - 0.5)
                contours.append((row, np.hstack([lead, inside])))
        heat = PlaneImage(heat, source.axes.replace("S", "")).unwrap(heat)
        yield Progress(0.95, "outlining")
    seen, mask = mosaic.image, mosaic.mask
    if source.lazy:
        kept = scaled.images if isinstance(scaled, ScaledCrops) and len(scaled) else None
        seen, mask = prepared_lazily(samples, recipe, scale, kept)
    side = None if samples.sizes is None else int(np.median(samples.sizes))
    return Classified(
        table=table,
        image=seen,
        mask=mask,
        kept=mosaic.kept,
        heat=heat,
        contours=contours,
        crop_size=side,
        record={
            **recipe.record(source.samples),
            "classifier": classifier.record(),
            "recipe_matches_training": recipe == classifier.recipe,
            "explanation": None if question is None else question.record(),
            "crop_size": side,
            "colours": dict(classifier.training.get("colours", {})),
        },
    )


def check_image_iter(
    images: Sequence[Any],
    classifier: Classifier,
    *,
    centres: Sequence[npt.NDArray[Any] | None],
    crop_sizes: Sequence[Sizes | None],
    pixel_sizes: Sequence[float | None],
    recipe: Recipe | None = None,
    method: Method = "gradcam",
    target: str | None = None,
    seed: int = 0,
    at_most: int = 100,
) -> Steps[ExplanationCheck]:
    """Check heat maps on samples of one image or several; see `check_explanation`.

    Parameters
    ----------
    images : sequence of PlaneImage
    classifier : Classifier
    centres : sequence of (N, D) array or None
        For each image the positions of its samples, as for `classify`.
    crop_sizes, pixel_sizes : sequence
        For each image, as for `classify`.
    recipe : Recipe, optional
        Instead of the classifier's own.
    method, target, seed
        As for `check_explanation`.
    at_most : int
        Of more samples, so many are drawn.
    """
    from .explain.trust import check_scaled_iter

    check_target(classifier, target)
    read_method(method)
    recipe = classifier.recipe if recipe is None else recipe
    taken = []
    for source, where, size, pixel_size in zip(images, centres, crop_sizes, pixel_sizes, strict=True):
        classifier.check_samples(source.samples)
        if where is None:
            taken.append(_planes(source, recipe))
        else:
            side = classifier.crop_side(pixel_size) if size is None else size
            taken.append(Samples.around(source, where, side))
    ends = np.cumsum([len(samples) for samples in taken])
    drawn = np.random.default_rng(seed).permutation(ends[-1])[:at_most]
    scaled: list[FloatArray] = []
    for k, (samples, end) in enumerate(zip(taken, ends.tolist(), strict=True)):
        here = np.sort(drawn[(drawn >= end - len(samples)) & (drawn < end)]) - (end - len(samples))
        if len(here) == 0:
            continue
        sizes = None if samples.sizes is None else samples.sizes[here]
        some = Samples(samples.source, samples.positions[here], sizes)
        start, stop = 0.2 * k / len(taken), 0.2 * (k + 1) / len(taken)
        middle = start + _RANGE * (stop - start)
        scale = yield from within(classifier.scale_of_iter(samples.source), start, middle)
        work = classify_samples_iter(some, classifier, recipe, scale, keep=True)
        _, _, kept = yield from within(work, middle, stop)
        scaled += kept
    return (yield from within(check_scaled_iter(classifier, scaled, method, target, seed), 0.2, 1.0))


def _planes(source: PlaneImage, recipe: Recipe) -> Samples:
    """Take every plane as one sample.

    Raises
    ------
    ValueError
        If the planes of a lazy image are too large.
    """
    if source.lazy:
        height, width = source.plane_shape
        check_memory(
            height * width * source.samples * (_WORKING if recipe else _WORKING / 2),
            f"Classifying planes of {height} × {width} pixels as one sample each",
            "classify tiles, or crops around points or objects",
        )
    return Samples.planes(source)
