"""Running a study: the same splits for all, everything once, and the rest goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe, StudyResult
from napari_denoise_classify.core.denoise.weights import registry
from napari_denoise_classify.core.progress import Progress, run
from napari_denoise_classify.core.study import cells as cells_module
from napari_denoise_classify.core.study.result import load_study
from napari_denoise_classify.core.study.run import Checked, FinishedCell, declare, study_iter

RECIPES = {"raw": Recipe(), "median": Recipe(["median"]), "centre": Recipe(["median", "centre"])}
FAST = {"knn": "knn", "forest": ("random_forest", {"trees": 10})}
FOLDS = "cross-validation:folds=3"
WHERE = ["condition", "recipe", "classifier", "repeat", "fold"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_CACHE", str(tmp_path / "user cache"))


def assert_equal(one: StudyResult, other: StudyResult) -> None:
    """The same numbers, seconds aside."""
    pd.testing.assert_frame_equal(one.cells.drop(columns="seconds"), other.cells.drop(columns="seconds"))
    for name in ("predictions", "quality", "drift"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        if a is not None:
            pd.testing.assert_frame_equal(a, b)


# --- what is done ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", [FOLDS, "partitions:partitions=3", "holdout:test_fraction=0.3,repeats=2"])
@pytest.mark.parametrize("training", ["matched", "mismatched"])
def test_the_same_splits_for_every_cell(crops: Crops, design: str, training: str) -> None:
    result = ndc.study(crops, RECIPES, FAST, design, training=training)
    tested = result.predictions.groupby(WHERE, sort=False)["sample"].agg(tuple)
    for _, found in tested.groupby(["repeat", "fold"]):
        assert len(found) == len(RECIPES) * len(FAST)
        assert found.nunique() == 1
    assert (result.cells["status"] == "done").all()
    assert len(result.cells) == len(tested)
    assert result.cells.groupby(["repeat", "fold"])[["n_train", "n_test"]].nunique().eq(1).all(axis=None)
    assert result.notes == []


def test_a_cell_is_what_plain_training_gives(crops: Crops) -> None:
    result = ndc.study(crops, RECIPES, FAST, "holdout:test_fraction=0.3", seed=3)
    train, test = crops.split(0.3, seed=3)
    classifier = ndc.train_classifier(train, "random_forest", RECIPES["centre"], 3, trees=10)
    expected = classifier.predict_proba(test.images)
    mine = result.predictions.query("recipe == 'centre' and classifier == 'forest'")
    np.testing.assert_array_equal(mine[["p_empty", "p_spot"]].to_numpy(), expected)
    np.testing.assert_array_equal(mine["truth"], test.labels)
    assert test.groups is not None
    np.testing.assert_array_equal(mine["group"], test.groups)
    found = classifier.evaluate(test)
    (cell,) = result.cells.query("recipe == 'centre' and classifier == 'forest'").to_dict("records")
    assert cell["macro_f1"] == pytest.approx(found.macro_f1)
    assert cell["accuracy"] == pytest.approx(found.accuracy)
    assert cell["f1_spot"] == pytest.approx(found.f1["spot"])
    assert (cell["n_train"], cell["n_test"]) == (len(train), len(test))


def test_figures_of_probabilities_agree_with_scikit_learn(crops: Crops) -> None:
    from sklearn.metrics import brier_score_loss, roc_auc_score

    result = ndc.study(crops, {"centre": Recipe(["centre"])}, FAST, "holdout:test_fraction=0.4", noise="gaussian:50")
    for cell in result.cells.to_dict("records"):
        mine = result.predictions[result.predictions["classifier"] == cell["classifier"]]
        spot = (mine["truth"] == "spot").to_numpy()
        assert cell["roc_auc"] == pytest.approx(roc_auc_score(spot, mine["p_spot"]))
        assert cell["brier"] == pytest.approx(2 * brier_score_loss(spot, mine["p_spot"]))
        assert 0 <= cell["ece"] <= 1


def test_matched_training_sees_what_the_test_sees_and_mismatched_clean_images(
    crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Any]] = []
    fit = cells_module.fit_estimator_iter

    def spy(method: str, parameters: Any, seed: int, X: list[Any], y: Any, groups: Any) -> Any:
        seen.append(X)
        return (yield from fit(method, parameters, seed, X, y, groups))

    monkeypatch.setattr(cells_module, "fit_estimator_iter", spy)
    train, test = crops.split(0.3, seed=0)
    settings: dict[str, Any] = {"design": "holdout:test_fraction=0.3", "noise": "gaussian:80", "explain": ""}
    mismatched = ndc.study(crops, RECIPES, ["knn"], training="mismatched", **settings)
    (only,) = seen  # one fit serves all recipes
    for mine, image in zip(only, train.images, strict=True):
        np.testing.assert_allclose(mine[..., 0], image / 255, atol=1e-6)
    seen.clear()
    matched = ndc.study(crops, RECIPES, ["knn"], training="matched", **settings)
    assert len(seen) == len(RECIPES)
    noise = np.array([mine[..., 0] - image / 255 for mine, image in zip(seen[0], train.images, strict=True)])
    assert noise.std() * 255 == pytest.approx(70, abs=12)  # 80, less what is clipped
    assert all((mine[0, 0] == 0).all() for mine in seen[2])  # the mask's corner
    assert not np.array_equal(mismatched.predictions["p_spot"], matched.predictions["p_spot"])
    # the same as a classifier trained on the images as they are, and asked with another recipe
    classifier = ndc.train_classifier(train, "knn")
    plain = ndc.study(crops, RECIPES, ["knn"], "holdout:test_fraction=0.3", training="mismatched")
    expected = classifier.predict_proba(test.images, RECIPES["centre"])
    mine = plain.predictions.query("recipe == 'centre'")
    np.testing.assert_array_equal(mine[["p_empty", "p_spot"]].to_numpy(), expected)


def test_what_is_fitted_is_fitted_on_training_samples(make_crops: Callable[..., Crops]) -> None:
    data = make_crops(dtype="uint16")
    test = data.split(0.3, seed=0)[1]
    names = {name: i for i, name in enumerate(data.names)}
    images = list(data.images)
    brightest = names[test.names[0]]
    images[brightest] = images[brightest] // 2 + 30_000
    spoilt = dataclasses.replace(data, images=images)
    settings: dict[str, Any] = {"design": "holdout:test_fraction=0.3", "explain": ""}
    one = ndc.study(data, RECIPES, FAST, **settings).predictions
    other = ndc.study(spoilt, RECIPES, FAST, **settings).predictions
    # a test image changed its own prediction alone
    rest = one["sample"] != brightest
    pd.testing.assert_frame_equal(one[rest], other[rest])
    notes = ndc.study(data, RECIPES, FAST, **settings).notes
    assert any("The images are uint16" in note for note in notes)
    assert ndc.study(data, RECIPES, FAST, intensity_range=(0, 65535), **settings).notes == []


def test_noise_is_fresh_for_each_image_and_the_same_for_each_recipe(crops: Crops) -> None:
    result = ndc.study(crops, RECIPES, ["knn"], FOLDS, noise=["", "gaussian:10", "gaussian:40"])
    assert result.conditions == ("", "gaussian:10", "gaussian:40")
    assert result.quality is not None
    psnr = result.quality.set_index(["noise", "recipe"])["psnr"]
    assert psnr["gaussian:10", "raw"] == pytest.approx(20 * np.log10(255 / 10), abs=0.5)
    assert psnr["gaussian:40", "raw"] < psnr["gaussian:10", "raw"] - 8
    assert psnr["gaussian:40", "median"] > psnr["gaussian:40", "raw"]
    assert set(result.quality["recipe"]) == {"raw", "median"}  # a masked image is no estimate of the clean one
    one = result.at("gaussian:40")
    assert one.conditions == ("gaussian:40",)
    assert len(one.cells) * 3 == len(result.cells)
    with pytest.raises(ValueError, match="no condition 'rain'"):
        result.at("rain")


def test_augmented_training_keeps_test_samples_as_they_are(crops: Crops) -> None:
    result = ndc.study(crops, {"raw": Recipe()}, ["knn"], FOLDS, augmentation=["", "turns"])
    plain, augmented = (result.at(name).predictions for name in ("", "augmented"))
    pd.testing.assert_series_equal(plain["sample"], augmented["sample"])
    assert not np.array_equal(plain["p_spot"], augmented["p_spot"])
    # a turned copy of a training sample has the training sample's nearest neighbours
    assert result.at("augmented").cells["macro_f1"].mean() >= result.at("").cells["macro_f1"].mean()


def test_tuning_looks_at_training_samples_alone(crops: Crops) -> None:
    grid = {"knn": ("knn", {"neighbours": [1, 5, 15]})}
    result = ndc.study(crops, {"raw": Recipe()}, grid, FOLDS)
    chosen = [json.loads(text)["neighbours"] for text in result.cells["tuned"]]
    assert set(chosen) <= {1, 5, 15}
    fixed = ndc.study(crops, {"raw": Recipe()}, {"knn": ("knn", {"neighbours": chosen[0]})}, FOLDS)
    columns = ["p_empty", "p_spot"]
    first = [r.predictions.query("fold == 0")[columns].to_numpy() for r in (result, fixed)]
    np.testing.assert_array_equal(*first)
    # other test samples, same training samples: the same choice
    images = list(crops.images)
    for i in result.predictions.query("fold == 0")["sample"]:
        images[i] = 255 - images[i]
    other = ndc.study(dataclasses.replace(crops, images=images), {"raw": Recipe()}, grid, FOLDS)
    assert other.cells["tuned"][0] == result.cells["tuned"][0]


def test_critical_areas_are_compared_with_the_reference(crops: Crops) -> None:
    small = ("cnn", {"input_size": 16, "epochs": 2, "batch_size": 8})
    result = ndc.study(crops, RECIPES, {"net": small, "knn": "knn"}, "partitions:partitions=2")
    assert result.drift is not None
    assert set(result.drift["classifier"]) == {"net"}
    assert set(result.drift["recipe"]) == {"median", "centre"}
    assert result.drift["iou"].dropna().between(0, 1).all()
    held_out = set(result.predictions["sample"])
    assert set(result.drift["sample"]) <= held_out
    for example in result.examples:
        assert example["sample"] in held_out
        assert example["label"] == crops.labels[example["sample"]]
        assert set(example["images"]) == set(example["heats"]) == set(example["predicted"]) == set(RECIPES)
        image, heat = example["images"]["centre"], example["heats"]["centre"]
        np.testing.assert_array_equal(image, RECIPES["centre"].apply(crops.images[example["sample"]]))
        assert (image.dtype, heat.dtype, heat.shape) == (np.uint8, np.float32, image.shape)
    assert {e["label"] for e in result.examples} == {"empty", "spot"}
    assert 0 < result.record["kept"]["centre"] < 1


def test_any_classifier_is_explained_by_occlusion(crops: Crops) -> None:
    result = ndc.study(crops.subset(np.arange(24)), RECIPES, FAST, "holdout:test_fraction=0.4", explain="occlusion")
    assert result.drift is not None
    assert set(result.drift["classifier"]) == set(FAST)
    assert set(result.examples[0]["heats"]) == set(RECIPES)
    none = ndc.study(crops, RECIPES, FAST, "holdout", explain="")
    assert none.drift is None
    assert none.examples[0]["heats"] == {}


# --- once, again, and in spite of it all ----------------------------------------------------------------------------


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


def test_a_study_knows_its_data(crops: Crops, tmp_path: Path) -> None:
    result = ndc.study(crops, RECIPES, ["knn"], FOLDS, folder=tmp_path)
    with pytest.raises(ValueError, match="given as they are: give them again"):
        ndc.study(result.study)
    with pytest.raises(ValueError, match="not those of this study"):
        ndc.study(result.study, crops=crops.subset(np.arange(40)))
    with pytest.raises(ValueError, match="design is settled by the study"):
        ndc.study(result.study, design=FOLDS, crops=crops)
    synthetic = ndc.study("synthetic:signatures:count=9,side=32", {"raw": Recipe()}, ["knn"], "holdout")
    assert_equal(ndc.study(synthetic.study), synthetic)


def test_a_study_file_finds_its_data_again(crops: Crops, tmp_path: Path) -> None:
    assert crops.groups is not None
    rows = ["path,class,field"]
    for i, (image, label, group) in enumerate(zip(crops.images, crops.labels, crops.groups, strict=True)):
        np.save(tmp_path / f"{i}.npy", image)
        rows.append(f"{i}.npy,{label},{group}")
    (tmp_path / "crops.csv").write_text("\n".join(rows))
    table = tmp_path / "crops.csv"
    result = ndc.study(str(table), RECIPES, FAST, FOLDS, group="field", folder=tmp_path / "study")
    assert result.study.data.groups == 6
    assert_equal(ndc.study(tmp_path / "study" / "study.json"), result)
    table.write_text("\n".join(rows[:-1]))
    with pytest.raises(ValueError, match="are not those of this study"):
        ndc.study(tmp_path / "study" / "study.json")


def test_a_result_is_saved_without_loss(crops: Crops, tmp_path: Path) -> None:
    small = ("cnn", {"input_size": 16, "epochs": 1, "batch_size": 16})
    result = ndc.study(crops, RECIPES, {"cnn": small}, "holdout", folder=tmp_path, noise=["", "gaussian:25"])
    read = load_study(tmp_path)
    pd.testing.assert_frame_equal(read.cells, result.cells)
    assert_equal(read, result)
    assert read.study == result.study
    assert read.notes == result.notes
    assert read.record == json.loads(json.dumps(result.record))
    for one, other in zip(read.examples, result.examples, strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_array_equal(one["images"]["median"], other["images"]["median"])
        np.testing.assert_array_equal(one["heats"]["median"], other["heats"]["median"])
        assert list(one["predicted"]["raw"]) == list(other["predicted"]["raw"])
    with pytest.raises(ValueError, match="holds no finished study"):
        load_study(tmp_path / "nowhere")
    (tmp_path / "cells.csv").unlink()
    with pytest.raises(ValueError, match=r"damaged \(cells.csv"):
        load_study(tmp_path)


@pytest.mark.parametrize("name", ["study.json", "result.json", "examples.npz", "cells.csv", "predictions.csv"])
def test_a_damaged_result_is_refused(crops: Crops, tmp_path: Path, name: str) -> None:
    ndc.study(crops, {"raw": Recipe()}, ["knn"], "holdout", folder=tmp_path)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    damaged = np.frombuffer(whole, np.uint8).copy()
    damaged[rng.integers(0, len(whole), len(whole) // 10)] = 255
    for content in (b"", whole[: len(whole) // 2], damaged.tobytes(), b"<html></html>\n", b"[]"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError):  # noqa: PT011  # sentences differ: what matters is that it is one
            load_study(tmp_path)


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


def test_class_names_survive_a_csv(crops: Crops, tmp_path: Path) -> None:
    labels = np.where(crops.labels == "spot", "NA", "01")
    result = ndc.study(dataclasses.replace(crops, labels=labels, groups=None), RECIPES, FAST, FOLDS, folder=tmp_path)
    assert_equal(load_study(tmp_path), result)


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


def test_progress_shows_cells_as_they_finish(crops: Crops) -> None:
    seen: list[Progress] = []
    result = run(study_iter(crops, RECIPES, FAST, FOLDS), seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert all(p.message for p in seen)
    told = [p.data for p in seen if p.data is not None]
    assert isinstance(told[0], Checked)
    assert told[0].cells == 18
    finished = [data for data in told if isinstance(data, FinishedCell)]
    assert len(finished) == 18
    pd.testing.assert_frame_equal(pd.DataFrame([row for cell in finished for row in cell.rows]), result.cells)


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


def test_a_study_does_not_replace_another(crops: Crops, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = ndc.study(crops, RECIPES, ["knn"], FOLDS, folder=folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds another study: choose another folder, or allow overwriting\."):
        ndc.study(crops, RECIPES, FAST, FOLDS, folder=folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert_equal(ndc.study(folder / "study.json", crops=crops, folder=folder), first)  # the same one may
    other = ndc.study(crops, RECIPES, FAST, FOLDS, folder=folder, overwrite=True)
    assert_equal(load_study(folder), other)
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "cells.csv").write_text("of my own")
    with pytest.raises(ValueError, match=r"holds a file cells\.csv that is of no study"):
        ndc.study(crops, RECIPES, ["knn"], FOLDS, folder=foreign)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be made"):
        ndc.study(crops, RECIPES, ["knn"], FOLDS, folder=tmp_path / "file")


_KILLED = """
import sys
from tests.conftest import _make_crops
from tests.core.study.test_run import KILLED
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


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recipes": None}, "A study needs recipes"),
        ({"classifiers": None}, "A study needs classifiers"),
        ({"recipes": [Recipe(["median"]), Recipe([("median", {"kernel_size": 3})])]}, "Two recipes have the same name"),
        ({"classifiers": ["knn", ("knn", {"neighbours": 3})]}, "Two classifiers have the same name"),
        ({"recipes": 5}, "recipes=5 is not allowed"),
        ({"classifiers": 5}, "classifiers=5 is not allowed"),
        ({"classifiers": [5]}, "5 is not a classifier"),
        ({"classifiers": {"x": ("knn", 5)}, "input_size": 16}, "is not a classifier"),
        ({"recipes": {"x": ["blur"]}}, "'blur' is not a denoise or mask step"),
        ({"preset": "magic"}, "no preset 'magic'"),
        ({"intensity_range": (5, 1)}, "intensity_range"),
        ({"intensity_range": "stack"}, "two numbers"),
        ({"design": "cross-validation:folds=90"}, r"Too few samples of empty \(24\), spot \(24\): .* at least 90"),
    ],
)
def test_bad_declarations(crops: Crops, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ndc.study(crops, **{"recipes": RECIPES, "classifiers": FAST, "design": FOLDS, **settings})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("nowhere", "neither a folder nor"),
        ("nowhere.json", "cannot be read"),
        ("synthetic:dogs", "no synthetic 'dogs'"),
        ("synthetic:cells:count", "cannot be read"),
        (np.zeros((3, 9, 9)), "is not allowed: give crops"),
    ],
)
def test_bad_data(data: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ndc.study(data, RECIPES, FAST, FOLDS)


def test_names_come_from_recipes_and_methods(crops: Crops) -> None:
    study, _ = declare(crops, [Recipe(), Recipe(["median", "centre"]), "gaussian"], ["knn", ("svm", {"C": 2})])
    assert list(study.recipes) == ["raw", "median + centre", "gaussian"]
    assert list(study.classifiers) == ["knn", "svm"]
    assert study.classifiers["svm"].parameters["C"] == 2
    study, _ = declare(crops, RECIPES, ["knn", ("svm", {"input_size": 8})], input_size=12)
    assert [c.parameters["input_size"] for c in study.classifiers.values()] == [12, 8]
    again, _ = declare(crops, study.recipes, study.classifiers, study.design, input_size=99)
    assert again.classifiers == study.classifiers
