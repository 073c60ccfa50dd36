"""What an estimator from a file must look like: built as this program builds it, part by part.

The parts of scikit-learn that are written in C follow the numbers of a fitted estimator unchecked.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class UntrustedError(ValueError):
    """A file holds types that could run code."""


def check_estimator(estimator: Any, expected: Any, classes: list[str]) -> None:
    """Check a fitted `CropClassifier` against one that was built anew from the recorded parameters.

    Raises
    ------
    ValueError
        If they differ, or its parts do not fit together.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    from .calibration import Scores
    from .crop_classifier import make_features

    _check_same(estimator, expected)
    if list(estimator.classes_) != classes:
        raise ValueError("its classes differ")
    features = make_features(expected.features, expected.input_size, expected.random_state)
    _check_same(estimator.features_, features)
    _check_features(estimator.features_)
    model = expected.final()
    if hasattr(model[-1], "n_jobs"):
        model[-1].n_jobs = 1
    _check_same(estimator.model_, model)
    if list(estimator.model_.classes_) != list(range(len(classes))):
        raise ValueError("its model has other classes")
    _check_last(estimator.model_[-1])
    if expected.calibration == "none":
        if estimator.calibrator_ is not None:
            raise UntrustedError("it holds a calibration that it should not have.")
        return
    frozen = FrozenEstimator(Scores())
    wanted = CalibratedClassifierCV(frozen, method=expected.calibration, ensemble=False)
    _check_same(estimator.calibrator_, wanted)
    (inner,) = estimator.calibrator_.calibrated_classifiers_
    _check_calibrated(inner, frozen, expected.calibration)


def _check_calibrated(inner: Any, estimator: Any, method: str) -> None:
    from sklearn.calibration import _CalibratedClassifier, _SigmoidCalibration
    from sklearn.isotonic import IsotonicRegression

    kind = _SigmoidCalibration if method == "sigmoid" else IsotonicRegression
    if type(inner) is not _CalibratedClassifier or {type(c) for c in inner.calibrators} != {kind}:
        raise UntrustedError("its calibration is not one of this program.")
    _check_same(inner.estimator, estimator)


def _check_same(found: Any, expected: Any) -> None:
    """Check that an object has the type and, if it is an estimator, the parameters of another."""
    if type(found) is not type(expected):
        raise UntrustedError(f"it holds a {type(found).__name__} where a {type(expected).__name__} belongs.")
    if hasattr(expected, "get_params"):
        hidden = [name for name in vars(found) if callable(getattr(type(found), name, None))]
        if hidden:
            raise UntrustedError(f"it has a {hidden[0]} of its own in place of the program's.")
        mine, theirs = found.get_params(deep=False), expected.get_params(deep=False)
        for name in theirs:
            _check_same(mine[name], theirs[name])
    elif isinstance(expected, (list, tuple)):
        if len(found) != len(expected):
            raise UntrustedError("it holds more or fewer parts than belong there.")
        for a, b in zip(found, expected, strict=True):
            _check_same(a, b)
    elif not (found == expected or found is expected or (found != found and expected != expected)):
        raise UntrustedError(f"it has {found!r} where its parameters say {expected!r}.")


def _check_features(features: Any) -> None:
    from .embedding import CNNEmbedding, JoinedFeatures
    from .estimators import PixelFeatures

    if isinstance(features, JoinedFeatures):
        _check_same(features.parts_, list(features.parts))
        for part in features.parts_:
            _check_features(part)
    elif isinstance(features, CNNEmbedding):
        if not all(type(v) is np.ndarray and v.dtype.kind in "fi" for v in features.weights_.values()):
            raise UntrustedError("the weights of its network are no numbers.")
        features.network()
    elif isinstance(features, PixelFeatures) and hasattr(features, "dtype_"):
        low, high = features.limits_
        if features.dtype_ not in ("uint8", "uint16") or not -np.inf < low < high < np.inf:
            raise ValueError("its grey levels are malformed")


def _check_last(fitted: Any) -> None:
    """Check what scikit-learn would follow blindly."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    from .estimators import StandardSVC

    if isinstance(fitted, RandomForestClassifier):
        for tree in fitted.estimators_:
            if type(tree) is not DecisionTreeClassifier:
                raise UntrustedError(f"its forest holds a {type(tree).__name__}.")
            _check_tree(tree.tree_, int(fitted.n_features_in_), len(fitted.classes_))
            if tree.n_features_in_ != fitted.n_features_in_:
                raise ValueError("a tree is malformed")
    elif isinstance(fitted, KNeighborsClassifier):
        known, codes = fitted._fit_X, fitted._y
        fits = type(known) is np.ndarray and known.ndim == 2 and known.shape[1] == fitted.n_features_in_
        if not fits or len(known) < fitted.n_neighbors or codes.shape != known.shape[:1] or codes.dtype.kind != "i":
            raise ValueError("the neighbours are malformed")
        if codes.min() < 0 or codes.max() >= len(fitted.classes_) or fitted._fit_method != "brute":
            raise ValueError("the neighbours are malformed")
    elif isinstance(fitted, SVC):
        n, n_classes = int(fitted._n_support.sum()), len(fitted.classes_)
        pairs = n_classes * (n_classes - 1) // 2
        shapes = (
            (fitted.support_vectors_, (n, fitted.n_features_in_)),
            (fitted._dual_coef_, (n_classes - 1, n)),
            (fitted._intercept_, (pairs,)),
            (fitted._n_support, (n_classes,)),
            (fitted.support_, (n,)),
        )
        if any(array.shape != shape for array, shape in shapes) or (fitted._n_support < 0).any() or fitted._sparse:
            raise ValueError("the support vectors are malformed")
        if isinstance(fitted, StandardSVC) and {fitted.mean_.shape, fitted.scale_.shape} != {(fitted.n_features_in_,)}:
            raise ValueError("the support vectors are malformed")


def _check_tree(tree: Any, n_features: int, n_classes: int) -> None:
    """Check that a tree's nodes point at nodes and features that exist.

    Raises
    ------
    ValueError
        If one does not.
    """
    leaf = tree.children_left == -1
    inner = np.flatnonzero(~leaf)
    for children in (tree.children_left, tree.children_right):
        # A child comes after its parent, so that following them always ends.
        if (children[leaf] != -1).any() or (children[inner] <= inner).any() or (children >= tree.node_count).any():
            raise ValueError("a tree is malformed")
    if (tree.feature[inner] < 0).any() or (tree.feature[inner] >= tree.n_features).any():
        raise ValueError("a tree is malformed")
    if tree.n_features != n_features or tree.value.shape != (tree.node_count, 1, n_classes):
        raise ValueError("a tree is malformed")
