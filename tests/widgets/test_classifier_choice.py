"""Which classifier a panel uses, and that it is read while the window goes on."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_denoise_classify.core.progress import Progress
from napari_denoise_classify.widgets.classify import TRAIN
from napari_denoise_classify.widgets.session import session
from napari_denoise_classify.widgets.targets import Target

_OTHERS = ("Explain", "Workflow")


def test_a_new_classifier_is_chosen_in_the_panel_that_made_it_alone(
    open_dock, wait, field, classifier, tmp_path, monkeypatch
):
    image, centres, classes, _ = field
    viewer, dock = open_dock("Classify")
    docks = {name: viewer.window.add_plugin_dock_widget("napari-denoise-classify", name)[1] for name in _OTHERS}
    docks["Explain"].classifier.choice.value = classifier
    docks["Explain"].explain.target.value = "bright"
    docks["Workflow"].classifier.choice.value = ""
    viewer.add_image(image, name="field")
    viewer.add_points(centres, features={"class": np.where(classes == "dark", "one", "two")}, name="clicked")
    dock.task.value = TRAIN
    dock.labelled.samples.value = "points"
    dock.method.step = ("random_forest", {"trees": 10})
    dock.run_button.native.click()
    wait(dock)
    assert dock.classifier.name == "random_forest"
    assert set(dock.colours.buttons) == {"one", "two"}
    assert docks["Explain"].classifier.name == classifier
    assert docks["Explain"].explain.target.value == "bright"
    assert docks["Workflow"].classifier.name == ""
    session.get("random_forest").save(tmp_path / "again.ndc")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "again.ndc"), ""))
    docks["Workflow"].classifier.load_button.native.click()
    wait(docks["Workflow"])
    assert docks["Workflow"].classifier.name == "again"
    assert docks["Workflow"].status.value == "Loaded again: one, two."
    assert (dock.classifier.name, docks["Explain"].classifier.name) == ("random_forest", classifier)
    assert "again" in dock.classifier.choice.choices


@pytest.mark.parametrize("name", ["Classify", "Explain", "Workflow"])
def test_the_classifier_is_read_in_the_thread(open_dock, wait, field, classifier, errors, monkeypatch, qapp, name):
    """The first one takes seconds, in which the window would stand still."""
    image, centres, *_ = field
    viewer, dock = open_dock(name)
    viewer.add_image(image, name="field")
    viewer.add_points(centres[:3], name="cells")
    dock.classifier.choice.value, dock.target.where.value = classifier, "points"
    readers = []
    usual = session.get

    def get(asked: str) -> object:
        readers.append(threading.current_thread() is threading.main_thread())
        return usual(asked)

    monkeypatch.setattr(session, "get", get)
    dock.run_button.native.click()
    wait(dock)
    assert readers == [False]
    assert dock.status.value
    dock.copy_button.native.click()
    assert f"clf = ndc.load_classifier('{classifier}.ndc')" in qapp.clipboard().text()
    monkeypatch.setattr(session, "get", lambda _: (_ for _ in ()).throw(ValueError("The file is damaged.")))
    dock.run_button.native.click()
    wait(dock)
    assert errors == [dock.status.value] == ["The file is damaged."]
    assert dock.code == ""


def test_what_was_cancelled_can_be_copied(open_dock, wait, field, classifier, monkeypatch, qapp, qtbot):
    image, *_ = field
    viewer, dock = open_dock("Classify")
    viewer.add_image(image, name="field")
    dock.classifier.choice.value = classifier

    def work(*_: object, **__: object) -> object:
        while True:
            time.sleep(0.01)
            yield Progress(0.5, "at work")

    monkeypatch.setattr(Target, "classify_iter", work)
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: dock.status.value.startswith("at work"))
    dock.cancel_button.native.click()
    wait(dock)
    assert dock.status.value == "Cancelled."
    dock.copy_button.native.click()
    assert "ndc.classify(image, clf" in qapp.clipboard().text()
