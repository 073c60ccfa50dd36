"""Training a classifier."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ..images import FloatArray
from ..progress import Progress, Steps, run, within
from ..recipe import Recipe
from ..steps import get_step
from .bundle import Classifier, proba_iter
from .calibration import calibration_folds
from .crop_classifier import CropClassifier
from .datasets import Crops
from .memory import check_memory
from .neighbours import Context
from .preparing import dataset_range, prepare_iter
from .scaled import shapes_of, take

MINIMUM_PER_CLASS = 4
_SIZES, _SIZE_STEP = (32, 224), 16  # of what a CNN sees, in pixels


def train_classifier(
    data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0, context: float = 0.0, **parameters: Any
) -> Classifier:
    """Train a classifier.

    Parameters
    ----------
    data : Crops
        From `load_crops`. Hold out a part for `Classifier.evaluate` before, with `Crops.split`.
    method : {"cnn", "integrated", "svm", "random_forest", "knn"}
    recipe : Recipe, optional
        Applied to the images, here and whenever the classifier predicts.
    seed : int
    context : float
        Distance in pixels within which the neighbours of a sample, in the same image, have a say in its class; 0 =
        each stands for itself. The data must tell where crops were cut. A network takes four times as long to train.
    **parameters
        Of the method; see ``steps()``.

    Returns
    -------
    Classifier

    Raises
    ------
    ValueError
        For unknown methods or parameters, one class only, too few samples of a class, or a context without places.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> data = ndc.load_crops("cells.csv", group="patient")  # doctest: +SKIP
    >>> train, test = data.split(seed=0)  # doctest: +SKIP
    >>> clf = ndc.train_classifier(train, "random_forest")  # doctest: +SKIP
    >>> clf.evaluate(test).macro_f1  # doctest: +SKIP
    """
    return run(train_classifier_iter(data, method, recipe, seed, context, **parameters))


def train_classifier_iter(
    data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0, context: float = 0.0, **parameters: Any
) -> Steps[Classifier]:
    """As `train_classifier`, with progress."""
    spec = get_step(method, "classifier")
    parameters = spec.validate(parameters)
    recipe = Recipe() if recipe is None else recipe
    few = [f"{name} ({count})" for name, count in data.counts.items() if count < MINIMUM_PER_CLASS]
    if len(data.classes) < 2:
        raise ValueError(f"There is only the class {data.classes[0]!r}: a classifier needs at least two.")
    if few:
        raise ValueError(f"Too few samples of {', '.join(few)}: each class needs at least {MINIMUM_PER_CLASS}.")
    if not 0 <= context < float("inf"):
        raise ValueError(f"context={context!r} is not allowed: give a distance in pixels, or 0 for none.")
    if context and data.places is None:
        raise ValueError(
            "The context needs to know where the crops were cut: train on points or objects of an image, or add the "
            "columns image, y and x to the table of crops."
        )
    intensity_range = dataset_range(data.images)
    if recipe:
        needed = 2 * sum(image.nbytes for image in data.images)
        check_memory(needed, f"Preparing {len(data):,} crops", "give fewer crops, or smaller ones")
    _, X = yield from within(prepare_iter(data.images, recipe, intensity_range), 0.0, 0.1)
    yield Progress(0.1, f"training {spec.title}")
    held_out = np.empty((len(data), len(data.classes))) if context else None
    fitting = fit_estimator_iter(method, parameters, seed, X, data.labels, data.groups, held_out)
    estimator, record = yield from within(fitting, 0.1, 1.0)
    around = None
    if held_out is not None and data.places is not None:
        balanced = parameters.get("balance") != "none" and parameters.get("calibration", "none") == "none"
        codes = np.searchsorted(data.classes, data.labels)
        around = Context.learnt(held_out, codes, data.places, float(context), balanced)
    import sklearn

    return Classifier(
        method=method,
        classes=data.classes,
        recipe=recipe,
        samples=X[0].shape[-1],
        crop_size=int(np.median([min(image.shape[:2]) for image in data.images])),
        dtype=str(data.images[0].dtype),
        intensity_range=intensity_range,
        estimator=estimator,
        context=around,
        training={
            "seed": seed,
            "parameters": parameters | record.pop("settled", {}),
            **({"context": float(context)} if context else {}),
            "samples_per_class": data.counts,
            "groups": None if data.groups is None else len(np.unique(data.groups)),
            **({} if data.field is None else {"crop": data.field.to_dict()}),
            "versions": {
                "napari-denoise-classify": __version__,
                "scikit-learn": sklearn.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            **record,
        },
    )


def fit_estimator_iter(
    method: str,
    parameters: dict[str, Any],
    seed: int,
    X: Sequence[FloatArray],
    y: npt.NDArray[np.str_],
    groups: npt.NDArray[np.str_] | None,
    held_out: npt.NDArray[np.float64] | None = None,
) -> Steps[tuple[Any, dict[str, Any]]]:
    """Fit one estimator on prepared images, with progress.

    Parameters
    ----------
    method : str
    parameters : dict
        Of the method, validated.
    seed : int
    X : sequence of (Y, X, S) float32
        From 0 to 1.
    y : (N,) array of str
    groups : (N,) or (N, levels) array of str, or None
        See `by_groups`.
    held_out : (N, classes) float64 array, optional
        Filled with the probabilities of these samples by estimators that did not learn from them.

    Returns
    -------
    estimator : scikit-learn estimator
        Fitted.
    record : dict
        What happened, for the classifier's record; JSON-ready. ``settled``: parameters that were left to the images.
    """
    settled: dict[str, Any] = {}
    if method == "cnn" and parameters.get("input_size") is None:
        settled["input_size"] = _own_size(X)
        parameters = parameters | settled
    estimator = get_step(method, "classifier").function(seed, **parameters)
    if held_out is None:
        yield from estimator.fit_iter(X, y, groups)
    elif isinstance(estimator, CropClassifier):  # measures its features once for all
        yield from estimator.fit_iter(X, y, groups, held_out)
    else:
        yield from within(estimator.fit_iter(X, y, groups), 0.0, 0.25)
        again = partial(fit_estimator_iter, method, parameters, seed)
        yield from within(_held_out_iter(again, seed, X, y, groups, held_out), 0.25, 1.0, "held out")
    record: dict[str, Any] = {**getattr(estimator, "record_", {}), "settled": settled}
    if hasattr(estimator, "fit_"):
        fit = estimator.fit_
        record |= {"best_epoch": fit.best_epoch, "history": fit.history, "stopped_early": fit.stopped_early}
        record["mixed_precision"] = estimator.mixed_precision_
    return estimator, record


def _own_size(X: Sequence[FloatArray]) -> int:
    """Return the side, of those that a CNN can have, that is next to that of most crops."""
    median = float(np.median([min(shape[:2]) for shape in shapes_of(X)]))
    return int(np.clip(_SIZE_STEP * round(median / _SIZE_STEP), *_SIZES))


def _held_out_iter(
    fit: Callable[..., Steps[tuple[Any, dict[str, Any]]]],
    seed: int,
    X: Sequence[FloatArray],
    y: npt.NDArray[np.str_],
    groups: npt.NDArray[np.str_] | None,
    held_out: npt.NDArray[np.float64],
) -> Steps[None]:
    """Fill in the probabilities of samples by estimators that learnt from the others."""
    parts, _ = calibration_folds(np.unique(y, return_inverse=True)[1], groups, seed)
    for k, (train, test) in enumerate(parts):
        own = None if groups is None else groups[train]
        fitting = fit(take(X, train), y[train], own)
        start, end = k / len(parts), (k + 1) / len(parts)
        estimator, _ = yield from within(fitting, start, start + 0.9 * (end - start))
        held_out[test] = yield from within(proba_iter(estimator, take(X, test)), start + 0.9 * (end - start), end)
