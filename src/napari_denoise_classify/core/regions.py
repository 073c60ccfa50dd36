"""Pixels that stay on disk: read, and written, region by region.

Each class here is a few words about a file (path, shape, dtype); the file is opened for every region and closed again.
So they can be pickled, hold no memory, and notice a file that disappears.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Region = Any
"""Slices and whole numbers, one for each axis or fewer."""

SIDE = 1024
"""Side of dask chunks in pixels, about; whole chunks of the file."""


class Pixels(Protocol):
    """What can be read region by region."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """What the file keeps in one piece; 0 along axes where any part can be read."""

    def __getitem__(self, region: Region, /) -> npt.NDArray[Any]: ...


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn the many errors of damaged and missing files into one sentence."""
    try:
        yield
    except ImportError:
        raise
    except FileNotFoundError:
        raise ValueError(f"{path} is not there any more: it was moved or deleted while it was read.") from None
    except OSError as error:
        raise OSError(f"{path}: a part of this image cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # the codecs' errors for damaged files have no common base
        raise ValueError(f"{path}: a part of this image cannot be read, it is damaged ({error}).") from error


def import_zarr() -> Any:
    """Import zarr.

    Raises
    ------
    ImportError
        Telling how to install it.
    """
    try:
        import zarr
    except ImportError:
        raise ImportError("zarr is not installed: run  pip install 'napari-denoise-classify[zarr]'") from None
    if int(zarr.__version__.split(".")[0]) < 3:
        raise ImportError(f"zarr {zarr.__version__} is too old: run  pip install 'zarr>=3'")
    return zarr


class _Shaped:
    """What has a shape has axes; dask asks for their number."""

    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class ZarrPixels(_Shaped):
    """An array of a zarr store on disk.

    Parameters
    ----------
    path : str
        Of the array itself.
    shape, dtype, chunks
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]

    @classmethod
    def open(cls, path: Path) -> ZarrPixels:
        """Read what the array is."""
        array = import_zarr().open_array(str(path), mode="r")
        shards = getattr(array, "shards", None)
        return cls(str(path), tuple(array.shape), np.dtype(array.dtype), tuple(shards or array.chunks))

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read a region.

        Raises
        ------
        OSError, ValueError
            If the store is gone, or a chunk of it is damaged.
        """
        with _readable(self.path):
            values = np.asarray(import_zarr().open_array(self.path, mode="r")[region])
            # A chunk that is not there reads as zeros: that is how zarr saves empty ones.
            if not any((Path(self.path) / name).exists() for name in ("zarr.json", ".zarray")):
                raise FileNotFoundError(self.path)
            return values


@dataclass(frozen=True)
class RawPixels(_Shaped):
    """Uncompressed values in one piece of a file, in C order.

    Parameters
    ----------
    path : str
    shape : tuple of int
    stored : str
        The dtype in the file, with its order of bytes.
    offset : int
        Of the first value, in bytes.
    """

    path: str
    shape: tuple[int, ...]
    stored: str
    offset: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """In the machine's order of bytes."""
        return np.dtype(self.stored).newbyteorder("=")

    @property
    def chunks(self) -> tuple[int, ...]:
        """Any part can be read."""
        return (0,) * len(self.shape)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read a region.

        Raises
        ------
        OSError, ValueError
            If the file is gone or too short.
        """
        with _readable(self.path):
            # A map of its own for every region: the pages that it took are given back with it.
            values = np.memmap(self.path, self.stored, mode="r", offset=self.offset, shape=self.shape)
            return np.array(values[region], self.dtype)

    def __setitem__(self, region: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        """Write a region, one slice for each axis, row by row: a full disk is an error, which a map would crash on."""
        spans = [range(*s.indices(n)) for s, n in zip(region, self.shape, strict=True)]
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim)]
        whole = self.ndim  # from this axis on, all is written: it lies in one piece
        while whole > 0 and len(spans[whole - 1]) == self.shape[whole - 1]:
            whole -= 1
        whole = max(whole, 1)
        values = np.ascontiguousarray(values, self.stored)
        size = np.dtype(self.stored).itemsize
        with open(self.path, "r+b", buffering=0) as file:
            for at in product(*(range(len(s)) for s in spans[: whole - 1])):
                start = sum(s[i] * n for s, i, n in zip(spans, at, strides, strict=False))
                start += spans[whole - 1].start * strides[whole - 1]
                file.seek(self.offset + start * size)
                content = memoryview(values[at]).cast("B")
                while content:
                    content = content[file.write(content) :]


@dataclass(frozen=True)
class TiffPixels(_Shaped):
    """One level of a compressed or tiled TIFF.

    Parameters
    ----------
    path : str
    shape, dtype, chunks
    level : int
        Of a pyramid; 0 is the largest.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    level: int = 0

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read a region; only the tiles or strips that it meets are decoded.

        Raises
        ------
        OSError, ValueError
            If the file is gone, or a part of it is damaged.
        """
        import tifffile

        with _readable(self.path), tifffile.TiffFile(self.path) as tif, tif.series[0].aszarr(level=self.level) as store:
            return np.array(import_zarr().open_array(store, mode="r")[region], self.dtype)


def tiff_pixels(path: Path, series: Any, level: int = 0) -> Pixels:
    """Return the pixels of a TIFF's series, to be read region by region.

    Parameters
    ----------
    path : Path
    series : tifffile.TiffPageSeries
        The first one of the file.
    level : int
    """
    part = series.levels[level]
    dtype = np.dtype(part.dtype)
    if part.dataoffset is not None:
        order = str(part.keyframe.parent.byteorder)
        return RawPixels(str(path), tuple(part.shape), dtype.newbyteorder(order).str, int(part.dataoffset))
    import_zarr()
    tile = dict(zip("YXS", part.keyframe.chunks[-3:], strict=False))
    chunks = tuple(
        min(n, tile.get(a, 1)) if a in "YX" else n if a == "S" else 1
        for a, n in zip(part.axes, part.shape, strict=True)
    )
    return TiffPixels(str(path), tuple(part.shape), dtype, chunks, level)


def as_dask(pixels: Pixels, axes: str) -> Any:
    """Return pixels on disk as a dask array, in chunks of about 1024 × 1024.

    Parameters
    ----------
    pixels : Pixels
    axes : str
        Other axes than Y, X and S have chunks of one plane.
    """
    import dask.array as da

    def chunk(axis: str, length: int, stored: int) -> int:
        if axis not in "YX":
            return length if axis == "S" else 1
        return min(length, max(1, round(SIDE / stored)) * stored if stored else SIDE)

    chunks = tuple(chunk(*of) for of in zip(axes, pixels.shape, pixels.chunks, strict=True))
    meta = np.empty((0,) * len(pixels.shape), pixels.dtype)
    return da.from_array(pixels, chunks=chunks, meta=meta, name=False, asarray=False)
