"""Class maps of large images, and batches of many samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask.array
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify.core import class_maps
from napari_denoise_classify.core.classify import batches
from napari_denoise_classify.core.classify.cutting import reflected
from napari_denoise_classify.core.files import ImageFile, read_image
from napari_denoise_classify.core.ome_zarr.axes import Axis
from napari_denoise_classify.core.ome_zarr.writing import new_ome_zarr
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.results import save_class_map

pytestmark = pytest.mark.filterwarnings("ignore:.*n_jobs.*")


@given(st.integers(1, 9), st.integers(-30, 0), st.integers(0, 40))
def test_reflection_is_numpys(n: int, low: int, length: int) -> None:
    positions = np.arange(low, low + length)
    padded = np.pad(np.arange(n), 40, "reflect" if n > 1 else "edge")
    np.testing.assert_array_equal(reflected(positions, n), padded[positions + 40])


@pytest.mark.parametrize(("tile", "stride"), [(16, 16), (16, 5), (7, 16), (9, 9), (60, 30)])
def test_tiles_are_classified_as_crops_around_their_centres(forest: ndc.Classifier, tile: int, stride: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (45, 61), np.uint8)
    found = ndc.class_map(image, forest, tile=tile, stride=stride)
    assert found.labels.shape == (-(-45 // stride), -(-61 // stride))
    rows, columns = (np.arange(n) * stride + stride // 2 for n in found.labels.shape)
    rows, columns = rows[rows < 45], columns[columns < 61]
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    table = ndc.classify(image, forest, centres=centres, crop_size=tile).table
    probabilities = found.probabilities[:, : len(rows), : len(columns)].compute()
    expected = table[[f"p_{name}" for name in forest.classes]].to_numpy().T
    np.testing.assert_allclose(probabilities.reshape(2, -1), expected, atol=1e-6)
    labels = found.labels[: len(rows), : len(columns)].compute().ravel()
    assert [forest.classes[k - 1] for k in labels] == table["class"].tolist()
    assert sum(found.fractions().values()) == pytest.approx(1)


def test_only_what_is_looked_at_is_read(forest: ndc.Classifier) -> None:
    read: list[tuple] = []

    def block(block_info: dict | None = None) -> np.ndarray:
        assert block_info is not None
        read.append(block_info[None]["chunk-location"])
        return np.zeros(block_info[None]["chunk-shape"], np.uint8)

    image = dask.array.map_blocks(block, chunks=((1,) * 3, (64,), (64,)), dtype=np.uint8, meta=np.empty((0,) * 3, "u1"))
    found = ndc.class_map(image, forest, tile=16, axes="TYX")
    assert found.labels.shape == (3, 4, 4)
    assert not read
    found.labels[1].compute()
    assert {where[0] for where in read} == {1}
    run(found.compute_iter((2,)))
    count = len(read)
    found.labels[1:].compute(), found.probabilities[:, 1:].compute()
    assert len(read) == count  # each tile is computed once


def test_a_map_in_several_blocks_is_one_map(forest: ndc.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(1).integers(0, 255, (80, 90), np.uint8)
    whole = ndc.class_map(image, forest, tile=16, stride=8, lazy=False)
    assert isinstance(whole.labels, np.ndarray)
    monkeypatch.setattr(class_maps, "_MOST_TILES", 9)
    parts = ndc.class_map(image, forest, tile=16, stride=8)
    assert parts.labels.numblocks == (4, 4)
    np.testing.assert_array_equal(parts.probabilities.compute(), whole.probabilities)


def test_cancelled_maps_leave_nothing_half_done(forest: ndc.Classifier) -> None:
    found = ndc.class_map(np.zeros((64, 64), np.uint8), forest, tile=16)
    work = found.compute_iter()
    next(work)
    work.close()
    assert not found._blocks._done


def test_bad_maps_are_sentences(forest: ndc.Classifier) -> None:
    with pytest.raises(ValueError, match="trained on gray images, and this image is RGB: give gray images, or train"):
        ndc.class_map(np.zeros((9, 9, 3), np.uint8), forest, rgb=True)
    for wrong in ({"tile": 0}, {"stride": 0}):
        with pytest.raises(ValueError, match="=0 is not allowed"):
            ndc.class_map(np.zeros((9, 9), np.uint8), forest, **wrong)
    with pytest.raises(ValueError, match=r"tile=2\.5 is not allowed: give a whole number"):
        ndc.class_map(np.zeros((9, 9), np.uint8), forest, tile=2.5)
    broken = np.full((40, 40), np.nan, np.float32)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ndc.class_map(broken, forest, tile=8, lazy=False)


def test_maps_are_saved_with_their_pixel_size(forest: ndc.Classifier, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, 40, 50), np.uint8)
    ome = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    file = ImageFile(image, "TYX", tmp_path / "a.tif", metadata={"ome": ome})
    found = ndc.class_map(image, forest, tile=10, axes="TYX", lazy=False)
    paths = save_class_map(tmp_path, "a", file, found)
    np.testing.assert_array_equal(tifffile.imread(paths["classes"]), found.labels)
    with tifffile.TiffFile(paths["probabilities"]) as tif:
        assert tif.series[0].axes == "CTYX"
        assert 'PhysicalSizeX="5.0"' in (tif.ome_metadata or "")
        np.testing.assert_array_equal(tif.asarray(), found.probabilities)
    table = pd.read_csv(paths["table"])
    assert table["class"].tolist() == list(forest.classes)
    np.testing.assert_allclose(table["fraction"], [(found.labels == k).mean() for k in (1, 2)])
    with pytest.raises(FileExistsError, match="exists already"):
        save_class_map(tmp_path, "a", file, found)


def test_maps_of_an_ome_zarr_have_the_size_of_their_own_pixels(forest: ndc.Classifier, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    axes = tuple(Axis(letter, 0.5, 0.0, "micrometer") for letter in "YX")
    with new_ome_zarr(tmp_path / "a.ome.zarr", image.shape, image.dtype, axes) as canvas:
        canvas[:, :] = image
        run(canvas.pyramid_iter())
    file = read_image(tmp_path / "a.ome.zarr")
    found = ndc.class_map(image, forest, tile=10, axes="YX", lazy=False)
    paths = save_class_map(tmp_path, "a", file, found)
    for name in ("classes", "probabilities"):
        sizes = read_image(paths[name]).metadata["ome"]
        assert (sizes["PhysicalSizeX"], sizes["PhysicalSizeY"]) == (5.0, 5.0)


# --- batches --------------------------------------------------------------------------------------------------------


def test_batches_of_any_size_give_the_same(
    forest: ndc.Classifier, make_crops: Callable[..., ndc.Crops], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3, 50, 60), np.uint8)
    centres = np.column_stack([rng.integers(0, 3, 40), rng.uniform(0, 49, 40), rng.uniform(0, 59, 40)])
    sizes = rng.integers(5, 20, 40)
    recipe = ndc.Recipe([("median", {"kernel_size": 3}), "centre"])

    def classify() -> ndc.Classified:
        return ndc.classify(image, forest, axes="TYX", centres=centres, crop_size=sizes, recipe=recipe)

    once = classify()
    monkeypatch.setattr(batches, "BATCH", 7)
    several = classify()
    pd.testing.assert_frame_equal(once.table, several.table)
    assert once.kept == pytest.approx(several.kept)
    np.testing.assert_array_equal(once.mask, several.mask)
    for k in range(40):
        alone = ndc.classify(
            image[int(centres[k, 0])], forest, centres=centres[k : k + 1, 1:], crop_size=sizes[k], recipe=recipe
        )
        assert alone.table["p_spot"][0] == pytest.approx(once.table["p_spot"][k])


def test_no_more_than_a_batch_is_held_at_a_time(forest: ndc.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    prepare = batches.prepare_masked_iter

    def counted(images: list, *rest: object) -> object:
        held.append(len(images))
        return prepare(images, *rest)

    monkeypatch.setattr(batches, "prepare_masked_iter", counted)
    monkeypatch.setattr(batches, "BATCH", 64)
    centres = np.random.default_rng(0).uniform(0, 99, (1000, 2))
    assert len(ndc.classify(np.zeros((100, 100), np.uint8), forest, centres=centres).table) == 1000
    assert sum(held) == 1000
    assert max(held) <= 64


def test_sizes_and_positions_must_agree(forest: ndc.Classifier) -> None:
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(ValueError, match="There are 2 positions, but 3 crop sizes"):
        ndc.classify(image, forest, centres=np.ones((2, 2)), crop_size=np.array([3, 3, 3]))
    with pytest.raises(ValueError, match="size=0 is not allowed"):
        ndc.classify(image, forest, centres=np.ones((2, 2)), crop_size=np.array([3, 0]))


def test_groups_are_carried_into_the_table(forest: ndc.Classifier) -> None:
    table = ndc.classify(
        np.zeros((20, 20), np.uint8), forest, centres=np.ones((2, 2)), ids=[4, 5], groups=["p", "q"]
    ).table
    assert list(table.columns) == ["y", "x", "class", "probability", "p_empty", "p_spot", "group", "label"]
    assert table["group"].tolist() == ["p", "q"]
