"""Learning from the images in the viewer: clicks, painted and listed objects, whole layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_denoise_classify.core.classify.fields import CropField
from napari_denoise_classify.widgets.class_layers import recolour
from napari_denoise_classify.widgets.classify import TRAIN
from napari_denoise_classify.widgets.layers import METADATA_KEY
from napari_denoise_classify.widgets.session import session


def train(dock, wait):
    dock.task.value = TRAIN
    dock.method.step = ("random_forest", {"trees": 20})
    dock.run_button.native.click()
    wait(dock)


def test_from_clicks_in_two_fields_to_the_table_of_a_third(open_dock, wait, field, tmp_path):
    """The golden path: click, keep, click in another field, train, apply to a third, save the table."""
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    rng = np.random.default_rng(1)
    for name, factor in (("one", 1), ("two", 1), ("three", 2)):
        noisy = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        noisy = np.kron(noisy, np.ones((factor, factor), np.uint8))
        viewer.add_image(noisy, name=name, scale=(0.5 / factor,) * 2, units=("um", "um"))
        viewer.add_points(centres * 0.5, features={"class": classes}, name=f"{name} clicks", units=("um", "um"))
    dock.task.value = TRAIN
    rows = dock.labelled
    rows.samples.value = "points"
    rows.crop.unit.value = "µm"
    rows.crop.number.value = 8
    rows.image.value, rows.points.value = viewer.layers["one"], viewer.layers["one clicks"]
    rows.keep_button.native.click()
    assert "Kept 64 samples of one" in dock.status.value
    rows.image.value, rows.points.value = viewer.layers["two"], viewer.layers["two clicks"]
    train(dock, wait)
    assert "Trained random_forest. On 64 samples held out: macro-F1 1.000" in dock.status.value
    assert "flatters" not in dock.status.value  # each image is a group
    classifier = session.get(dock.classifier.name)
    assert classifier.training["groups"] == 1
    assert classifier.crop_size == 16
    dock.target.image.value, dock.target.points.value = viewer.layers["three"], viewer.layers["three clicks"]
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    assert result.metadata[METADATA_KEY]["crop_size"] == 32  # the same 8 µm
    assert (result.features["class"].to_numpy() == classes).mean() > 0.95
    dock.save_table(tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(table[list(result.features.columns)], result.features, check_dtype=False)
    np.testing.assert_allclose(table[["y", "x"]], result.data)
    assert list(table.columns) == ["y", "x", "class", "probability", "p_bright", "p_dark"]


def test_marks_that_were_added_to_a_kept_image_are_told(open_dock, wait, field):
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    for name in ("one", "two"):
        viewer.add_image(image, name=name)
        viewer.add_points(centres[:40], features={"class": classes[:40]}, name=f"{name} clicks")
    dock.task.value = TRAIN
    rows = dock.labelled
    rows.samples.value = "points"
    rows.crop.number.value = 16
    for name in ("one", "two"):
        rows.image.value, rows.points.value = viewer.layers[name], viewer.layers[f"{name} clicks"]
        rows.keep_button.native.click()
    train(dock, wait)
    assert "are marked now" not in dock.status.value
    viewer.layers["two clicks"].add(centres[40:])
    viewer.layers["two clicks"].features = {"class": classes}
    train(dock, wait)
    assert "Note: 40 samples of two are kept, and 64 are marked now: press Keep these" in dock.status.value
    rows.keep_button.native.click()
    train(dock, wait)
    assert "are marked now" not in dock.status.value


def test_objects_whose_classes_are_painted(open_dock, wait, field, tmp_path, qapp):
    image, _, classes, labels = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    cells = viewer.add_labels(labels, name="cells", features={"index": range(65), "group": ["", *("pq" * 32)]})
    painted = np.zeros((80, 80), np.int32)  # painted on a coarser grid
    small = labels[::2, ::2]
    bright = np.isin(small, 1 + np.flatnonzero(classes == "bright"))
    painted[bright & (small < 40)] = 2
    painted[~bright & (small > 0) & (small < 40)] = 5
    brush = viewer.add_labels(painted, name="brush", scale=(2, 2), translate=(0, 0))
    dock.task.value = TRAIN
    rows = dock.labelled
    rows.samples.value, rows.marked.value = "objects", "painted"
    rows.objects.value, rows.painted.value = cells, brush
    assert rows.names.names == {2: "class 2", 5: "class 5"}
    rows.names.table.item(0, 1).setText("bright")
    rows.names.table.item(1, 1).setText("dark")
    rows.crop.unit.value = "object"
    train(dock, wait)
    assert "macro-F1 1.000" in dock.status.value
    record = session.get(dock.classifier.name).training
    assert record["crop"]["unit"] == "object"
    assert sum(record["samples_per_class"].values()) < 39
    dock.target.where.value, dock.target.objects.value = "objects", cells
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    assert result.metadata[METADATA_KEY]["crop_size"] == 11  # 9 pixels and a fifth
    assert result.features["class"].tolist() == classes.tolist()
    assert result.features["group"].tolist() == list("pq" * 32)
    dock.save_table(tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(table, result.features.drop(columns="index"), check_dtype=False)
    viewer.layers.selection.active = result
    dock.copy_button.native.click()
    scope = {"viewer": viewer}
    exec(qapp.clipboard().text().replace(f"'{dock.classifier.name}.ndc'", repr(str(saved(dock, tmp_path)))), scope)
    assert scope["result"].table["class"].tolist() == classes.tolist()


def test_a_painted_number_without_a_name_is_not_trained_on(open_dock, wait, field):
    image, _, classes, labels = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    cells = viewer.add_labels(labels, name="cells")
    painted = np.where(np.isin(labels, 1 + np.flatnonzero(classes == "bright")), 1, 2) * (labels > 0)
    painted[:, 120:] *= 3  # to be left out: 3 and 6
    brush = viewer.add_labels(painted.astype(np.int32), name="brush")
    dock.task.value = TRAIN
    rows = dock.labelled
    rows.samples.value, rows.marked.value = "objects", "painted"
    rows.objects.value, rows.painted.value = cells, brush
    assert list(rows.names.names) == [1, 2, 3, 6]
    for row in (2, 3):
        rows.names.table.item(row, 1).setText(" ")
    brush.selected_label = 7
    brush.paint((0, 0), 7)
    assert [rows.names.table.item(row, 1).text() for row in range(5)] == ["class 1", "class 2", "", "", "class 7"]
    train(dock, wait)
    assert session.classes(dock.classifier.name) == ("class 1", "class 2")
    assert [rows.names.table.item(row, 1).text() for row in (2, 3)] == ["", ""]


def saved(dock, folder):
    path = folder / "model.ndc"
    session.get(dock.classifier.name).save(path)
    return path


def test_objects_that_are_clicked_and_points_beside_them(open_dock, wait, field):
    image, centres, classes, labels = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    viewer.add_labels(labels, name="cells")
    clicked = np.vstack([centres, [[0, 0], [20, 20]]])
    viewer.add_points(clicked, features={"class": [*classes, "dark", "dark"]}, name="clicks")
    dock.task.value = TRAIN
    dock.labelled.samples.value, dock.labelled.marked.value = "objects", "clicked"
    dock.labelled.crop.number.value = 12
    train(dock, wait)
    assert "macro-F1 1.000" in dock.status.value
    assert "2 points lie in no object and were ignored." in dock.status.value


def test_whole_image_layers_with_a_class_each(open_dock, wait, field):
    rng = np.random.default_rng(0)
    viewer, dock = open_dock("Classify")
    dock.task.value = TRAIN
    dock.labelled.samples.value = "images"
    for k in range(8):
        stack = rng.normal((50, 200)[k % 2], 20, (4, 16, 16)).clip(0, 255).astype(np.uint8)
        viewer.add_image(stack, name=f"stack {k}")
    table = dock.labelled.images.table
    assert table.rowCount() == 8
    for k in range(8):
        table.item(k, 1).setText(("dark", "bright")[k % 2])
    train(dock, wait)
    assert "macro-F1 1.000" in dock.status.value
    record = session.get(dock.classifier.name).training
    assert record["groups"] == 6
    assert "crop" not in record


def test_only_rows_that_matter_are_shown(open_dock, field):
    _, dock = open_dock("Classify")
    rows, target = dock.labelled, dock.target

    def shown(*widgets):
        return {widget.name for widget in widgets if not widget.native.isHidden()}

    assert not shown(*rows.rows)
    assert shown(target.where, target.crop_size, target.stride) == {"where"}
    dock.task.value = TRAIN
    assert shown(*rows.rows) == {"samples", "folder", "group"}
    assert not shown(target.image, target.where, dock.colours, dock.table_button)
    common = {"samples", "train_image", "train_crop", "more_images"}
    rows.samples.value = "objects"
    assert shown(*rows.rows) == common | {"train_objects", "marked", "painted", "painted_names"}
    assert "object" in rows.crop.unit.choices
    rows.marked.value = "clicked"
    assert shown(*rows.rows) == common | {"train_objects", "marked", "train_points", "class_column"}
    rows.samples.value = "points"
    assert shown(*rows.rows) == common | {"train_points", "class_column"}
    assert "object" not in rows.crop.unit.choices
    rows.samples.value = "images"
    assert shown(*rows.rows) == {"samples", "image_classes"}
    dock.task.value = "Apply a classifier"
    assert not shown(*rows.rows)
    target.where.value = "tiles"
    assert shown(target.where, target.crop_size, target.stride) == {"where", "crop_size", "stride"}
    assert target.crop_size.label == "Tile size"


@pytest.mark.parametrize(
    ("marked", "words"),
    [
        ("painted", "No object has a class: paint over some objects"),
        ("clicked", "There are no points"),
        ("listed", "The objects have no feature 'class'"),
    ],
)
def test_objects_without_a_class_are_a_sentence(open_dock, field, errors, marked, words):
    viewer, dock = open_dock("Classify")
    viewer.add_image(field[0], name="field")
    viewer.add_labels(field[3], name="cells")
    viewer.add_labels(np.zeros_like(field[3]), name="brush")
    dock.task.value = TRAIN
    dock.labelled.samples.value, dock.labelled.marked.value = "objects", marked
    dock.labelled.objects.value, dock.labelled.painted.value = viewer.layers["cells"], viewer.layers["brush"]
    dock.run_button.native.click()
    assert words in errors[-1]
    dock.labelled.objects.value = viewer.layers["brush"]
    dock.run_button.native.click()
    assert "The label image holds no objects" in errors[-1]


def test_a_renamed_image_keeps_its_class(open_dock):
    viewer, dock = open_dock("Classify")
    dock.task.value = TRAIN
    rows = dock.labelled
    rows.samples.value = "images"
    first, second = (viewer.add_image(np.eye(32, dtype=np.uint8), name=name) for name in "ab")
    rows.images.names = {"a": "round", "b": "long"}
    first.name = "slide"
    assert rows.images.names == {"slide": "round", "b": "long"}
    crops, _ = rows.load()()
    assert crops.labels.tolist() == ["round", "long"]
    viewer.layers.remove(second)
    assert rows.images.names == {"slide": "round"}


def test_a_class_that_somebody_wrote_into_the_features_has_a_colour(make_napari_viewer):
    viewer = make_napari_viewer()
    colours = {"a": "#ff0000"}
    labels = viewer.add_labels(
        np.eye(8, dtype=np.int32),
        features=pd.DataFrame({"index": [1], "class": ["unsure"]}),
        metadata={METADATA_KEY: {"colours": colours}},
    )
    points = viewer.add_points(
        np.zeros((2, 2)),
        features=pd.DataFrame({"class": ["a", "unsure"]}),
        metadata={METADATA_KEY: {"colours": colours}},
    )
    recolour(viewer, "a", "#00ff00")
    assert labels.metadata[METADATA_KEY]["colours"] == {"a": "#00ff00"}
    np.testing.assert_allclose(points.face_color[:, :3], [[0, 1, 0], [0.5, 0.5, 0.5]], atol=0.01)


def test_micrometres_hold_for_kept_images_of_other_pixel_sizes(open_dock, field):
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    dock.task.value = TRAIN
    rows = dock.labelled
    rows.samples.value, rows.crop.unit.value, rows.crop.number.value = "points", "µm", 8
    for name, size in (("coarse", 0.5), ("fine", 0.25)):
        where = {"scale": (size, size), "units": ("um", "um")}
        rows.image.value = viewer.add_image(image, name=name, **where)
        rows.points.value = viewer.add_points(centres, features={"class": classes}, name=f"{name} clicks", **where)
        rows.keep()
    crops, _ = rows.load()()
    assert {crop.shape for crop in crops.images} == {(16, 16), (32, 32)}
    assert crops.field == CropField(8, "µm")


def test_classes_painted_on_a_time_series_that_is_numbered_anew(open_dock, field):
    image, _, classes, labels = field
    viewer, dock = open_dock("Classify")
    dock.task.value = TRAIN
    rows = dock.labelled
    names = ("t", "y", "x")
    rows.image.value = viewer.add_image(np.stack([image, image[::-1]]), name="series", axis_labels=names)
    series = np.stack([labels, 65 * (labels[::-1] > 0) - labels[::-1]])  # in another order, later
    bright = np.array([False, *(classes == "bright")])
    painted = np.where(labels > 0, np.where(bright[labels], 2, 5), 0)
    features = {"index": range(1, 65), "class": classes, "group": ["p", "q"] * 32}
    rows.samples.value, rows.marked.value = "objects", "painted"
    rows.objects.value = viewer.add_labels(series, name="cells", features=features)
    rows.painted.value = viewer.add_labels(np.stack([painted, painted[::-1]]), name="brush")
    crops, _ = rows.load()()
    assert len(crops) == 128
    assert crops.counts == {"class 2": 2 * bright.sum(), "class 5": 2 * (~bright[1:]).sum()}
    assert crops.groups.tolist() == ["p", "q"] * 64
    rows.marked.value = "listed"
    crops, note = rows.load()()
    assert len(crops) == 64
    assert "64 objects lie in several planes" in note


def test_samples_that_are_kept_twice_are_there_once(open_dock, field):
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    dock.task.value = TRAIN
    rows = dock.labelled
    layer = viewer.add_image(image, name="field")
    points = viewer.add_points(centres, features={"class": classes}, name="clicks")
    rows.samples.value, rows.image.value, rows.points.value = "points", layer, points
    rows.keep()
    rows.keep()
    assert len(rows.load()()[0]) == len(centres)
    viewer.layers.remove(layer)
    again = viewer.add_image(image, name="field")  # another image of the same name
    rows.image.value = again
    crops, _ = rows.load()()
    assert len(crops) == 2 * len(centres)
    assert set(crops.groups) == {"field", "field (2)"}
