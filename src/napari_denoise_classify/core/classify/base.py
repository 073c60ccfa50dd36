"""The base of the classifiers: scikit-learn's, of which the types are not known."""

from __future__ import annotations

from sklearn.base import BaseEstimator, ClassifierMixin


class ClassifierBase(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier as scikit-learn knows them."""
