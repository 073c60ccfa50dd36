"""The scores of clusterings: a table, and the curves over the number of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..core.mask.curves import draw_scores
from ..core.steps import get_step

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = {
    "method": ("Method", ""),
    "K": ("K", "Number of clusters."),
    "silhouette": ("Silhouette", "How much closer pixels are to their own cluster than to the next; 1 is best."),
    "davies_bouldin": ("Davies–Bouldin", "Spread of the clusters over their distance; low is good."),
    "wcss": ("Sum of squares", "Within the clusters, in units of the features' variance; falls with K."),
    "noise": ("Noise", "Part of the pixels that is in no cluster; it counts in no other figure."),
}


class ClusterScores(QWidget):
    """Table and curves side by side.

    Parameters
    ----------
    frame : pandas.DataFrame
        From `cluster_scores`, of one plane.
    background, text : colour
        Of the curves.
    """

    def __init__(self, frame: pd.DataFrame, background: Any, text: Any) -> None:
        super().__init__()
        # Only here: panels open without waiting for matplotlib.
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        self.frame = frame
        self.setObjectName("cluster_scores")
        widget: Any = QTableWidget  # its parts are optional in Qt's types
        self.table = widget(len(frame), len(_COLUMNS))
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().setVisible(False)
        self.table.setHorizontalHeaderLabels([title for title, _ in _COLUMNS.values()])
        for column, (key, (_, tip)) in enumerate(_COLUMNS.items()):
            self.table.horizontalHeaderItem(column).setToolTip(tip)
            for row, value in enumerate(frame[key]):
                self.table.setItem(row, column, QTableWidgetItem(_words(value)))
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.resizeRowsToContents()
        self.table.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Expanding)
        copy = QPushButton("Copy table")
        copy.setObjectName("copy_scores")
        copy.clicked.connect(self._on_copy)
        figure: Any = Figure(figsize=(7, 2.2), layout="constrained")
        draw_scores(figure, frame, background=background, text=text)
        canvas: Any = FigureCanvasQTAgg  # matplotlib has no types for it
        self.canvas = canvas(figure)
        self.canvas.setMinimumSize(400, 120)
        self.canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        left = QVBoxLayout()
        left.addWidget(self.table)
        left.addWidget(copy)
        layout = QHBoxLayout(self)
        layout.addLayout(left)
        layout.addWidget(self.canvas, 1)

    def fit(self) -> None:
        """Make the table as wide as its columns, once it has its font."""
        self.table.resizeColumnsToContents()
        bar = self.table.verticalScrollBar().sizeHint().width()
        self.table.setMinimumWidth(self.table.horizontalHeader().length() + bar + 2 * self.table.frameWidth() + 2)

    def _on_copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.frame.to_csv(sep="\t", index=False))
        show_info("Copied: paste it into a spreadsheet.")


def _words(value: Any) -> str:
    if isinstance(value, str):
        return get_step(value).title
    return "" if np.isnan(value) else f"{value:.4g}"
