"""From image files with marked points or objects to labelled crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..files import LARGE, ImageFile, read_image
from ..images import PlaneImage
from .datasets import Crops, read_table
from .fields import CropField, Unit, pixel_size_of
from .objects import Objects, listed_classes, measure_objects
from .sampling import crops_from_objects, crops_from_points, default_size, join_crops


def load_marked(
    images: Sequence[Path],
    *,
    points: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    classes: Sequence[Path] = (),
    size: float | None = None,
    unit: Unit = "px",
    axes: str | None = None,
    group: str | None = None,
) -> Crops:
    """Cut labelled crops out of image files.

    Parameters
    ----------
    images : sequence of Path
    points : sequence of Path
        CSV or TSV for each image, or one for all with a column ``image`` (a path or the end of one, such as the
        file's name, with or without its ending):
        positions in pixels ``y``, ``x`` (and ``t``, ``c``, ``z`` where the images have them) and ``class``.
    labels, classes : sequence of Path
        Instead of points: a label image for each image, and tables with the columns ``label`` and ``class``, for each
        image or one for all as above.
    size, unit
        Of the crops, see `CropField`; default: 32 px, and for objects a margin of a fifth.
    axes : str, optional
        Of the images, where their files do not say.
    group : str, optional
        Column with the patient, slide or field; default: ``group``, if there is such a column, or else the name of the
        image where there are several.

    Returns
    -------
    Crops

    Raises
    ------
    ValueError
        If files, columns or values are missing or do not belong together.
    """
    if bool(points) == bool(labels) or bool(labels) != bool(classes):
        raise ValueError("Give each --image either --points, or --labels and --classes.")
    if labels and len(labels) != len(images):
        raise ValueError(f"There are {len(images)} images, but {len(labels)} label images: give one for each.")
    wanted = ["label", "class"] if labels else ["y", "x", "class"]
    tables = _tables(images, list(classes or points), wanted)
    defaults: list[str | None] = [None]
    if len(images) > 1:
        stems = [path.stem for path in images]
        defaults = [stem if stems.count(stem) == 1 else str(path) for path, stem in zip(images, stems, strict=True)]
    parts = []
    for k, path in enumerate(images):
        table = tables[k]
        check_rows(table, path)
        file = read_image(path, lazy_above=LARGE)
        if axes:
            file = replace(file, axes=axes.upper())
        source = PlaneImage.wrap(file.data, file.axes)
        if size is None and unit != "object":
            size = default_size(source)
        field = CropField(0.2 if size is None else size, unit, pixel_size_of(file))
        groups = _groups(table, group, defaults[k])
        if labels:
            parts.append(_of_objects(source, file, labels[k], table, groups, field))
        else:
            parts.append(_of_points(source, file, table, groups, field))
    return join_crops(parts)


def _tables(images: Sequence[Path], paths: list[Path], wanted: list[str]) -> list[Any]:
    """Return a table for each image."""
    if len(paths) == len(images) and (len(paths) > 1 or "image" not in read_table(paths[0], wanted).columns):
        return [read_table(path, wanted) for path in paths]
    if len(paths) != 1:
        raise ValueError(f"There are {len(images)} images, but {len(paths)} tables: give one for each, or one for all.")
    table = read_table(paths[0], ["image", *wanted])
    named = names_of(table["image"], images)
    return [table[table["image"].isin(names)] for names in named]


def check_rows(table: Any, image: Path) -> None:
    """Refuse a table without rows for an image.

    Raises
    ------
    ValueError
    """
    if len(table) == 0:
        raise ValueError(f"The table has no row for {image.name}: add some, or leave that image out.")


def names_of(column: Any, images: Sequence[Path]) -> list[tuple[str, ...]]:
    """Return what the column ``image`` of a table calls each image.

    Parameters
    ----------
    column : pandas.Series
        Of paths, ends of paths, or names of files without their ending; others mean none of the images.
    images : sequence of Path

    Raises
    ------
    ValueError
        If one may mean several.
    """
    exact: dict[str, list[int]] = {}
    ends: dict[tuple[str, ...], list[int]] = {}
    for k, path in enumerate(images):
        exact.setdefault(str(path), []).append(k)
        whole = path.absolute()
        for end in {p.parts[-n:] for p in (whole, whole.with_suffix("")) for n in range(1, len(p.parts) + 1)}:
            ends.setdefault(end, []).append(k)
    named: list[list[str]] = [[] for _ in images]
    for name in column.dropna().unique():
        found = exact.get(name) or ends.get(PurePath(name).parts) or ends.get(PurePath(name.strip()).parts, [])
        if len({images[k].absolute() for k in found}) > 1:
            raise ValueError(
                f"The table means several images by {name!r}: {', '.join(str(images[k]) for k in found)}. Write more "
                "of their paths into its column image."
            )
        if found:
            named[found[0]].append(name)
    return [tuple(names) for names in named]


def _groups(table: Any, column: str | None, default: str | None) -> list[str] | None:
    if column is None and "group" not in table.columns:
        return None if default is None else [default] * len(table)
    name = column or "group"
    if name not in table.columns:
        raise ValueError(f"The table has no column {name!r}; it has {', '.join(map(str, table.columns))}.")
    if table[name].isna().any():
        raise ValueError(f"{int(table[name].isna().sum())} rows of the table have no {name}: fill it in.")
    return [str(value) for value in table[name]]


def _of_points(source: PlaneImage, file: ImageFile, table: Any, groups: list[str] | None, field: CropField) -> Crops:
    columns = [*source.lead_names, "y", "x"]
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"The table of {file.path.name} has no column {missing[0]!r}.")
    try:
        positions = table[columns].to_numpy(float)
    except ValueError as error:
        raise ValueError(f"The positions in {file.path.name} must be numbers ({error}).") from None
    return crops_from_points(
        source, positions, table["class"], crop=field, groups=groups, name=f"{file.path.stem} point"
    )


def _of_objects(
    source: PlaneImage, file: ImageFile, labels: Path, table: Any, groups: list[str] | None, field: CropField
) -> Crops:
    objects = read_image(labels, lazy_above=LARGE).data
    expected = (*source.lead_shape, *source.plane_shape)
    if objects.shape != expected:
        raise ValueError(f"{labels} has shape {objects.shape}, but {file.path.name} {expected}: they must be equal.")
    found, ids = _found(source, objects, table)
    marks = listed_classes(ids, table["class"])
    chosen = None
    if groups is not None:
        chosen = dict(zip(np.asarray(ids, float).astype(int).tolist(), groups, strict=True))
    name = f"{file.path.stem} object"
    return crops_from_objects(source, found, marks, crop=field, groups=chosen, name=name)


def _found(source: PlaneImage, labels: Any, table: Any) -> tuple[Objects, Any]:
    """Return the objects, and which of them each row of a table is about.

    Where a table tells the time and the channel, a number means the object of that time and channel.
    """
    apart = measure_objects(labels, f"{source.lead_axes}YX")
    names = [source.lead_names[axis] for axis in apart.separate]
    if not names:
        return apart, table["label"]
    if not set(names) <= set(table.columns):  # a number is one object, in the plane where it is largest
        return measure_objects(labels), table["label"]
    try:
        rows = table[[*names, "label"]].to_numpy(float)
    except ValueError as error:
        raise ValueError(f"The columns {', '.join(names)} and label must be numbers ({error}).") from None
    keys = np.column_stack([apart.centres[:, list(apart.separate)], apart.numbers])
    known = {tuple(key): number for key, number in zip(keys.tolist(), apart.ids.tolist(), strict=True)}
    missing = [row for row in rows.tolist() if tuple(row) not in known]
    if missing:
        what = ", ".join(f"{name} {value:g}" for name, value in zip([*names, "label"], missing[0], strict=True))
        raise ValueError(f"{len(missing)} of {len(rows)} objects are not in the label image; the first is {what}.")
    return apart, np.array([known[tuple(row)] for row in rows.tolist()])
