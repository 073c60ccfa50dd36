"""Image files: read with their axes and pixel size, written whole or not at all."""

from __future__ import annotations

import glob
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import available_memory
from .ome_zarr.reading import SUFFIX, is_zarr, read_ome_zarr
from .regions import RawPixels, as_dask, tiff_pixels
from .tiff import CMYK, check_whole, coloured, colours_of, ome_sizes, resolution_of
from .whole import write_whole

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError)
"""What `zipfile` raises for damaged archives: wrong structure, stream, name, end, file, or a password or method that no
archive of ours has."""

SLIDES = (".svs", ".ndpi", ".scn")
TIFF = (".tif", ".tiff", ".btf", *SLIDES)
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
IMAGE_SUFFIXES = (*TIFF, *PICTURES, ".npy")
CACHE_VARIABLE = "NAPARI_DENOISE_CLASSIFY_CACHE"
"""Environment variable that names the folder for downloaded weights, processed images and measurements."""
_TILE = 1024  # side of the tiles of a TIFF that is written from a lazy array
LARGE = 2**28
"""Programs that work block by block leave images of more bytes than this on disk."""


@dataclass(frozen=True)
class ImageFile:
    """An image that was read from a file.

    Attributes
    ----------
    data : array
        A dask array if the pixels are still on disk.
    axes : str
        One letter per axis; ``"?"`` where the file does not say.
    path : Path
    resolution : (float, float) or None
        Pixels per unit along Y and X.
    unit : str
        Of the resolution: ``"micron"``, ``"inch"``, ``"centimeter"`` or empty.
    metadata : dict
        What else is carried over to a file written from it (ImageJ's, OME's, OME-Zarr's).
    """

    data: Any
    axes: str
    path: Path
    resolution: tuple[float, float] | None = None
    unit: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def lazy(self) -> bool:
        """Whether the pixels are still on disk."""
        return not isinstance(self.data, np.ndarray)


def cache_folder() -> Path:
    """Return the folder of what can be fetched or computed again."""
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("napari-denoise-classify"))


def user_path(path: str | Path) -> Path:
    """Return a path with ``~`` expanded; a file may also be called that."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def stem_of(path: Path) -> str:
    """Return the name of an image without its suffix, ``.ome.zarr`` being one."""
    return path.name.removesuffix(".ome.zarr") if path.name.endswith(".ome.zarr") else path.stem


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """Expand files, folders and globs into image files, sorted, each once.

    Parameters
    ----------
    patterns : iterable of str or Path
        A folder stands for the images in it, not in its subfolders; but one that is a zarr store is an image itself.

    Raises
    ------
    ValueError
        If one of them matches nothing.
    """
    found: dict[Path, Path] = {}  # by the resolved path: an image that is named twice counts once
    for pattern in patterns:
        path = user_path(pattern)
        if is_zarr(path):
            matches = [path]
        elif path.is_dir():
            visible = (p for p in path.iterdir() if not p.name.startswith("."))  # others may be half-written
            matches = sorted(p for p in visible if p.suffix.lower() in (*IMAGE_SUFFIXES, SUFFIX))
        elif path.exists():
            matches = [path]
        else:
            found_paths = (Path(p) for p in glob.glob(str(path), recursive=True))
            matches = sorted(p for p in found_paths if p.is_file() or is_zarr(p))
        if not matches:
            raise ValueError(f"{pattern}: there is no such file, and no image that matches.")
        for match in matches:
            found.setdefault(Path(os.path.realpath(match)), match)  # links may go in a circle
    return list(found.values())


def read_image(path: str | Path, lazy_above: int | None = None) -> ImageFile:
    """Read an image.

    Parameters
    ----------
    path : str or Path
        TIFF (ImageJ, OME, plain), whole-slide SVS (its largest level), PNG, JPEG, BMP, NPY, or an OME-Zarr folder
        (its largest level).
    lazy_above : int, optional
        Leave the pixels of a TIFF, SVS, NPY or zarr on disk if they have more bytes than this; ``data`` is a dask
        array then.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if is_zarr(path):
        return _read_zarr(path, lazy_above)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: this kind of file is not read; use {', '.join(IMAGE_SUFFIXES)}.")
    try:
        if suffix in TIFF:
            return _read_tiff(path, lazy_above)
        if suffix == ".npy":
            return _read_npy(path, lazy_above)
        if suffix == ".png":
            array = _decode_png(path.read_bytes())
            return ImageFile(array, "YXS" if array.ndim == 3 else "YX", path)
        import imageio.v3 as iio

        content = path.read_bytes()
        try:
            array = iio.imread(content, plugin="pillow")
        except OSError as error:
            if "can not handle" not in str(error):
                raise
            raise ValueError("it is damaged, or of another kind than its name says") from error
        if suffix in (".jpg", ".jpeg") and array.ndim == 3 and array.shape[-1] == 4:
            raise ValueError(CMYK)
        return ImageFile(array, "YXS" if array.ndim == 3 else "YX", path)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # the readers' errors for damaged files have no common base
        raise ValueError(f"{path}: this file cannot be read as an image ({error}).") from error


def _read_zarr(path: Path, lazy_above: int | None) -> ImageFile:
    found = read_ome_zarr(path)
    sizes = {axis.letter: axis.micrometres for axis in found.axes}
    y, x = sizes["Y"], sizes["X"]
    data = found.dask()
    if lazy_above is None or data.nbytes <= lazy_above:
        _check_fits(path, data.nbytes)
        data = found.levels[0][...]
    metadata: dict[str, Any] = {"ome_zarr": found}
    return ImageFile(
        data, found.letters, path, (1 / y, 1 / x) if y and x else None, "micron" if y and x else "", metadata
    )


def _check_fits(path: Path, size: int) -> None:
    """Refuse an image that would fill the memory.

    Raises
    ------
    MemoryError
    """
    if size > LARGE and size > 0.9 * (free := available_memory()):
        raise MemoryError(
            f"{path}: the image takes {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: close other "
            "programs, or crop it."
        )


def _read_npy(path: Path, lazy_above: int | None) -> ImageFile:
    array = np.load(path, allow_pickle=False, mmap_mode=None if lazy_above is None else "r")
    axes = "?" * (array.ndim - 2) + "YX"
    if isinstance(array, np.memmap):
        if array.nbytes > lazy_above and array.flags.c_contiguous:  # type: ignore[operator]  # it is a number here
            array = as_dask(RawPixels(str(path), array.shape, array.dtype.str, array.offset), axes)
        else:
            array = np.array(array)
    return ImageFile(array, axes, path)


def _decode_png(content: bytes) -> npt.NDArray[Any]:
    """Decode a PNG with OpenCV, which keeps 16 bits of colour images, too."""
    from .opencv import cv2

    pixels = np.frombuffer(content, np.uint8)
    array: npt.NDArray[Any] | None = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED) if len(pixels) else None
    if array is None:
        raise ValueError("it is damaged, or no PNG")
    if array.ndim == 3 and content[25] == 4:  # the header's colour type: gray with alpha
        array = array[..., 0]
    if array.ndim == 3:
        array = array[..., [2, 1, 0, 3][: array.shape[-1]]]
    return np.ascontiguousarray(array)


def _encode_png(path: Path, data: npt.NDArray[Any]) -> None:
    from .opencv import cv2

    if data.ndim == 3:
        data = np.ascontiguousarray(data[..., [2, 1, 0, 3][: data.shape[-1]]])
    if not cv2.imwrite(str(path), data):
        raise OSError(f"{path.parent}: the PNG could not be written.")


def _read_tiff(path: Path, lazy_above: int | None = None) -> ImageFile:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        if not tif.series:
            raise ValueError("it holds no image")
        if len(tif.series) > 1 and path.suffix.lower() not in SLIDES:
            raise ValueError(f"it holds {len(tif.series)} images of their own: save them as separate files")
        check_whole(tif)
        series = tif.series[0]
        axes = "".join(letter if letter in "TCZYXS" else "?" for letter in series.axes)
        lazy = lazy_above is not None and series.nbytes > lazy_above
        colours = colours_of(tif)
        if not lazy:
            _check_fits(path, series.nbytes * (1 if colours is None else colours[0].size))
        data = as_dask(tiff_pixels(path, series), axes) if lazy else series.asarray()
        if colours is not None:
            data, axes = coloured(data, colours), axes + "S" * (colours.ndim - 1)
        if axes.count("S") and data.shape[axes.index("S")] not in (3, 4):
            axes = axes.replace("S", "?")
        if tif.is_imagej and axes.count("?") == 1 and "Z" not in axes:
            axes = axes.replace("?", "Z")
        page = series.keyframe
        resolution, unit = resolution_of(page)
        pixel = microns_per_pixel(str(page.description))
        if path.suffix.lower() in SLIDES and pixel:
            resolution, unit = (1e4 / pixel, 1e4 / pixel), "centimeter"
        metadata: dict[str, Any] = {}
        if tif.is_imagej:
            kept = ("spacing", "unit", "finterval", "fps")
            imagej = tif.imagej_metadata or {}
            metadata = {"imagej": {key: imagej[key] for key in kept if key in imagej}}
            unit = str(imagej.get("unit", unit))
        elif tif.is_ome:
            metadata = {"ome": ome_sizes(tif.ome_metadata or "")}
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            metadata["miniswhite"] = True
    return ImageFile(data, axes, path, resolution, unit, metadata)


def microns_per_pixel(description: str) -> float | None:
    """Read the pixel size out of the description that slide scanners write."""
    found = re.search(r"\bMPP\s*=\s*([\d.]+)", description)
    return float(found[1]) if found else None


def write_like(path: Path, data: npt.NDArray[Any], source: ImageFile, axes: str | None = None) -> Path:
    """Write an image with the axes and pixel size of the file that it was made from, or smaller pixels if enlarged.

    Parameters
    ----------
    path : Path
        ``.tif``, ``.png`` or ``.npy``.
    data : array
        A lazy one is computed and written tile by tile, as TIFF only.
    source : ImageFile
    axes : str, optional
        If they are not those of the source: those of a mask, say.

    Raises
    ------
    ValueError
        For other suffixes, or what the format cannot hold.
    """
    axes = axes or source.axes
    if path.suffix == ".npy":
        return write_whole(path, lambda p: np.save(p, data))
    if data.dtype == bool:
        data = data.astype(np.uint8) * 255
    if path.suffix == ".png":
        if data.dtype not in (np.uint8, np.uint16) or axes not in ("YX", "YXS"):
            raise ValueError(f"PNG cannot hold a {data.dtype} image with axes {axes}: choose .tif.")
        return write_whole(path, lambda p: _encode_png(p, data))
    if path.suffix not in (".tif", ".tiff"):
        raise ValueError(f"{path}: images are written as .tif, .png or .npy; give such a name.")
    return write_whole(path, lambda p: _write_tiff(p, data, axes, source))


def _write_tiff(path: Path, data: npt.NDArray[Any], axes: str, source: ImageFile) -> None:
    import tifffile

    colour = "S" in axes
    gray = "miniswhite" if source.metadata.get("miniswhite") else "minisblack"
    options: dict[str, Any] = {"photometric": "rgb" if colour else gray, "compression": None}
    if colour and not axes.endswith("S"):
        if axes.index("S") == axes.index("Y") - 1 and isinstance(data, np.ndarray):
            options["planarconfig"] = "separate"
        else:
            data, axes = np.moveaxis(data, axes.index("S"), -1), axes.replace("S", "") + "S"
    if max(data.shape) > 2048 and set(axes) <= set("YXS"):
        options |= {"tile": (256, 256), "compression": "zlib"}
    known = source.data.ndim == len(source.axes) and source.data.size > 0
    factor = data.shape[axes.index("Y")] / source.data.shape[source.axes.index("Y")] if known else 1
    options |= resolution_options(source, factor)
    shape = data.shape
    fits_imagej = (
        data.dtype in (np.uint8, np.uint16, np.float32) and "?" not in axes and (not colour or data.dtype == np.uint8)
    )
    if not isinstance(data, np.ndarray):
        options |= {"tile": (_TILE, _TILE), "compression": "zlib", "shape": data.shape, "dtype": data.dtype}
        options["bigtiff"] = data.nbytes > 2**31
        fits_imagej, data = False, _tiles(data, "S" in axes)
    if "imagej" in source.metadata and fits_imagej:
        order = "".join(letter for letter in "TZCYXS" if letter in axes)
        data = data.transpose([axes.index(letter) for letter in order])
        options.pop("compression"), options.pop("tile", None)
        tifffile.imwrite(path, data, imagej=True, metadata={**source.metadata["imagej"], "axes": order}, **options)
    elif (sizes := ome_metadata(source, axes, shape, factor)) is not None:
        tifffile.imwrite(path, data, ome=True, metadata=sizes, **options)
    else:
        tifffile.imwrite(path, data, metadata={"axes": axes.replace("?", "Q")}, **options)


def _tiles(data: Any, colour: bool) -> Iterator[npt.NDArray[Any]]:
    """Compute a lazy array (…, Y, X[, S]) tile by tile, in the order of a TIFF."""
    n_lead = data.ndim - (3 if colour else 2)
    height, width = data.shape[n_lead : n_lead + 2]
    for index in np.ndindex(data.shape[:n_lead]):
        for y in range(0, height, _TILE):
            row = np.asarray(data[(*index, slice(y, y + _TILE))])
            for x in range(0, width, _TILE):
                yield np.ascontiguousarray(row[:, x : x + _TILE])


def resolution_options(source: ImageFile, factor: float) -> dict[str, Any]:
    """Return what TIFF's tags say of the pixel size, for an image that is larger than its source by a factor."""
    if not source.resolution:
        return {}
    y, x = (number * factor for number in source.resolution)
    return {"resolution": (x, y), "resolutionunit": {"inch": 2, "centimeter": 3}.get(source.unit, 1)}


def channel_names(source: ImageFile, axes: str, shape: tuple[int, ...]) -> list[str]:
    """Return the names that a file gives its channels, for an image with as many; empty where there are none."""
    store = source.metadata.get("ome_zarr")
    if store is not None:
        described = store.channels.get("channels")
        listed = described if isinstance(described, list) else []
        names = [str(one.get("label", "")) if isinstance(one, dict) else "" for one in listed]
    else:
        names = source.metadata.get("ome", {}).get("Channel", {}).get("Name", [])
    count = shape[axes.index("C")] if "C" in axes else 1
    return names if any(names) and len(names) == count else []


def ome_metadata(source: ImageFile, axes: str, shape: tuple[int, ...], factor: float) -> dict[str, Any] | None:
    """Return what is written into the header of an OME-TIFF; None for files that should not be one."""
    if "?" in axes or not {"ome", "ome_zarr"} & source.metadata.keys():
        return None
    sizes = {key: value for key, value in source.metadata.get("ome", {}).items() if key != "Channel"}
    if names := channel_names(source, axes, shape):
        sizes["Channel"] = {"Name": names}
    if "ome_zarr" in source.metadata:
        for axis in source.metadata["ome_zarr"].axes:
            if axis.letter in "ZYX" and axis.micrometres:
                sizes[f"PhysicalSize{axis.letter}"] = axis.micrometres
    sizes |= {key: sizes[key] / factor for key in ("PhysicalSizeX", "PhysicalSizeY") if key in sizes}
    return {**sizes, "axes": axes}
