"""The commands that classify and explain, on images that stay on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

pytest.importorskip("zarr", minversion="3")

import napari_denoise_classify as ndc
from napari_denoise_classify.cli import samples
from napari_denoise_classify.core.files import read_image

from .command_line import run

pytestmark = pytest.mark.filterwarnings("ignore:.*n_jobs.*")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An OME-Zarr image, made by the program itself."""
    data = np.random.default_rng(0).integers(0, 255, (150, 180), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data)
    run("denoise", tmp_path / "a.tif", "-m", "none", "--format", "zarr", "-o", tmp_path)
    return tmp_path / "a_none.zarr"


@pytest.fixture
def model(tmp_path: Path, cnn: ndc.Classifier) -> Path:
    cnn.save(tmp_path / "model.ndc")
    return tmp_path / "model.ndc"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    objects = np.zeros((150, 180), np.uint16)
    for k in range(9):
        objects[10 + k * 15 : 20 + k * 15, 5 + k * 17 : 17 + k * 17] = k + 1
    tifffile.imwrite(tmp_path / "labels.tif", objects)
    return tmp_path / "labels.tif"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each image that was read from now on stayed on disk: from 0 bytes on."""
    lazy: list[bool] = []

    def read(path: Path, lazy_above: int | None = None) -> object:
        file = read_image(path, None if lazy_above is None else 0)
        lazy.append(file.lazy)
        return file

    monkeypatch.setattr(samples, "read_image", read)
    return lazy


def both(tmp_path: Path, request: pytest.FixtureRequest, *command: object) -> tuple[Path, Path]:
    """Run a command on an image in memory, and on one that stays on disk."""
    run(*command, "-o", tmp_path / "memory")
    lazy = request.getfixturevalue("opened")
    run(*command, "-o", tmp_path / "disk")
    assert lazy
    assert all(lazy)
    return tmp_path / "memory", tmp_path / "disk"


def test_tiles(tmp_path: Path, store: Path, model: Path, request: pytest.FixtureRequest) -> None:
    memory, disk = both(tmp_path, request, "classify", store, "--model", model, "--tiles", 16)
    for name in ("a_none_class_map.tif", "a_none_probabilities.tif"):
        np.testing.assert_array_equal(tifffile.imread(disk / name), tifffile.imread(memory / name))
    assert (disk / "a_none_tiles.csv").read_text() == (memory / "a_none_tiles.csv").read_text()


def test_objects(tmp_path: Path, store: Path, model: Path, labels: Path, request: pytest.FixtureRequest) -> None:
    memory, disk = both(tmp_path, request, "classify", store, "--model", model, "--labels", labels)
    tables = [pd.read_csv(folder / "a_none_classes.csv") for folder in (memory, disk)]
    assert len(tables[0]) == 9
    pd.testing.assert_frame_equal(*tables)
    assert (disk / "a_none_classes.png").is_file()


def test_explanations(tmp_path: Path, store: Path, model: Path, labels: Path, request: pytest.FixtureRequest) -> None:
    recipe = ndc.Recipe(["median", "centre"])
    recipe.to_json(tmp_path / "recipe.json")
    command = ("explain", store, "--model", model, "--labels", labels, "--recipe", tmp_path / "recipe.json")
    memory, disk = both(tmp_path, request, *command)
    for name in ("a_none_processed.tif", "a_none_mask.tif", "a_none_heat.tif"):
        np.testing.assert_array_equal(tifffile.imread(disk / name), tifffile.imread(memory / name))
    for name in ("a_none_classes.csv", "a_none_critical_area.csv"):
        assert (disk / name).read_text() == (memory / name).read_text()
    records = [json.loads((folder / "a_none_record.json").read_text()) for folder in (memory, disk)]
    assert records[0] == records[1]


def test_checks_of_explanations(tmp_path: Path, store: Path, model: Path, labels: Path, opened: list[bool]) -> None:
    out = run("check-explanation", store, "--model", model, "--labels", labels, "--samples", 3)
    assert "9" in out or "3" in out
    assert opened == [True, True]
