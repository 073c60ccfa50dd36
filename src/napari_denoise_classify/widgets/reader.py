"""Opens whole-slide images (SVS and its kind) in napari, with their pixel size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.files import SLIDES, microns_per_pixel

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return a reader for a whole-slide image, or None for other files."""
    if isinstance(path, list) or Path(path).suffix.lower() not in SLIDES:
        return None
    return read_slide


def read_slide(path: str) -> list[LayerData]:
    """Read a slide's pyramid.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of one layer
        RGB, multiscale where the slide has several levels, scaled in micrometres where it says how large a pixel is.

    Raises
    ------
    ValueError
        If the file cannot be read.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            levels = [level.asarray() for level in series.levels]
            pixel = microns_per_pixel(str(series.keyframe.description))
    except Exception as error:  # the readers' errors for damaged files have no common base
        raise ValueError(f"{path}: this file cannot be read as a slide ({error}).") from error
    options: dict[str, Any] = {"name": Path(path).stem, "rgb": levels[0].shape[-1] in (3, 4)}
    if pixel:
        options |= {"scale": (pixel, pixel), "units": ("um", "um")}
    return [(levels if len(levels) > 1 else levels[0], {**options, "multiscale": len(levels) > 1}, "image")]
