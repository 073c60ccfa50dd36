"""OME-Zarr: multiscale images on disk, read lazily and written block by block.

Versions 0.4 and 0.5 of the format are read and written; older ones, and plain zarr arrays, are read as far as they
tell about themselves. See https://ngff.openmicroscopy.org.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .images import from_float
from .progress import Progress, Steps
from .regions import ZarrPixels, as_dask, import_zarr
from .whole import told_if_full

SUFFIX = ".zarr"
RECORD = "napari-denoise-classify"
"""The name of our own attributes in a store."""

_SMALLEST = 512  # a level of the pyramid this small is the last
_BLOCK = 2048  # of a level, that is halved at once
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
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
    return path.is_dir() and (
        path.suffix.lower() == SUFFIX or any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))
    )


# --- reading ----------------------------------------------------------------------------------------------------------


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


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canvas:
    """A new image on disk, to be filled; its axes are those that were asked for, whatever their order in the file.

    Attributes
    ----------
    folder : Path
    order : tuple of int
        Which of the axes each of the file's is.
    version, axes
    """

    folder: Path
    order: tuple[int, ...]
    version: str
    axes: tuple[Axis, ...]

    @property
    def array(self) -> Any:
        """The zarr array of the largest level."""
        return import_zarr().open_array(str(self.folder / "0"), mode="r+")

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read what was written, one slice for each axis."""
        values = np.asarray(self.array[tuple(region[i] for i in self.order)])
        return values.transpose(np.argsort(self.order).tolist())

    def __setitem__(self, region: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        """Write a region, one slice for each axis."""
        self.array[tuple(region[i] for i in self.order)] = values.transpose(self.order)

    def pyramid_iter(self) -> Steps[None]:
        """Make the smaller levels, each from the one before: the mean of 2 × 2 pixels."""
        zarr = import_zarr()
        group = zarr.open_group(str(self.folder), mode="r+")
        letters = [self.axes[i].letter for i in self.order]
        y, x = letters.index("Y"), letters.index("X")
        level, source = 0, self.array
        while max(source.shape[y], source.shape[x]) > _SMALLEST:
            level += 1
            shape = list(source.shape)
            shape[y], shape[x] = (-(-n // 2) for n in (shape[y], shape[x]))
            target = _create(group, str(level), tuple(shape), source.dtype, letters, self.version)
            # A colour image's samples, and every other axis, one at a time
            spans = [
                [slice(a, min(a + _BLOCK, n)) for a in range(0, n, _BLOCK)]
                if axis in (y, x)
                else [slice(a, a + 1) for a in range(n)]
                for axis, n in enumerate(source.shape)
            ]
            regions = list(product(*spans))
            for k, region in enumerate(regions):
                # Each level has a quarter of the pixels of the one before.
                yield Progress(1 - 0.25 ** (level - 1) * (1 - 0.75 * k / len(regions)), f"level {level} of the pyramid")
                half = tuple(
                    slice(s.start // 2, -(-s.stop // 2)) if axis in (y, x) else s for axis, s in enumerate(region)
                )
                target[half] = _halved(np.asarray(source[region]), y, x)
            source = target
        _describe(group, self, level + 1)


def _halved(values: npt.NDArray[Any], y: int, x: int) -> npt.NDArray[Any]:
    """Return the mean of 2 × 2 pixels; at an odd end, of those that are there."""
    mean: npt.NDArray[Any] = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    for axis in (y, x):
        n = mean.shape[axis]
        first: npt.NDArray[Any] = mean.take(range(0, n, 2), axis)
        second: npt.NDArray[Any] = mean.take([*range(1, n, 2), *([n - 1] if n % 2 else [])], axis)
        mean = (first + second) / 2
    return from_float(mean, values.dtype)


def _create(group: Any, name: str, shape: tuple[int, ...], dtype: Any, letters: Sequence[str], version: str) -> Any:
    large = max(n for n, letter in zip(shape, letters, strict=True) if letter in "YX") > 2**14
    side = 1024 if large else 512
    chunks = tuple(
        min(side, n) if letter in "YX" else n if letter == "S" else 1 for letter, n in zip(letters, shape, strict=True)
    )
    more: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    if version != "0.4":
        more = {"dimension_names": [_file_name(letter, i) for i, letter in enumerate(letters)]}
    return group.create_array(name, shape=shape, chunks=chunks, dtype=dtype, **more)


def _file_name(letter: str, i: int) -> str:
    return {"S": "c", "?": f"axis{i}"}.get(letter, letter.lower())


def _describe(group: Any, canvas: Canvas, levels: int) -> None:
    """Write the attribute ``multiscales``."""
    axes = [canvas.axes[i] for i in canvas.order]
    listed = []
    for i, axis in enumerate(axes):
        name = _file_name(axis.letter, i)
        kind = _KINDS.get(name)
        listed.append({"name": name, **({"type": kind} if kind else {}), **({"unit": axis.unit} if axis.unit else {})})
    datasets = []
    for level in range(levels):
        here = [axis.finer(0.5**level) if axis.letter in "YX" else axis for axis in axes]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [axis.scale for axis in here]}]
        if any(axis.translation for axis in here):
            transforms.append({"type": "translation", "translation": [axis.translation for axis in here]})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    about: dict[str, Any] = {"axes": listed, "datasets": datasets, "type": "mean"}
    if canvas.version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **about}]
    else:
        group.attrs["ome"] = {**group.attrs.get("ome", {}), "version": canvas.version, "multiscales": [about]}


@contextmanager
def new_ome_zarr(
    path: Path,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    axes: Sequence[Axis],
    *,
    version: str = "0.5",
    channels: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
) -> Iterator[Canvas]:
    """Make an OME-Zarr image that appears whole, or not at all if an error leaves the ``with`` block.

    Within it, fill what this yields, and call its `Canvas.pyramid_iter`.

    Parameters
    ----------
    path : Path
        A folder; one that is there is replaced at the end.
    shape, dtype
    axes : sequence of Axis
        In the order of ``shape``. The file has time first, then channels or samples, then space.
    version : {"0.4", "0.5"}
    channels : dict, optional
        The attribute ``omero``.
    record : dict, optional
        What made the image, kept in the attribute ``napari-denoise-classify``.
    """
    zarr = import_zarr()
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(suffix=SUFFIX, prefix=f".{path.stem[:40]}-", dir=path.parent))
    try:
        mask = os.umask(0)  # mkdtemp made it private: give it the permissions of any other new folder
        os.umask(mask)
        folder.chmod(0o777 & ~mask)
        rank = "T?CSZYX"
        order = tuple(sorted(range(len(axes)), key=lambda i: rank.index(axes[i].letter)))
        letters = [axes[i].letter for i in order]
        group = zarr.open_group(str(folder), mode="w", zarr_format=2 if version == "0.4" else 3)
        _create(group, "0", tuple(shape[i] for i in order), dtype, letters, version)
        if "S" in letters and shape[order[letters.index("S")]] == 3:
            channels = _colours(np.dtype(dtype))
        if channels and version == "0.4":
            group.attrs["omero"] = channels
        elif channels:
            group.attrs["ome"] = {"omero": channels}
        group.attrs[RECORD] = {"samples": "S" in letters, **(record or {})}
        with told_if_full(path):
            yield Canvas(folder, order, version, tuple(axes))
        replace_folder(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _colours(dtype: np.dtype[Any]) -> dict[str, Any]:
    top = np.iinfo(dtype).max if dtype.kind in "ui" else 1
    window = {"start": 0, "end": int(top), "min": 0, "max": int(top)}
    return {
        "channels": [
            {"label": label, "color": colour, "active": True, "window": window}
            for label, colour in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
        ]
    }


def replace_folder(new: Path, path: Path) -> None:
    """Give a folder the name of another, which goes away; while both are renamed there is one moment with neither."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=".old-", dir=path.parent))
    path.rename(old / path.name)
    try:
        new.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    finally:
        with suppress(OSError):
            shutil.rmtree(old)
