"""The axes of an image, as OME-Zarr describes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

_UNITS = {
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "micron": "micrometer",
    "micrometre": "micrometer",
}
_UNITS |= {"nm": "nanometer", "mm": "millimeter", "cm": "centimeter", "m": "meter", "s": "second", "sec": "second"}
_UNITS |= {"ms": "millisecond", "min": "minute", "h": "hour", "px": "", "pixel": ""}
_MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}


@dataclass(frozen=True)
class Axis:
    """One axis of an image, and where its pixels lie.

    Attributes
    ----------
    letter : str
        T, C, Z, Y, X, S (colour samples) or ``"?"``.
    scale, translation : float
        The size of a pixel, and where the first one lies.
    unit : str
        As OME writes it: ``"micrometer"``, ``"second"``; empty where it is not known.
    name : str
        In the file; empty = the letter.
    """

    letter: str
    scale: float = 1.0
    translation: float = 0.0
    unit: str = ""
    name: str = ""

    def finer(self, factor: float) -> Axis:
        """Return the axis of an image whose pixels are smaller by a factor, and begin at the same edge."""
        shift = self.scale * (1 / factor - 1) / 2
        return replace(self, scale=self.scale / factor, translation=self.translation + shift)

    @property
    def micrometres(self) -> float | None:
        """The size of a pixel; None where it is not known."""
        factor = _MICROMETRES.get(self.unit)
        return None if factor is None else self.scale * factor


def unit_name(unit: str) -> str:
    """Return a unit as OME-Zarr writes it."""
    unit = unit.strip().replace("\\u00B5", "µ")
    return _UNITS.get(unit.lower(), unit.lower())
