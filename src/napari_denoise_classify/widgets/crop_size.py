"""The row that asks how much of an image a sample shows."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, Container, FloatSpinBox

from ..core.classify.fields import OBJECT_MARGIN, CropField, Unit
from .dock import narrow

AS_TRAINED = "as in training"
_START = {"px": 32.0, "µm": 16.0, "object": 100 * OBJECT_MARGIN}


class CropSize(Container[Any]):
    """A number and its unit.

    Parameters
    ----------
    name, label : str
    trained : bool
        Whether "as in training" is offered, and chosen at first.
    """

    def __init__(self, name: str, label: str = "Crop size", trained: bool = False) -> None:
        self.number = FloatSpinBox(name="number", min=0, max=100_000, value=_START["px"])
        self._units = [(AS_TRAINED, "")] if trained else []
        self._units += [("px", "px"), ("µm", "µm")]
        # napari asks for the choices again whenever a layer comes or goes.
        self.unit = narrow(ComboBox(name="unit", choices=lambda _: self._units))
        super().__init__(widgets=[self.number, self.unit], layout="horizontal", labels=False, name=name, label=label)
        self.margins = (0, 0, 0, 0)
        self.tooltip = (
            "Side of the square that is cut around each sample. µm needs a layer with a scale and a unit; "
            "the object's size follows each object of a label image, with a margin."
        )
        self._values = dict(_START)
        self._last = "px"
        self.unit.changed.connect(self._on_unit)
        self._on_unit()

    def offer(self, objects: bool) -> None:
        """Offer the objects' size or not."""
        unit = ("object + %", "object")
        if objects != (unit in self._units):
            self._units = [*self._units, unit] if objects else self._units[:-1]
            self.unit.reset_choices()

    def _on_unit(self) -> None:
        if self._last:
            self._values[self._last] = self.number.value
        unit = self._last = str(self.unit.value or "")
        self.number.visible = bool(unit)
        if unit:
            self.number.native.setDecimals(1 if unit == "µm" else 0)
            self.number.step = 1.0
            self.number.value = self._values[unit]

    def field(self, pixel_size: float | None) -> CropField | None:
        """Return what is chosen for an image of this pixel size; None for "as in training".

        Raises
        ------
        ValueError
            If the size is not allowed.
        """
        unit: Unit | None = {"px": "px", "µm": "µm", "object": "object"}.get(str(self.unit.value))  # type: ignore[assignment]  # these are the units
        if unit is None:
            return None
        value = self.number.value
        return CropField(value / 100 if unit == "object" else value, unit, pixel_size)
