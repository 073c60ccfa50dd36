"""Training a classifier."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ..images import FloatArray
from ..progress import Progress, Steps, run, within
from ..recipe import Recipe
from ..steps import get_step
from .bundle import Classifier
from .datasets import Crops
from .memory import check_memory
from .preparing import dataset_range, prepare_iter

MINIMUM_PER_CLASS = 4


def train_classifier(
    data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0, **parameters: Any
) -> Classifier:
    """Train a classifier.

    Parameters
    ----------
    data : Crops
        From `load_crops`. Hold out a part for `Classifier.evaluate` before, with `Crops.split`.
    method : {"cnn", "svm", "random_forest", "knn"}
    recipe : Recipe, optional
        Applied to the images, here and whenever the classifier predicts.
    seed : int
    **parameters
        Of the method; see ``steps()``.

    Returns
    -------
    Classifier

    Raises
    ------
    ValueError
        For unknown methods or parameters, one class only, or too few samples of a class.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> data = ndc.load_crops("cells.csv", group="patient")  # doctest: +SKIP
    >>> train, test = data.split(seed=0)  # doctest: +SKIP
    >>> clf = ndc.train_classifier(train, "random_forest")  # doctest: +SKIP
    >>> clf.evaluate(test).macro_f1  # doctest: +SKIP
    """
    return run(train_classifier_iter(data, method, recipe, seed, **parameters))


def train_classifier_iter(
    data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0, **parameters: Any
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
    intensity_range = dataset_range(data.images)
    if recipe:
        needed = 2 * sum(image.nbytes for image in data.images)
        check_memory(needed, f"Preparing {len(data):,} crops", "give fewer crops, or smaller ones")
    _, X = yield from within(prepare_iter(data.images, recipe, intensity_range), 0.0, 0.1)
    yield Progress(0.1, f"training {spec.title}")
    fitting = fit_estimator_iter(method, parameters, seed, X, data.labels, data.groups)
    estimator, record = yield from within(fitting, 0.1, 1.0)
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
        training={
            "seed": seed,
            "parameters": parameters,
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
    y, groups : (N,) arrays of str
        ``groups`` may be None.

    Returns
    -------
    estimator : scikit-learn estimator
        Fitted.
    record : dict
        What happened, for the classifier's record; JSON-ready.
    """
    estimator = get_step(method, "classifier").function(seed, **parameters)
    yield from estimator.fit_iter(X, y, groups)
    record: dict[str, Any] = dict(getattr(estimator, "record_", {}))
    if hasattr(estimator, "fit_"):
        fit = estimator.fit_
        record |= {"best_epoch": fit.best_epoch, "history": fit.history, "stopped_early": fit.stopped_early}
    return estimator, record
