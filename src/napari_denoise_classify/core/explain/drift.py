"""Explanation drift: whether a classifier looks elsewhere after an image was denoised or masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..progress import Progress, Steps, run, within
from .attribution import Method, check_target, heats_iter, read_method
from .contours import Mode, critical_mask

if TYPE_CHECKING:
    from ..classify.bundle import Classifier
    from ..recipe import Recipe


def overlap(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Return the intersection over union of two masks, 0 to 1; NaN if both are empty."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else float("nan")


def centroid(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the centre of a mask (Y, X) in pixels; NaN if it is empty."""
    return np.argwhere(mask).mean(axis=0) if mask.any() else np.full(2, np.nan)


def heat_drift(
    heats_a: Sequence[npt.ArrayLike], heats_b: Sequence[npt.ArrayLike], *, mode: Mode = "top", fraction: float = 0.2
) -> Any:
    """Compare the critical areas of pairs of heat maps; see `drift_iter`.

    Returns
    -------
    pandas.DataFrame
        A row for each pair: ``iou``, and ``distance`` between the centroids in pixels.
    """
    return run(drift_table_iter(heats_a, heats_b, mode=mode, fraction=fraction))


def drift_table_iter(
    heats_a: Sequence[npt.ArrayLike], heats_b: Sequence[npt.ArrayLike], *, mode: Mode = "top", fraction: float = 0.2
) -> Steps[Any]:
    """As `heat_drift`, with progress."""
    import pandas as pd

    if len(heats_a) != len(heats_b):
        raise ValueError(f"There are {len(heats_a)} heat maps before and {len(heats_b)} after: give pairs.")
    rows = []
    for k, (before, after) in enumerate(zip(heats_a, heats_b, strict=True)):
        if np.shape(before) != np.shape(after):
            raise ValueError(
                f"Heat maps {k} have the shapes {np.shape(before)} and {np.shape(after)}: explain crops of equal size."
            )
        a, b = (critical_mask(heat, mode=mode, fraction=fraction) for heat in (before, after))
        rows.append((overlap(a, b), float(np.hypot(*(centroid(a) - centroid(b))))))
        if k % 64 == 0:
            yield Progress(k / len(heats_a), "comparing critical areas")
    return pd.DataFrame(rows, columns=["iou", "distance"])


def drift_iter(
    heats_a: Sequence[npt.ArrayLike], heats_b: Sequence[npt.ArrayLike], *, mode: Mode = "top", fraction: float = 0.2
) -> Steps[npt.NDArray[np.float64]]:
    """Compare the critical areas of pairs of heat maps, with progress.

    Parameters
    ----------
    heats_a, heats_b : sequence of (Y, X) array
        Of the same crops and the same classes, before and after.
    mode, fraction
        As for `critical_area`.

    Returns
    -------
    (N,) float64
        Intersection over union, 0 to 1: 0 where only one map shows evidence, NaN where neither does.

    Raises
    ------
    ValueError
        If the maps are not pairs of equal shape.
    """
    table = yield from drift_table_iter(heats_a, heats_b, mode=mode, fraction=fraction)
    iou: npt.NDArray[np.float64] = table["iou"].to_numpy()
    return iou


def explanation_drift(
    classifier_a: Classifier,
    images_a: Any,
    classifier_b: Classifier | None = None,
    images_b: Any = None,
    *,
    recipe_a: Recipe | None = None,
    recipe_b: Recipe | None = None,
    method: Method = "gradcam",
    target: str | None = None,
    mode: Mode = "top",
    fraction: float = 0.2,
) -> Any:
    """Compare where two classifiers look, or one under two recipes, on the same crops.

    Parameters
    ----------
    classifier_a : Classifier
    images_a : array or sequence of array
        As for `Classifier.predict`: each classifier's recipe is applied here.
    classifier_b : Classifier, optional
        Default: the same one, for two recipes.
    images_b : array or sequence of array, optional
        The same crops, denoised say. Default: ``images_a``.
    recipe_a, recipe_b : Recipe, optional
        Instead of the classifiers' own.
    method : str or (str, mapping)
        Id of a method, or a pair of it and its parameters.
    target : str, optional
        The class that all maps are about. Default: what ``classifier_a`` says of each of ``images_a``, for both maps:
        maps of two classes cannot be compared.
    mode, fraction
        As for `critical_area`.

    Returns
    -------
    pandas.DataFrame
        A row for each crop: ``class_a``, ``class_b`` (what each classifier says), ``target``, ``iou`` of the critical
        areas (0 where only one map shows evidence, NaN where neither does), and ``distance`` of their centroids in
        pixels.

    Raises
    ------
    ValueError
        If there are not as many images, their sizes differ, or one classifier lacks a class.

    Examples
    --------
    >>> from napari_denoise_classify import explanation_drift, Recipe
    >>> table = explanation_drift(clf, crops.images, recipe_b=Recipe(["median"]))  # doctest: +SKIP
    >>> table["iou"].mean()  # doctest: +SKIP
    """
    work = explanation_drift_iter(
        classifier_a,
        images_a,
        classifier_b,
        images_b,
        recipe_a=recipe_a,
        recipe_b=recipe_b,
        method=method,
        target=target,
        mode=mode,
        fraction=fraction,
    )
    return run(work)


def explanation_drift_iter(
    classifier_a: Classifier,
    images_a: Any,
    classifier_b: Classifier | None = None,
    images_b: Any = None,
    *,
    recipe_a: Recipe | None = None,
    recipe_b: Recipe | None = None,
    method: Method = "gradcam",
    target: str | None = None,
    mode: Mode = "top",
    fraction: float = 0.2,
) -> Steps[Any]:
    """As `explanation_drift`, with progress."""
    spec, parameters = read_method(method)
    classifier_b = classifier_a if classifier_b is None else classifier_b
    images_b = images_a if images_b is None else images_b
    for classifier in (classifier_a, classifier_b):
        check_target(classifier, target)
    _, scaled_a = yield from within(classifier_a.prepare_iter(images_a, recipe_a), 0.0, 0.1)
    _, scaled_b = yield from within(classifier_b.prepare_iter(images_b, recipe_b), 0.1, 0.2)
    if len(scaled_a) != len(scaled_b):
        raise ValueError(f"There are {len(scaled_a)} images before and {len(scaled_b)} after: give the same crops.")
    class_a = classifier_a.label((yield from within(classifier_a.proba_of_scaled_iter(scaled_a), 0.2, 0.3)))
    class_b = classifier_b.label((yield from within(classifier_b.proba_of_scaled_iter(scaled_b), 0.3, 0.4)))
    wanted = class_a if target is None else np.full(len(scaled_a), target)
    for name in np.unique(wanted):
        check_target(classifier_b, str(name))
    heats = []
    for classifier, scaled, start in ((classifier_a, scaled_a, 0.4), (classifier_b, scaled_b, 0.65)):
        targets = np.array([classifier.classes.index(str(name)) for name in wanted])
        work = heats_iter(classifier, scaled, (spec.id, parameters), targets)
        heats.append((yield from within(work, start, start + 0.25, spec.title)))
    table = yield from within(drift_table_iter(*heats, mode=mode, fraction=fraction), 0.9, 1.0)
    for place, (name, values) in enumerate({"class_a": class_a, "class_b": class_b, "target": wanted}.items()):
        table.insert(place, name, values)
    return table
