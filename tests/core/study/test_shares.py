"""A study on several processes: the same numbers, in whatever order its cells end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study.declaring import declare
from napari_denoise_classify.core.study.run import FinishedCell, study_iter
from napari_denoise_classify.core.study.shares import check_files, read_data, write_data

from .small import FAST, FOLDS, RECIPES, assert_equal


@pytest.fixture
def _distributed() -> None:
    pytest.importorskip("distributed")


@pytest.mark.usefixtures("_distributed")
@pytest.mark.parametrize("training", ["matched", "mismatched"])
def test_the_numbers_of_one_process(crops: Crops, tmp_path: Path, training: str) -> None:
    settings: dict[str, Any] = {"training": training, "noise": ["", "gaussian:25"]}
    bad = {"bad": Recipe([("dncnn", {"weights": "nowhere.pth"})])}  # fails in the processes, too
    arguments = (crops, {**RECIPES, **bad}, {**FAST, "greedy": ("knn", {"neighbours": 500})}, FOLDS)
    expected = ndc.study(*arguments, **settings, cache=tmp_path / "cache")
    seen: list[Any] = []
    other = {"folder": tmp_path / "study", "cache": tmp_path / "other", "workers": 2}
    result = run(study_iter(*arguments, **settings, **other), lambda progress: seen.append(progress.data))
    assert_equal(expected, result)
    assert expected.notes == result.notes
    ended = [one for one in seen if isinstance(one, FinishedCell)]
    assert len(ended) == len(result.cells)
    assert not any(one.reused for one in ended)
    # Each image went through each recipe once, whoever did it.
    assert result.record["cache"]["misses"] == expected.record["cache"]["misses"]
    seconds = result.record["seconds"]
    assert seconds["denoising_now"] == pytest.approx(seconds["denoising"], rel=1e-6)
    assert seconds["saved_by_classifier"] > 0
    assert seconds["training_and_testing"] > 0
    names = {path.name for path in (tmp_path / "study").iterdir()}
    assert names == {
        "study.json",
        "result.json",
        "cells.csv",
        "predictions.csv",
        "quality.csv",
        "examples.npz",
        "cells",
    }
    # What they left is what one process goes on with.
    again = ndc.study(*arguments, **settings, folder=tmp_path / "study", cache=tmp_path / "other")
    assert_equal(result, again)
    assert again.record["cache"]["cells_reused"] == (again.cells["status"] == "done").sum()


@pytest.mark.usefixtures("_distributed")
def test_only_what_is_missing_is_run(crops: Crops, tmp_path: Path) -> None:
    folder, cache = tmp_path / "study", tmp_path / "cache"
    first = ndc.study(crops, RECIPES, FAST, FOLDS, folder=folder, cache=cache)
    kept = sorted((folder / "cells").glob("*.npz"))
    for path in kept[::2]:
        path.unlink()
    second = ndc.study(crops, RECIPES, FAST, FOLDS, folder=folder, cache=cache, workers=1)
    assert_equal(first, second)
    assert second.record["cache"]["cells_reused"] == len(kept) - len(kept[::2])
    assert second.record["seconds"]["runs"] == 2


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"workers": 0}, "workers=0 is not allowed: give a whole number from 1 on"),
        ({"workers": 2, "scheduler": "tcp://here:1"}, "exclude each other"),
        ({"scheduler": "tcp://here:1"}, "needs a folder that all of its machines share"),
    ],
)
def test_what_is_refused(crops: Crops, where: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ndc.study(crops, RECIPES, FAST, FOLDS, **where)


def test_weights_in_a_folder_of_this_process_are_refused(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").write_bytes(b"weights")
    for recipes, classifier in (
        ({"mine": Recipe([("dncnn", {"weights": "mine.pth"})])}, "knn"),
        (RECIPES, ("integrated", {"denoiser_weights": "mine.pth"})),
    ):
        study, _ = declare(crops, recipes, {"one": classifier}, FOLDS)
        with pytest.raises(ValueError, match=f"give the whole path, {tmp_path / 'mine.pth'}"):
            check_files(study)
    study, _ = declare(crops, {"mine": Recipe([("dncnn", {"weights": str(tmp_path / "mine.pth")})])}, FAST, FOLDS)
    check_files(study)


_SHAPES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4)


@given(_SHAPES, st.sampled_from([(), (3,)]), st.sampled_from(["uint8", "uint16", "float32"]), st.booleans(), st.data())
def test_data_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, shapes: Any, tail: Any, dtype: str, grouped: bool, data: st.DataObject
) -> None:
    images = [data.draw(arrays(dtype, (*shape, *tail), elements=st.integers(0, 200))) for shape in shapes]
    names = [f"image {i}" for i in range(len(images))]
    labels = np.array([f"class {i % 2}" for i in range(len(images))])
    crops = Crops(images, labels, np.array(names) if grouped else None, names)
    path = tmp_path_factory.mktemp("data") / "crops.npz"
    write_data(path, crops)
    found = read_data(path)
    for one, other in zip(found.images, images, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    np.testing.assert_array_equal(found.labels, labels)
    assert (found.groups is None) == (not grouped)
    if found.groups is not None:
        np.testing.assert_array_equal(found.groups, np.array(names))
