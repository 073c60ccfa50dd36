"""Saving everything that a workflow found, in one folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import result_figure, save
from .files import ImageFile, write_like
from .images import resolve_axes
from .whole import all_or_none, write_whole

if TYPE_CHECKING:
    from .class_maps import ClassMap
    from .ome_zarr.reading import OmeZarr
    from .recipe import Processed
    from .workflow import Classified


def possible_paths(folder: Path, stem: str) -> dict[str, Path]:
    """Name the files that `save_result` may write."""
    names = {"image": "processed.tif", "table": "classes.csv", "figure": "figure.png", "record": "record.json"}
    names |= {"mask": "mask.tif", "heat": "heat.tif", "contours": "critical_area.csv"}
    return {key: folder / f"{stem}_{name}" for key, name in names.items()}


def result_paths(folder: Path, stem: str, result: Classified) -> dict[str, Path]:
    """Name the files that `save_result` writes."""
    paths = possible_paths(folder, stem)
    left_out = {"mask"} if result.mask is None else set()
    left_out |= {"heat", "contours"} if result.heat is None else set()
    return {key: path for key, path in paths.items() if key not in left_out}


def check_absent(paths: list[Path], overwrite: bool) -> None:
    """Refuse to replace files.

    Raises
    ------
    FileExistsError
        If one of them exists and ``overwrite`` is off.
    """
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists already: choose another folder, or move it away.")


def save_result(
    folder: str | Path,
    stem: str,
    source: ImageFile,
    result: Classified,
    classes: tuple[str, ...],
    *,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write the processed image, mask, heat map, tables, figure and record.

    Parameters
    ----------
    folder : str or Path
        Made if it does not exist.
    stem : str
        The names of all files begin with it.
    source : ImageFile
        The image that was classified; its axes and pixel size go into the files.
    result : Classified
    classes : tuple of str
    overwrite : bool

    Returns
    -------
    dict
        From kind to path.

    Raises
    ------
    FileExistsError
        If one of the files exists and ``overwrite`` is off; then none is written.
    """
    folder = Path(folder)
    paths = result_paths(folder, stem, result)
    check_absent(list(paths.values()), overwrite)
    with all_or_none(paths.values()):
        _write_result(paths, source, result, classes)
    return paths


def _write_result(paths: dict[str, Path], source: ImageFile, result: Classified, classes: tuple[str, ...]) -> None:
    axes = resolve_axes(source.data.shape, source.axes)
    gray = axes.replace("S", "")
    _write_common(paths, source, result.image, result.mask, result.record)
    if result.heat is not None:
        write_like(paths["heat"], result.heat, source, gray)
        contours = contour_table(result)
        write_whole(paths["contours"], lambda p: contours.to_csv(p, index=False))
    write_whole(paths["table"], lambda p: result.table.to_csv(p, index=False))
    save(result_figure(source.data, axes, False, result, classes), paths["figure"])


def save_processed(
    folder: str | Path,
    stem: str,
    source: ImageFile,
    processed: Processed,
    record: dict[str, Any],
    *,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write what a recipe made of an image, its mask and the record; see `save_result`."""
    names = {"image": "processed.tif", "record": "record.json"}
    if processed.mask is not None:
        names["mask"] = "mask.tif"
    paths = {key: Path(folder) / f"{stem}_{name}" for key, name in names.items()}
    check_absent(list(paths.values()), overwrite)
    with all_or_none(paths.values()):
        _write_common(paths, source, processed.image, processed.mask, record)
    return paths


def _write_common(paths: dict[str, Path], source: ImageFile, image: Any, mask: Any, record: dict[str, Any]) -> None:
    write_like(paths["image"], image, source)
    if "mask" in paths:
        write_like(paths["mask"], mask, source, source.axes.replace("S", ""))
    _write_record(paths["record"], record)


def _write_record(path: Path, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


def contour_table(result: Classified) -> Any:
    """List the contours' vertices: sample, contour, then the position of the vertex in pixels."""
    import pandas as pd

    names = list(result.table.columns[: result.table.columns.get_loc("class")])
    frames = []
    for k, (row, contour) in enumerate(result.contours):
        frame = pd.DataFrame(contour, columns=names)
        frame.insert(0, "contour", k)
        frame.insert(0, "sample", row)
        frames.append(frame)
    return pd.concat(frames) if frames else pd.DataFrame(columns=["sample", "contour", *names])


def class_map_paths(folder: Path, stem: str) -> dict[str, Path]:
    """Name the files that `save_class_map` writes."""
    names = {"classes": "class_map.tif", "probabilities": "probabilities.tif", "table": "tiles.csv"}
    return {key: folder / f"{stem}_{name}" for key, name in {**names, "record": "record.json"}.items()}


def save_class_map(
    folder: str | Path, stem: str, source: ImageFile, found: ClassMap, *, overwrite: bool = False
) -> dict[str, Path]:
    """Write a class map, the probabilities, the part of the tiles of each class, and the record.

    Parameters
    ----------
    folder, stem, source
        As for `save_result`.
    found : ClassMap
    overwrite : bool

    Returns
    -------
    dict
        From kind to path.

    Raises
    ------
    FileExistsError
        If one of the files exists and ``overwrite`` is off; then none is written.
    """
    import pandas as pd

    folder = Path(folder)
    paths = class_map_paths(folder, stem)
    check_absent(list(paths.values()), overwrite)
    gray = "".join(a for a in resolve_axes(source.data.shape, source.axes) if a not in "YXS") + "YX"
    coarse = _coarser(source, found.stride)
    parts = found.fractions()
    table = pd.DataFrame({"value": range(1, len(parts) + 1), "class": list(parts), "fraction": list(parts.values())})
    with all_or_none(paths.values()):
        write_like(paths["classes"], np.asarray(found.labels), coarse, gray)
        channels = "?" if "C" in gray else "C"
        write_like(paths["probabilities"], np.asarray(found.probabilities), coarse, channels + gray)
        write_whole(paths["table"], lambda p: table.to_csv(p, index=False))
        _write_record(paths["record"], found.record)
    return paths


def _coarser(source: ImageFile, factor: int) -> ImageFile:
    """Return what a file says of its pixels, for pixels that are so many times as large."""
    metadata = dict(source.metadata)
    if "ome" in metadata:
        sizes = dict(metadata["ome"])
        sizes |= {key: sizes[key] * factor for key in ("PhysicalSizeX", "PhysicalSizeY") if key in sizes}
        metadata["ome"] = sizes
    if "ome_zarr" in metadata:
        store: OmeZarr = metadata["ome_zarr"]
        coarse = tuple(axis.finer(1 / factor) if axis.letter in "YX" else axis for axis in store.axes)
        metadata["ome_zarr"] = replace(store, level_axes=(coarse, *store.level_axes[1:]))
    resolution = None
    if source.resolution is not None:
        y, x = source.resolution
        resolution = (y / factor, x / factor)
    return ImageFile(np.empty(0), "X", source.path, resolution, source.unit, metadata)
