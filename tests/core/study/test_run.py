"""Running a study: the same splits for all, and what is done in a cell."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.progress import Progress, run
from napari_denoise_classify.core.study import cells as cells_module
from napari_denoise_classify.core.study.declaring import declare
from napari_denoise_classify.core.study.run import Checked, FinishedCell, study_iter

from .small import FAST, FOLDS, RECIPES

WHERE = ["condition", "recipe", "classifier", "repeat", "fold"]


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


def test_images_of_unequal_size_are_compared_on_one_scale(make_crops: Callable[..., Crops]) -> None:
    """Their noise was made on the range of all, not on that of those of their size."""
    data = make_crops(dtype="uint16")
    dim = [image[: 12 + i % 7, : 12 + i % 7] // (2 + 7 * (i % 7)) + 15_000 for i, image in enumerate(data.images)]
    unequal = dataclasses.replace(data, images=dim)
    result = ndc.study(unequal, {"raw": ndc.Recipe()}, ["knn"], FOLDS, noise=["", "gaussian:10"], explain="")
    assert result.quality is not None
    psnr = result.quality.set_index(["noise", "recipe"])["psnr"]
    assert psnr["gaussian:10", "raw"] == pytest.approx(20 * np.log10(255 / 10), abs=0.7)


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
