"""Heat maps: which pixels speak for a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray, IntensityRange
from ..progress import Steps, run, within
from ..steps import get_step, step

if TYPE_CHECKING:
    from ..classify.bundle import Classifier
    from ..recipe import Recipe


@step(
    "gradcam",
    kind="explain",
    title="Grad-CAM",
    reference="Selvaraju et al., Grad-CAM, ICCV (2017), doi:10.1109/ICCV.2017.74",
)
def gradcam(classifier: Classifier, scaled: list[FloatArray], targets: npt.NDArray[np.intp]) -> Steps[list[FloatArray]]:
    """Class-weighted activation of the last convolutional stage; for the CNN."""
    if not hasattr(classifier.estimator, "cam_iter"):
        raise ValueError(
            f"Grad-CAM needs a network with gradients, and this classifier is a {classifier.method}: train a CNN."
        )
    maps: list[FloatArray] = yield from classifier.estimator.cam_iter(scaled, targets)
    return maps


def explain_iter(
    classifier: Classifier,
    images: Any,
    method: str = "gradcam",
    target: str | None = None,
    *,
    recipe: Recipe | None = None,
    intensity_range: IntensityRange | None = None,
) -> Steps[list[FloatArray]]:
    """Compute the heat maps of several images; see `explain`.

    Parameters
    ----------
    classifier : Classifier
    images : array or sequence of array
        As for `Classifier.predict`.
    method : str
    target : str, optional
        One class for all images; default: for each the predicted one.
    recipe, intensity_range
        As for `Classifier.prepare_iter`.

    Returns
    -------
    list of (Y, X) float32 in 0..1
    """
    spec = get_step(method, "explain")
    check_target(classifier, target)
    _, scaled = yield from within(classifier.prepare_iter(images, recipe, intensity_range), 0.0, 0.4)
    return (yield from within(explain_scaled_iter(classifier, scaled, spec.id, target), 0.4, 1.0, spec.title))


def check_target(classifier: Classifier, target: str | None) -> None:
    """Check that a class is one of the classifier's.

    Raises
    ------
    ValueError
        Naming the classes.
    """
    if target is not None and target not in classifier.classes:
        raise ValueError(f"target={target!r} is not allowed; the classes are {', '.join(classifier.classes)}.")


def explain_scaled_iter(
    classifier: Classifier,
    scaled: list[FloatArray],
    method: str,
    target: str | None = None,
    proba: npt.NDArray[np.float64] | None = None,
) -> Steps[list[FloatArray]]:
    """Compute the heat maps of what `Classifier.prepare_iter` returned.

    Parameters
    ----------
    proba : (N, classes) array, optional
        Saves classifying again, where the target is the predicted class.
    """
    from ..opencv import cv2

    if target is not None:
        targets = np.full(len(scaled), classifier.classes.index(target))
    else:
        if proba is None:
            proba = yield from within(classifier.proba_of_scaled_iter(scaled), 0.0, 0.5)
        targets = proba.argmax(axis=1)
    maps = yield from within(get_step(method, "explain").function(classifier, scaled, targets), 0.5, 1.0)
    heats = []
    for heat, image in zip(maps, scaled, strict=True):
        height, width = image.shape[:2]
        full = cv2.resize(np.ascontiguousarray(heat), (width, height), interpolation=cv2.INTER_LINEAR)
        peak = float(full.max())
        heats.append(np.clip(full / peak, 0, 1) if peak > 0 else np.zeros_like(full))
    return heats


def explain(classifier: Classifier, image: Any, method: str = "gradcam", target: str | None = None) -> FloatArray:
    """Show which pixels of an image speak for a class.

    Parameters
    ----------
    classifier : Classifier
    image : (Y, X) or (Y, X, 3) array
        As it is: the classifier's recipe is applied here.
    method : {"gradcam"}
    target : str, optional
        The class; default: the predicted one.

    Returns
    -------
    (Y, X) float32
        From 0 to 1, where 1 is the most influential pixel; all zero if nothing speaks for the class.

    Raises
    ------
    ValueError
        For unknown methods or classes, an image of another kind, or a classifier that the method cannot explain.
    """
    return run(explain_iter(classifier, [np.asarray(image)], method, target))[0]
