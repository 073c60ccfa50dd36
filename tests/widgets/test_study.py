"""The panel Study, driven as a person would."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

import napari_denoise_classify as ndc
from napari_denoise_classify.core.study.result import load_study
from napari_denoise_classify.core.study.run import FinishedCell
from napari_denoise_classify.core.study.text import named_recipes
from napari_denoise_classify.widgets.study import StudyDock
from napari_denoise_classify.widgets.study_table import StudyTable


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Write 60 crops of two classes from five fields: bright discs and dark ones."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-8:8, -8:8]
    disc = np.hypot(y, x) < 5
    for i in range(60):
        name = ("dark", "bright")[i % 2]
        (tmp_path / "crops" / name).mkdir(parents=True, exist_ok=True)
        image = 120 + (40 if name == "bright" else -40) * disc + rng.normal(0, 25, disc.shape)
        iio.imwrite(tmp_path / "crops" / name / f"field{i % 5}_{i}.png", np.clip(image, 0, 255).astype(np.uint8))
    return tmp_path / "crops"


@pytest.fixture
def dock(open_dock) -> StudyDock:
    return open_dock("Study")[1]


def fill(dock: StudyDock, crops: Path) -> None:
    dock.data.value = crops
    dock.group.value = r"(field\d)"
    dock.preset.value = "custom"
    dock.recipes.value = "raw\nblurred = gaussian:kernel_size=5\ncentre"
    dock.classifiers.value = "knn; random_forest:trees=10"
    dock.design.value = "cross-validation:folds=5"


def test_only_rows_that_matter_are_shown(dock: StudyDock) -> None:
    def hidden(widget) -> bool:
        return not widget.native.isVisibleTo(dock.native)

    assert hidden(dock.recipes)
    assert not hidden(dock.data)
    dock.preset.value = "custom"
    assert not hidden(dock.recipes)
    assert not hidden(dock.denoiser.choice)
    dock.source.value = "synthetic:cells"
    assert hidden(dock.data)


def test_recipes_are_added_by_choosing_steps(dock: StudyDock) -> None:
    dock.preset.value = "custom"
    dock.denoiser.step = ("gaussian", {"kernel_size": 7})
    dock.mask.step = ("centre", {})
    dock.add_button.native.click()
    dock.add_button.native.click()  # it is there already
    assert dock.recipes.value.splitlines() == ["raw", "gaussian:kernel_size=7 + centre"]
    assert list(named_recipes(dock.recipes.value.splitlines()).values())[1] == ndc.Recipe(
        [("gaussian", {"kernel_size": 7}), "centre"]
    )


def test_the_scores_are_seen_in_a_large_font(qtbot) -> None:
    study: Any = SimpleNamespace(
        conditions=[SimpleNamespace(name="")], classifiers=["random_forest"], recipes=["raw", "gaussian", "median"]
    )
    view = StudyTable(study, ("No groups were given.",), "black", "white")
    qtbot.addWidget(view)
    view.setStyleSheet("QPushButton, QComboBox, QLabel { font-size: 18pt }")  # as napari does
    view.resize(800, 600)
    view.show()
    for recipe in study.recipes:
        rows = [{"status": "done", "macro_f1": score} for score in (0.449, 0.6)]
        view.add(FinishedCell("", recipe, "random_forest", rows))
    QApplication.processEvents()
    end = view.table.columnViewportPosition(2) + view.table.columnWidth(2)
    assert view.table.columnWidth(2) > 80
    assert view.table.viewport().width() >= end


def test_a_study_from_folder_to_report(dock: StudyDock, crops: Path, tmp_path: Path, qtbot) -> None:
    fill(dock, crops)
    folder = tmp_path / "study"
    dock.folder.value = folder
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: dock.job is None and dock.result is not None, timeout=180_000)
    table = dock.table
    assert table is not None
    shown = {
        (table.table.verticalHeaderItem(r).text(), table.table.horizontalHeaderItem(c).text()): table.table.item(
            r, c
        ).text()
        for r in range(2)
        for c in range(3)
    }
    cells = dock.result.cells
    for (classifier, recipe), text in shown.items():
        scores = cells[(cells["classifier"] == classifier) & (cells["recipe"] == recipe)]["macro_f1"]
        assert len(scores) == 5
        assert text == f"{scores.mean():.3f} ± {scores.std():.3f}"
    assert "macro-F1" in dock.status.value
    assert (folder / "report.html").stat().st_size > 10_000
    assert load_study(folder).cells["macro_f1"].tolist() == cells["macro_f1"].tolist()
    # a click on a cell shows its figures, the button those of all
    table.table.cellClicked.emit(0, 1)
    assert table.figure_choice.currentData() == "confusion_matrices"
    assert table.whole_button.isEnabled()
    for k in range(table.figure_choice.count()):
        table.figure_choice.setCurrentIndex(k)
    table.whole_button.click()
    assert not table.whole_button.isEnabled()
    # saving elsewhere, and the Python that does the same
    dock.save_report(tmp_path / "other.html")
    assert (tmp_path / "other.html").is_file()
    dock.copy_button.native.click()
    namespace: dict[str, object] = {}
    exec(QApplication.clipboard().text(), namespace)
    again = namespace["result"]
    assert isinstance(again, ndc.StudyResult)
    assert again.cells["macro_f1"].tolist() == cells["macro_f1"].tolist()
    assert again.record["cache"]["cells_reused"] == 30


def test_a_study_on_two_processes(dock: StudyDock, crops: Path, tmp_path: Path, qtbot) -> None:
    pytest.importorskip("distributed")
    fill(dock, crops)
    assert dock.workers.value == 1
    assert dock.workers.native.isVisibleTo(dock.native)
    dock.workers.value = 2
    dock.folder.value = tmp_path / "study"
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: dock.job is None and dock.result is not None, timeout=180_000)
    assert (dock.result.cells["status"] == "done").all()
    assert (tmp_path / "study" / "report.html").is_file()
    assert dock.table is not None
    assert all("±" in dock.table.table.item(r, c).text() for r in range(2) for c in range(3))
    dock.copy_button.native.click()
    assert "workers=2" in QApplication.clipboard().text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dock: setattr(dock.data.line_edit, "value", ""), "Choose a CSV"),
        (lambda dock: setattr(dock.recipes, "value", "  \n"), "There are no recipes"),
        (lambda dock: setattr(dock.recipes, "value", "raw\nraw"), "Two recipes are named 'raw'"),
        (lambda dock: setattr(dock.recipes, "value", "gausian"), "'gausian' is not a denoise or mask step"),
        (lambda dock: setattr(dock.classifiers, "value", "svm:C"), "'C' cannot be read"),
        (lambda dock: setattr(dock.classifiers, "value", "svn"), "'svn' is not a classifier step"),
        (lambda dock: setattr(dock.noise, "value", "gausian:5"), "gausian"),
        (lambda dock: setattr(dock.group, "value", "(nofield)"), "finds no group"),
    ],
)
def test_bad_input_is_one_sentence(dock: StudyDock, crops: Path, qtbot, errors, change, message: str) -> None:
    fill(dock, crops)
    change(dock)
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: dock.job is None and len(errors) > 0, timeout=60_000)
    assert message in errors[-1]
    assert dock.run_button.enabled


def test_classifiers_are_written_as_on_the_command_line(open_dock):
    _, dock = open_dock("Study")
    dock.source.value = "synthetic:cells"
    dock.classifiers.value = "svm:C=0.1/1; forest=random_forest:trees=20;"
    found = dock.settings()["classifiers"]
    assert found == {"svm": ("svm", {"C": ["0.1", "1"]}), "forest": ("random_forest", {"trees": "20"})}
    dock.classifiers.value = "a=svm; a=knn"
    with pytest.raises(ValueError, match="Two classifiers are named 'a'"):
        dock.settings()
