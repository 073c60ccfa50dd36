"""The declaration of a study: checked, and saved without loss."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_denoise_classify import Recipe, Study
from napari_denoise_classify.core.study.declaration import Candidate, Design, Source

SOURCE = Source("crops.csv", "patient", "0" * 64, {"a": 3, "b": 4}, 5)


def make(**changes: Any) -> Study:
    settings: dict[str, Any] = {
        "data": SOURCE,
        "recipes": {"raw": Recipe(), "both": Recipe([("median", {"kernel_size": 3}), "centre"], (0, 7))},
        "classifiers": {"svm": Candidate.of(("svm", {"C": [0.1, 1, 10]})), "K": Candidate.of("knn")},
    }
    return Study(**{**settings, **changes})


def test_a_study_is_saved_without_loss(tmp_path: Path) -> None:
    study = make(
        design=Design.of("partitions:partitions=4,repeats=2"),
        reference="both",
        training="mismatched",
        noise=("", "gaussian:25"),
        augmentation=("", "turns"),
        seed=5,
        margin=5.0,
        explain="",
        intensity_range=(0.0, 4095.0),
        preset="denoising",
        remarks=("one", "two"),
    )
    assert Study.from_json(study.to_json()) == study
    assert pickle.loads(pickle.dumps(study)) == study
    study.to_json(tmp_path / "new" / "it.json")
    assert Study.from_json(tmp_path / "new" / "it.json") == study
    assert json.loads(study.to_json())["version"] == 1


@given(
    st.sampled_from(["partitions", "holdout", "cross-validation"]),
    st.integers(2, 20),
    st.integers(1, 9),
    st.floats(0.05, 0.95),
)
def test_designs_are_read_from_what_they_say(layout: Any, n: int, repeats: int, fraction: float) -> None:
    design = Design(layout, repeats=repeats, test_fraction=fraction)
    if layout == "cross-validation":
        design = dataclasses.replace(design, folds=n, test_fraction=0.5)
    if layout == "partitions":
        design = dataclasses.replace(design, partitions=n)
    assert Design.of(design.text) == design
    assert Design.of(dataclasses.asdict(design)) == design


def test_what_is_left_out_has_defaults() -> None:
    study = make()
    assert study.reference == "raw"
    assert [c.name for c in study.conditions] == [""]
    assert dict(study.classifiers["K"].parameters)["neighbours"] == 5


def test_conditions_are_every_noise_with_every_augmentation() -> None:
    study = make(noise=("", "gaussian:10"), augmentation=("", "turns"))
    assert [c.name for c in study.conditions] == ["", "gaussian:10", "augmented", "gaussian:10, augmented"]


def test_a_list_is_a_grid() -> None:
    candidate = Candidate.of(("svm", {"C": [1, 10], "kernel": ["rbf", "linear"], "input_size": 16}))
    assert len(candidate.points) == 4
    assert {(p["C"], p["kernel"], p["input_size"]) for p in candidate.points} == {
        (1.0, "rbf", 16),
        (1.0, "linear", 16),
        (10.0, "rbf", 16),
        (10.0, "linear", 16),
    }
    assert Candidate.of("svm").points == [dict(Candidate.of("svm").parameters)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipes": {}}, "at least one recipe and one classifier"),
        ({"classifiers": {}}, "at least one recipe and one classifier"),
        ({"recipes": {"": Recipe()}}, "recipes: every one needs a name"),
        ({"recipes": {"x": Recipe([("unet", {"upscale": 2})])}}, "'x' enlarges images"),
        ({"recipes": {"x": Recipe(["median", "self_supervised"])}}, "'x' has the step self_supervised, which would"),
        ({"reference": "dncnn"}, "reference='dncnn' is not allowed: give one of the recipes, raw, both"),
        ({"training": "other"}, "training='other'"),
        ({"noise": ()}, "at least one entry"),
        ({"noise": ("rain:3",)}, "no noise model 'rain'"),
        ({"noise": ("gaussian:25", "gaussian:25.0")}, "the same condition twice"),
        ({"augmentation": ("rain",)}, "augmentation='rain'"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"margin": -1}, "margin=-1"),
        ({"explain": "stars"}, "'stars' is not an explain step"),
    ],
)
def test_bad_studies(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ("thirds", "design='thirds' is not allowed: give one of partitions, holdout, cross-validation"),
        ("holdout:test_fraction=2", "test_fraction=2"),
        ("cross-validation:folds=1", "folds=1"),
        ("cross-validation:folds=2.5", "folds=2.5"),
        ("cross-validation:folds", "cannot be read"),
        ("cross-validation:fold=3", "design has no 'fold'"),
        (5, "design=5"),
    ],
)
def test_bad_designs(design: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Design.of(design)


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        ("tree", "'tree' is not a classifier step"),
        (("svm", {"C": []}), "svm: C has no values"),
        (("svm", {"C": [1, -1]}), "svm: C=-1"),
        (("svm", {"k": 1}), "svm has no parameter 'k'"),
        (7, "7 is not a classifier"),
    ],
)
def test_bad_classifiers(candidate: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Candidate.of(candidate)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "not a study"),
        ("{", "not valid JSON"),
        ("nowhere.json", "cannot be read"),
        (make().to_json().replace('"version": 1,\n  "data"', '"version": 99,\n  "data"'), "has version 99"),
        (make().to_json().replace('"sha256"', '"sha"'), "damaged"),
        (make().to_json().replace('"recipes"', '"receipts"'), "damaged"),
    ],
)
def test_what_is_no_study(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Study.from_json(text)
