"""A study does everything once, goes on where it was, and in spite of cells that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.denoise.networks import build
from napari_denoise_classify.core.denoise.weights import registry
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study.result import load_study
from napari_denoise_classify.core.study.run import FinishedCell, study_iter

from .small import FAST, FOLDS, RECIPES, assert_equal


def test_another_classifier_denoises_nothing(crops: Crops, tmp_path: Path) -> None:
    first = ndc.study(crops, RECIPES, ["knn"], FOLDS, cache=tmp_path / "cache")
    assert first.record["cache"]["misses"] == len(crops)  # the recipe with the mask shares the median of the other
    second = ndc.study(crops, RECIPES, FAST, FOLDS, cache=tmp_path / "cache")
    assert second.record["cache"]["misses"] == 0
    assert second.record["seconds"]["denoising_now"] == 0
    # alone, two recipes would run the median for each of two classifiers, and for each of three folds
    seconds = second.record["seconds"]
    assert seconds["saved_by_classifier"] == pytest.approx(3 * seconds["denoising"])
    assert seconds["saved_by_cell"] == pytest.approx(11 * seconds["denoising"])
    mine = second.predictions.query("classifier == 'knn'").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, first.predictions)
    alone = ndc.study(crops, RECIPES, FAST, FOLDS, cache=tmp_path / "other")
    assert alone.record["cache"]["misses"] == len(crops)  # not once for each of two classifiers and three folds


def test_a_study_reruns_to_the_same_numbers(crops: Crops, tmp_path: Path) -> None:
    nets = {"cnn": ("cnn", {"input_size": 16, "epochs": 1, "batch_size": 16}), "svm": "svm", **FAST}
    settings: dict[str, Any] = {"noise": ["", "gaussian:25"], "seed": 7, "training": "mismatched"}
    result = ndc.study(crops, RECIPES, nets, FOLDS, folder=tmp_path / "one", cache=tmp_path / "a", **settings)
    again = ndc.study(tmp_path / "one" / "study.json", crops=crops, cache=tmp_path / "b")
    assert_equal(result, again)
    assert again.study == result.study
    other = run(study_iter(crops, RECIPES, FAST, FOLDS, **{**settings, "seed": 8}))
    assert not np.array_equal(other.predictions["sample"], result.predictions["sample"][: len(other.predictions)])


def test_a_failing_cell_is_reported_and_the_rest_goes_on(crops: Crops) -> None:
    recipes = {**RECIPES, "bad": Recipe([("dncnn", {"weights": "no such file.pth"})])}
    classifiers = {**FAST, "greedy": ("knn", {"neighbours": 500})}
    result = ndc.study(crops, recipes, classifiers, FOLDS)
    failed = result.cells[result.cells["status"] == "failed"]
    assert len(failed) == 3 * (3 + 3)  # three folds of the bad recipe's classifiers, and of the greedy one elsewhere
    assert set(failed.query("recipe == 'bad' and classifier == 'knn'")["error"].str[:30]) == {
        "dncnn: weights='no such file.pth'"[:30]
    }
    assert failed.query("recipe == 'raw'")["error"].str.contains("neighbours=500 is not allowed").all()
    assert failed["macro_f1"].isna().all()
    good = ndc.study(crops, RECIPES, FAST, FOLDS)
    pd.testing.assert_frame_equal(good.predictions, result.predictions)
    assert any(note.startswith("18 of 36 cells failed") for note in result.notes)


def test_failed_cells_are_tried_again(crops: Crops, tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    recipes = {"raw": Recipe(), "net": Recipe([("dncnn", {"weights": str(weights)})])}
    result = ndc.study(crops, recipes, ["knn"], FOLDS, folder=tmp_path / "study")
    assert list(result.cells["status"]) == ["done"] * 3 + ["failed"] * 3
    weights.write_bytes(registry()["dncnn_gray_blind"].path.read_bytes())
    result = ndc.study(crops, recipes, ["knn"], FOLDS, folder=tmp_path / "study")
    assert list(result.cells["status"]) == ["done"] * 6
    assert result.record["cache"]["cells_reused"] == 3
    assert any("'net' uses weights from a file" in note for note in result.notes)


def test_damaged_cells_are_run_again(crops: Crops, tmp_path: Path) -> None:
    result = ndc.study(crops, RECIPES, ["knn"], "holdout", folder=tmp_path)
    kept = sorted((tmp_path / "cells").glob("*.npz"))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        for path in kept:
            content = np.frombuffer(path.read_bytes(), np.uint8).copy()
            content[rng.integers(0, len(content), 5)] = rng.integers(0, 256, 5)
            path.write_bytes(content.tobytes())
        assert_equal(ndc.study(crops, RECIPES, ["knn"], "holdout", folder=tmp_path), result)


def test_a_study_that_replaces_another_and_is_cancelled_leaves_none_of_its_numbers(
    crops: Crops, tmp_path: Path
) -> None:
    old = ndc.study(crops, RECIPES, ["knn"], "holdout", folder=tmp_path)
    old.report(tmp_path / "report.html")
    work = study_iter(crops, RECIPES, ["knn"], "holdout", folder=tmp_path, seed=5, overwrite=True)
    for progress in work:
        if isinstance(progress.data, FinishedCell):
            break
    work.close()
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ValueError, match="holds no finished study"):
        load_study(tmp_path)
    result = ndc.study(crops, RECIPES, ["knn"], "holdout", folder=tmp_path, seed=5)
    assert_equal(load_study(tmp_path), result)
    # The same study begun once more keeps what it found.
    work = study_iter(crops, RECIPES, ["knn"], "holdout", folder=tmp_path, seed=5)
    while not isinstance(next(work).data, FinishedCell):
        pass
    work.close()
    assert_equal(load_study(tmp_path), result)


def test_a_classifier_that_starts_from_other_weights_is_another_cell(crops: Crops, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    given = {"denoiser_weights": str(weights), "epochs": 1, "width": 4, "input_size": 16}
    settings: dict[str, Any] = {"folder": tmp_path / "study", "cache": tmp_path / "cache", "explain": ""}
    reused = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        save_file(build("irunet", samples=1).state_dict(), weights)
        result = ndc.study(crops, RECIPES, {"joined": ("integrated", given)}, "holdout", **settings)
        assert set(result.cells["status"]) == {"done"}, result.cells["error"].iloc[0]
        reused.append(result.record["cache"]["cells_reused"])
    assert reused == [0, len(RECIPES), 0]


def test_a_cancelled_study_goes_on_where_it_was(crops: Crops, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"folder": tmp_path / "study", "cache": tmp_path / "cache"}
    work = study_iter(crops, RECIPES, FAST, FOLDS, **settings)
    done = 0
    while done < 7:
        done += isinstance(next(work).data, FinishedCell)
    work.close()
    result = ndc.study(crops, RECIPES, FAST, FOLDS, **settings)
    assert result.record["cache"]["cells_reused"] == 7
    assert_equal(result, ndc.study(crops, RECIPES, FAST, FOLDS))


def test_the_seconds_of_a_resumed_study_are_those_of_all_its_runs(crops: Crops, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"folder": tmp_path / "study", "cache": tmp_path / "cache"}
    spent = 0.0
    for cells in (2, 3):  # cancelled twice
        start = time.perf_counter()
        work = study_iter(crops, RECIPES, FAST, FOLDS, **settings)
        done = 0
        while done < cells:
            done += isinstance(next(work).data, FinishedCell)
        time.sleep(0.3)  # whatever takes its time in a run counts
        work.close()
        spent += time.perf_counter() - start
    first = ndc.study(crops, RECIPES, FAST, FOLDS, **settings)
    seconds = first.record["seconds"]
    assert seconds["runs"] == 3
    assert 0.6 + seconds["total_now"] < seconds["total"] < spent + seconds["total_now"] + 0.1
    assert seconds["training_and_testing"] == pytest.approx(first.cells["seconds"].sum(), rel=0.05)
    again = ndc.study(crops, RECIPES, FAST, FOLDS, **settings)
    pd.testing.assert_frame_equal(again.cells, first.cells)  # the seconds of kept cells, too
    assert again.record["seconds"]["runs"] == 4
    assert again.record["seconds"]["training_and_testing"] == seconds["training_and_testing"]
    assert again.record["seconds"]["total"] == pytest.approx(
        seconds["total"] + again.record["seconds"]["total_now"], abs=0.5
    )
    (tmp_path / "study" / "cells" / "seconds.json").write_text("[]")
    assert ndc.study(crops, RECIPES, FAST, FOLDS, **settings).record["seconds"]["runs"] == 1
    other = ndc.study(crops, RECIPES, ["knn"], FOLDS, overwrite=True, **settings)
    assert other.record["seconds"]["runs"] == 1


_KILLED = """
import sys
from tests.conftest import _make_crops
from tests.core.study.test_resuming import KILLED
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study.run import FinishedCell, study_iter

def told(progress):
    if isinstance(progress.data, FinishedCell):
        print(progress.data.recipe, flush=True)

run(study_iter(_make_crops(), folder=sys.argv[1], cache=sys.argv[2], **KILLED), told)
"""
KILLED: dict[str, Any] = {
    "recipes": {"raw": Recipe(), "dncnn": Recipe(["dncnn"])},
    "classifiers": {"knn": "knn", "cnn": ("cnn", {"input_size": 16, "epochs": 1, "batch_size": 16})},
    "design": FOLDS,
    "noise": "gaussian:25",
}


def test_a_killed_study_goes_on_where_it_was(crops: Crops, tmp_path: Path) -> None:
    folder, cache = tmp_path / "study", tmp_path / "cache"
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(folder), str(cache)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        for n, _ in enumerate(process.stdout, 1):
            if n == 7:
                break
        time.sleep(0.05)  # somewhere in the next one
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = len(list((folder / "cells").glob("[!.]*.npz")))
    assert 7 <= finished < 12
    before = {path: path.stat().st_mtime_ns for path in (folder / "cells").glob("[!.]*.npz")}
    result = ndc.study(crops, folder=folder, cache=cache, **KILLED)
    assert result.record["cache"]["cells_reused"] == finished
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (result.cells["status"] == "done").all()
    assert_equal(result, ndc.study(crops, cache=tmp_path / "another", **KILLED))
    assert_equal(load_study(folder), result)
