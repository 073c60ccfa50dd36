"""An area that scrolls the rows of a panel where the window is too low for all of them."""

from __future__ import annotations

from typing import Any

from psygnal import Signal
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFrame, QScrollArea, QSizePolicy

_LOWEST = 120  # px: some four rows
_WIDEST = 480  # px that a panel takes from the viewer unasked, to show long texts in full


class Scroll(QScrollArea):
    """An area as high as its widget wants to be, and lower where there is no room.

    The wheel scrolls; it changes a number or a choice only in a row that was clicked first.

    Parameters
    ----------
    widget : QWidget
    """

    rows_changed = Signal()

    def __init__(self, widget: Any) -> None:
        super().__init__()
        self._content = widget
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # it scrolls to the row that has it
        self.setWidgetResizable(True)
        self.setWidget(widget)
        widget.setMinimumWidth(1)  # as wide as the area, also where a row would like to be wider: else it is cut
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> Any:  # noqa: N802  # Qt's name
        """Return the size of the widget, with room for the scroll bar."""
        size = self._content.sizeHint().expandedTo(self._content.minimumSizeHint())
        size.setWidth(max(min(size.width() + self._beside(), _WIDEST), self.minimumSizeHint().width()))
        size.setHeight(size.height() + 2 * self.frameWidth())  # napari's style has a frame
        return size

    def minimumSizeHint(self) -> Any:  # noqa: N802  # Qt's name
        """Return the least width at which no row is squeezed."""
        size = super().minimumSizeHint()
        size.setWidth(self._content.minimumSizeHint().width() + self._beside())
        size.setHeight(min(_LOWEST, self._content.sizeHint().height() + 2 * self.frameWidth()))
        return size

    def _beside(self) -> int:
        bar: Any = self.verticalScrollBar()
        return int(bar.sizeHint().width()) + 2 * self.frameWidth()

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802  # Qt's name
        """Follow the height of the rows, and keep the wheel from changing them."""
        if event.type() == QEvent.Type.Wheel and watched is not self._content and not watched.hasFocus():
            event.ignore()  # its parents get it, and scroll
            return True
        if event.type() == QEvent.Type.LayoutRequest and watched is self._content:
            self.updateGeometry()
            for kind in (QAbstractSpinBox, QComboBox):
                for row in self._content.findChildren(kind):
                    row.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # by default the wheel gives focus, too
                    row.installEventFilter(self)
            self.rows_changed.emit()
        return bool(super().eventFilter(watched, event))
