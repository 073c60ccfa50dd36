"""A study on several processes: the same numbers, in whatever order its cells end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
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
from napari_denoise_classify.core.study.cache import ImageCache
from napari_denoise_classify.core.study.declaring import declare
from napari_denoise_classify.core.study.prepared import Prepared
from napari_denoise_classify.core.study.run import FinishedCell, study_iter
from napari_denoise_classify.core.study.shares import _without, check_files, read_data, write_data

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
    assert seconds["preparing"] >= seconds["denoising_now"]
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


def test_an_error_keeps_its_letters() -> None:
    path = Path("/Data/Study")
    assert _without(path, "/Data/Study: the GPU of Host is lost.") == "The GPU of Host is lost."
    other = "/Data/Study is not there for the worker on Host."
    assert _without(path, other) == other


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
    # With another study's results there, and none of its own cells missing, those results still go.
    (folder / "study.json").write_text((folder / "study.json").read_text().replace('"seed": 0', '"seed": 1'))
    third = ndc.study(crops, RECIPES, FAST, FOLDS, folder=folder, cache=cache, workers=1, overwrite=True)
    assert_equal(first, third)
    assert ndc.load_study(folder).study.seed == 0


_DEADLY = """
import os
from napari_denoise_classify.core.study.grid import Grid

compute_iter = Grid.compute_iter

def deadly(self, cell):
    if cell.recipe == "centre":
        os._exit(1)
    return compute_iter(self, cell)

Grid.compute_iter = deadly
"""


@pytest.mark.usefixtures("_distributed")
def test_a_process_that_dies_loses_no_cell_that_was_run(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_DEADLY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    design = "holdout:test_fraction=0.3"  # one fit for all recipes, and so one process
    result = ndc.study(crops, RECIPES, {"knn": "knn"}, design, training="mismatched", workers=1)
    assert result.cells.set_index("recipe")["status"].to_dict() == {"raw": "done", "median": "done", "centre": "failed"}
    assert result.cells["error"].iloc[-1].startswith("The workers that were at it died again and again")


@pytest.mark.usefixtures("_distributed")
def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = """
        print("once")
        import napari_denoise_classify as ndc
        recipes, folds = [ndc.Recipe()], "cross-validation:folds=2"
        print(ndc.study("synthetic:cells:count=4", recipes, ["knn"], folds, workers=2).cells["status"].tolist())
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout.splitlines() == ["once", "['done', 'done']"], done.stderr


@pytest.mark.usefixtures("_distributed")
def test_results_stay_until_there_are_workers(crops: Crops, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    ndc.study(crops, RECIPES, FAST, FOLDS, folder=folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert "result.json" in before
    with pytest.raises(ConnectionError, match="No scheduler answers"):
        ndc.study(crops, RECIPES, FAST, FOLDS, seed=3, folder=folder, overwrite=True, scheduler="tcp://127.0.0.1:9")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_data_of_processes_that_were_killed_do_not_stay(crops: Crops, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / ".crops.npz").write_bytes(b"their data")
    ndc.study(crops, RECIPES, FAST, FOLDS, folder=tmp_path / "study")
    assert not (tmp_path / "study" / ".crops.npz").exists()


@pytest.mark.parametrize("workers", [None, 1])
def test_numbers_that_are_none_are_a_failed_cell(
    crops: Crops, tmp_path: Path, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workers:
        pytest.importorskip("distributed")
    settings: dict[str, Any] = {"folder": tmp_path / "study", "cache": tmp_path / "cache", "workers": workers}
    ndc.study(crops, RECIPES, FAST, FOLDS, **settings)
    (path, *_) = sorted((tmp_path / "study" / "cells").glob("*.npz"))
    with np.load(path) as saved:
        arrays = dict(saved)
    np.savez(path, **{**arrays, "proba0": np.full_like(arrays["proba0"], np.nan)})
    result = ndc.study(crops, RECIPES, FAST, FOLDS, **settings)
    assert sorted(result.cells["status"]) == ["done"] * 17 + ["failed"]
    assert "NaN" in result.cells.set_index("status").loc["failed", "error"]


def test_what_images_take_is_bounded_by_what_is_free(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(image.nbytes for image in crops.images)
    seen = []
    for free in (100 * size, 4 * size):
        monkeypatch.setattr("napari_denoise_classify.core.study.prepared.available_memory", lambda free=free: free)
        images = Prepared(crops, ImageCache.at(tmp_path), (0, 255), 0)
        for recipe in RECIPES.values():
            run(images.scaled_iter("", recipe, (0.0, 255.0)))
        seen.append(len(images._scaled))
    assert seen == [3, 1]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"workers": 0}, "workers=0 is not allowed: give a whole number from 1 on"),
        ({"workers": "2"}, "workers='2' is not allowed"),
        ({"workers": 2.5}, "workers=2.5 is not allowed"),
        ({"workers": True}, "workers=True is not allowed"),
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
