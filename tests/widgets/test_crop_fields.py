"""The panel Classify on images of another scale than in training."""

from __future__ import annotations

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.widgets.session import session


def test_other_pixels_than_in_training_are_told(open_dock, wait, field):
    image, centres, classes, _ = field
    crops = ndc.crops_from_points(image, centres, classes, crop=ndc.CropField(16, "px", 0.5))
    name = session.add("fine", ndc.train_classifier(crops, "random_forest", trees=10))
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field", scale=(0.25, 0.25), units=("um", "um"))
    viewer.add_points(centres[:5] * 0.25, name="clicks", units=("um", "um"))
    dock.classifier.choice.value = name
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    assert "the training images had 0.5 µm per pixel and this one has 0.25" in dock.status.value


def test_neighbours_count_within_the_distance_of_training(open_dock, wait, field, qapp):
    image, centres, classes, _ = field
    crops = ndc.crops_from_points(image, centres, classes, crop=ndc.CropField(16, "px", 0.5))
    classifier = ndc.train_classifier(crops, "random_forest", trees=10, context=20)
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field", scale=(0.25, 0.25), units=("um", "um"))
    viewer.add_points(centres * 0.25, name="clicks", units=("um", "um"))
    dock.classifier.choice.value = session.add("around", classifier)
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    shown = viewer.layers[-1].features["p_bright"].to_numpy()
    near, far = (
        ndc.classify(image, classifier, centres=centres, pixel_size=size).table["p_bright"] for size in (0.5, 0.25)
    )
    assert not np.allclose(near, far)  # 20 pixels of half a micrometre are 40 of a quarter
    np.testing.assert_allclose(shown, far)
    dock.copy_button.native.click()
    assert "pixel_size=0.25" in qapp.clipboard().text()


def test_points_for_a_classifier_of_objects_are_told(open_dock, wait, field):
    image, centres, classes, labels = field
    crops = ndc.crops_from_objects(
        image, labels, ndc.listed_classes(range(1, 65), classes), crop=ndc.CropField(0.2, "object")
    )
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    viewer.add_points(centres[:5], name="clicks")
    viewer.add_labels(labels, name="cells")
    trained = ndc.train_classifier(crops, "random_forest", trees=10)
    dock.classifier.choice.value = session.add("as large as objects", trained)
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    assert "here no objects are known" in dock.status.value
    dock.target.where.value = "objects"
    dock.run_button.native.click()
    wait(dock)
    assert "no objects are known" not in dock.status.value


@pytest.mark.parametrize("where", ["points", "tiles"])
def test_an_unknown_pixel_size_is_told(open_dock, wait, field, where):
    image, centres, classes, _ = field
    crops = ndc.crops_from_points(image, centres, classes, crop=ndc.CropField(8, "µm", 0.5))
    name = session.add("micrometres", ndc.train_classifier(crops, "random_forest", trees=10))
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    viewer.add_points(centres[:5], name="clicks")
    dock.classifier.choice.value = name
    dock.target.where.value = where
    dock.run_button.native.click()
    wait(dock)
    assert "show 8 µm, and the pixel size of this image is unknown" in dock.status.value
    viewer.layers["field"].scale = (0.25, 0.25)
    viewer.layers["field"].units = ("um", "um")
    dock.run_button.native.click()
    wait(dock)
    assert "pixel size" not in dock.status.value
