"""Opens OME-Zarr folders and whole-slide images (SVS and its kind) in napari, with axes and pixel size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.files import LARGE, SLIDES, microns_per_pixel

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return a reader for a whole-slide image, or None for other files."""
    if isinstance(path, list) or Path(path).suffix.lower() not in SLIDES:
        return None
    return read_slide


def get_zarr_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return a reader for a folder that tells that it is an OME-Zarr image; None for others, which napari reads."""
    from ..core.ome_zarr.reading import is_zarr, read_ome_zarr

    if isinstance(path, list) or not is_zarr(Path(path)):
        return None
    try:
        described = read_ome_zarr(Path(path)).described
    except (ValueError, OSError, ImportError):
        return None
    return read_zarr if described else None


def read_zarr(path: str) -> list[LayerData]:
    """Read an OME-Zarr image, lazily.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of layers
        One for each channel, with the channel's name, colour and contrast where the file tells them; multiscale where
        there are several levels, and with the file's axes, scale, place and units.

    Raises
    ------
    ValueError
        If the folder cannot be read.
    """
    from ..core.ome_zarr.reading import read_ome_zarr
    from .layers import METADATA_KEY, levels_as_shown

    found = read_ome_zarr(Path(path))
    rgb = "S" in found.letters
    levels = [levels_as_shown(found.dask(i), found.letters) for i in range(len(found.levels))]
    axes = [axis for axis in found.axes if axis.letter not in "CS"]
    name = Path(path).name.removesuffix(".zarr").removesuffix(".ome")
    about: dict[str, Any] = {
        "scale": [axis.scale for axis in axes],
        "translate": [axis.translation for axis in axes],
        "units": [_unit(axis.unit) for axis in axes],
        "axis_labels": [axis.name or axis.letter.lower() for axis in axes],
        "rgb": rgb,
        "multiscale": len(levels) > 1,
    }
    if found.record:
        about["metadata"] = {METADATA_KEY: found.record}
    if "C" not in found.letters:
        return [(levels if len(levels) > 1 else levels[0], {"name": name, **about}, "image")]
    place = found.letters.index("C")
    layers = []
    channels = found.channels.get("channels", [])
    for i in range(levels[0].shape[place]):
        one = [level[(slice(None),) * place + (i,)] for level in levels]
        look = _look(channels[i], f"{name} {i}") if i < len(channels) else {"name": f"{name} {i}"}
        layers.append((one if len(one) > 1 else one[0], {**about, **look, "blending": "additive"}, "image"))
    return layers


def _unit(unit: str) -> str:
    """Return a unit that napari knows."""
    import pint

    try:
        registry: Any = pint.application_registry
        return str(registry.Unit(unit)) if unit else "pixel"
    except pint.PintError:
        return "pixel"


def _look(channel: Any, name: str) -> dict[str, Any]:
    """Turn what the file tells of a channel into options of a layer; what is not understood is left out."""
    look: dict[str, Any] = {"name": name}
    if not isinstance(channel, dict):
        return look
    if channel.get("label"):
        look["name"] = str(channel["label"])
    colour = str(channel.get("color", "")).removeprefix("#")
    if len(colour) == 6 and set(colour.lower()) <= set("0123456789abcdef"):
        look["colormap"] = f"#{colour}"
    window = channel.get("window")
    if isinstance(window, dict):
        low, high = window.get("start"), window.get("end")
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high:
            look["contrast_limits"] = (low, high)
    if channel.get("active") is False:
        look["visible"] = False
    return look


def read_slide(path: str) -> list[LayerData]:
    """Read a slide's pyramid.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of one layer
        RGB, multiscale where the slide has several levels, scaled in micrometres where it says how large a pixel is.
        Large levels stay on disk.

    Raises
    ------
    ValueError
        If the file cannot be read.
    """
    import tifffile

    from ..core.regions import as_dask, tiff_pixels
    from ..core.tiff import check_whole

    try:
        with tifffile.TiffFile(path) as tif:
            check_whole(tif)
            series = tif.series[0]
            levels = [
                as_dask(tiff_pixels(Path(path), series, i), level.axes) if level.nbytes > LARGE else level.asarray()
                for i, level in enumerate(series.levels)
            ]
            pixel = microns_per_pixel(str(series.keyframe.description))
    except Exception as error:  # the readers' errors for damaged files have no common base
        raise ValueError(f"{path}: this file cannot be read as a slide ({error}).") from error
    options: dict[str, Any] = {"name": Path(path).stem, "rgb": levels[0].shape[-1] in (3, 4)}
    if pixel:
        options |= {"scale": (pixel, pixel), "units": ("um", "um")}
    return [(levels if len(levels) > 1 else levels[0], {**options, "multiscale": len(levels) > 1}, "image")]
