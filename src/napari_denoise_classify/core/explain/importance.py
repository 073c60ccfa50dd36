"""Permutation importance: which of its named features a classifier leans on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..classify.evaluation import Evaluation
from ..progress import Progress, Steps, run, within

if TYPE_CHECKING:
    from ..classify.bundle import Classifier
    from ..classify.datasets import Crops
    from ..images import FloatArray
    from ..recipe import Recipe


class _OneColumn:
    """A fitted classifier seen as one of a single feature, as scikit-learn's inspection wants it.

    Parameters
    ----------
    classifier : Classifier
    table : (N, features) float32
        What the other features stay at.
    column : int
    """

    def __init__(self, classifier: Classifier, table: FloatArray, column: int) -> None:
        self._classifier = classifier
        self._table = table
        self._column = column

    def fit(self, X: FloatArray, y: Any) -> _OneColumn:
        """Do nothing: the classifier is trained."""
        return self

    def score(self, X: FloatArray, y: npt.NDArray[np.str_]) -> float:
        """Return the macro-F1 with the column replaced."""
        table = self._table.copy()
        table[:, self._column] = X[:, 0]
        said = self._classifier.label(self._classifier.estimator.proba_of_features(table))
        return Evaluation.of(y, said, self._classifier.classes).macro_f1


def feature_importance(
    classifier: Classifier, crops: Crops, repeats: int = 10, seed: int = 0, *, recipe: Recipe | None = None
) -> Any:
    """Measure how much worse a classifier becomes when one of its features is shuffled among the crops.

    Breiman, Random forests, Machine Learning 45 (2001); scikit-learn's `permutation_importance`. Features that say
    the same share their importance: where one is shuffled, the other still tells.

    Parameters
    ----------
    classifier : Classifier
        Of named features: trained with ``features`` other than ``"pixels"``.
    crops : Crops
        Not those it was trained on.
    repeats : int
        How often each feature is shuffled.
    seed : int
        Of the shuffling.
    recipe : Recipe, optional
        Instead of the classifier's own.

    Returns
    -------
    pandas.DataFrame
        A row for each feature, the most important first: ``name``, ``drop`` (mean fall of the macro-F1) and ``sd``
        (its standard deviation over the repeats).

    Raises
    ------
    ValueError
        If the classifier has no named features, or the crops hold a class that it does not know.

    Examples
    --------
    >>> from napari_denoise_classify import feature_importance
    >>> clf = train_classifier(train, "random_forest", features="texture")  # doctest: +SKIP
    >>> feature_importance(clf, test).head()  # doctest: +SKIP
    """
    return run(feature_importance_iter(classifier, crops, repeats, seed, recipe=recipe))


def feature_importance_iter(
    classifier: Classifier, crops: Crops, repeats: int = 10, seed: int = 0, *, recipe: Recipe | None = None
) -> Steps[Any]:
    """As `feature_importance`, with progress."""
    import pandas as pd
    from sklearn.inspection import permutation_importance

    names = getattr(classifier.estimator, "feature_names_", None)
    if names is None:
        raise ValueError(
            f"This {classifier.method} classifies by pixels, which have no names: train svm, random_forest or knn with "
            "features='texture', 'fibres' or 'embedding', or ask for a heat map."
        )
    if repeats < 1:
        raise ValueError(f"repeats={repeats} is not allowed: give a whole number of at least 1.")
    unknown = sorted(set(crops.classes) - set(classifier.classes))
    if unknown:
        raise ValueError(
            f"The classifier does not know the class {unknown[0]!r}; it knows {', '.join(classifier.classes)}."
        )
    _, scaled = yield from within(classifier.prepare_iter(crops.images, recipe), 0.0, 0.2)
    table = yield from within(classifier.estimator.features_iter(scaled), 0.2, 0.5, "features")
    table = np.asarray(table, np.float32)
    drops = np.zeros((len(names), repeats))
    for k, name in enumerate(names):
        yield Progress(0.5 + 0.5 * k / len(names), f"shuffling {name}")
        model = _OneColumn(classifier, table, k)  # one by one: there is progress to see, and a way to cancel
        found = permutation_importance(model, table[:, [k]], crops.labels, n_repeats=repeats, random_state=seed)
        drops[k] = found.importances[0]
    out = pd.DataFrame({"name": names, "drop": drops.mean(axis=1), "sd": drops.std(axis=1)})
    return out.sort_values("drop", ascending=False, ignore_index=True)
