"""What a TIFF tells besides its pixels: whether it is whole, its colours, and how large its pixels are."""

from __future__ import annotations

import html
import re
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

CMYK = "it is a CMYK picture for print: save it as RGB"
_DESCRIPTION = 270  # the tag that holds the axes and sizes


def check_whole(tif: Any) -> None:
    """Refuse a file that ends early: tifffile reads what is left, the first plane of a stack for example.

    Parameters
    ----------
    tif : tifffile.TiffFile

    Raises
    ------
    ValueError
    """
    if _chain_is_broken(tif) or _lost_its_description(tif) or _lost_planes(tif):
        raise ValueError("it ends early, or is damaged: copy it again")


def _chain_is_broken(tif: Any) -> bool:
    """Say whether the last page that is there points to one beyond the end of the file."""
    if tif.is_ndpi or (tif.series[0].kind == "imagej" and len(tif.series[0].pages) == 1):
        return False  # other pointers; or one page for all planes, whose size tifffile has checked
    after = _number(tif, tif.pages.next_page_offset, tif.tiff.offsetformat)
    return after is None or after + tif.tiff.tagnosize > tif.filehandle.size


def _lost_its_description(tif: Any) -> bool:
    """Say whether the first page names a description that cannot be read; those of OME stand at the end."""
    page, kind = tif.pages.first, tif.tiff
    if _DESCRIPTION in page.tags:
        return False
    first = page.offset + kind.tagnosize
    count = _number(tif, page.offset, kind.tagnoformat) or 0
    codes = (_number(tif, first + k * kind.tagsize, f"{kind.byteorder}H") for k in range(count))
    return _DESCRIPTION in codes


def _lost_planes(tif: Any) -> bool:
    """Say whether ImageJ's description promises more planes than there are, and a part of one follows the first."""
    if not tif.is_imagej or tif.series[0].kind not in ("uniform", "generic"):
        return False
    page = tif.pages.first  # of a stack by ImageJ, it stands before the planes
    return bool(page.offset < page.dataoffsets[0] and page.dataoffsets[0] + page.nbytes < tif.filehandle.size)


def _number(tif: Any, offset: int, form: str) -> int | None:
    """Read a number; None if the file ends before it."""
    tif.filehandle.seek(offset)
    content = tif.filehandle.read(struct.calcsize(form))
    return int(struct.unpack(form, content)[0]) if len(content) == struct.calcsize(form) else None


def colours_of(tif: Any) -> npt.NDArray[Any] | None:
    """Return the colours that pixels are numbers of, (N, 3), or (N,) if all are gray; None if pixels are intensities.

    Parameters
    ----------
    tif : tifffile.TiffFile

    Raises
    ------
    ValueError
        For colours of print.
    """
    import tifffile

    page = tif.series[0].keyframe
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise ValueError(CMYK)
    # Of ImageJ's and OME's files, the colours are only how intensities are shown.
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None or tif.is_imagej or tif.is_ome:
        return None
    colours: npt.NDArray[Any] = np.asarray(page.colormap, np.uint16).T
    if page.dtype == np.uint8:
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    return colours[:, 0] if (colours == colours[:, :1]).all() else colours


def coloured(data: Any, colours: npt.NDArray[Any]) -> Any:
    """Put colours in the place of their numbers; of a dask array, when it is computed."""
    if isinstance(data, np.ndarray):
        return colours[data]
    more = colours.shape[1:]
    chunks = (*data.chunks, *((n,) for n in more))
    return data.map_blocks(
        coloured, colours, dtype=colours.dtype, chunks=chunks, new_axis=[data.ndim] if more else None
    )


def resolution_of(page: Any) -> tuple[tuple[float, float] | None, str]:
    """Read how many pixels a page has per unit along Y and X, and the unit."""
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None, ""

    def number(value: Any) -> float:
        return value[0] / value[1] if isinstance(value, tuple) and value[1] else 0.0

    y, x = number(tags["YResolution"].value), number(tags["XResolution"].value)
    unit = {2: "inch", 3: "centimeter"}.get(int(getattr(tags.get("ResolutionUnit"), "value", 1)), "")
    return ((y, x) if x > 0 and y > 0 else None), unit


def ome_sizes(xml: str) -> dict[str, Any]:
    """Read the physical sizes of an OME-XML header, and the names of channels, as tifffile writes them."""
    found: dict[str, Any] = {}
    for key in ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement"):
        match = re.search(rf'\b{key}="([^"]+)"', xml)
        unit = re.search(rf'\b{key}Unit="([^"]+)"', xml)
        if match:
            found[key] = float(match[1])
            if unit:
                found[f"{key}Unit"] = html.unescape(unit[1])
    tags = re.findall(r"<(?:\w+:)?Channel\b[^>]*", re.split(r"</(?:\w+:)?Pixels>", xml)[0])
    named = [re.search(r'\bName="([^"]*)"', tag) for tag in tags]
    if any(named):
        found["Channel"] = {"Name": [html.unescape(name[1]) if name else "" for name in named]}
    return found
