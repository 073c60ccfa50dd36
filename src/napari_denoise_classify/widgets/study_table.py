"""The results of a study: a table that fills as cells finish, and the figures of what is clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from ..core.study.declaration import Study
    from ..core.study.result import StudyResult
    from ..core.study.run import FinishedCell

_WHOLE = {
    "box_plot": "Box plots",
    "differences": "Differences to the reference",
    "robustness": "Robustness to noise",
    "confusion_matrices": "Confusion matrices",
    "roc_curves": "ROC curves",
    "reliability": "Reliability",
    "examples": "Examples with critical areas",
}
_DPI = 72
_COLUMNS_SHOWN, _WIDEST, _LINES = 3, 480, 4
_OF_A_CELL = ("confusion_matrices", "roc_curves", "reliability")


class StudyTable(QWidget):
    """Macro-F1 of every classifier (rows) and recipe (columns), and figures beside it.

    Parameters
    ----------
    study : Study
    notes : tuple of str
        What was found before anything ran.
    background, text : str
        Colours of the theme.
    """

    def __init__(self, study: Study, notes: tuple[str, ...], background: str, text: str) -> None:
        super().__init__()
        self.setObjectName("study_results")
        self.study = study
        self.result: StudyResult | None = None
        self._scores: dict[tuple[str, str, str], list[float]] = {}
        self._rows = [(condition.name, name) for condition in study.conditions for name in study.classifiers]
        self._columns = list(study.recipes)
        widget: Any = QTableWidget  # its parts are optional in Qt's types
        self.table = widget(len(self._rows), len(self._columns))
        self.table.setObjectName("scores")
        self.table.setTabKeyNavigation(False)
        self.table.setAccessibleName("Scores")
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.setHorizontalHeaderLabels(self._columns)
        self.table.setVerticalHeaderLabels([" · ".join(filter(None, row)) for row in self._rows])
        self.table.setMinimumHeight(90)
        self.table.setToolTip("Mean macro-F1 ± SD over what was tested. Click a cell for its figures.")
        for row in range(len(self._rows)):
            for column in range(len(self._columns)):
                self._put(row, column, "…")
        self.table.resizeColumnsToContents()
        self.table.cellClicked.connect(self._on_cell)
        self.figure_choice = QComboBox()
        self.figure_choice.setObjectName("figure")
        self.figure_choice.setAccessibleName("Figure")
        for key, title in _WHOLE.items():
            self.figure_choice.addItem(title, key)
        self.figure_choice.setMinimumContentsLength(8)  # else the longest title takes the room of the table
        self.figure_choice.setEnabled(False)
        self.figure_choice.currentIndexChanged.connect(self._draw)
        self.whole_button = QPushButton("All cells")
        self.whole_button.setToolTip("Show the figures of the whole study again.")
        self.whole_button.setEnabled(False)
        self.whole_button.clicked.connect(self._on_whole)
        copy = QPushButton("Copy table")
        copy.setObjectName("copy_study")
        copy.clicked.connect(self._on_copy)
        self.notes = QLabel("\n".join(notes))
        self.notes.setWordWrap(True)
        self.notes.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.notes.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.notes.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._below: Any = QScrollArea()
        self._below.setWidget(self.notes)
        self._below.setWidgetResizable(True)
        self._below.setFrameShape(QScrollArea.Shape.NoFrame)
        self._colours = (background, text)
        self._chosen: tuple[str, str, str] | None = None
        self._area: Any = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setMinimumSize(420, 240)
        self._area.setWidget(_message("The figures appear when the study is done."))
        buttons = QHBoxLayout()
        for one in (self.figure_choice, self.whole_button, copy):
            buttons.addWidget(one)
        buttons.addStretch(1)
        left = QVBoxLayout()
        left.addWidget(self.table, 1)
        left.addWidget(self._below)
        right = QVBoxLayout()
        right.addLayout(buttons)
        right.addWidget(self._area, 1)
        layout = QHBoxLayout(self)
        layout.addLayout(left, 3)
        layout.addLayout(right, 4)
        self._fit()

    def showEvent(self, event: Any) -> None:  # noqa: N802  # Qt's name
        """Follow the font, which the window brings."""
        super().showEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Keep room for the names and the first columns, and for some lines of notes: the figures scroll."""
        shown = range(min(_COLUMNS_SHOWN, len(self._columns)))
        width = self.table.verticalHeader().sizeHint().width() + sum(self.table.columnWidth(c) for c in shown)
        beside = self.table.verticalScrollBar().sizeHint().width() + 2 * self.table.frameWidth()
        self.table.setMinimumWidth(min(width + beside, _WIDEST))
        self._below.setMaximumHeight(_LINES * self.notes.fontMetrics().lineSpacing() + 8)

    def detach(self, panel: QWidget) -> None:
        """Become a window of its own beside a panel; it can be docked, but under the viewer figures have no room."""
        dock: Any = self.parent()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parent()
        if dock is not None:
            window: Any = dock.parentWidget()
            dock.setFloating(True)
            beside = panel.mapToGlobal(panel.rect().topLeft()).x() - window.pos().x() - 60
            dock.resize(min(1240, max(beside, 800), window.width()), min(660, window.height()))
            dock.move(window.pos().x() + 30, window.pos().y() + max(60, window.height() - dock.height() - 40))

    # --- filling --------------------------------------------------------------------------------------------------

    def add(self, cell: FinishedCell) -> None:
        """Show a cell that finished."""
        key = (cell.condition, cell.classifier, cell.recipe)
        row, column = self._rows.index(key[:2]), self._columns.index(cell.recipe)
        failed = [str(r["error"]) for r in cell.rows if r["status"] == "failed"]
        if failed:
            self._put(row, column, "failed", failed[0])
            return
        scores = self._scores.setdefault(key, [])
        scores.extend(float(r["macro_f1"]) for r in cell.rows)
        self._put(row, column, _mean(scores), f"{len(scores)} tested parts")
        self._fit()

    def finish(self, result: StudyResult) -> None:
        """Show the figures of a finished study."""
        self.result = result
        self.notes.setText("\n".join(result.notes))
        self.figure_choice.setEnabled(True)
        self._draw()

    def _put(self, row: int, column: int, text: str, tip: str = "") -> None:
        item = QTableWidgetItem(text)
        item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
        item.setToolTip(tip)
        self.table.setItem(row, column, item)
        self.table.resizeColumnToContents(column)

    # --- figures --------------------------------------------------------------------------------------------------

    def _on_cell(self, row: int, column: int) -> None:
        condition, classifier = self._rows[row]
        self._chosen = (condition, classifier, self._columns[column])
        self.whole_button.setEnabled(True)
        if self.figure_choice.currentData() not in _OF_A_CELL:
            self.figure_choice.setCurrentIndex(list(_WHOLE).index(_OF_A_CELL[0]))  # draws
        else:
            self._draw()

    def _on_whole(self) -> None:
        self._chosen = None
        self.whole_button.setEnabled(False)
        self.table.clearSelection()
        self._draw()

    def _draw(self) -> None:
        if self.result is None:
            return
        from ..core.study.figures import FIGURES, ONCE

        name = self.figure_choice.currentData()
        draw: Any = FIGURES[name]
        conditions = self.result.conditions
        if self._chosen is not None and name in _OF_A_CELL:
            condition, classifier, recipe = self._chosen
            figure = draw(self.result.at(condition), classifier=classifier, recipe=recipe)
        else:
            condition = conditions[0] if self._chosen is None else self._chosen[0]
            figure = draw(self.result if name in ONCE else self.result.at(condition))
        if figure is None:
            self._area.setWidget(_message("This study has nothing to show here."))
            return
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        canvas: Any = FigureCanvasQTAgg  # matplotlib has no types for it
        shown = canvas(figure)
        figure.set_dpi(_DPI)
        width, height = (int(side * _DPI) for side in figure.get_size_inches())
        shown.setMinimumSize(width, height)  # smaller, its texts would meet: then the area scrolls
        self._area.setWidget(shown)

    def _on_copy(self) -> None:
        lines = ["\t".join(["", *self._columns])]
        for row, names in enumerate(self._rows):
            cells = [self.table.item(row, column).text() for column in range(len(self._columns))]
            lines.append("\t".join([" · ".join(filter(None, names)), *cells]))
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText("\n".join(lines))
        show_info("Copied: paste it into a spreadsheet.")


def _mean(scores: list[float]) -> str:
    if len(scores) == 1:
        return f"{scores[0]:.3f}"
    return f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}"


def _message(text: str) -> QLabel:
    label = QLabel(text)
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    label.setWordWrap(True)
    return label
