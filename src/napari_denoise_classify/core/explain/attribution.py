"""Heat maps: which pixels speak for a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..images import FloatArray, IntensityRange
from ..progress import Steps, run, within
from ..steps import StepSpec, get_step
from .variants import blocks

if TYPE_CHECKING:
    from ..classify.bundle import Classifier
    from ..recipe import Recipe

Method: TypeAlias = str | tuple[str, Mapping[str, Any]]
"""Id of a method, or a pair of it and its parameters."""


def read_method(method: Method, parameters: Mapping[str, Any] | None = None) -> tuple[StepSpec, dict[str, Any]]:
    """Look up a method of explanation and check its parameters.

    Parameters
    ----------
    method : str or (str, mapping)
    parameters : mapping, optional
        In addition to those in ``method``.

    Raises
    ------
    ValueError
        Naming the methods, or the parameter and what is allowed.
    """
    id, given = (method, {}) if isinstance(method, str) else method
    spec = get_step(id, "explain")
    return spec, spec.validate({**given, **(parameters or {})})


def explain_iter(
    classifier: Classifier,
    images: Any,
    method: Method = "gradcam",
    target: str | None = None,
    *,
    recipe: Recipe | None = None,
    intensity_range: IntensityRange | None = None,
    **parameters: Any,
) -> Steps[list[FloatArray]]:
    """Compute the heat maps of several images; see `explain`.

    Parameters
    ----------
    classifier : Classifier
    images : array or sequence of array
        As for `Classifier.predict`.
    method : str or (str, mapping)
    target : str, optional
        One class for all images; default: for each the predicted one.
    recipe, intensity_range
        As for `Classifier.prepare_iter`.
    **parameters
        Of the method.

    Returns
    -------
    list of (Y, X) float32 in 0..1
    """
    spec, checked = read_method(method, parameters)
    check_target(classifier, target)
    _, scaled = yield from within(classifier.prepare_iter(images, recipe, intensity_range), 0.0, 0.4)
    work = explain_scaled_iter(classifier, scaled, (spec.id, checked), target)
    return (yield from within(work, 0.4, 1.0, spec.title))


def check_target(classifier: Classifier, target: str | None) -> None:
    """Check that a class is one of the classifier's.

    Raises
    ------
    ValueError
        Naming the classes.
    """
    if target is not None and target not in classifier.classes:
        raise ValueError(f"target={target!r} is not allowed; the classes are {', '.join(classifier.classes)}.")


def targets_iter(
    classifier: Classifier, scaled: Sequence[FloatArray], target: str | None
) -> Steps[npt.NDArray[np.intp]]:
    """Return the number of the class to explain of each image, (N,): that of ``target``, or the predicted one."""
    check_target(classifier, target)
    if target is not None:
        return np.full(len(scaled), classifier.classes.index(target))
    proba = yield from classifier.proba_of_scaled_iter(scaled)
    return np.asarray(proba.argmax(axis=1))


def explain_scaled_iter(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    method: Method,
    target: str | None = None,
    proba: npt.NDArray[np.float64] | None = None,
) -> Steps[list[FloatArray]]:
    """Compute the heat maps of what `Classifier.prepare_iter` returned.

    Parameters
    ----------
    classifier : Classifier
    scaled : sequence of (Y, X, S) float32
    method, target
        As for `explain`.
    proba : (N, classes) array, optional
        Saves classifying again, where the target is the predicted class.
    """
    if proba is not None and target is None:
        targets = proba.argmax(axis=1)
    else:
        targets = yield from within(targets_iter(classifier, scaled, target), 0.0, 0.3)
    return (yield from within(heats_iter(classifier, scaled, method, targets), 0.3, 1.0))


def heats_iter(
    classifier: Classifier, scaled: Sequence[FloatArray], method: Method, targets: npt.NDArray[np.intp]
) -> Steps[list[FloatArray]]:
    """Compute heat maps from 0 to 1 for given classes; ``targets`` is (N,) of their numbers."""
    raw = yield from influence_iter(classifier, scaled, method, targets)
    return [normalised(one) for one in raw]


def influence_iter(
    classifier: Classifier, scaled: Sequence[FloatArray], method: Method, targets: npt.NDArray[np.intp]
) -> Steps[list[FloatArray]]:
    """Compute maps that can be compared between images: not negative, in the method's own unit, (Y, X) float32.

    Only some of the images are in memory as floats at a time.
    """
    spec, parameters = read_method(method)
    full = []
    for part in blocks(scaled):
        images, share = scaled[part], (part.start / len(scaled), part.stop / len(scaled))
        note = "" if len(images) == len(scaled) else f"crops {part.start + 1} to {part.stop} of {len(scaled)}"
        maps = yield from within(spec.function(classifier, images, targets[part], **parameters), *share, note)
        for heat in maps:
            full.append(np.maximum(heat, 0))
    return full


def normalised(heat: FloatArray) -> FloatArray:
    """Return a map divided by its highest value; zeros stay zeros."""
    peak = float(heat.max())
    return np.clip(heat / peak, 0, 1) if peak > 0 else np.zeros_like(heat)


def explain(
    classifier: Classifier, image: Any, method: Method = "gradcam", target: str | None = None, **parameters: Any
) -> FloatArray:
    """Show which pixels of an image speak for a class.

    Parameters
    ----------
    classifier : Classifier
    image : (Y, X) or (Y, X, 3) array
        As it is: the classifier's recipe is applied here.
    method : {"gradcam", "occlusion"}
        Grad-CAM is for the CNN, occlusion for every classifier.
    target : str, optional
        The class; default: the predicted one.
    **parameters
        Of the method: see ``steps("explain")``.

    Returns
    -------
    (Y, X) float32
        From 0 to 1, where 1 is the most influential pixel; all zero if nothing speaks for the class.

    Raises
    ------
    ValueError
        For unknown methods, parameters or classes, an image of another kind, or a classifier that the method cannot
        explain.
    """
    return run(explain_iter(classifier, [np.asarray(image)], method, target, **parameters))[0]
