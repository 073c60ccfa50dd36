"""Where the samples of an image are: the options ``--points``, ``--labels`` and ``--crop-size``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.files import LARGE, ImageFile, read_image
from ..core.images import PlaneImage

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier
    from ..core.classify.fields import Sizes

Points = Annotated[
    Path | None,
    typer.Option(
        help="CSV of positions in pixels, columns y and x (and t, c, z where the image has them); with a column image, "
        "each image has its rows."
    ),
]
Labels = Annotated[Path | None, typer.Option(help="Label image of the same size: its objects are classified.")]
CropSize = Annotated[int | None, typer.Option(min=1, help="Side of the crops; default: as in training.")]


@dataclass(frozen=True)
class Samples:
    """An image, and where its samples are.

    Attributes
    ----------
    file : ImageFile
    centres : (N, D) array, or None for whole planes
    ids : (N,) array of the numbers of label objects, or None
    groups : (N,) array of str, or None
    crop_size : int, (N,) array of the sides of crops in pixels, or None for those of the training
    pixel_size : float or None
        In µm.
    note : str
        What is to be said of the pixel size and of the objects, or empty.
    """

    file: ImageFile
    centres: Any
    ids: Any
    groups: Any
    crop_size: Sizes | None
    pixel_size: float | None
    note: str


@dataclass(frozen=True)
class PointTable:
    """A table of positions, as one image uses it.

    Attributes
    ----------
    path : Path
    names : tuple of str, or None
        What its column ``image`` calls the image; None if it has no such column, and every row is meant.
    """

    path: Path
    names: tuple[str, ...] | None = None


def check_marks(points: Path | None, labels: Path | None, crop_size: int | None) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    ValueError
    """
    if points is not None and labels is not None:
        raise ValueError("--points and --labels exclude each other: give one of them.")
    if crop_size is not None and points is None and labels is None:
        raise ValueError("--crop-size goes with --points or --labels: without them, whole images are the samples.")


def point_tables(points: Path | None, images: Sequence[Path]) -> dict[Path, PointTable]:
    """Find the rows of each image in the table of ``--points``, if there is one.

    Raises
    ------
    ValueError
        If the table cannot be read, or may mean several of the images by one name.
    """
    if points is None:
        return {}
    from ..core.classify.datasets import read_table
    from ..core.classify.marked import names_of

    table = read_table(points, [])
    if "image" not in table.columns:
        return dict.fromkeys(images, PointTable(points))
    named = names_of(table["image"], images)
    return {path: PointTable(points, names) for path, names in zip(images, named, strict=True)}


def read_samples(
    path: Path,
    classifier: Classifier,
    axes: str | None = None,
    points: PointTable | None = None,
    labels: Path | None = None,
    crop_size: int | None = None,
) -> Samples:
    """Read an image, and where the samples of a classifier are.

    Parameters
    ----------
    path : Path
    classifier : Classifier
    points : PointTable, optional
    axes, labels, crop_size
        From the options of these names.

    Raises
    ------
    ValueError
        If a file cannot be read, a table lacks a column or rows for the image, or the label image has another size.
    """
    from ..core.classify.fields import field_of, pixel_size_of

    file = read_with_axes(path, axes)
    where = _read_positions(file, points, labels)
    pixel_size = pixel_size_of(file)
    field = field_of(classifier.training, classifier.crop_size)
    size: Sizes | None = crop_size
    if size is None and field.unit == "object" and where.sides is not None:
        size = field.pixels(sides=where.sides)
    note = field.note(pixel_size, where.sides is not None) if where.centres is not None and crop_size is None else ""
    note = " ".join(text for text in (note, where.note) if text)
    note = f"{path.name}: {note}" if note else ""
    return Samples(file, where.centres, where.ids, where.groups, size, pixel_size, note)


def read_with_axes(path: Path, axes: str | None) -> ImageFile:
    """Read an image; the axes that were given take the place of the file's."""
    file = read_image(path, lazy_above=LARGE)
    return replace(file, axes=axes.upper()) if axes else file


@dataclass(frozen=True)
class _Positions:
    """Where the samples of an image are.

    Attributes
    ----------
    centres : (N, D) array, or None for whole planes
    ids : (N,) array of the numbers of label objects, or None
    sides : (N,) array of the objects' sizes in pixels, or None
    groups : (N,) array of str, or None
    note : str
        What is to be said of objects in several planes, or empty.
    """

    centres: Any = None
    ids: Any = None
    sides: Any = None
    groups: Any = None
    note: str = ""


def _read_positions(file: ImageFile, points: PointTable | None, labels: Path | None) -> _Positions:
    """Read where the samples are.

    Raises
    ------
    ValueError
        If the table cannot be read or lacks a column or rows, or the label image has another size.
    """
    source = PlaneImage.wrap(file.data, file.axes)
    if points is not None:
        from ..core.classify.datasets import read_table
        from ..core.classify.marked import check_rows

        wanted = [*source.lead_names, "y", "x"]
        if points.names is None:
            table = read_table(points.path, wanted)
        else:
            table = read_table(points.path, ["image", *wanted])
            table = table[table["image"].isin(points.names)]
            check_rows(table, file.path)
        groups = table["group"].to_numpy(str) if "group" in table.columns else None
        try:
            return _Positions(table[wanted].to_numpy(float), groups=groups)
        except ValueError as error:
            raise ValueError(f"{points.path}: positions must be numbers ({error}).") from None
    if labels is not None:
        from ..core.classify.objects import measure_objects

        image = read_image(labels, lazy_above=LARGE).data
        expected = (*source.lead_shape, *source.plane_shape)
        if image.shape != expected:
            raise ValueError(f"{labels} has shape {image.shape}, but the image {expected}: they must be equal.")
        objects = measure_objects(image, f"{source.lead_axes}YX")
        return _Positions(objects.centres, objects.numbers, objects.sides, note=objects.note)
    return _Positions()
