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


@pytest.fixture
def field() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of bright and dark squares, their centres, their classes and their labels."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 110, (160, 160)).astype(np.uint8)
    labels = np.zeros((160, 160), np.int32)
    centres, classes = [], []
    for k in range(64):
        y, x = 10 + 20 * (k // 8), 10 + 20 * (k % 8)
        bright = k % 3 == 0
        image[y - 4 : y + 5, x - 4 : x + 5] = 200 if bright else 20
        labels[y - 4 : y + 5, x - 4 : x + 5] = k + 1
        centres.append((y, x))
        classes.append("bright" if bright else "dark")
    return image, np.array(centres, float), np.array(classes), labels


@pytest.fixture
def classifier(field) -> str:
    """Train a small CNN on the field and put it into the session."""
    from napari_denoise_classify.core.classify.sampling import crop_around
    from napari_denoise_classify.core.images import PlaneImage

    image, centres, classes, _ = field
    crops = crop_around(PlaneImage.wrap(image), centres, 16)
    data = ndc.Crops(crops, classes, None, [str(i) for i in range(len(crops))])
    clf = ndc.train_classifier(data, "cnn", input_size=16, epochs=8, batch_size=16, learning_rate=0.005)
    return session.add("squares", clf)


def test_click_to_train_to_classes(open_dock, wait, field):
    image, centres, classes, labels = field
    viewer, dock = open_dock("Classify")
    layer = viewer.add_image(image, name="field", scale=(0.5, 0.5))
    viewer.add_points(centres * 0.5, features={"class": classes}, name="clicked")
    viewer.add_labels(labels, name="cells", scale=(0.5, 0.5))
    dock.task.value = TRAIN
    dock.samples.value = "points"
    dock.train_image.value, dock.train_points.value = layer, viewer.layers["clicked"]
    dock.train_crop.value = 16
    dock.method.choice.value = "random_forest"
    dock.run_button.native.click()
    wait(dock)
    assert "macro-F1 1.000" in dock.status.value
    assert dock.classifier.name == "random_forest"
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


def test_workflow_saves_everything_once(open_dock, wait, field, classifier, tmp_path, errors, qapp, monkeypatch):
    from napari_denoise_classify.widgets import workflow

    monkeypatch.setattr(workflow, "show_error", errors.append)
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
    dock.samples.value = "points"
    dock.run_button.native.click()
    assert errors == ["1 points have no class: give them one in the points' features."]
    assert dock.status.value == ""


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
