"""What every panel shares: a form, Run and Cancel, progress with the time left, a line of outcome."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from magicgui.widgets import ComboBox, Container, Label, ProgressBar, PushButton
from napari.utils.notifications import show_error, show_info
from napari.utils.theme import get_theme
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QSizePolicy

from ..core.progress import USER_ERRORS, Progress, Steps, sentence
from .keyboard import name_row, order_keys
from .layers import code_of
from .scroll import Scroll
from .workers import Job

if TYPE_CHECKING:
    import napari

V = TypeVar("V")

_SHORTEST = 8  # letters of a list: where the panel is narrow, the rest is cut
_WIDTH = 338  # px, without the margins: as wide as a panel is at least


class Form(Container[Any]):
    """Rows whose labels are all as wide as the widest one is on the screen, and name what is beside them."""

    def _insert_widget(self, index: int, widget: Any) -> None:
        if isinstance(widget, ComboBox):
            widget.native.setMinimumContentsLength(_SHORTEST)
        super()._insert_widget(index, widget)

    def _unify_label_widths(self) -> None:
        super()._unify_label_widths()
        rows = self._rows
        # magicgui measures in the font of the system, and napari has one of its own.
        for row in rows:
            row._label_widget.native.ensurePolished()
        widest = max((row._label_widget.native.sizeHint().width() for row in rows), default=0)
        for row in rows:
            row.label_width = max(widest, 90)
        self.name_rows()

    @property
    def _rows(self) -> list[Any]:
        return [row for row in (widget._labeled_widget() for widget in self._list) if row is not None]

    def name_rows(self) -> None:
        """Name all that is beside the labels for screen readers."""
        for row in self._rows:
            name_row(row._label_widget.native, row._inner_widget.native)


class Dock(Container[Any]):
    """Base of the panels.

    Subclasses add rows to ``form`` and implement ``start``, which reads the rows and calls ``launch``.

    Parameters
    ----------
    viewer : napari.Viewer
    run_text : str
        On the Run button.
    intro : str
        One line at the top.
    """

    def __init__(self, viewer: napari.Viewer, run_text: str, intro: str) -> None:
        super().__init__(labels=False, name=type(self).__name__)
        self.viewer = viewer
        self.job: Job | None = None
        self.code = ""
        self.notes: list[str] = []
        self.intro = Label(value=intro, name="intro")
        self.form = Form(labels=True, name="form")
        self.run_button = PushButton(text=run_text, name="run")
        self.cancel_button = PushButton(text="Cancel", name="cancel", enabled=False)
        self.copy_button = PushButton(text="Copy as Python", name="copy_as_python")
        self.copy_button.tooltip = "Copy the Python that makes the selected layer, or that this panel ran last."
        self.buttons: Container[Any] = Container(
            widgets=[self.run_button, self.cancel_button], layout="horizontal", labels=False, name="buttons"
        )
        self.bar = ProgressBar(min=0, max=1000, value=0, name="progress", visible=False)
        self.status = Label(value="", name="status")
        self.extend([self.intro, self.form, self.buttons, self.bar, self.status, self.copy_button])
        for box in (self.form, self.buttons):
            box.margins = (0, 0, 0, 0)
        layout = self.native.layout()
        place = layout.indexOf(self.form.native)
        self.scroll = Scroll(self.form.native)
        self.scroll.rows_changed.connect(self._on_rows)
        layout.insertWidget(place, self.scroll)
        for label in (self.intro, self.status):
            label.native.setWordWrap(True)
            label.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
            label.native.setTextInteractionFlags(label.native.textInteractionFlags().TextSelectableByMouse)
        self.native.setObjectName(type(self).__name__)
        for widget in (self.run_button, self.cancel_button, self.copy_button, self.bar, self.status):
            widget.native.setObjectName(widget.name)
        self.bar.native.setAccessibleName("Progress")
        self.native.destroyed.connect(self._on_closed)
        self.native_parent_changed.connect(self._on_parent)
        self.run_button.clicked.connect(self._on_run)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.copy_button.clicked.connect(self._on_copy)

    # --- for subclasses -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the form and call `launch`; a `ValueError` becomes a notification."""
        raise NotImplementedError

    def add(self, *widgets: Any) -> None:
        """Append rows to the form."""
        for widget in widgets:
            self.form.append(widget)

    def finish(self) -> None:
        """Let the rows fill the width, once all are there; long names of layers must not widen the panel."""
        self.native.layout().addStretch(1)
        self.widen(_WIDTH)
        self._on_rows()
        # Only in its window does the panel get its font.
        self.native_parent_changed.connect(lambda *_: QTimer.singleShot(0, self._on_font))

    def widen(self, width: int) -> None:
        """Let the panel be at least so wide, and wider where its rows need it in a larger font."""
        self.native.layout().addStrut(width)

    def launch(self, work: Steps[Any], done: Callable[[Any], None]) -> None:
        """Run work in a thread, and hand its result to ``done`` in the main thread."""
        if self.job is not None:
            raise ValueError("A run is under way in this panel: wait for it, or cancel it.")
        self.run_button.enabled = False
        self.cancel_button.enabled = True
        self.bar.value = 0
        self.bar.visible = True
        self.status.value = "starting"
        self.notes = []
        self.job = Job(work, self._on_report, done, self._on_end)

    def say(self, text: str) -> None:
        """Show the outcome, and what was noted on the way to it."""
        self.status.value = " ".join([text, *self.notes])

    def fail(self, error: Exception) -> None:
        """Notify of an error; napari's notification cuts long sentences, so the panel shows it, too."""
        text = sentence(error)
        show_error(text)
        if self.job is None:  # else the line shows its progress
            self.status.value = text

    def show_below(self, view: V, name: str, last: V | None) -> V:
        """Show a view at the bottom of the window, in place of the last one; returns it."""
        if last is not None:
            with suppress(LookupError, RuntimeError):  # it may have been closed
                self.viewer.window.remove_dock_widget(last)
        self.viewer.window.add_dock_widget(view, name=name, area="bottom")
        return view

    def theme_colours(self) -> tuple[str, str]:
        """Return the colours of background and text."""
        theme = get_theme(self.viewer.theme)
        return theme.background.as_hex(), theme.text.as_hex()

    def show_data(self, data: object) -> None:
        """Show what a `Progress` brings along; by default nothing."""

    def _on_rows(self) -> None:
        """Follow the rows with the Tab key and the names: those of a method are made later than the buttons below."""
        self.form.name_rows()
        order_keys(self.native)

    def _on_font(self) -> None:
        self.form._unify_label_widths()
        self.scroll.updateGeometry()

    # --- events ---------------------------------------------------------------------------------------------------

    def _on_run(self) -> None:
        if self.job is None:
            self.status.value = ""
        try:
            self.start()
        except USER_ERRORS as error:
            self.fail(error)

    def _on_cancel(self) -> None:
        if self.job is not None:
            self.cancel_button.enabled = False
            self.status.value = "cancelling"
            self.job.cancel()

    def _on_parent(self, parent: object) -> None:
        if parent is None:  # napari keeps a panel that was closed as long as anybody does, a run as well
            self._on_closed()

    def _on_closed(self) -> None:
        """Stop the run: nobody could cancel it any more."""
        if self.job is not None:
            self.job.abandon()

    def _on_report(self, progress: Progress, seconds_left: float | None) -> None:
        self.bar.value = round(1000 * progress.fraction)
        left = "" if seconds_left is None else f"  ({_duration(seconds_left)} left)"
        if self.cancel_button.enabled:
            self.status.value = f"{progress.message}{left}"
        if progress.note and progress.note not in self.notes:
            self.notes.append(progress.note)
        if progress.data is not None:
            self.show_data(progress.data)

    def _on_end(self, how: str) -> None:
        error = self.job.error if self.job is not None else ""
        self.job = None
        self.run_button.enabled = True
        self.cancel_button.enabled = False
        self.bar.visible = False
        failed = error or "Failed: see the notification."
        self.status.value = {"done": "", "failed": failed, "cancelled": "Cancelled."}[how]

    def _on_copy(self) -> None:
        code = code_of(self.viewer.layers.selection.active) or self.code
        if not code:
            show_error("There is nothing to copy yet: press the Run button first.")
            return
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(code)
        show_info("Copied: paste it into the console or a script.")


def layer_box(label: str, kind: str, name: str) -> ComboBox:
    """Make a list of the viewer's layers of a type, which napari keeps current.

    Parameters
    ----------
    label : str
    kind : {"Image", "Labels", "Points"}
    name : str
    """
    from magicgui.widgets import create_widget

    box: Any = create_widget(annotation=f"napari.layers.{kind}", label=label, name=name)
    return keeping(narrow(box))


def keeping(box: ComboBox) -> ComboBox:
    """Let a list of layers keep its choice when the layer is renamed: magicgui goes by the names."""
    reset = box.reset_choices

    def reset_choices(*_: Any) -> None:
        chosen = box.value
        with box.changed.blocked():
            reset()
            if chosen is not None and chosen in box.choices:
                box.value = chosen
        if box.value is not chosen:
            box.changed.emit(box.value)

    this: Any = box  # for this list alone
    this.reset_choices = reset_choices
    return box


def narrow(box: ComboBox) -> ComboBox:
    """Keep a list from growing with its longest entry."""
    box.native.setMinimumContentsLength(_SHORTEST)
    box.native.setSizeAdjustPolicy(box.native.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return box


def hug(button: PushButton) -> PushButton:
    """Let a button beside another part be as wide as its text, in whatever font, and no wider."""
    button.native.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return button


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"
