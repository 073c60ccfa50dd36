"""The presets: each declares what it says, and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe, Study
from napari_denoise_classify.core.denoise.weights import registry
from napari_denoise_classify.core.study.declaring import declare
from napari_denoise_classify.core.study.presets import PRESETS, preset, sweep_recipes

GRID = {"gaussian": {"kernel_size": [3, 5], "blur_sigma": [1.0, 2.0]}, "median": {"kernel_size": [3]}}
SMALL: dict[str, Any] = {
    "cnn": ("cnn", {"input_size": 16, "epochs": 1, "batch_size": 16}),
    "knn": "knn",
}


def declared(crops: Crops, name: str, **settings: Any) -> Study:
    return declare(crops, preset=name, **settings)[0]


def test_denoising(crops: Crops) -> None:
    study = declared(crops, "denoising", input_size=32)
    assert list(study.recipes) == ["raw", "gaussian", "median", "dncnn", "restormer"]
    assert study.recipes["dncnn"].steps[0].parameters["sigma"] == 25
    assert list(study.classifiers) == ["cnn", "svm", "random_forest", "knn"]
    assert {c.parameters["input_size"] for c in study.classifiers.values()} == {32}
    assert study.design.text == "partitions:test_fraction=0.5,partitions=10,repeats=1"
    assert (study.reference, study.training, study.preset) == ("raw", "matched", "denoising")
    assert declared(crops, "denoising").classifiers["cnn"].parameters["input_size"] == 224


def test_masking(crops: Crops) -> None:
    study = declared(crops, "masking", training="mismatched")
    assert [recipe.title for recipe in study.recipes.values()] == [
        "dncnn",
        "dncnn + centre",
        "dncnn + non_centre",
        "dncnn + random",
    ]
    assert study.design.layout == "cross-validation"
    assert study.training == "mismatched"


@pytest.mark.parametrize(("samples", "keep"), [(1, "brightest"), (3, "darkest")])
def test_robustness(make_crops: Callable[..., Crops], samples: int, keep: str) -> None:
    study = declared(make_crops(samples), "robustness")
    assert len(study.conditions) == 4
    masked = [recipe for recipe in study.recipes.values() if recipe.masks]
    assert len(masked) * 2 == len(study.recipes)
    assert all(recipe.steps[-1].parameters["keep"] == keep for recipe in masked)


def test_signatures(crops: Crops) -> None:
    study = declared(crops, "signatures")
    assert list(study.recipes) == ["raw", "gaussian", "bm3d"]
    assert any("DRUNet is left out" in remark for remark in study.remarks)
    (forest,) = study.classifiers.values()
    assert forest.parameters["trees"] == 100
    assert study.design.test_fraction == 0.2
    assert study.margin == 5
    assert [c.name for c in study.conditions] == ["", "augmented"]


def test_drunet_joins_where_its_weights_are(crops: Crops, cache: Path) -> None:
    cache.mkdir()
    (cache / registry()["drunet_gray"].file).touch()
    assert "drunet" in declared(crops, "signatures").recipes


def test_sweep(crops: Crops) -> None:
    recipes = sweep_recipes(GRID)
    assert list(recipes) == [
        "raw",
        "gaussian kernel_size=3 blur_sigma=1.0",
        "gaussian kernel_size=3 blur_sigma=2.0",
        "gaussian kernel_size=5 blur_sigma=1.0",
        "gaussian kernel_size=5 blur_sigma=2.0",
        "median kernel_size=3",
    ]
    assert recipes["median kernel_size=3"] == Recipe([("median", {"kernel_size": 3})])
    result = ndc.study(crops, preset="sweep", sweep=GRID, classifiers=["knn"], design="cross-validation:folds=2")
    assert len(result.cells) == 6 * 2
    with pytest.raises(ValueError, match="needs a grid"):
        declared(crops, "sweep")
    with pytest.raises(ValueError, match="kernel_size=4"):
        declared(crops, "sweep", sweep={"median": {"kernel_size": [4]}})
    with pytest.raises(ValueError, match="A grid is for the preset 'sweep'"):
        declared(crops, "masking", sweep=GRID)


@pytest.mark.parametrize("name", ["denoising", "masking", "robustness"])
def test_presets_run(make_crops: Callable[..., Crops], name: str) -> None:
    quick = {"noise": ["", "gaussian:25"], "classifiers": ["knn"]}
    settings: dict[str, Any] = quick if name == "robustness" else {"classifiers": SMALL}
    result = ndc.study(make_crops(), preset=name, **settings)
    assert (result.cells["status"] == "done").all()
    assert (result.quality is not None) == (name == "robustness")
    if name == "masking":
        assert result.record["kept"] == {
            "centre": pytest.approx(0.5, abs=0.05),
            "non-centre": pytest.approx(0.5, abs=0.05),
            "random": pytest.approx(0.5, abs=0.05),
        }


def test_signatures_run_on_synthetic_collagen() -> None:
    recipes = {"raw": Recipe(), "gaussian": Recipe(["gaussian"])}  # BM3D takes its time
    result = ndc.study("synthetic:signatures:count=6,side=32", recipes, preset="signatures")
    assert (result.cells["status"] == "done").all()
    assert result.study.data.counts == {"TACS-1": 6, "TACS-2": 6, "TACS-3": 6}
    assert result.study.classifiers["random forest"].parameters["features"] == "fibres"
    assert set(result.cells["condition"]) == {"", "augmented"}


def test_every_preset_is_described() -> None:
    for name, words in PRESETS.items():
        assert words.endswith(".")
        preset(name, 1, GRID if name == "sweep" else None)
