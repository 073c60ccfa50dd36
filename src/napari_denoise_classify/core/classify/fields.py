"""How much of an image a sample shows: a side in pixels, in micrometres, or as large as the object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ..files import ImageFile

Unit: TypeAlias = Literal["px", "µm", "object"]
Sizes: TypeAlias = int | npt.NDArray[np.int_]

OBJECT_MARGIN = 0.2
"""What is added around an object, as a part of its size."""

_MICROMETRES = {"micron": 1.0, "um": 1.0, "µm": 1.0, "μm": 1.0, "micrometer": 1.0, "micrometre": 1.0}
_MICROMETRES |= {"nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "centimeter": 1e4, "cm": 1e4, "m": 1e6}
_SAME = 0.02  # pixel sizes that differ by less than this part are the same


@dataclass(frozen=True)
class CropField:
    """The field that crops show.

    Attributes
    ----------
    size : float
        Side of the square, in ``unit``. For ``"object"``: the margin, as a part of the object's size.
    unit : {"px", "µm", "object"}
        With ``"object"`` each crop is the square around the object's centre that holds the object and the margin.
    pixel_size : float or None
        Micrometres per pixel of the images that the crops were cut from, where it is known and the same for all.

    Raises
    ------
    ValueError
        If one of them is not allowed.
    """

    size: float
    unit: Unit = "px"
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ValueError(f"Crop unit {self.unit!r} is not allowed: give 'px', 'µm' or 'object'.")
        low = 0 if self.unit == "object" else 1 if self.unit == "px" else 1e-6
        if not (np.isfinite(self.size) and self.size >= low):
            what = "a margin of at least 0" if self.unit == "object" else f"at least {low:g} {self.unit}"
            raise ValueError(f"A crop size of {self.size} is not allowed: give {what}.")
        if self.pixel_size is not None and not (np.isfinite(self.pixel_size) and self.pixel_size > 0):
            raise ValueError(f"A pixel size of {self.pixel_size} µm is not allowed: give a number above 0.")

    def pixels(self, pixel_size: float | None = None, sides: npt.ArrayLike | None = None) -> Sizes:
        """Return the side of crops in pixels of an image.

        Parameters
        ----------
        pixel_size : float, optional
            Micrometres per pixel of that image.
        sides : (N,) array, optional
            The sizes of its objects in pixels, for ``"object"``.

        Returns
        -------
        int, or (N,) array of int

        Raises
        ------
        ValueError
            If what the unit needs is not known.
        """
        if self.unit == "px":
            return max(1, round(self.size))
        if self.unit == "µm":
            if pixel_size is None:
                raise ValueError(
                    "Crops in µm need the pixel size: give the image a scale, the same along Y and X, and the unit µm, "
                    "or give the size in px."
                )
            return max(1, round(self.size / pixel_size))
        if sides is None:
            raise ValueError("Crops of the objects' size need objects: choose a label image, or a size in px or µm.")
        return np.maximum(1, np.ceil(np.asarray(sides, float) * (1 + self.size))).astype(int)

    def note(self, pixel_size: float | None, objects: bool = False) -> str:
        """Say in a sentence that crops show another field than in training, or may; empty where they do not.

        Parameters
        ----------
        pixel_size : float or None
            Micrometres per pixel of the image.
        objects : bool
            Whether the sizes of its objects are known.
        """
        if self.unit == "object" and not objects:
            return (
                "Note: each training crop was as large as its object, and here no objects are known; crops have the "
                "median size of those: choose a label image instead, or a size."
            )
        if self.unit == "µm" and pixel_size is None:
            return (
                f"Note: the training crops show {self.size:.4g} µm, and the pixel size of this image is unknown "
                "or differs along Y and X; its crops have as many pixels as those, whatever they show: give the image "
                "a scale, the same along Y and X, and the unit µm."
            )
        if self.unit != "px" or pixel_size is None or self.pixel_size is None:
            return ""
        if abs(pixel_size / self.pixel_size - 1) <= _SAME:
            return ""
        return (
            f"Note: the training images had {self.pixel_size:.4g} µm per pixel and this one has {pixel_size:.4g}; "
            f"crops of {self.size:.0f} px show another field than in training."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it for a classifier's record."""
        return asdict(self)


def field_of(training: Mapping[str, Any], crop_size: int) -> CropField:
    """Return the field of a classifier's training crops.

    Parameters
    ----------
    training : mapping
        The classifier's record; older ones do not tell the field.
    crop_size : int
        The median side of the crops in pixels.
    """
    try:
        return CropField(**training["crop"])
    except (KeyError, TypeError, ValueError):
        return CropField(crop_size)


def common_field(fields: Iterable[CropField | None]) -> CropField | None:
    """Return the field that the crops of several images share; None if there is none, or one does not tell it.

    The images may differ in their pixel size: what crops in µm or of the objects' size show does not depend on it.
    """
    first, *others = set(fields)
    if first is None or any(other is None or (other.size, other.unit) != (first.size, first.unit) for other in others):
        return None
    return replace(first, pixel_size=None) if others else first


def micrometres(value: float, unit: str) -> float | None:
    """Convert a length to micrometres; None for units of no length, or no positive number."""
    factor = _MICROMETRES.get(str(unit).strip().lower())
    return value * factor if factor is not None and np.isfinite(value) and value > 0 else None


def square_pixel_size(y: float | None, x: float | None) -> float | None:
    """Return the side of pixels, None where it is unknown or they are no squares: no crop is then square in µm."""
    return x if y is not None and x is not None and abs(y / x - 1) <= _SAME else None


def pixel_size_of(file: ImageFile) -> float | None:
    """Return the micrometres per pixel of an image file, None where it does not say or they differ along Y and X."""
    ome = file.metadata.get("ome", {})
    if "PhysicalSizeX" in ome:
        x = micrometres(float(ome["PhysicalSizeX"]), str(ome.get("PhysicalSizeXUnit", "µm")))
        if "PhysicalSizeY" not in ome:
            return x
        y = micrometres(float(ome["PhysicalSizeY"]), str(ome.get("PhysicalSizeYUnit", "µm")))
        return square_pixel_size(y, x)
    if file.resolution is None:
        return None
    # An inch is what programs write that know nothing of the size (72 or 96 dpi): that is no pixel size.
    y, x = (micrometres(1 / along, file.unit.replace("\\u00B5", "µ")) for along in file.resolution)
    return square_pixel_size(y, x)
