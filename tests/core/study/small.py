"""A small study, whose cells take a moment."""

from __future__ import annotations

import pandas as pd

from napari_denoise_classify import Recipe, StudyResult

RECIPES = {"raw": Recipe(), "median": Recipe(["median"]), "centre": Recipe(["median", "centre"])}
FAST = {"knn": "knn", "forest": ("random_forest", {"trees": 10})}
FOLDS = "cross-validation:folds=3"


def assert_equal(one: StudyResult, other: StudyResult) -> None:
    """The same numbers, seconds aside."""
    pd.testing.assert_frame_equal(one.cells.drop(columns="seconds"), other.cells.drop(columns="seconds"))
    for name in ("predictions", "quality", "drift"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        if a is not None:
            pd.testing.assert_frame_equal(a, b)
