"""What panels write: nothing that is there is lost, and the file that is named is the one people chose."""

from __future__ import annotations

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.widgets.saving import ask_path
from napari_denoise_classify.widgets.session import session


@pytest.fixture
def answer(monkeypatch):
    """Choose the answer of the file dialog."""

    def choose(name):
        monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_: (str(name), ""))

    return choose


def test_names_get_their_suffix_and_what_is_there_stays(answer, tmp_path):
    answer("")
    assert ask_path(None, "Save", "it.csv", "Tables", ".csv") is None
    answer(tmp_path / "it.CSV")
    assert ask_path(None, "Save", "it.csv", "Tables", ".csv") == tmp_path / "it.CSV"
    answer(tmp_path / "it")
    assert ask_path(None, "Save", "it.csv", "Tables", ".csv") == tmp_path / "it.csv"
    (tmp_path / "it.csv").touch()
    with pytest.raises(ValueError, match=r"it\.csv exists already: choose another name"):
        ask_path(None, "Save", "it.csv", "Tables", ".csv")
    answer(tmp_path / "it.csv")  # the dialog has asked
    assert ask_path(None, "Save", "it.csv", "Tables", ".csv") == tmp_path / "it.csv"


@pytest.mark.parametrize("name", ["there.zarr", "there"])
def test_no_folder_is_replaced(open_dock, answer, errors, tmp_path, name):
    viewer, dock = open_dock("Denoise")
    viewer.add_image([np.zeros((64, 64)), np.zeros((32, 32))], name="pyramid")
    folder = tmp_path / "there.zarr"
    folder.mkdir()
    (folder / "photo.txt").write_text("precious")
    answer(tmp_path / name)
    dock.store_button.native.click()
    assert dock.job is None
    assert errors == [f"{folder} exists already: choose another name."] == [dock.status.value]
    assert (folder / "photo.txt").read_text() == "precious"


def test_a_table_is_not_written_over_another(open_dock, answer, errors, wait, field, classifier, tmp_path):
    viewer, dock = open_dock("Classify")
    image, centres, _, _ = field
    viewer.add_image(image, name="field")
    viewer.add_points(centres, name="cells")
    dock.classifier.choice.value = classifier
    dock.target.where.value = "points"
    dock.run_button.native.click()
    wait(dock)
    (tmp_path / "keep.csv").write_text("precious")
    answer(tmp_path / "keep")
    dock.table_button.native.click()
    assert errors == [f"{tmp_path / 'keep.csv'} exists already: choose another name."]
    assert (tmp_path / "keep.csv").read_text() == "precious"
    answer(tmp_path / "other")
    dock.table_button.native.click()
    assert dock.status.value == f"Saved 64 rows in {tmp_path / 'other.csv'}."


def test_saving_a_classifier_ends_in_the_line_of_the_panel(open_dock, answer, errors, classifier, tmp_path):
    _, dock = open_dock("Classify")
    dock.classifier.choice.value = classifier
    (tmp_path / "folder.ndc").mkdir()
    answer(tmp_path / "folder.ndc")
    dock.save_button.native.click()
    assert errors == [f"{tmp_path / 'folder.ndc'}: Is a directory."]  # and not of a file that nobody has heard of
    answer(tmp_path / "model")
    dock.save_button.native.click()
    assert dock.status.value == f"Saved {tmp_path / 'model.ndc'}."
    assert ndc.load_classifier(tmp_path / "model.ndc").classes == session.classes(classifier)


def test_colours_of_a_layer_whose_features_were_replaced(open_dock, wait, field, classifier):
    viewer, dock = open_dock("Classify")
    image, _, _, labels = field
    viewer.add_image(image, name="field")
    viewer.add_labels(labels, name="cells")
    dock.classifier.choice.value = classifier
    dock.target.where.value = "objects"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers["cells classes"]
    result.features = result.features[["class"]]  # rows are of the numbers 0, 1, 2, ... then, as napari reads them
    session.set_colour("bright", "#ff0000")
    where = np.flatnonzero(result.features["class"] == "bright")[1]
    np.testing.assert_allclose(result.get_color(int(where)), (1, 0, 0, 1), atol=1e-6)
