"""Classification and explanation of images that are not in memory: the same outcome, and bounded reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.core import figures
from napari_denoise_classify.core.classify import objects, pasting
from napari_denoise_classify.core.device import MEMORY_VARIABLE
from napari_denoise_classify.core.figures import result_figure
from napari_denoise_classify.core.files import ImageFile, write_like
from napari_denoise_classify.core.images import PlaneImage
from napari_denoise_classify.core.results import save_result

pytestmark = pytest.mark.filterwarnings("ignore:.*n_jobs.*")

IMAGE = np.random.default_rng(0).integers(0, 255, (2, 90, 130), np.uint8)
CENTRES = np.column_stack([v := np.random.default_rng(1).uniform(0, (2, 90, 130), (40, 3)) - 0.5]).clip(0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pasting, "_SIDE", 32)


def on_disk(image: np.ndarray, chunk: int = 37) -> Any:
    return dask.array.from_array(image, chunks=(*(1 for _ in image.shape[:-2]), chunk, chunk))


class Counted:
    """An array that counts how many pixels were read."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype, self.ndim, self.read = shape, np.dtype(dtype), len(shape), 0

    def __getitem__(self, region: Any) -> np.ndarray:
        sizes = [len(range(*s.indices(n))) for s, n in zip(region, self.shape, strict=True)]
        self.read += int(np.prod(sizes))
        return np.random.default_rng(0).integers(0, 200, sizes).astype(self.dtype)


@pytest.mark.parametrize("recipe", [[], [("median", {"kernel_size": 3}), "centre"]], ids=["raw", "masked"])
@pytest.mark.parametrize("explain", [None, "occlusion"])
def test_a_lazy_image_gives_the_same(cnn: ndc.Classifier, recipe: list, explain: str | None) -> None:
    centres = CENTRES[:10] if explain else CENTRES  # occlusion takes a second for each
    how = {"axes": "ZYX", "centres": centres, "crop_size": 16, "recipe": ndc.Recipe(recipe), "explain": explain}
    expected = ndc.classify(IMAGE, cnn, **how)
    found = ndc.classify(on_disk(IMAGE), cnn, **how)
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.kept == pytest.approx(expected.kept)
    assert hasattr(found.image, "dask")
    # Where crops overlap, any of them may show: compare where one alone lies.
    covers = np.zeros(IMAGE.shape, int)
    for z, y, x in np.rint(centres).astype(int):
        covers[z, max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] += 1
    alone = covers <= 1
    np.testing.assert_array_equal(np.asarray(found.image)[alone], expected.image[alone])
    assert recipe == [] or (np.asarray(found.image) != IMAGE).any()
    if recipe:
        np.testing.assert_array_equal(np.asarray(found.mask), expected.mask)
        assert found.mask.dtype == bool
    else:
        assert found.mask is None
    if explain:
        assert hasattr(found.heat, "dask")
        assert found.heat.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(found.heat), expected.heat)
        assert [row for row, _ in found.contours] == [row for row, _ in expected.contours]
    else:
        assert found.heat is None


def test_colour_images_in_any_order_of_axes(make_crops: Any) -> None:
    forest = ndc.train_classifier(make_crops(3), "random_forest", trees=5)
    image = np.random.default_rng(0).integers(0, 255, (70, 4, 60), np.uint8)
    centres = np.array([(10.0, 12.0), (50.0, 40.0)])
    how = {"axes": "YSX", "centres": centres, "crop_size": 16, "recipe": ndc.Recipe(["median", "centre"])}
    expected = ndc.classify(image, forest, **how)
    found = ndc.classify(dask.array.from_array(image, chunks=31), forest, **how)
    np.testing.assert_array_equal(np.asarray(found.image), expected.image)
    np.testing.assert_array_equal(np.asarray(found.mask), expected.mask)


def test_whole_planes_of_a_lazy_stack(forest: ndc.Classifier) -> None:
    how = {"axes": "ZYX", "recipe": ndc.Recipe(["median"])}
    expected, found = (ndc.classify(image, forest, **how) for image in (IMAGE, on_disk(IMAGE)))
    pd.testing.assert_frame_equal(found.table, expected.table)
    np.testing.assert_array_equal(np.asarray(found.image), expected.image)


def test_of_a_huge_image_only_the_crops_are_read(forest: ndc.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pasting, "_SIDE", 1024)
    huge = Counted((50_000, 40_000), "uint8")
    centres = np.array([(100.0, 100.0), (40_000.0, 30_000.0)])
    recipe = ndc.Recipe(["median"])
    found = ndc.classify(dask.array.from_array(huge, chunks=1000), forest, centres=centres, crop_size=16, recipe=recipe)
    assert huge.read < 2 * 40**2
    assert found.image.shape == huge.shape
    assert np.asarray(found.image[90:110, 90:110]).shape == (20, 20)
    assert huge.read < 2 * 1000**2


def test_a_huge_image_is_no_sample(forest: ndc.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "0.5")
    image = dask.array.zeros((40_000, 30_000), dtype=np.uint8, chunks=1000)
    with pytest.raises(ValueError, match=r"40000 × 30000 pixels as one sample each needs .*: classify tiles, or crops"):
        ndc.classify(image, forest)


def test_the_map_of_a_lazy_image_reads_block_by_block(forest: ndc.Classifier) -> None:
    wide = Counted((512, 4096), "uint16")  # not the dtype of the training images: the range is looked for
    found = ndc.class_map(dask.array.from_array(wide, chunks=256), forest, tile=64)
    held: list[int] = []
    work = found.compute_iter()
    messages = []
    for progress in work:
        messages.append(progress.message)
        held.append(wide.read)
    assert any("finding the intensity range" in message for message in messages)
    assert len({held[k] for k in range(len(held))}) >= 3  # little by little
    assert wide.read <= 4 * 512 * 4096


@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_objects_of_a_lazy_label_image(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PART", 10)
    rng = np.random.default_rng(chunk)
    labels = np.kron(rng.integers(0, 9, (2, 12, 15)), np.ones((1, 5, 7), int)).astype(np.uint16)
    expected, found = objects.measure_objects(labels), objects.measure_objects(on_disk(labels, chunk))
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.centres, expected.centres)
    np.testing.assert_allclose(found.sides, expected.sides)


def test_a_figure_of_a_large_lazy_image_reads_what_it_shows(
    cnn: ndc.Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "_MOST", 40)
    how = {"centres": CENTRES[:, 1:], "crop_size": 16, "explain": "occlusion"}
    image = on_disk(IMAGE[0])
    found = ndc.classify(image, cnn, **how)
    figure = result_figure(image, None, False, found, cnn.classes)
    shown = [ax.get_images()[0].get_array().shape for ax in figure.axes]
    assert shown == [(23, 33)] * 3
    assert figure.axes[0].get_images()[0].get_extent() == [-0.5, 131.5, 91.5, -0.5]
    file = ImageFile(image, "YX", tmp_path / "a.zarr")
    paths = save_result(tmp_path, "a", file, found, cnn.classes)
    np.testing.assert_array_equal(tifffile.imread(paths["heat"]), np.asarray(found.heat))
    np.testing.assert_array_equal(tifffile.imread(paths["image"]), IMAGE[0])


@pytest.mark.parametrize(("shape", "axes"), [((3, 40, 50), "ZYX"), ((40, 50, 3), "YXS"), ((3, 40, 50), "SYX")])
def test_a_lazy_array_is_written_tile_by_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axes: str
) -> None:
    monkeypatch.setattr("napari_denoise_classify.core.files._TILE", 16)
    data = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    source = ImageFile(data, axes, tmp_path / "a.tif")
    for name, array in {"whole": data, "lazy": dask.array.from_array(data, chunks=11)}.items():
        write_like(tmp_path / f"{name}.tif", array, source)
    whole, lazy = tifffile.imread(tmp_path / "whole.tif"), tifffile.imread(tmp_path / "lazy.tif")
    np.testing.assert_array_equal(lazy, np.moveaxis(whole, 0, -1) if axes == "SYX" else whole)


def test_pasted_patches_hang_over_borders() -> None:
    canvas = np.zeros((5, 6), int)
    pasting.paste(canvas, np.full((4, 4), 2), -2, 4)
    pasting.paste(canvas, np.full((3, 3), 1), 0, 3, np.maximum)
    expected = np.zeros((5, 6), int)
    expected[:3, 3:6] = 1
    expected[:2, 4:] = 2
    np.testing.assert_array_equal(canvas, expected)
    assert PlaneImage.wrap(canvas).plane_shape == (5, 6)
