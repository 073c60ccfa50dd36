"""From file to file: a recipe applied to an image of any size, its result written block by block."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .blocks.parts import Target
from .blocks.writing import write_iter
from .files import ImageFile, channel_names, ome_metadata, resolution_options, write_like
from .images import Index, PlaneImage
from .ome_zarr.axes import Axis, unit_name
from .ome_zarr.reading import SUFFIX, OmeZarr
from .ome_zarr.writing import Canvas, channel_attributes, new_ome_zarr
from .progress import Steps, within
from .recipe import Recipe
from .regions import RawPixels
from .whole import all_or_none, claimed, clear_leftovers, told_if_full, whole_file

_READ, _WRITTEN = 0.05, 0.95  # the parts of a run after the intensity range, and before the pyramid


class Stored(NamedTuple):
    """What `process_file_iter` wrote.

    Attributes
    ----------
    path : Path
    mask : Path or None
    kept : float or None
        The fraction of pixels that masks keep; None if no step masks.
    """

    path: Path
    mask: Path | None
    kept: float | None


Fill = Callable[[Recipe, PlaneImage, Any, "Target", "Target | None"], Steps[float]]
"""Processes an image, writes it into a target (and its mask into another), and returns the fraction kept."""


@dataclass(frozen=True)
class Unwrapped:
    """A target that takes regions in the canonical order of axes, and hands them on in the image's own.

    Attributes
    ----------
    target : Target
    source : str
        The image's axes.
    mask : bool
        Without the axis S.
    white : bool
        Take True and False as 255 and 0.
    """

    target: Target
    source: str
    mask: bool = False
    white: bool = False

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read what was written; not of masks."""
        order = PlaneImage.unwrapped_order(self.source)
        values = np.asarray(self.target[tuple(region[i] for i in order)])
        values = values > 0 if self.white else values
        return values.transpose(np.argsort(order).tolist())

    def __setitem__(self, region: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        """Write a region."""
        axes = self.source.replace("S", "") if self.mask else self.source
        order = PlaneImage.unwrapped_order(axes)
        values = values.astype(np.uint8) * 255 if self.white else values
        self.target[tuple(region[i] for i in order)] = values.transpose(order)


def process_file_iter(
    recipe: Recipe,
    file: ImageFile,
    path: Path,
    mask_path: Path | None = None,
    axes: str | None = None,
    intensity_range: Any = None,
    fill: Fill = write_iter,
) -> Steps[Stored]:
    """Apply a recipe to the image of a file and write the result; nothing is left if it fails or is cancelled.

    Images in memory are processed there, unless a ``.zarr`` is written. Those that are still on disk (see
    `read_image`) are read, processed and written block by block.

    Parameters
    ----------
    recipe : Recipe
    file : ImageFile
    path : Path
        ``.tif``, ``.png``, ``.npy`` or ``.zarr``; one that is there is replaced.
    mask_path : Path, optional
        Where the mask is written, if the recipe masks.
    axes, intensity_range
        As for `Recipe.apply`; instead of the file's and the recipe's.
    fill : callable, optional
        Instead of `write_iter`.

    Raises
    ------
    MemoryError
        If planes have to be processed whole and are too large.
    OSError, ValueError
        If a part of the image cannot be read, or the result not be written.
    """
    used = (axes or file.axes).upper()
    file = replace(file, axes=used)
    source = PlaneImage.wrap(file.data, used)
    mask_path = mask_path if recipe.masks else None
    if path.suffix != SUFFIX and not source.lazy:
        done = yield from recipe.apply_iter(source, intensity_range=intensity_range)
        with all_or_none([path, *([mask_path] if mask_path else [])]):
            write_like(path, np.asarray(done.image), file, used)
            if mask_path is not None:
                write_like(mask_path, done.mask, file, used.replace("S", ""))
        return Stored(path, mask_path, done.kept if recipe.masks else None)
    how = recipe.intensity_range if intensity_range is None else intensity_range
    ranges = yield from within(source.ranges_iter(how), 0.0, _READ)
    factor = recipe.upscale
    shape = tuple(n * factor if a in "YX" else n for n, a in zip(file.data.shape, used, strict=True))
    record = {**recipe.record(source.samples), "source": file.path.name}
    # As `write_like`: TIFF holds no True, NumPy's own files do.
    dtype = np.dtype(np.uint8) if source.data.dtype == bool and path.suffix in (".tif", ".tiff") else source.data.dtype
    with ExitStack() as stack:
        target = stack.enter_context(_new(path, shape, dtype, used, file, factor, record, _windows(source, ranges)))
        mask = None
        if mask_path is not None:
            gray = tuple(n for n, a in zip(shape, used, strict=True) if a != "S")
            kind = np.dtype(bool if mask_path.suffix == ".npy" else np.uint8)
            mask = Unwrapped(
                stack.enter_context(_new(mask_path, gray, kind, used.replace("S", ""), file, factor, record)),
                used,
                mask=True,
                white=kind == np.uint8,
            )
        work = fill(
            recipe,
            source,
            ranges,
            Unwrapped(target, used, white=dtype != source.data.dtype),
            mask,
        )
        kept = yield from within(work, _READ, _WRITTEN)
        for canvas in (target, mask and mask.target):
            if isinstance(canvas, Canvas):
                yield from within(canvas.pyramid_iter(), _WRITTEN, 1.0)
    return Stored(path, mask_path, kept if recipe.masks else None)


def _windows(source: PlaneImage, ranges: dict[Index, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the intensity range of each channel, out of those of planes."""
    found: dict[int, list[tuple[float, float]]] = {}
    for index, span in ranges.items():
        found.setdefault(index[source.lead_axes.index("C")] if "C" in source.lead_axes else 0, []).append(span)
    return [(min(low for low, _ in spans), max(high for _, high in spans)) for _, spans in sorted(found.items())]


@contextmanager
def _new(
    path: Path,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    axes: str,
    file: ImageFile,
    factor: int,
    record: dict[str, Any],
    windows: list[tuple[float, float]] | None = None,
) -> Iterator[Target]:
    """Make the file that a result is written into; ``windows`` are the ranges that channels are shown in."""
    if path.suffix != SUFFIX:
        with new_raw_file(path, shape, dtype, axes, file, factor) as raw:
            yield raw
        return
    version, channels = "0.5", None
    found = file.metadata.get("ome_zarr")
    if isinstance(found, OmeZarr):
        version = "0.4" if found.version == "0.4" else "0.5"
        channels = found.channels if len(axes) == len(found.axes) else None
    elif names := channel_names(file, axes, shape):
        channels = channel_attributes(names, np.dtype(dtype), windows)
    where = pixel_axes(file, axes, factor)
    with new_ome_zarr(path, shape, dtype, where, version=version, channels=channels, record=record) as canvas:
        yield canvas


@contextmanager
def new_raw_file(
    path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, axes: str, source: ImageFile, factor: int = 1
) -> Iterator[RawPixels]:
    """Make an uncompressed TIFF or NPY to be filled region by region; it appears whole or not at all.

    Parameters
    ----------
    path : Path
    shape, dtype, axes
        Of the new image.
    source : ImageFile
        Its metadata are carried over.
    factor : int
        How many times as large as the source it is.

    Raises
    ------
    ValueError
        If the kind of file cannot be written so.
    OSError
        If it does not fit on the disk.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if path.suffix not in (".tif", ".tiff", ".npy") or ("S" in axes and not axes.endswith("S")):
        raise ValueError(f"{path}: so large an image is written as .zarr: add --format zarr.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(f"{path} takes {size / 1e9:.1f} GB, more than the disk has left: choose another --output.")
    clear_leftovers(path)
    with whole_file(path) as temporary, claimed(temporary), told_if_full(path):
        if path.suffix == ".npy":
            with open(temporary, "wb") as file:
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(file, header)
                offset = file.tell()
                file.truncate(offset + size)
        else:
            offset = _blank_tiff(temporary, shape, dtype, axes, source, factor)
        yield RawPixels(str(temporary), shape, dtype.str, offset)


def _blank_tiff(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], axes: str, source: ImageFile, factor: int
) -> int:
    """Write a TIFF without its pixels, and return where they belong."""
    import tifffile

    gray = "miniswhite" if source.metadata.get("miniswhite") else "minisblack"
    options: dict[str, Any] = {
        "photometric": "rgb" if "S" in axes else gray,
        "dtype": dtype,
        "shape": shape,
        "returnoffset": True,
    }
    options |= resolution_options(source, factor)
    small = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize < 2**32 - 2**20
    in_order = "".join(letter for letter in "TZCYXS" if letter in axes) == axes
    if "imagej" in source.metadata and small and in_order and dtype in (np.uint8, np.uint16, np.float32):
        options |= {"imagej": True, "metadata": {**source.metadata["imagej"], "axes": axes}}
    elif (sizes := ome_metadata(source, axes, shape, factor)) is not None:
        options |= {"ome": True, "bigtiff": True, "metadata": sizes}
    else:
        options |= {"bigtiff": True, "metadata": {"axes": axes.replace("?", "Q")}}
    written: Any = tifffile.imwrite(path, **options)
    return int(written[0])


def pixel_axes(file: ImageFile, axes: str, factor: int = 1) -> tuple[Axis, ...]:
    """Return the axes of an image made from a file, with the sizes and places of pixels as the file tells them.

    Parameters
    ----------
    file : ImageFile
    axes : str
        Of the new image: the file's, or those without S.
    factor : int
        How many times as large as the file's image it is.
    """
    found = file.metadata.get("ome_zarr")
    if isinstance(found, OmeZarr) and "S" not in file.axes.replace("S", "", 1):
        known = {axis.letter: axis for axis in found.axes}
        listed = list(found.axes) if len(axes) == len(found.axes) else [known.get(a, Axis(a)) for a in axes]
        here = [Axis(a, axis.scale, axis.translation, axis.unit) for a, axis in zip(axes, listed, strict=True)]
    else:
        sizes = _sizes(file)
        here = [Axis(a, *(sizes.get(a, (1.0, ""))[:1]), unit=sizes.get(a, (1.0, ""))[1]) for a in axes]
    return tuple(axis.finer(factor) if axis.letter in "YX" and factor > 1 else axis for axis in here)


def _sizes(file: ImageFile) -> dict[str, tuple[float, str]]:
    """Return the size of a pixel and its unit for each axis of which a file tells it."""
    ome, imagej = file.metadata.get("ome", {}), file.metadata.get("imagej", {})
    found = {a: (ome[k], ome.get(f"{k}Unit", "µm")) for a in "ZYX" if (k := f"PhysicalSize{a}") in ome}
    if "TimeIncrement" in ome:
        found["T"] = (ome["TimeIncrement"], ome.get("TimeIncrementUnit", "s"))
    # An inch is what programs write that know nothing of the size.
    if not found and file.resolution and file.unit not in ("", "inch"):
        found = {"Y": (1 / file.resolution[0], file.unit), "X": (1 / file.resolution[1], file.unit)}
        if imagej.get("spacing"):
            found["Z"] = (imagej["spacing"], file.unit)
    if imagej.get("finterval"):
        found["T"] = (imagej["finterval"], "s")
    named = {a: (abs(float(size)), unit_name(str(unit))) for a, (size, unit) in found.items() if size}
    # TIFF counts pixels per centimetre; a microscopist's scale bar is in micrometres.
    return {
        a: (size * 1e4, "micrometer") if unit == "centimeter" else (size, unit) for a, (size, unit) in named.items()
    }
