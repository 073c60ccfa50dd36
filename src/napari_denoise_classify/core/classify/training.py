"""Training a classifier."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from ..._version import __version__
from ..progress import Progress, Steps, run, within
from ..recipe import Recipe
from ..steps import get_step
from .bundle import Classifier
from .datasets import Crops
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
    _, X = yield from within(prepare_iter(data.images, recipe, intensity_range), 0.0, 0.1)
    estimator = spec.function(seed, **parameters)
    yield Progress(0.1, f"training {spec.title}")
    record: dict[str, Any] = {}
    if hasattr(estimator, "fit_iter"):
        yield from within(estimator.fit_iter(X, data.labels, data.groups), 0.1, 1.0)
        record = {
            "best_epoch": estimator.fit_.best_epoch,
            "history": estimator.fit_.history,
            "stopped_early": estimator.fit_.stopped_early,
        }
    else:
        extra = {"classify__groups": data.groups} if method == "svm" else {}
        estimator.fit(X, data.labels, **extra)
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
            "versions": {
                "napari-denoise-classify": __version__,
                "scikit-learn": sklearn.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            **record,
        },
    )
