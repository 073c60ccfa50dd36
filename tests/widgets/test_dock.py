"""What all panels share: rows that scroll, and the line of outcome."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QLabel, QPushButton, QWidget

from napari_denoise_classify.widgets.classify import TRAIN
from napari_denoise_classify.widgets.keyboard import reachable
from napari_denoise_classify.widgets.parameters import StepFields

PANELS = ["Workflow", "Denoise", "Train denoiser", "Mask", "Classify", "Explain", "Study", "Quality"]


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_fits_a_low_window_and_wants_all_its_rows(open_dock, name):
    _, dock = open_dock(name)
    assert dock.native.minimumSizeHint().height() < 400
    assert dock.scroll.sizeHint().height() >= dock.form.native.sizeHint().height()
    assert dock.native.isAncestorOf(dock.form.native)
    assert not dock.scroll.isAncestorOf(dock.run_button.native)


def test_the_area_follows_the_rows(open_dock, qtbot):
    _, dock = open_dock("Classify")
    qtbot.wait(50)
    few = dock.scroll.sizeHint().height()
    dock.task.value = TRAIN
    dock.labelled.samples.value = "objects"
    qtbot.waitUntil(lambda: dock.scroll.sizeHint().height() > few + 200)
    dock.task.value = "Apply a classifier"
    qtbot.waitUntil(lambda: dock.scroll.sizeHint().height() == few)


def test_the_wheel_does_not_change_a_row_that_was_not_clicked(open_dock, qtbot):
    _, dock = open_dock("Mask")
    radius = dock.form.get_widget("radius")
    qtbot.wait(50)

    def turn() -> None:
        up = QWheelEvent(
            *(QPointF(5, 5), QPointF(5, 5), QPoint(0, 0), QPoint(0, 120)),
            *(Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False),
        )
        QApplication.sendEvent(radius.native, up)

    before = radius.value
    turn()
    assert radius.value == before
    assert radius.native.focusPolicy() == Qt.FocusPolicy.StrongFocus


def tab_stops(dock) -> list[QWidget]:
    """List where the Tab key stops in a panel, in its order."""
    found, widget = [], dock.native.nextInFocusChain()
    while widget is not dock.native:
        stop = widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.focusProxy() is None
        if stop and dock.native.isAncestorOf(widget) and widget.isVisibleTo(dock.native):
            found.append(widget)
        widget = widget.nextInFocusChain()
    return found


def lie_in_order(dock) -> bool:
    """Whether the Tab key goes downwards, and in a row to the right."""
    QApplication.processEvents()
    lines = []
    for widget in tab_stops(dock):
        below = not dock.form.native.isAncestorOf(widget)  # the rows above may be scrolled
        place = widget.mapTo(dock.native if below else dock.form.native, widget.rect().center())
        lines.append((below, round(place.y() / 8), place.x()))
    return lines == sorted(lines)


@pytest.mark.parametrize("name", PANELS)
def test_the_tab_key_goes_down_the_panel(open_dock, classifier, name, qtbot):
    viewer, dock = open_dock(name)
    viewer.window._qt_window.resize(1400, 1000)
    viewer.window._qt_window.show()
    qtbot.waitUntil(dock.native.isVisible)
    assert lie_in_order(dock)
    assert dock.scroll not in tab_stops(dock)
    for fields in [field for field in vars(dock).values() if isinstance(field, StepFields)]:
        for id in [choice for choice in fields.choice.choices if choice][:4]:
            fields.choice.value = id
            assert lie_in_order(dock)
    if name == "Classify":
        dock.classifier.choice.value = classifier
        assert lie_in_order(dock)
        dock.task.value = TRAIN
        dock.labelled.samples.value = "objects"
        assert lie_in_order(dock)


@pytest.mark.parametrize("name", PANELS)
def test_a_screen_reader_has_a_name_for_every_row(open_dock, name):
    _, dock = open_dock(name)
    rows = reachable(dock.native)
    assert len(rows) > 4
    assert [row for row in rows if not (row.text() if isinstance(row, QAbstractButton) else row.accessibleName())] == []
    labels = {label.text(): label.buddy() for label in dock.form.native.findChildren(QLabel) if label.text()}
    assert labels
    assert None not in labels.values()


def test_naming_and_ordering_come_to_an_end(open_dock, qtbot):
    viewer, dock = open_dock("Classify")
    viewer.window._qt_window.show()
    qtbot.wait(200)
    changes = []
    dock.scroll.rows_changed.connect(lambda: changes.append(True))
    qtbot.wait(200)
    assert changes == []


def test_the_name_of_a_row_follows_its_label(open_dock):
    _, dock = open_dock("Classify")
    number = dock.target.crop_size.number.native
    dock.target.where.value = "points"
    assert number.accessibleName() == "Crop size"
    dock.target.where.value = "tiles"
    assert number.accessibleName() == "Tile size"
    assert dock.classifier.load_button.native.accessibleDescription() == "Classifier"


@pytest.mark.parametrize("name", PANELS)
def test_no_button_is_cut_in_a_large_font(open_dock, name, qtbot):
    viewer, dock = open_dock(name)
    kinds = "QPushButton, QComboBox, QLabel, QCheckBox, QAbstractSpinBox"
    viewer.window._qt_window.setStyleSheet(f"{kinds} {{ font-size: 18pt }}")  # as napari's preferences do
    viewer.window._qt_window.resize(1400, 1000)
    viewer.window._qt_window.show()
    if name == "Train denoiser":
        dock.advanced.value = True

    def cut() -> list[str]:
        buttons = [button for button in dock.native.findChildren(QPushButton) if button.isVisibleTo(dock.native)]
        return [button.text() for button in buttons if button.width() < button.sizeHint().width()]

    qtbot.waitUntil(lambda: cut() == [], timeout=3000)
    assert dock.native.minimumSizeHint().width() < 620


def test_processing_alone_asks_for_no_points(open_dock, wait, errors):
    viewer, dock = open_dock("Workflow")
    viewer.add_image(np.eye(32, dtype=np.uint8), name="field")
    dock.target.where.value = "points"
    dock.classifier.choice.value = ""
    dock.denoiser.step = ("gaussian", {"kernel_size": 3})
    dock.run_button.native.click()
    wait(dock)
    assert errors == []
    assert dock.status.value.startswith("Added field gaussian")


def test_an_error_stays_in_the_panel(open_dock, wait, errors):
    viewer, dock = open_dock("Denoise")
    dock.run_button.native.click()
    assert dock.status.value == errors[-1]
    viewer.add_image(np.full((32, 32), np.nan, np.float32), name="nothing")
    dock.method.step = ("gaussian", {"kernel_size": 3})
    dock.run_button.native.click()
    wait(dock)
    assert "NaN" in errors[-1]
    assert dock.status.value == errors[-1]


def test_closing_a_panel_stops_its_run(open_dock, qtbot):
    """napari takes a panel that is closed out of its window, and does not delete it."""
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).integers(0, 256, (60, 100, 100), dtype=np.uint8), name="stack")
    dock.method.choice.value = "tv"
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: "part" in dock.status.value, timeout=60_000)
    job = dock.job
    viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=30_000)
    qtbot.waitUntil(lambda: job._work.gi_frame is None, timeout=30_000)  # what it held is given back
    qtbot.wait(200)
    assert [layer.name for layer in viewer.layers] == ["stack"]


@pytest.mark.parametrize("name", ["Denoise", "Mask", "Classify", "Explain"])
def test_a_renamed_layer_stays_chosen(open_dock, name):
    viewer, dock = open_dock(name)
    images = [viewer.add_image(np.eye(32, dtype=np.uint8), name=n) for n in "abc"]
    box = dock.image if hasattr(dock, "image") else dock.target.image
    box.value = images[1]
    images[1].name = "slide"
    assert box.value is images[1]
    assert box.current_choice == "slide"
    viewer.layers.remove(images[1])
    assert box.value in (images[0], images[2])
