"""Write an OME-Zarr image block by block, and its pyramid."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..images import from_float
from ..progress import Progress, Steps
from ..regions import import_zarr
from ..whole import claimed, clear_leftovers, temporary_beside, told_by_name, told_if_full
from .axes import Axis
from .reading import RECORD, SUFFIX, holds_zarr

_SMALLEST = 512  # a level of the pyramid this small is the last
_BLOCK = 2048  # of a level, that is halved at once
_HALF_WRITTEN = ".partial"  # ends the names of chunks while zarr writes them; a worker that is killed leaves some
_OLD = ".old-"  # begins the names of folders for what is being replaced
_RGB = ("FF0000", "00FF00", "0000FF")
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", *_RGB)
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


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

    Raises
    ------
    ValueError
        If something else is there, which would be lost.
    """
    zarr = import_zarr()
    if clear_leftovers(path):
        _settle(path)
    if path.exists() and not holds_zarr(path):
        raise ValueError(f"{path} is there already, and is no OME-Zarr: choose another name.")
    folder = temporary_beside(path, SUFFIX)
    with told_by_name(folder, path):
        folder.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(claimed(folder))
        rank = "T?CSZYX"
        order = tuple(sorted(range(len(axes)), key=lambda i: rank.index(axes[i].letter)))
        letters = [axes[i].letter for i in order]
        group = zarr.open_group(str(folder), mode="w", zarr_format=2 if version == "0.4" else 3)
        _create(group, "0", tuple(shape[i] for i in order), dtype, letters, version)
        if "S" in letters and shape[order[letters.index("S")]] == 3:
            channels = channel_attributes(["red", "green", "blue"], np.dtype(dtype), colours=_RGB)
        if channels and version == "0.4":
            group.attrs["omero"] = channels
        elif channels:
            group.attrs["ome"] = {"omero": channels}
        group.attrs[RECORD] = {"samples": "S" in letters, **(record or {})}
        with told_if_full(path):
            yield Canvas(folder, order, version, tuple(axes))
        for half_written in folder.rglob(f"*{_HALF_WRITTEN}"):
            half_written.unlink(missing_ok=True)
        _replace_folder(folder, path)


def channel_attributes(
    labels: Sequence[str],
    dtype: np.dtype[Any],
    windows: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] = _COLOURS,
) -> dict[str, Any]:
    """Return the attribute ``omero``.

    Parameters
    ----------
    labels : sequence of str
        Of the channels.
    dtype
    windows : sequence of (float, float), optional
        The intensities that each channel is shown between; default: all of the dtype's.
    colours : sequence of str
        That channels are shown in, in turn; a single one is white.
    """
    low, high = (0, int(np.iinfo(dtype).max)) if dtype.kind in "ui" else (0, 1)
    channels = []
    for k, label in enumerate(labels):
        start, end = windows[k] if windows else (low, high)
        window = {"start": start, "end": end, "min": min(start, low), "max": max(end, high)}
        colour = colours[k % len(colours)] if len(labels) > 1 else "FFFFFF"
        channels.append({"label": label, "color": colour, "active": True, "window": window})
    return {"channels": channels}


def _replace_folder(new: Path, path: Path) -> None:
    """Give a folder the name of another, which goes away; while both are renamed there is one moment with neither."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=_OLD, dir=path.parent))
    path.rename(old / path.name)
    try:
        new.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    finally:
        with suppress(OSError):
            shutil.rmtree(old)


def _settle(path: Path) -> None:
    """End what a process that was killed while it replaced a folder has begun."""
    for old in path.parent.glob(f"{_OLD}????????"):
        if not (old / path.name).exists():
            continue
        if not path.exists():
            (old / path.name).rename(path)
        shutil.rmtree(old, ignore_errors=True)
