"""A study knows its data, and its result is read back as it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.study.result import load_study

from .small import FAST, FOLDS, RECIPES, assert_equal


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


def test_class_names_survive_a_csv(crops: Crops, tmp_path: Path) -> None:
    labels = np.where(crops.labels == "spot", "NA", "01")
    result = ndc.study(dataclasses.replace(crops, labels=labels, groups=None), RECIPES, FAST, FOLDS, folder=tmp_path)
    assert_equal(load_study(tmp_path), result)


def test_a_study_does_not_replace_another(crops: Crops, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = ndc.study(crops, RECIPES, ["knn"], FOLDS, folder=folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds another study: choose another folder, or move it away\."):
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
