"""What the panels say when a result is of no use, and what to do about it."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_denoise_classify.widgets.session import session


@pytest.mark.parametrize("name", ["Explain", "Workflow"])
def test_a_whole_image_much_larger_than_the_training_images_is_told(open_dock, wait, field, classifier, name):
    viewer, dock = open_dock(name)
    viewer.add_image(field[0], name="field")  # 160 px; the crops had 16
    dock.classifier.choice.value = classifier
    dock.run_button.native.click()
    wait(dock)
    assert "images of 16 px" in dock.status.value
    assert "choose points or objects" in dock.status.value
    viewer.layers.clear()
    viewer.add_image(field[0][:24, :24], name="crop")
    dock.run_button.native.click()
    wait(dock)
    assert dock.status.value
    assert "Note" not in dock.status.value


@pytest.mark.parametrize("name", ["Explain", "Workflow"])
def test_other_pixels_than_in_training_are_told_wherever_a_classifier_is_applied(
    open_dock, wait, field, classifier, name
):
    viewer, dock = open_dock(name)
    session.get(classifier).training["crop"] = {"size": 16, "unit": "px", "pixel_size": 0.5}
    viewer.add_image(field[0], name="field", scale=(0.25, 0.25), units="um")
    viewer.add_points(field[1][9:11], scale=(0.25, 0.25), units="um", name="cells")
    dock.classifier.choice.value = classifier
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    assert "another field than in training" in dock.status.value


@pytest.mark.parametrize("name", ["Explain", "Workflow"])
def test_a_damaged_classifier_is_a_sentence_in_the_panel(open_dock, wait, errors, tmp_path, monkeypatch, name):
    _, dock = open_dock(name)
    path = tmp_path / "damaged.ndc"
    path.write_bytes(b"no classifier")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    dock.classifier.load_button.native.click()
    wait(dock)
    assert "choose an .ndc file" in dock.status.value
    assert errors == [dock.status.value]


def test_a_mask_that_keeps_all_or_nothing_says_what_to_do(open_dock, wait):
    viewer, dock = open_dock("Mask")
    viewer.add_image(np.zeros((64, 64), np.uint8), name="dark")
    dock.method.choice.value = "kmeans"
    dock.run_button.native.click()
    wait(dock)
    assert dock.status.value.endswith("So nothing is masked: choose another mask or other parameters.")
    dock.method.step = ("centre", {"radius": 20})
    dock.run_button.native.click()
    wait(dock)
    assert "So " not in dock.status.value


def test_scores_of_a_flat_plane_say_that_there_are_none(open_dock, wait):
    viewer, dock = open_dock("Mask")
    viewer.add_image(np.zeros((64, 64), np.uint8), name="dark")
    dock.method.choice.value = "kmeans"
    dock.scores_button.native.click()
    wait(dock)
    assert "no two clusters to compare" in dock.status.value
    axes = dock.scores.canvas.figure.axes
    dock.scores.canvas.draw()
    ticks = [tick for one in axes for tick in one.get_xticks()]
    assert ticks == [round(tick) for tick in ticks]


def test_clusters_are_seen_above_the_masked_image_and_label_0_reads_all(open_dock, wait):
    viewer, dock = open_dock("Mask")
    image = np.zeros((64, 64), np.uint8)
    image[20:40, 20:40] = 200
    viewer.add_image(image, name="cells")
    dock.method.choice.value = "kmeans"
    dock.add_clusters.value = True
    dock.run_button.native.click()
    wait(dock)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells kmeans", "cells kmeans clusters"]
    assert viewer.layers.selection.active is viewer.layers["cells kmeans"]
    dock.origin.value = "layer"
    assert dock.label_number.native.text() == "all"
    dock.label_number.value = 2
    assert dock.label_number.native.text() == "2"


def test_a_chosen_file_is_shown_by_its_name(open_dock):
    _, dock = open_dock("Denoise")
    dock.method.choice.value = "dncnn"
    weights = dock.form.get_widget("weights")
    before = [weights._choice.native.itemText(i) for i in range(weights._choice.native.count())]
    weights.value = "/far/away/in/some/folder/mine.pth"
    assert weights._choice.native.currentText() == "mine.pth"
    assert weights._choice.native.toolTip() == weights.value == "/far/away/in/some/folder/mine.pth"
    weights.value = "/elsewhere/mine.pth"  # two of one name are told apart
    assert weights._choice.native.currentText() == weights.value == "/elsewhere/mine.pth"
    weights.value = "/far/away/in/some/folder/mine.pth"
    assert weights.value == "/far/away/in/some/folder/mine.pth"
    weights.value = "auto"
    assert weights._choice.native.currentText() == "auto"
    assert [weights._choice.native.itemText(i) for i in range(len(before))] == before
