"""What the keyboard and screen readers need: the order of the rows, and their names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QLabel, QScrollArea, QWidget


def reachable(widget: QWidget) -> list[QWidget]:
    """List what the Tab key reaches in a widget, hidden parts included, in the order in which it is laid out."""
    if isinstance(widget, QScrollArea):
        inside = widget.widget()
        return [] if inside is None else reachable(inside)
    if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
        return [widget]
    return _in_layout(widget.layout())


def _in_layout(layout: Any) -> list[QWidget]:
    found: list[QWidget] = []
    for place in range(0 if layout is None else layout.count()):
        item = layout.itemAt(place)
        widget = item.widget()
        found += _in_layout(item.layout()) if widget is None else reachable(widget)
    return found


def order_keys(widget: QWidget) -> None:
    """Let the Tab key go from part to part as they are laid out; by itself it goes as they were made."""
    for one, following in pairwise(reachable(widget)):
        QWidget.setTabOrder(one, following)


def name_row(label: QLabel, row: QWidget) -> None:
    """Tell screen readers what a row asks for. A button has its text; that it belongs to the row, it says besides."""
    parts = reachable(row)
    for part in parts:
        if isinstance(part, QAbstractButton):
            part.setAccessibleDescription(label.text())
        else:
            part.setAccessibleName(label.text())
    if parts and label.buddy() is not parts[0]:  # setting it lays the rows out again
        label.setBuddy(parts[0])
