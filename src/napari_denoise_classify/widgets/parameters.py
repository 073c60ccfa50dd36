"""From the declaration of a step's parameters to the widgets that ask for them."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, PushButton, SpinBox

from ..core.parameters import Parameter
from ..core.steps import Kind, get_step, steps
from .dock import hug, narrow

_WIDEST = 10**9


class ParameterField:
    """The widget of one parameter, and its value.

    Parameters
    ----------
    parameter : Parameter
    """

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter
        self.widget = self._make()
        self.widget.label = parameter.label
        unit = f" In {parameter.unit}." if parameter.unit else ""
        self.widget.tooltip = f"{parameter.help}{unit}\nAllowed: {parameter.allowed}."
        self.value = parameter.default

    def _make(self) -> Any:
        p = self.parameter
        if p.type is bool:
            return CheckBox(name=p.name, text=p.label)
        if p.choices:
            return ComboBox(name=p.name, choices=p.choices)
        if p.type is str:
            return FileOrName(p) if p.file else LineEdit(name=p.name)
        low = p.minimum if p.minimum is not None else -_WIDEST
        high = p.maximum if p.maximum is not None else _WIDEST
        if p.type is int and not p.optional:
            return SpinBox(name=p.name, min=int(low), max=int(high), step=int(p.step or 1))
        if p.type is int:  # magicgui's box for whole numbers cannot show a word for its lowest setting
            widget: Any = FloatSpinBox(name=p.name, min=low - 1, max=high, step=p.step or 1)
            widget.native.setDecimals(0)
        else:
            step = p.step or 0.1
            self._decimals = (
                max(2, -_exponent(step)) if p.minimum is None else max(2, -_exponent(min(step, low or step)))
            )
            widget = FloatSpinBox(name=p.name, min=low - step * p.optional, max=high, step=step)
            widget.native.setDecimals(self._decimals)
        if p.optional:  # the lowest setting of the box means "nothing"
            widget.native.setSpecialValueText("auto")
        return widget

    @property
    def value(self) -> Any:
        """What is set; None for "auto"."""
        p = self.parameter
        value = self.widget.value
        if p.optional and p.type in (int, float) and value == self.widget.min:
            return None
        return p.type(value)

    @value.setter
    def value(self, value: Any) -> None:
        optional_number = self.parameter.optional and self.parameter.type in (int, float)
        self.widget.value = self.widget.min if value is None and optional_number else value


def _exponent(number: float) -> int:
    from math import floor, log10

    return floor(log10(abs(number))) if number else 0


class FileOrName(Container[Any]):
    """A list of names, and a button to choose a file instead."""

    def __init__(self, parameter: Parameter) -> None:
        self._filter = parameter.file
        names = parameter.suggestions() if parameter.suggestions is not None else [parameter.default]
        self._choice = narrow(ComboBox(choices=names, label=""))
        self._button = hug(PushButton(text="File…"))
        super().__init__(widgets=[self._choice, self._button], layout="horizontal", labels=False, name=parameter.name)
        self.margins = (0, 0, 0, 0)
        self._button.clicked.connect(self._browse)

    def _browse(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        path, _ = QFileDialog.getOpenFileName(self.native, "Choose a file", "", f"{self._filter};;All files (*)")
        if path:
            self.value = path

    @property
    def value(self) -> Any:
        """The name or path that is chosen."""
        return self._choice.value

    @value.setter
    def value(self, value: Any) -> None:
        known = list(self._choice.choices)
        if value not in known:
            # The list is narrow, and would show no more than the beginning of a path.
            names = [PurePath(text).name for text in (*known, value)]
            self._choice.choices = [
                (name if names.count(name) == 1 else text, text)
                for name, text in zip(names, (*known, value), strict=True)
            ]
        self._choice.value = value
        self._choice.tooltip = str(value)


class StepFields:
    """Rows of a form that choose a step of a kind and set its parameters.

    Parameters
    ----------
    form : Container
        The rows are appended to it; those of the parameters change with the step.
    kind : str
    label : str
        Of the list of steps.
    nothing : str, optional
        If given, a choice of no step at all, under this name, comes first.
    default : str, optional
        Id of the step chosen at first.
    """

    def __init__(
        self, form: Container[Any], kind: Kind, label: str, *, nothing: str | None = None, default: str | None = None
    ) -> None:
        choices: list[tuple[str, str]] = [(nothing, "")] if nothing is not None else []
        choices += [(spec.title, spec.id) for spec in steps(kind)]
        self._form = form
        self.choice = ComboBox(name=f"{kind}_step", label=label, choices=choices)
        if default is not None:
            self.choice.value = default
        self._fields: list[ParameterField] = []
        self._visible = True
        form.append(self.choice)
        self.choice.changed.connect(self._rebuild)
        self._rebuild()

    def _rebuild(self) -> None:
        for one in self._fields:
            self._form.remove(one.widget)
        id = self.choice.value
        self._fields = [ParameterField(p) for p in get_step(id).parameters] if id else []
        place = self._form.index(self.choice) + 1
        for i, one in enumerate(self._fields):
            self._form.insert(place + i, one.widget)
            one.widget.visible = self._visible
        self.choice.tooltip = get_step(id).summary if id else ""

    @property
    def visible(self) -> bool:
        """Whether the rows are shown."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        for widget in (self.choice, *(one.widget for one in self._fields)):
            widget.visible = visible

    @property
    def step(self) -> tuple[str, dict[str, Any]] | None:
        """The chosen step with its parameters; None for no step."""
        id = self.choice.value
        return (id, {one.parameter.name: one.value for one in self._fields}) if id else None

    @step.setter
    def step(self, step: tuple[str, dict[str, Any]] | None) -> None:
        self.choice.value = step[0] if step else ""
        for one in self._fields:
            if step and one.parameter.name in step[1]:
                one.value = step[1][one.parameter.name]
