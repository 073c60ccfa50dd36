"""Recipes and steps as text that people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify.core.steps import read_step, write_step

RECIPES = st.lists(
    st.one_of(
        st.builds(lambda k: ("gaussian", {"kernel_size": 2 * k + 1}), st.integers(0, 20)),
        st.builds(lambda s: ("bm3d", {"sigma": s}), st.one_of(st.none(), st.floats(0.5, 75))),
        st.builds(lambda f: ("random", {"fraction": f}), st.floats(0.05, 0.95)),
        st.just(("centre", {})),
    ),
    max_size=4,
)


@given(RECIPES)
def test_what_is_written_is_read(steps: list) -> None:
    recipe = ndc.Recipe(steps)
    assert ndc.Recipe.parse(recipe.text) == recipe


def test_known_texts() -> None:
    assert ndc.Recipe.parse("gaussian:kernel_size=5 + centre") == ndc.Recipe(
        [("gaussian", {"kernel_size": 5}), "centre"]
    )
    assert ndc.Recipe.parse("raw") == ndc.Recipe.parse(" ") == ndc.Recipe()
    assert ndc.Recipe().text == "raw"
    assert ndc.Recipe([("gaussian", {"kernel_size": 7}), "median"]).text == "gaussian:kernel_size=7 + median"


def test_a_step_of_defaults_is_its_id() -> None:
    assert write_step("svm", {"C": 1.0}) == "svm"
    assert write_step("svm", {"C": 2.0}) == "svm:C=2.0"
    assert read_step("svm: C = 2.0 , kernel=linear") == ("svm", {"C": "2.0", "kernel": "linear"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gaussian:5", "'5' cannot be read: write a step as gaussian:kernel_size=5"),
        ("gaussian:kernel_size=", "cannot be read"),
        ("nothing", "'nothing' is not a denoise or mask step; there are"),
        ("gaussian:kernel_size=4", "kernel_size='4' is not allowed"),
        ("gaussian:radius=4", "gaussian has no parameter 'radius'"),
        ("gaussian + ", "'' is not a denoise or mask step"),
    ],
)
def test_bad_texts_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ndc.Recipe.parse(text)
