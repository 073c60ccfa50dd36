"""The panels Classify, Explain and Workflow in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels, Points, Shapes

import napari_denoise_classify as ndc
from napari_denoise_classify.core.figures import class_colours
from napari_denoise_classify.widgets.classify import TRAIN
from napari_denoise_classify.widgets.layers import METADATA_KEY
from napari_denoise_classify.widgets.session import session


def test_click_to_train_to_classes(open_dock, wait, field):
    image, centres, classes, labels = field
    viewer, dock = open_dock("Classify")
    layer = viewer.add_image(image, name="field", scale=(0.5, 0.5))
    viewer.add_points(centres * 0.5, features={"class": classes}, name="clicked")
    viewer.add_labels(labels, name="cells", scale=(0.5, 0.5))
    dock.task.value = TRAIN
    dock.labelled.samples.value = "points"
    dock.labelled.image.value, dock.labelled.points.value = layer, viewer.layers["clicked"]
    dock.labelled.crop.number.value = 16
    dock.method.choice.value = "random_forest"
    dock.context.value = 30
    dock.run_button.native.click()
    wait(dock)
    assert "macro-F1 1.000" in dock.status.value
    assert dock.classifier.name == "random_forest"
    assert dock.classifier.read().context.distance == 30
    dock.target.where.value = "objects"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    assert isinstance(result, Labels)
    np.testing.assert_array_equal(result.data, labels)
    np.testing.assert_allclose(result.scale, (0.5, 0.5))
    assert result.features["class"].tolist() == classes.tolist()
    assert result.features["index"].tolist() == list(range(1, 65))
    np.testing.assert_allclose(result.features[["p_bright", "p_dark"]].sum(axis=1), 1)
    colours = class_colours(("bright", "dark"))
    from napari.utils.colormaps.standardize_color import transform_color

    np.testing.assert_allclose(result.get_color(1), transform_color(colours["bright"])[0], atol=1e-6)


def test_points_are_mapped_through_the_world(open_dock, wait, field, classifier):
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field", scale=(0.5, 0.5), translate=(7, -3))
    viewer.add_points(centres * 0.5 + (7, -3), name="cells")
    dock.classifier.choice.value = classifier
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    assert isinstance(result, Points)
    np.testing.assert_allclose(result.data, centres, atol=1e-6)
    np.testing.assert_allclose(result.scale, (0.5, 0.5))
    assert (result.features["class"].to_numpy() == classes).mean() > 0.95


@pytest.mark.parametrize(("brightness", "colour"), [(20, 1.0), (240, 0.0)])
def test_names_beside_points_can_be_read(open_dock, wait, field, classifier, brightness, colour):
    _, centres, *_ = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(np.full((160, 160), brightness, np.uint8), name="field", contrast_limits=(0, 255))
    viewer.add_points([*centres[:3], (0, 159)], name="cells")
    dock.classifier.choice.value = classifier
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    np.testing.assert_allclose(np.asarray(result.text.color.constant)[:3], colour)
    assert result.text.translation[-1] > result.size.max() / 2


def test_whole_planes_of_a_stack(open_dock, wait, field, classifier):
    image, *_ = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(np.stack([image, 255 - image]), name="stack")
    dock.classifier.choice.value = classifier
    dock.run_button.native.click()
    wait(dock)
    assert viewer.layers[-1].data.shape == (2, 3)


def test_explain_adds_heat_and_outline(open_dock, wait, field, classifier):
    image, centres, *_ = field
    viewer, dock = open_dock("Explain")
    viewer.add_image(image, name="field", translate=(2, 3))
    viewer.add_points(centres[:5] + np.array((2, 3)), name="cells")
    dock.classifier.choice.value = classifier
    assert dock.explain.target.choices == ("", "bright", "dark")
    dock.target.where.value = "points"
    dock.explain.target.value = "bright"
    dock.run_button.native.click()
    wait(dock)
    heat, area = viewer.layers[-2:]
    assert isinstance(heat, Image)
    assert isinstance(area, Shapes)
    assert heat.data.shape == image.shape
    assert heat.data.dtype == np.float32
    assert heat.data.min() >= 0
    assert heat.data.max() <= 1
    np.testing.assert_allclose(heat.translate, (2, 3))
    assert set(area.features["explained"]) <= {"bright"}
    assert heat.metadata[METADATA_KEY]["explanation"]["target"] == "bright"


def test_workflow_saves_everything_once(open_dock, wait, field, classifier, tmp_path, errors, qapp):
    image, *_ = field
    viewer, dock = open_dock("Workflow")
    viewer.add_image(image, name="field")
    dock.classifier.choice.value = classifier
    dock.as_trained.value = False
    dock.denoiser.step = ("gaussian", {"kernel_size": 3})
    dock.mask.step = ("centre", {})
    dock.run_button.native.click()
    wait(dock)
    names = [layer.name for layer in viewer.layers]
    assert names == [
        "field",
        "field gaussian + centre",
        "field gradcam",
        "field critical area",
        "field classes",
    ]
    expected = ndc.Recipe([("gaussian", {"kernel_size": 3}), "centre"]).apply(image)
    np.testing.assert_array_equal(viewer.layers["field gaussian + centre"].data, expected)
    assert "otherwise than" in dock.status.value
    dock.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"field_{name}"
        for name in (
            "classes.csv",
            "critical_area.csv",
            "figure.png",
            "heat.tif",
            "mask.tif",
            "processed.tif",
            "record.json",
        )
    ]
    dock.save(tmp_path)
    assert "exists already" in errors[-1]
    viewer.layers.selection.active = viewer.layers["field gradcam"]
    dock.copy_button.native.click()
    assert "ndc.classify(image, clf" in qapp.clipboard().text()


def test_workflow_without_classifier_only_processes(open_dock, wait, field, tmp_path):
    viewer, dock = open_dock("Workflow")
    viewer.add_image(field[0], name="field")
    dock.classifier.choice.value = ""
    dock.denoiser.step = ("median", {})
    dock.run_button.native.click()
    wait(dock)
    assert [layer.name for layer in viewer.layers] == ["field", "field median"]
    dock.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field_processed.tif", "field_record.json"]


def test_first_use_with_sample_and_example(open_dock, wait):
    viewer, dock = open_dock("Workflow")
    viewer.open_sample("napari-denoise-classify", "noisy_ihc")
    dock.target.image.value = viewer.layers[0]
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    found = viewer.layers["IHC tissue, noisy classes"].features["class"].to_numpy()
    truth = viewer.layers["nuclei with class"].features["class"].to_numpy()
    assert (found == truth).mean() > 0.7


def test_wrong_image_and_missing_points_are_sentences(open_dock, wait, field, classifier, errors):
    viewer, dock = open_dock("Classify")
    dock.classifier.choice.value = classifier
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), rgb=True, name="colour")
    dock.run_button.native.click()
    wait(dock)
    assert "trained on gray images" in errors[-1]
    dock.target.where.value = "points"
    dock.run_button.native.click()
    assert "There are no points" in errors[-1]
    viewer.add_points([[500, 500]], name="outside")
    viewer.add_image(field[0], name="gray")
    dock.target.image.value = viewer.layers["gray"]
    dock.run_button.native.click()
    wait(dock)
    assert "outside the image" in errors[-1]


@pytest.mark.parametrize("name", ["ihc", "noisy_ihc", "noisy_cell"])
def test_samples_open(make_napari_viewer, name):
    viewer = make_napari_viewer()
    layers = viewer.open_sample("napari-denoise-classify", name)
    assert layers


@pytest.mark.parametrize("name", ["Workflow", "Denoise", "Mask", "Classify", "Explain"])
def test_every_dock_opens_on_an_empty_viewer_and_closes(open_dock, name):
    viewer, dock = open_dock(name)
    assert dock.run_button.enabled
    viewer.window.remove_dock_widget("all")


def test_points_without_a_class_are_not_trained_on(open_dock, field, errors):
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    viewer.add_points(centres, features={"class": [None, *classes[1:]]}, name="clicked")
    dock.task.value = TRAIN
    dock.labelled.samples.value = "points"
    dock.run_button.native.click()
    assert errors == ["Of the 64 points, 1 lacks a class: give each one in the features table."]
    assert dock.status.value == errors[0]


def test_copied_code_classifies_the_same_pixels(open_dock, wait, field, qapp):
    rng = np.random.default_rng(1)
    viewer, dock = open_dock("Explain")
    viewer.add_image(rng.integers(0, 256, (100, 120, 3), dtype=np.uint8), rgb=True, name="noise")
    viewer.add_points([[33.4996, 60.4999], [50.5, 50.5]], name="cells")
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    viewer.layers.selection.active = viewer.layers["noise gradcam"]
    dock.copy_button.native.click()
    scope = {"viewer": viewer}
    exec(qapp.clipboard().text(), scope)
    np.testing.assert_array_equal(scope["result"].heat, viewer.layers["noise gradcam"].data)


def test_saving_keeps_the_pixel_size_of_flipped_layers(open_dock, wait, field, tmp_path):
    import tifffile

    viewer, dock = open_dock("Workflow")
    viewer.add_image(field[0], name="field", scale=(0.5, -0.7), units=("um", "um"))
    dock.classifier.choice.value = ""
    dock.denoiser.step = ("median", {})
    dock.run_button.native.click()
    wait(dock)
    dock.save(tmp_path)
    with tifffile.TiffFile(tmp_path / "field_processed.tif") as tif:
        assert 'PhysicalSizeX="0.7"' in tif.ome_metadata
        assert 'PhysicalSizeYUnit="µm"' in tif.ome_metadata


def test_closing_the_viewer_during_a_run_is_quiet(open_dock, qtbot):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.zeros((6, 300, 300), np.uint8), name="stack")
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: "tile" in dock.status.value, timeout=60_000)
    job = dock.job
    viewer.close()
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=60_000)
    qtbot.wait(200)


# --- maps, colours --------------------------------------------------------------------------------------------------


def test_tiles_lie_over_the_image(open_dock, wait, field, classifier):
    image, *_ = field
    viewer, dock = open_dock("Classify")
    stack = np.stack([image, 255 - image])
    viewer.add_image(stack, name="stack", scale=(1, 0.5, 0.5), translate=(0, 7, -3))
    viewer.dims.set_point(0, 1)
    dock.classifier.choice.value = classifier
    dock.target.where.value = "tiles"
    dock.target.crop_size.unit.value = "px"
    dock.target.crop_size.number.value = 20
    dock.run_button.native.click()
    wait(dock)
    labels = viewer.layers["stack class map"]
    assert labels.data.shape == (2, 8, 8)
    # The first cell's corner is the image's corner.
    np.testing.assert_allclose(
        labels.data_to_world((0, -0.5, -0.5)), viewer.layers["stack"].data_to_world((0, -0.5, -0.5))
    )
    expected = ndc.class_map(stack, session.get(classifier), tile=20, lazy=False)
    np.testing.assert_array_equal(np.asarray(labels.data), expected.labels)
    np.testing.assert_allclose(np.asarray(viewer.layers["stack p dark"].data), expected.probabilities[1], atol=1e-6)
    assert "64 tiles of 20 px" in dock.status.value


def test_colours_are_chosen_for_layers_made_before_and_after(open_dock, wait, field, classifier, tmp_path):
    from napari.utils.colormaps.standardize_color import transform_color

    image, centres, _, labels = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    viewer.add_points(centres, name="clicks")
    viewer.add_labels(labels, name="cells")
    dock.classifier.choice.value = classifier
    for where in ("points", "objects", "tiles"):
        dock.target.where.value = where
        dock.run_button.native.click()
        wait(dock)
    before = class_colours(("bright", "dark"))
    points, objects, tiles = (viewer.layers[f"{n}"] for n in ("field classes", "cells classes", "field class map"))
    first = int(np.flatnonzero(points.features["class"] == "bright")[0])
    assert set(dock.colours.buttons) == {"bright", "dark"}
    session.set_colour("bright", "#123456")
    red = transform_color("#123456")[0]
    np.testing.assert_allclose(points.face_color[first], red, atol=1e-6)
    np.testing.assert_allclose(objects.get_color(first + 1), red, atol=1e-6)
    np.testing.assert_allclose(tiles.get_color(1), red, atol=1e-6)
    np.testing.assert_allclose(tiles.get_color(2), transform_color(before["dark"])[0], atol=1e-6)
    np.testing.assert_allclose(viewer.layers["field p bright"].colormap.colors[-1], red, atol=1e-6)
    assert "#123456" in dock.colours.buttons["bright"].styleSheet()
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    np.testing.assert_allclose(viewer.layers[-1].face_color[first], red, atol=1e-6)
    path = tmp_path / "model.ndc"
    session.get(dock.classifier.name).save(path)
    session._colours = {}
    session.add("model", session.read(path), path)
    assert session.colours(("bright", "dark"))["bright"] == "#123456"


def test_label_numbers_beyond_naparis_colours(open_dock, wait, field, classifier):
    image, _, classes, labels = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    viewer.add_labels(np.where(labels > 0, labels + 2**20, 0), name="cells")
    dock.classifier.choice.value = classifier
    dock.target.where.value = "objects"
    dock.run_button.native.click()
    wait(dock)
    points = viewer.layers[-1]
    found = points.features["class"].to_numpy()
    assert (found == classes).mean() > 0.95
    expected = np.where(labels > 0, 1 + (found[labels - 1] == "dark"), 0)
    np.testing.assert_array_equal(viewer.layers["cells classes"].data, expected)
    assert points.features["label"].tolist() == (np.arange(1, 65) + 2**20).tolist()
    assert "too large for napari" in dock.status.value


def test_objects_of_a_time_series_that_is_numbered_anew(open_dock, wait, field, classifier):
    image, _, classes, labels = field
    viewer, dock = open_dock("Classify")
    names = ("t", "y", "x")
    viewer.add_image(np.stack([image, image[::-1]]), name="series", axis_labels=names)
    series = np.stack([labels, labels[::-1]])
    cells = viewer.add_labels(series, name="cells", axis_labels=names)
    dock.classifier.choice.value = classifier
    dock.target.where.value = "objects"
    dock.run_button.native.click()
    wait(dock)
    copy = viewer.layers["cells classes"]
    assert "several planes" not in dock.status.value
    assert copy.features["t"].tolist() == [0] * 64 + [1] * 64
    assert copy.features["label"].tolist() == [*range(1, 65)] * 2
    assert copy.features["index"].tolist() == [*range(1, 129)]
    assert (copy.features["class"].to_numpy() == np.tile(classes, 2)).mean() > 0.95
    np.testing.assert_array_equal(copy.data, np.where(series > 0, series + 64 * np.arange(2)[:, None, None], 0))
    np.testing.assert_array_equal(cells.data, series)
    cells.axis_labels = viewer.layers["series"].axis_labels = ("a", "y", "x")
    dock.run_button.native.click()
    wait(dock)
    assert "64 objects lie in several planes" in dock.status.value
    assert len(viewer.layers["cells classes [1]"].features) == 64


def test_objects_of_a_multiscale_stack(open_dock, wait, field):
    image, centres, classes, labels = field
    crops = ndc.crops_from_points(image, centres, classes, crop=16)
    name = session.add("stack", ndc.train_classifier(crops, "random_forest", trees=20))
    viewer, dock = open_dock("Classify")
    stack = np.stack([np.full_like(image, 100), image, np.full_like(image, 100)])
    cells = np.zeros(stack.shape, np.int32)
    cells[1] = labels
    cells[0, :, :20] = labels[:, :20] * (np.arange(20) == 10)  # some reach into another plane, but are smaller there
    viewer.add_image([stack, stack[:, ::2, ::2]], multiscale=True, name="stack", scale=(2, 0.5, 0.5))
    viewer.add_labels(cells, name="cells", scale=(2, 0.5, 0.5))
    dock.classifier.choice.value = name
    dock.target.where.value = "objects"
    dock.run_button.native.click()
    wait(dock)
    features = viewer.layers["cells classes"].features
    assert set(features.iloc[:, 1]) == {1.0}
    assert features["class"].tolist() == classes.tolist()
    assert list(features.columns[:4]) == ["index", "axis0", "y", "x"]
