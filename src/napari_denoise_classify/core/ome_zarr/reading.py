"""What an OME-Zarr store tells about its image; the pixels stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..regions import ZarrPixels, as_dask, import_zarr
from .axes import Axis, unit_name

SUFFIX = ".zarr"
RECORD = "napari-denoise-classify"
"""The name of our own attributes in a store."""


@dataclass(frozen=True)
class OmeZarr:
    """What a store tells about its image.

    Attributes
    ----------
    levels : tuple of ZarrPixels
        From the largest to the smallest.
    axes : tuple of Axis
        Of the largest.
    level_axes : tuple of tuple of Axis
        Of each level.
    version : str
        Of the format: ``"0.4"``, ``"0.5"``.
    channels : dict
        The attribute ``omero``: names and colours of the channels.
    described : bool
        Whether the store tells that it is an OME-Zarr image; else it is a plain array.
    record : dict
        What made the image, if this program did.
    """

    levels: tuple[ZarrPixels, ...]
    level_axes: tuple[tuple[Axis, ...], ...]
    version: str = "0.5"
    channels: dict[str, Any] = field(default_factory=dict)
    described: bool = True
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Those of the largest level."""
        return self.level_axes[0]

    @property
    def letters(self) -> str:
        """The axes, a letter for each."""
        return "".join(axis.letter for axis in self.axes)

    def dask(self, level: int = 0) -> Any:
        """Return a level as a dask array."""
        return as_dask(self.levels[level], self.letters)


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a zarr store."""
    return path.is_dir() and (path.suffix.lower() == SUFFIX or holds_zarr(path))


def holds_zarr(folder: Path) -> bool:
    """Say whether a folder is a zarr store by what it holds, whatever its name."""
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def read_ome_zarr(path: Path) -> OmeZarr:
    """Read what a store holds; its pixels stay on disk.

    Parameters
    ----------
    path : Path
        An OME-Zarr image, or a zarr array.

    Raises
    ------
    ImportError
        If zarr is not installed.
    ValueError
        If it holds no image, or several.
    """
    zarr = import_zarr()
    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            pixels = ZarrPixels.open(path)
            names = getattr(node.metadata, "dimension_names", None) or node.attrs.get("_ARRAY_DIMENSIONS") or ()
            axes = _letters(tuple(names), len(pixels.shape))
            return OmeZarr((pixels,), (tuple(Axis(letter) for letter in axes),), described=False)
        attributes = _attributes(node)
        if "multiscales" not in attributes:
            path, attributes = _inner_image(node, path, attributes)
        return _read_multiscales(path, attributes)
    except (ImportError, ValueError):
        raise
    except Exception as error:  # the stores' errors have no common base
        raise ValueError(f"{path}: this folder cannot be read as an OME-Zarr image ({error}).") from error


def _attributes(node: Any) -> dict[str, Any]:
    """Return a group's attributes, those of OME beside the others."""
    attributes = dict(node.attrs)
    ome = attributes.get("ome")
    return {**attributes, **ome} if isinstance(ome, dict) else attributes


def _inner_image(group: Any, path: Path, attributes: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Find the only image within a group."""
    if "plate" in attributes:
        raise ValueError(f"{path} is a plate of many images: name one of them, as {path}/A/1/0.")
    inner = [name for name, node in sorted(group.groups()) if "multiscales" in _attributes(node)]
    if not inner:
        arrays = sorted(group.array_keys())
        what = f"name one of its arrays, as {path}/{arrays[0]}" if arrays else "it has no multiscales"
        raise ValueError(f"{path} is no OME-Zarr image: {what}.")
    if len(inner) > 1:
        raise ValueError(f"{path} holds {len(inner)} images: name one of them, as {path}/{inner[0]}.")
    return path / inner[0], _attributes(group[inner[0]])


def _read_multiscales(path: Path, attributes: dict[str, Any]) -> OmeZarr:
    try:
        found = attributes["multiscales"][0]
        version = str(found.get("version", attributes.get("version", "0.4")))
        datasets = [str(d["path"]) for d in found["datasets"]]
        levels = tuple(ZarrPixels.open(path / name) for name in datasets)
        ndim = len(levels[0].shape)
        listed = [{"name": a} if isinstance(a, str) else dict(a) for a in found.get("axes", "tczyx"[-ndim:])]
        own = attributes.get(RECORD)
        rgb = isinstance(own, dict) and own.get("samples") is True
        letters = _letters(tuple(a["name"] for a in listed), ndim, rgb)
        units = [unit_name(str(a.get("unit") or "")) for a in listed]
        outer = _transformed(found, ndim)
        level_axes = []
        for dataset in found["datasets"]:
            scale, shift = _transformed(dataset, ndim)
            level_axes.append(
                tuple(
                    Axis(letter, float(s * so), float(t * so + to), unit, str(a["name"]))
                    for letter, s, t, so, to, unit, a in zip(letters, scale, shift, *outer, units, listed, strict=True)
                )
            )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path}: the description of this OME-Zarr image is damaged ({error!r}).") from None
    channels = attributes.get("omero")
    record = own if isinstance(own, dict) and "recipe" in own else {}
    return OmeZarr(levels, tuple(level_axes), version, channels if isinstance(channels, dict) else {}, record=record)


def _transformed(item: Any, ndim: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the scale and the translation of a dataset, or of all of them."""
    scale, shift = np.ones(ndim), np.zeros(ndim)
    for step in item.get("coordinateTransformations") or ():
        if step["type"] == "scale":
            factor = np.asarray(step["scale"], float)
            scale, shift = scale * factor, shift * factor
        elif step["type"] == "translation":
            shift = shift + np.asarray(step["translation"], float)
    return scale, shift


def _letters(names: Sequence[str | None], ndim: int, rgb: bool = False) -> str:
    """Name the axes by letters; unknown ones are ``"?"``, and without any names the last two are Y and X."""
    found = [str(name or "?").upper() for name in names]
    known = [{"CHANNEL": "C", "TIME": "T"}.get(name, name) for name in found]
    letters = [name if name in tuple("TCZYX") and known.count(name) == 1 else "?" for name in known]
    if len(letters) != ndim or not {"Y", "X"} <= set(letters):
        letters = ["?"] * (ndim - 2) + ["Y", "X"]
    return "".join("S" if letter == "C" and rgb else letter for letter in letters)
