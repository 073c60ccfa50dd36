"""What an image is: axes, samples, intensity range, dtype; to float32 planes and back.

Everything that processes an image sees it as *planes*: a float32 array ``(N, Y, X, S)`` in which ``S`` is 1 (gray)
or 3 (RGB) and the intensity range maps to 0..1. `PlaneImage` is the only place that knows how a user's array, of
any axes and dtype, becomes planes and how planes become that array again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .progress import Progress, Steps, run, within

Index: TypeAlias = tuple[int, ...]
Pooling: TypeAlias = Literal["image", "stack", "plane"]
IntensityRange: TypeAlias = Pooling | tuple[float, float]
FloatArray: TypeAlias = npt.NDArray[np.float32]

AXES = "TCZYXS"
_BAND_PIXELS, _BAND_ROWS = 2**24, 256  # of a plane that is looked through from top to bottom
_CHUNK_PIXELS = 2**22  # planes are handed on in groups of about this many values: bounded memory, full batches


def check_intensity_range(value: object) -> IntensityRange:
    """Return ``value`` as an intensity range.

    Parameters
    ----------
    value : {"image", "stack", "plane"} or (float, float) or None
        Over what the range is taken, or the range itself. None means ``"image"``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if value is None:
        return "image"
    if isinstance(value, str):
        if value in get_args(Pooling):
            return value  # type: ignore[return-value]  # narrowed by the membership test
    elif isinstance(value, (tuple, list, np.ndarray)) and len(value) == 2:
        try:
            low, high = float(value[0]), float(value[1])
        except (TypeError, ValueError):
            pass
        else:
            if np.isfinite(low) and np.isfinite(high) and low < high:
                return (low, high)
    raise ValueError(
        f"intensity_range={value!r} is not allowed: give 'image', 'stack' or 'plane', "
        "or two finite numbers (low, high) with low < high."
    )


def resolve_axes(shape: tuple[int, ...], axes: str | None = None, rgb: bool = False) -> str:
    """Name every axis of an array of this shape.

    Parameters
    ----------
    shape : tuple of int
    axes : str, optional
        One letter per axis out of T, C, Z, Y, X and S (RGB or RGBA samples), ``"TCZYX"`` for example. ``"?"`` stands
        for an axis of independent planes. If not given, the last two axes are Y and X (Y, X and S if ``rgb``) and
        all axes before are independent planes.
    rgb : bool, optional
        Whether the last axis holds RGB samples, where ``axes`` is not given.

    Returns
    -------
    str
        The axes; unnamed ones are ``"?"``.

    Raises
    ------
    ValueError
        If the axes do not fit the shape, are unknown, are repeated, lack Y or X, or if the array is empty.
    """
    if axes is None:
        tail = "YXS" if rgb else "YX"
        if len(shape) < len(tail):
            kind = "An RGB image" if rgb else "An image"
            raise ValueError(f"{kind} needs at least {len(tail)} axes ({tail}); this array has shape {shape}.")
        axes = "?" * (len(shape) - len(tail)) + tail
    axes = axes.upper()
    unknown = sorted(set(axes) - set(AXES) - {"?"})
    if unknown:
        raise ValueError(f"axes={axes!r} is not allowed: {', '.join(unknown)} is unknown; use letters of {AXES}.")
    repeated = sorted({letter for letter in axes if letter != "?" and axes.count(letter) > 1})
    if repeated:
        raise ValueError(f"axes={axes!r} is not allowed: {', '.join(repeated)} stands in it twice.")
    if len(axes) != len(shape):
        raise ValueError(f"axes={axes!r} names {len(axes)} axes, but the image has {len(shape)}: shape {shape}.")
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"axes={axes!r} is not allowed: both Y and X must be in it.")
    if 0 in shape:
        raise ValueError(f"The image is empty: its shape is {shape}.")
    if "S" in axes and shape[axes.index("S")] not in (3, 4):
        raise ValueError(
            f"axes={axes!r} is not allowed: S is for the 3 (RGB) or 4 (RGBA) samples of a colour image, "
            f"and this axis has {shape[axes.index('S')]}. Use C for channels."
        )
    return axes


def as_array(image: Any) -> Any:
    """Return ``image`` as a numpy array, or as a dask array where it is lazy (dask, zarr, memory map on disk)."""
    if isinstance(image, np.ndarray):
        return image
    if hasattr(image, "dask"):
        return image
    if hasattr(image, "chunks") and hasattr(image, "shape"):  # zarr, h5py
        import dask.array

        return dask.array.from_array(image)
    try:
        array = np.asarray(image)
    except ValueError:  # of images of several shapes
        array = np.empty(0, object)
    if array.dtype == object:
        raise ValueError("The image is not an array of numbers: give one array, or process a list one by one.")
    return array


@dataclass(frozen=True)
class PlaneImage:
    """An image seen as a sequence of planes.

    Parameters
    ----------
    data : array, numpy or dask
        In canonical order: the leading axes, then Y, X and (only for colour images) S.
    axes : str
        The axes of the array as it was given.
    """

    data: Any
    axes: str

    @classmethod
    def wrap(cls, image: Any, axes: str | None = None, rgb: bool = False) -> PlaneImage:
        """Check an array and wrap it.

        Parameters
        ----------
        image : array-like
            Of any axes; unsigned or signed integers, floats or bool.
        axes, rgb
            As for `resolve_axes`.

        Raises
        ------
        ValueError
            If the array is empty, not real-valued, or the axes do not fit.
        """
        image = as_array(image)
        if image.dtype.kind not in "buif":
            raise ValueError(f"Images of dtype {image.dtype} are not allowed: use integers, floats or booleans.")
        axes = resolve_axes(tuple(image.shape), axes, rgb)
        return cls(image.transpose(cls._order(axes)), axes)

    @staticmethod
    def _order(axes: str) -> tuple[int, ...]:
        leading = [i for i, letter in enumerate(axes) if letter not in "YXS"]
        return (*leading, *(axes.index(letter) for letter in "YXS" if letter in axes))

    @property
    def rgb(self) -> bool:
        """Whether the image has colour samples."""
        return "S" in self.axes

    @property
    def samples(self) -> int:
        """Samples of a plane that are processed: 3 for colour, 1 for gray (alpha is carried along)."""
        return 3 if self.rgb else 1

    @property
    def lead_axes(self) -> str:
        """The axes before Y and X, in order."""
        return "".join(letter for letter in self.axes if letter not in "YXS")

    @property
    def lead_names(self) -> list[str]:
        """What the leading axes are called in tables: ``t``, ``c``, ``z``, or ``axis0`` where they have no name."""
        return [letter.lower() if letter != "?" else f"axis{i}" for i, letter in enumerate(self.lead_axes)]

    @property
    def lead_shape(self) -> tuple[int, ...]:
        """The lengths of the leading axes."""
        return tuple(self.data.shape[: len(self.lead_axes)])

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width."""
        n = len(self.lead_axes)
        return (int(self.data.shape[n]), int(self.data.shape[n + 1]))

    @property
    def lazy(self) -> bool:
        """Whether the pixels are not in memory."""
        return not isinstance(self.data, np.ndarray)

    def indices(self) -> Iterator[Index]:
        """Iterate over the leading index of every plane."""
        return np.ndindex(*self.lead_shape)

    def chunks(self) -> Iterator[list[Index]]:
        """Group the leading indices so that a group is a few million pixels, or one plane."""
        size = self.plane_shape[0] * self.plane_shape[1] * self.samples
        per_chunk = max(1, _CHUNK_PIXELS // size)
        group: list[Index] = []
        for index in self.indices():
            group.append(index)
            if len(group) == per_chunk:
                yield group
                group = []
        if group:
            yield group

    def raw_plane(self, index: Index) -> npt.NDArray[Any]:
        """Read one plane, ``(Y, X)`` or ``(Y, X, S)``, in the image's dtype.

        Raises
        ------
        ValueError
            If it holds NaN or infinite pixels.
        """
        return self._pixels(index)

    def _pixels(self, index: Index, rows: slice = slice(None), columns: slice = slice(None)) -> npt.NDArray[Any]:
        pixels = np.asarray(self.data[(*index, rows, columns)])
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            where = f" in plane {index}" if index else ""
            raise ValueError(
                f"The image holds NaN or infinite pixels{where}: replace them first, with numpy.nan_to_num for example."
            )
        return pixels

    def read(self, indices: Sequence[Index], rows: slice, columns: slice) -> PlaneImage:
        """Read a part of some planes into memory, as an image of its own with one leading axis.

        Parameters
        ----------
        indices : sequence of tuple
            Leading indices.
        rows, columns : slice

        Raises
        ------
        ValueError
            If it holds NaN or infinite pixels.
        """
        pixels = np.stack([self._pixels(index, rows, columns) for index in indices])
        return PlaneImage(pixels, "?YXS" if self.rgb else "?YX")

    def ranges(self, how: IntensityRange) -> dict[Index, tuple[float, float]]:
        """Find the intensity range of every plane.

        8-bit images always have the range 0..255 and boolean ones 0..1. For all others it is the lowest and highest
        value after a 3 × 3 median, which isolated hot pixels do not move.

        Parameters
        ----------
        how : {"image", "stack", "plane"} or (float, float)
            ``"image"``: one range for the array, but one for each channel where an axis is named C. ``"stack"``: one
            for each Z stack (or, where axes are unnamed, for each run along the last leading axis). ``"plane"``: one
            for each plane. Two numbers: that range.

        Returns
        -------
        dict
            From leading index to (low, high).

        Raises
        ------
        ValueError
            For NaN or infinite pixels.
        """
        return run(self.ranges_iter(how))

    def ranges_iter(self, how: IntensityRange) -> Steps[dict[Index, tuple[float, float]]]:
        """As `ranges`, with progress: every plane has to be read."""
        if isinstance(how, tuple):
            return dict.fromkeys(self.indices(), how)
        if self.data.dtype == np.uint8:
            return dict.fromkeys(self.indices(), (0.0, 255.0))
        if self.data.dtype == bool:
            return dict.fromkeys(self.indices(), (0.0, 1.0))
        found: dict[Index, tuple[float, float]] = {}
        total = int(np.prod(self.lead_shape, dtype=np.int64))
        for k, index in enumerate(self.indices()):
            low, high = yield from within(self._extremes_iter(index), k / total, (k + 1) / total)
            key = self._pool(index, how)
            if key in found:
                low, high = min(low, found[key][0]), max(high, found[key][1])
            found[key] = (low, high)
        # A constant image still needs a scale; the largest numbers have no neighbour at a distance of 1.
        settled = {
            key: (low, high if high > low else low + max(1.0, abs(low) * 1e-6)) for key, (low, high) in found.items()
        }
        return {index: settled[self._pool(index, how)] for index in self.indices()}

    def _extremes_iter(self, index: Index) -> Steps[tuple[float, float]]:
        """Return the lowest and highest value of a plane, isolated pixels aside; read in bands of rows."""
        height, width = self.plane_shape
        step = max(_BAND_ROWS, _BAND_PIXELS // width // _BAND_ROWS * _BAND_ROWS)
        lows, highs = [], []
        last: npt.NDArray[Any] | None = None  # two rows: those whose neighbours were not read yet, and one above
        for start in range(0, height, step):
            yield Progress(start / height, "finding the intensity range")
            band = self._pixels(index, slice(start, start + step))[..., : 3 if self.rgb else None]
            band = band if last is None else np.concatenate([last, band])
            smooth = _without_specks(band, median=min(height, width) >= 3)
            inner = smooth[0 if last is None else 1 : None if start + step >= height else -1]
            lows.append(float(inner.min()))
            highs.append(float(inner.max()))
            last = band[-2:].copy()
        return min(lows), max(highs)

    def _pool(self, index: Index, how: Pooling) -> Index:
        names = self.lead_axes
        if how == "plane":
            return index
        if how == "image":
            return tuple(i for i, letter in zip(index, names, strict=True) if letter == "C")
        if "Z" in names:
            return tuple(i for i, letter in zip(index, names, strict=True) if letter != "Z")
        return index[:-1] if names.endswith("?") else index  # without a Z axis, every plane is a stack of one

    def planes(self, indices: list[Index], ranges: dict[Index, tuple[float, float]]) -> FloatArray:
        """Read planes as float32.

        Parameters
        ----------
        indices : list of tuple
            Leading indices.
        ranges : dict
            From `ranges`; maps to 0..1. Values outside stay outside.

        Returns
        -------
        (N, Y, X, S) float32
        """
        out = np.empty((len(indices), *self.plane_shape, self.samples), np.float32)
        for i, index in enumerate(indices):
            low, high = ranges[index]
            plane = self.raw_plane(index)
            plane = plane[..., :3] if self.rgb else plane[..., None]
            np.subtract(plane, low, out=out[i], casting="unsafe", dtype=_wide(plane.dtype))
            out[i] /= high - low
        return out

    def restore(
        self, planes: FloatArray, indices: list[Index], ranges: dict[Index, tuple[float, float]]
    ) -> npt.NDArray[Any]:
        """Turn processed planes back into the image's dtype and samples; the opposite of `planes`.

        Parameters
        ----------
        planes : (N, Y, X, S) float32
        indices, ranges
            As they were given to `planes`.

        Returns
        -------
        (N, Y, X) or (N, Y, X, S) array in the image's dtype; integers are rounded and clipped to it. The planes may
        have been enlarged by a whole number.
        """
        dtype = self.data.dtype
        samples = self.data.shape[len(self.lead_axes) + 2 :]
        out = np.empty((*planes.shape[:3], *samples), dtype)
        for i, index in enumerate(indices):
            low, high = ranges[index]
            values = planes[i].astype(_wide(dtype))
            values *= high - low
            values += low
            colour = from_float(values, dtype)
            if self.rgb:
                out[i, ..., :3] = colour
                if out.shape[-1] == 4:
                    alpha = self.raw_plane(index)[..., 3]
                    factor = planes.shape[1] // alpha.shape[0]
                    out[i, ..., 3] = alpha.repeat(factor, axis=0).repeat(factor, axis=1)
            else:
                out[i] = colour[..., 0]
        return out

    def unwrap(self, data: Any) -> Any:
        """Put an array in canonical order back into the order of the axes that were given."""
        return data.transpose(self.unwrapped_order(self.axes))

    @classmethod
    def unwrapped_order(cls, axes: str) -> tuple[int, ...]:
        """Return where each of an image's axes is in canonical order."""
        return tuple(np.argsort(cls._order(axes)).tolist())


def _wide(dtype: npt.DTypeLike) -> type[np.floating[Any]]:
    """Return the float type in which values of ``dtype`` survive a change of scale unharmed."""
    dtype = np.dtype(dtype)
    return np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64


def from_float(values: npt.NDArray[np.floating[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Convert floats to ``dtype``: integers are rounded and clipped to its limits, booleans cut at one half."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.asarray(values >= 0.5)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        top = float(limits.max)
        if top > limits.max:  # the largest 64-bit integers have no float of their own
            top = float(np.nextafter(top, 0))
        return np.asarray(np.clip(np.rint(values), float(limits.min), top).astype(dtype))
    return np.asarray(values.astype(dtype))


def _without_specks(band: npt.NDArray[Any], median: bool) -> npt.NDArray[Any]:
    """Return the 3 × 3 median, which isolated pixels do not move."""
    from .opencv import cv2

    if band.dtype.itemsize > 4 and np.abs(band).max() > np.finfo(np.float32).max:
        raise ValueError("The image holds values beyond ±3.4e38: rescale it first.")
    if not median:
        return band
    small = band.dtype in (np.uint16, np.int16, np.float32)
    smooth: npt.NDArray[Any] = cv2.medianBlur(np.ascontiguousarray(band if small else band.astype(np.float32)), 3)
    return smooth
