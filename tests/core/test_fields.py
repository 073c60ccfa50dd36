"""How much of an image a crop shows, and crops cut to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.core.classify.fields import CropField, Unit, field_of, pixel_size_of
from napari_denoise_classify.core.classify.marked import load_marked
from napari_denoise_classify.core.classify.objects import listed_classes
from napari_denoise_classify.core.classify.sampling import crops_from_objects, crops_from_points, join_crops
from napari_denoise_classify.core.files import ImageFile, read_image


def test_pixels_of_each_unit() -> None:
    assert CropField(32).pixels() == 32
    assert CropField(16, "µm").pixels(0.5) == 32
    assert CropField(16, "µm").pixels(0.25) == 64
    assert CropField(0.001, "µm").pixels(1) == 1
    assert CropField(0.5, "object").pixels(sides=[9, 10, 11]).tolist() == [14, 15, 17]
    with pytest.raises(ValueError, match="need the pixel size"):
        CropField(16, "µm").pixels()
    with pytest.raises(ValueError, match="need objects"):
        CropField(0.2, "object").pixels()


@pytest.mark.parametrize("bad", [(0, "px"), (-1, "object"), (np.nan, "µm"), (0, "µm"), (1, "inch")])
def test_bad_fields(bad: tuple) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        CropField(*bad)


def test_micrometres_of_an_unknown_pixel_size_deserve_a_note() -> None:
    for trained in (0.5, None):
        assert "show 16 µm, and the pixel size of this image is unknown" in CropField(16, "µm", trained).note(None)
        assert CropField(16, "µm", trained).note(0.25) == ""
    assert CropField(0.2, "object", 0.5).note(None, objects=True) == ""
    assert "as large as its object, and here no objects are known" in CropField(0.2, "object").note(0.5)


def test_only_pixels_of_another_size_deserve_a_note() -> None:
    assert CropField(32, "px", 0.5).note(0.501) == ""
    assert CropField(32, "px", 0.5).note(None) == ""
    assert CropField(32, "px").note(0.25) == ""
    assert CropField(16, "µm", 0.5).note(0.25) == ""
    assert "0.5 µm per pixel and this one has 0.25" in CropField(32, "px", 0.5).note(0.25)


@pytest.mark.parametrize("junk", [{}, {"crop": None}, {"crop": {"size": "x"}}, {"crop": {"size": 0, "unit": "px"}}])
def test_a_record_that_does_not_tell(junk: dict) -> None:
    assert field_of(junk, 24) == CropField(24)


def test_pixel_size_of_files(tmp_path: Path) -> None:
    image = np.zeros((8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata={"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"})
    assert pixel_size_of(read_image(tmp_path / "a.ome.tif")) == pytest.approx(0.25)
    tifffile.imwrite(tmp_path / "b.tif", image, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    assert pixel_size_of(read_image(tmp_path / "b.tif")) == pytest.approx(0.25)
    tifffile.imwrite(tmp_path / "c.tif", image, resolution=(20_000, 20_000), resolutionunit=3)
    assert pixel_size_of(read_image(tmp_path / "c.tif")) == pytest.approx(0.5)
    assert pixel_size_of(ImageFile(image, "YX", tmp_path / "d.tif", (72.0, 72.0), "inch")) is None
    assert pixel_size_of(ImageFile(image, "YX", tmp_path / "e.png")) is None


def test_pixels_that_are_no_squares_have_no_size(tmp_path: Path) -> None:
    image = np.zeros((64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": 1.0})
    tifffile.imwrite(tmp_path / "b.tif", image, imagej=True, resolution=(4, 1), metadata={"unit": "um"})
    pd.DataFrame({"y": [30, 30], "x": [30, 31], "class": ["a", "b"]}).to_csv(tmp_path / "p.csv", index=False)
    for name in ("a.ome.tif", "b.tif"):
        assert pixel_size_of(read_image(tmp_path / name)) is None
        with pytest.raises(ValueError, match="the same along Y and X"):
            load_marked([tmp_path / name], points=[tmp_path / "p.csv"], size=16, unit="µm")
    assert "differs along Y and X" in CropField(16, "µm", 0.25).note(None)
    nearly = ImageFile(image, "YX", tmp_path / "c.tif", (4.0, 4.05), "micron")
    assert pixel_size_of(nearly) == pytest.approx(0.25, rel=0.02)


def test_crops_as_large_as_their_objects(rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (40, 60), np.uint8)
    labels = np.zeros((40, 60), int)
    labels[10:15, 10:15], labels[20:31, 40:51] = 4, 2
    crops = crops_from_objects(image, labels, listed_classes([4, 2], ["a", "b"]), crop=CropField(0.0, "object"))
    assert crops.labels.tolist() == ["b", "a"]
    np.testing.assert_array_equal(crops.images[1], image[10:15, 10:15])
    np.testing.assert_array_equal(crops.images[0], image[20:31, 40:51])
    assert crops.field == CropField(0.0, "object")
    assert crops.names == ["object 2", "object 4"]


def test_a_list_of_classes_does_not_say_whose_they_are(rng: np.random.Generator) -> None:
    labels = np.pad(np.ones((5, 5), int), 10)
    with pytest.raises(ValueError, match="take those of painted_classes, clicked_classes or listed_classes"):
        crops_from_objects(rng.integers(0, 255, labels.shape, np.uint8), labels, ["a"])


def test_groups_and_empty_classes(rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (40, 60), np.uint8)
    crops = crops_from_points(image, [[5, 5], [9, 9]], ["a", "b"], crop=8, groups=["p", "q"])
    assert crops.groups is not None
    assert crops.groups.tolist() == ["p", "q"]
    assert crops.subset([1]).field == crops.field == CropField(8)
    with pytest.raises(ValueError, match="1 points have no class"):
        crops_from_points(image, [[5, 5], [9, 9]], ["a", None])
    with pytest.raises(ValueError, match="There is no point to learn from"):
        crops_from_points(image, np.empty((0, 2)), [])
    other = crops_from_points(image, [[5, 5]], ["a"], crop=9)
    with pytest.raises(ValueError, match="Some of the images have groups"):
        join_crops([crops, other])
    both = join_crops([crops, crops_from_points(image, [[5, 5]], ["a"], crop=9, groups=["r"])])
    assert len(both) == 3
    assert both.field is None


def test_the_field_in_micrometres_travels_with_the_classifier(rng: np.random.Generator, tmp_path: Path) -> None:
    image = rng.integers(0, 255, (64, 64), np.uint8)
    positions = rng.uniform(16, 48, (16, 2))
    data = crops_from_points(image, positions, ["a", "b"] * 8, crop=CropField(4.0, "µm", 0.5))
    assert data.images[0].shape == (8, 8)
    clf = ndc.train_classifier(data, "random_forest")
    clf.save(tmp_path / "m.ndc")
    clf = ndc.load_classifier(tmp_path / "m.ndc")
    assert field_of(clf.training, clf.crop_size) == CropField(4.0, "µm", 0.5)
    fine = np.kron(image, np.ones((2, 2), np.uint8))
    at = np.array([[20.0, 20.0], [30.0, 40.0]])
    there = ndc.classify(fine, clf, centres=2 * at, pixel_size=0.25)
    assert there.crop_size == 16
    coarse = ndc.classify(image, clf, centres=at)
    assert coarse.crop_size == 8
    np.testing.assert_allclose(there.table["p_a"], coarse.table["p_a"])  # the same pixels, averaged back


@pytest.mark.parametrize("unit", ["µm", "object"])
def test_images_of_other_pixel_sizes_have_their_field_in_common(
    rng: np.random.Generator, tmp_path: Path, unit: Unit
) -> None:
    field = CropField(16.0 if unit == "µm" else 0.5, unit)
    labels = np.zeros((200, 200), int)
    labels[60:70, 60:70], labels[60:70, 120:130] = 1, 2
    marks = listed_classes([1, 2], ["a", "b"])
    parts = [
        crops_from_objects(rng.integers(0, 255, (200, 200), np.uint8), labels, marks, crop=replace(field, pixel_size=p))
        for p in (0.5, 0.25, 0.25, 0.5)
    ]
    assert join_crops(parts[1:3]).field == replace(field, pixel_size=0.25)
    crops = join_crops(parts)
    assert crops.field == field
    clf = ndc.train_classifier(crops, "knn", input_size=8)
    clf.save(tmp_path / "m.ndc")
    clf = ndc.load_classifier(tmp_path / "m.ndc")
    assert field_of(clf.training, clf.crop_size) == field
    if unit == "µm":
        assert {image.shape for image in crops.images} == {(32, 32), (64, 64)}
        found = ndc.classify(rng.integers(0, 255, (300, 300), np.uint8), clf, centres=[[150, 150]], pixel_size=0.125)
        assert found.crop_size == 128
    other = crops_from_points(np.zeros((32, 32), np.uint8), [[9, 9]], ["a"], crop=9)
    assert join_crops([*parts, other]).field is None


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def fields(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write two images with their label images and tables."""
    for name in ("one", "two"):
        image = rng.integers(0, 255, (40, 40), np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", image, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
        labels = np.zeros((40, 40), np.uint16)
        labels[5:10, 5:10], labels[20:25, 20:25] = 1, 2
        tifffile.imwrite(tmp_path / f"{name}_labels.tif", labels)
        pd.DataFrame({"label": [1, 2], "class": ["a", "b"]}).to_csv(tmp_path / f"{name}.csv", index=False)
    points = {"image": ["one.tif", "two", "two"], "y": [7, 7, 22], "x": [7, 7, 22], "class": ["a", "b", "a"]}
    pd.DataFrame(points).to_csv(tmp_path / "points.csv", index=False)
    return tmp_path


def test_one_table_of_points_for_all_images(fields: Path) -> None:
    images = [fields / "one.tif", fields / "two.tif"]
    crops = load_marked(images, points=[fields / "points.csv"], size=4, unit="µm")
    assert crops.labels.tolist() == ["a", "b", "a"]
    assert crops.groups is not None
    assert crops.groups.tolist() == ["one", "two", "two"]
    assert crops.images[0].shape == (8, 8)
    assert crops.field == CropField(4, "µm", 0.5)
    np.testing.assert_array_equal(crops.images[0], tifffile.imread(images[0])[3:11, 3:11])


def test_objects_of_files(fields: Path) -> None:
    images, labels, tables = ([fields / f"{n}{end}" for n in ("one", "two")] for end in (".tif", "_labels.tif", ".csv"))
    crops = load_marked(images, labels=labels, classes=tables, size=0, unit="object")
    assert crops.labels.tolist() == ["a", "b"] * 2
    np.testing.assert_array_equal(crops.images[3], tifffile.imread(images[1])[20:25, 20:25])
    single = load_marked(images[:1], labels=labels[:1], classes=tables[:1])
    assert single.groups is None
    assert single.images[0].shape == (32, 32)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "either --points, or --labels and --classes"),
        ({"points": ["points.csv"], "labels": ["one_labels.tif"], "classes": ["one.csv"]}, "either --points"),
        ({"labels": ["one_labels.tif"], "classes": ["one.csv"]}, "2 images, but 1 label images"),
        ({"points": ["one.csv"]}, "no column 'image'"),
        ({"points": ["points.csv"] * 3}, "2 images, but 3 tables"),
        ({"points": ["points.csv"], "group": "patient"}, "no column 'patient'"),
    ],
)
def test_files_that_do_not_belong_together(fields: Path, given: dict, words: str) -> None:
    paths = {key: [fields / name for name in names] if key != "group" else names for key, names in given.items()}
    with pytest.raises(ValueError, match=words):
        load_marked([fields / "one.tif", fields / "two.tif"], **paths)


def test_real_nuclei_of_other_fields(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "cells_crc" / "images"
    table = pd.read_csv(folder / "nuclei.csv")
    table[["y", "x"]] = (table[["y", "x"]] - 1).clip(0, 499)  # they count from 1
    table.to_csv(tmp_path / "nuclei.csv", index=False)
    learnt = load_marked(
        [folder / f"{n}.png" for n in ("img7", "img9", "img10")], points=[tmp_path / "nuclei.csv"], size=27
    )
    assert learnt.counts == table[table["image"].isin(("img7", "img9", "img10"))]["class"].value_counts().to_dict()
    assert learnt.groups is not None
    assert set(learnt.groups) == {"img7", "img9", "img10"}
    clf = ndc.train_classifier(learnt, "random_forest", trees=50, input_size=12)
    other = load_marked([folder / "img5.png"], points=[tmp_path / "nuclei.csv"], size=27)
    assert clf.evaluate(other).macro_f1 > 0.3  # naming all of them inflammatory gives 0.19
