"""Small tables and rows of buttons that magicgui has no widget for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from magicgui.widgets import Container
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QGridLayout, QHeaderView, QPushButton, QTableWidget, QTableWidgetItem, QWidget

_MOST_ROWS = 6
_LONG = 14  # letters


class NameTable(Container[Any]):
    """A table of things and the names that one may give them.

    Parameters
    ----------
    name, label : str
    heads : (str, str)
        The titles of its columns.
    """

    def __init__(self, name: str, label: str, heads: tuple[str, str]) -> None:
        super().__init__(labels=False, name=name, label=label)
        self.margins = (0, 0, 0, 0)
        self._keys: list[Hashable] = []
        self.table = QTableWidget(0, 2)
        self.table.setObjectName(name)
        self.table.setTabKeyNavigation(False)  # the Tab key leaves it; the arrows go from cell to cell
        self.table.setHorizontalHeaderLabels(list(heads))
        header, side = self.table.horizontalHeader(), self.table.verticalHeader()
        if header is not None and side is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            side.setVisible(False)
        self.native.layout().addWidget(self.table)
        self._fit()

    @property
    def texts(self) -> dict[Any, str]:
        """What is written beside each thing; empty where somebody took the name away."""
        items = [(key, self.table.item(row, 1)) for row, key in enumerate(self._keys)]
        return {key: "" if item is None else item.text().strip() for key, item in items}

    @property
    def names(self) -> dict[Any, str]:
        """The names, without those that are empty."""
        return {key: text for key, text in self.texts.items() if text}

    @names.setter
    def names(self, names: Mapping[Any, str]) -> None:
        self._keys = list(names)
        self.table.setRowCount(len(self._keys))
        for row, key in enumerate(self._keys):
            first = QTableWidgetItem(str(key))
            first.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.table.setItem(row, 0, first)
            self.table.setItem(row, 1, QTableWidgetItem(names[key]))
        self._fit()

    def _fit(self) -> None:
        header = self.table.horizontalHeader()
        row = self.table.rowHeight(0) if self.table.rowCount() else 24
        height = header.sizeHint().height() if header is not None else 24
        self.table.setFixedHeight(height + row * max(1, min(_MOST_ROWS, self.table.rowCount())) + 6)


class ColourButtons(Container[Any]):
    """A button for each class, in its colour; a click chooses another."""

    def __init__(self, chosen: Callable[[str, str], None]) -> None:
        super().__init__(labels=False, name="colours", label="Colours")
        self.margins = (0, 0, 0, 0)
        self._chosen = chosen
        self._box = QWidget()
        self._grid = QGridLayout(self._box)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self.native.layout().addWidget(self._box)
        self.buttons: dict[str, QPushButton] = {}

    def show_classes(self, colours: Mapping[str, str]) -> None:
        """Show these classes."""
        for button in self.buttons.values():
            self._grid.removeWidget(button)
            button.deleteLater()
        self.buttons = {}
        for k, (name, colour) in enumerate(colours.items()):
            button = QPushButton(name)
            button.setObjectName(f"colour {name}")
            button.setToolTip(f"{name}: choose another colour")
            button.setStyleSheet(f"background-color: {colour}; color: {_readable(colour)}; padding: 3px;")
            if len(name) > _LONG:  # it may be cut: else it would widen the panel
                button.setMinimumWidth(40)
            button.clicked.connect(lambda _=False, name=name, colour=colour: self._ask(name, colour))
            self._grid.addWidget(button, k // 2, k % 2)
            self.buttons[name] = button

    def _ask(self, name: str, colour: str) -> None:
        picked = QColorDialog.getColor(QColor(colour), self.native, f"Colour of {name}")
        if picked.isValid():
            self._chosen(name, picked.name())


def _readable(colour: str) -> str:
    """Return black or white, whichever can be read on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def default_names(numbers: Sequence[int], known: Mapping[int, str]) -> dict[int, str]:
    """Name painted numbers ``class 1``, ``class 2``, unless they are known: an empty name means no class."""
    return {n: known.get(n, f"class {n}") for n in sorted({*numbers, *known})}
