"""The outcome of checking heat maps: the verdict, the figures and the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from ..core.explain.trust import ExplanationCheck

_COLUMNS = {
    "map": ("Map", ""),
    "deletion": ("Deletion", "Area under the curve while the hottest pixels are blurred; low is good."),
    "insertion": ("Insertion", "Area under the curve while the hottest pixels come back; high is good."),
    "difference": ("Difference", "Insertion less deletion; high is good."),
}


class CheckView(QWidget):
    """Verdict and table on the left, curves on the right.

    Parameters
    ----------
    check : ExplanationCheck
    background, text : colour
        Of the figure.
    """

    def __init__(self, check: ExplanationCheck, background: Any, text: Any) -> None:
        super().__init__()
        # Only here: panels open without waiting for matplotlib.
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        self.check = check
        self.setObjectName("explanation_check")
        self.verdict = QLabel(check.verdict)
        self.verdict.setWordWrap(True)
        self.verdict.setTextInteractionFlags(self.verdict.textInteractionFlags().TextSelectableByMouse)
        widget: Any = QTableWidget  # its parts are optional in Qt's types
        self.table = widget(len(check.table), len(_COLUMNS))
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().setVisible(False)
        self.table.setHorizontalHeaderLabels([title for title, _ in _COLUMNS.values()])
        for column, (key, (_, tip)) in enumerate(_COLUMNS.items()):
            self.table.horizontalHeaderItem(column).setToolTip(tip)
            for row, value in enumerate(check.table[key]):
                words = value if isinstance(value, str) else "" if np.isnan(value) else f"{value:z.3f}"
                self.table.setItem(row, column, QTableWidgetItem(words))
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        canvas: Any = FigureCanvasQTAgg  # matplotlib has no types for it
        self.canvas = canvas(check.figure(background=background, text=text, wide=True))
        self.canvas.setMinimumSize(560, 120)
        self.canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        left = QVBoxLayout()
        # A low window scrolls the verdict instead of cutting it off.
        self.area: Any = QScrollArea()
        self.area.setWidget(self.verdict)
        self.area.setWidgetResizable(True)
        self.area.setFrameShape(QScrollArea.Shape.NoFrame)
        self.area.setMinimumHeight(40)
        left.addWidget(self.area, 1)
        left.addWidget(self.table)
        layout = QHBoxLayout(self)
        layout.addLayout(left)
        layout.addWidget(self.canvas, 1)

    def fit(self) -> None:
        """Make the table as large as its cells, once it has its font."""
        self.table.resizeColumnsToContents()
        self.table.resizeRowsToContents()
        frame = 2 * self.table.frameWidth() + 2
        width = self.table.horizontalHeader().length() + frame
        heights = sum(self.table.rowHeight(row) for row in range(self.table.rowCount()))
        self.table.setFixedSize(width, self.table.horizontalHeader().sizeHint().height() + heights + frame)
        self.area.setFixedWidth(max(width, 320))
