"""Labelled crops: from a folder per class, a table, or an image with marked positions."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import IMAGE_SUFFIXES, read_image, user_path
from .copies import copies_note
from .fields import CropField
from .neighbours import Places
from .splits import holdout

Image = npt.NDArray[Any]
TABLES = (".csv", ".tsv")
_FILES = ("path", "image")  # columns of file names, in which blanks mean something


@dataclass(frozen=True, eq=False)
class Crops:
    """Labelled images.

    Attributes
    ----------
    images : list of array
        Each (Y, X) or (Y, X, 3), all gray or all RGB, of one dtype; sizes may differ.
    labels : (N,) array of str
        The class of each.
    groups : (N,) array of str, or None
        Patient, slide or field of each; splits keep a group together.
    names : list of str
        Where each came from.
    field : CropField or None
        How much of an image each shows, where they were cut from images.
    places : Places or None
        Where each was cut: what a classifier that looks at neighbours needs.
    """

    images: list[Image]
    labels: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_] | None
    names: list[str]
    field: CropField | None = None
    places: Places | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "groups", "names", "places"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.images):
                raise ValueError(f"There are {len(self.images)} images but {len(values)} {name}: give one for each.")
        object.__setattr__(self, "images", [native(image) for image in self.images])
        check_images(self.images, self.names)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        groups = "no groups" if self.groups is None else f"{len(np.unique(self.groups))} groups"
        return f"<Crops: {len(self)} images, {counts}, {groups}>"

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples of each class."""
        names, counts = np.unique(self.labels, return_counts=True)
        return {str(n): int(c) for n, c in zip(names, counts, strict=True)}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(self.counts)

    def subset(self, indices: npt.ArrayLike) -> Crops:
        """Return some of the samples.

        Parameters
        ----------
        indices : (M,) array of int or bool
        """
        chosen = np.arange(len(self))[np.asarray(indices)]
        return Crops(
            [self.images[i] for i in chosen],
            self.labels[chosen],
            None if self.groups is None else self.groups[chosen],
            [self.names[i] for i in chosen],
            self.field,
            None if self.places is None else self.places.subset(chosen),
        )

    def split(self, test_fraction: float = 0.25, seed: int = 0) -> tuple[Crops, Crops]:
        """Split into training and test samples; a group is never on both sides.

        Parameters
        ----------
        test_fraction : float
        seed : int

        Returns
        -------
        train, test : Crops

        Raises
        ------
        ValueError
            If a class would be missing on one side.

        Warns
        -----
        UserWarning
            If test samples have exact copies among the training samples.
        """
        train, test, note = self.split_with_note(test_fraction, seed)
        if note:
            warnings.warn(note, stacklevel=2)
        return train, test

    def split_with_note(self, test_fraction: float = 0.25, seed: int = 0) -> tuple[Crops, Crops, str]:
        """As `split`, but return the warning, or an empty text."""
        train, test = (self.subset(part) for part in holdout(self.labels, self.groups, test_fraction, seed))
        return train, test, copies_note(train.images, test.images)


def native(image: Image) -> Image:
    """Return pixels in this machine's order of bytes: uint16 is uint16, whatever file it came from."""
    return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))


def check_images(images: Sequence[Image], names: Sequence[str] | None = None) -> None:
    """Check that images are planes of one kind.

    Raises
    ------
    ValueError
        If there are none, or gray and RGB ones or dtypes are mixed, or one is not a plane or holds NaN.
    """
    if len(images) == 0:
        raise ValueError("There are no images: give at least one.")
    for i, image in enumerate(images):
        name = names[i] if names is not None else f"image {i}"
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3) or image.size == 0:
            raise ValueError(
                f"{name} has shape {image.shape}: crops must be gray (Y, X) or RGB (Y, X, 3), and not empty."
            )
        first = images[0]
        if image.ndim != first.ndim or image.dtype != first.dtype:
            raise ValueError(
                f"{name} is {_kind(image)}, but {names[0] if names is not None else 'image 0'} is {_kind(first)}: "
                "all crops must be of one kind."
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError(
                f"{name} holds NaN or infinite pixels: replace them first, with numpy.nan_to_num for example."
            )


def _kind(image: Image) -> str:
    return f"{'RGB' if image.ndim == 3 else 'gray'} {image.dtype}"


def read_crop(path: Path) -> Image:
    """Read one plane; alpha is dropped.

    Raises
    ------
    ValueError
        If the file cannot be read or holds more than a plane.
    """
    file = read_image(path)
    data: Image = np.asarray(file.data)
    # A crop may be one pixel high or wide: those axes stay.
    data = data.squeeze(tuple(i for i, letter in enumerate(file.axes) if data.shape[i] == 1 and letter not in "YXS"))
    if data.ndim == 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if file.axes.endswith("S") and data.shape[-1] == 4:
        data = data[..., :3]
    if data.ndim == 3 and data.shape[-1] != 3:
        raise ValueError(f"{path} has shape {file.data.shape}: a crop is one plane, gray or RGB.")
    return data


def load_crops(path: str | Path, group: str | None = None) -> Crops:
    """Load labelled crops.

    Parameters
    ----------
    path : str or Path
        A folder with a subfolder of images for each class; or a CSV or TSV with the columns ``path`` (relative to
        it), ``class`` and optionally one that tells the group. Where crops were cut, for classifiers that look at
        neighbours: the columns ``y`` and ``x`` in pixels, and ``image``, or else the group.
    group : str, optional
        For a table, the column with the patient, slide or field that a crop comes from; default: ``group``, if there
        is such a column. For a folder, a regular expression whose first parenthesis finds it in the file name.

    Returns
    -------
    Crops

    Raises
    ------
    ValueError
        If the folder or table is missing or lacks what it needs, or an image cannot be read.
    """
    path = user_path(path)
    if path.is_dir():
        paths, labels, groups = _list_folder(path, group)
        places = None
    elif path.suffix.lower() in TABLES and path.is_file():
        paths, labels, groups, places = _list_table(path, group)
    else:
        raise ValueError(f"{path} is neither a folder nor a .csv or .tsv table: give one of these.")
    return Crops(
        [read_crop(p) for p in paths],
        np.array(labels, dtype=np.str_),
        None if groups is None else np.array(groups, dtype=np.str_),
        [str(p) for p in paths],
        places=places,
    )


def _list_folder(folder: Path, group: str | None) -> tuple[list[Path], list[str], list[str] | None]:
    images = (p for p in folder.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)
    # Hidden ones are what other programs left: copies, or the other half of a file that a Mac wrote.
    paths = sorted(p for p in images if not p.name.startswith(".") and not p.parent.name.startswith("."))
    if not paths:
        raise ValueError(f"{folder} holds no images in subfolders: make a subfolder for each class.")
    if group is None:
        return paths, [p.parent.name for p in paths], None
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ValueError(f"group={group!r} is not a regular expression: {error}.") from None
    matches = [pattern.search(p.name) for p in paths]
    found = [m[1] for m in matches if m is not None and pattern.groups and m[1] is not None]
    if len(found) < len(paths):
        raise ValueError(
            f"group={group!r} finds no group in the names of {len(paths) - len(found)} files: give an expression with "
            "brackets around the group, such as '(patient[0-9]+)', that fits every name."
        )
    return paths, [p.parent.name for p in paths], found


def read_table(table: Path, wanted: list[str]) -> Any:
    """Read a CSV or TSV as texts, without blanks around them: they would make other classes and groups.

    Parameters
    ----------
    table : Path
    wanted : list of str
        Columns that it must have, without an empty cell.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ValueError
        If it cannot be read, lacks a column or a value, or has rows of more cells than columns.
    """
    frame = _cells(table)
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        if len(frame.columns) == 1 and ";" in frame.columns[0]:
            raise ValueError(f"{table} is separated by semicolons: save it with commas, or as .tsv with tabs.")
        raise ValueError(f"{table} has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}.")
    empty = frame[wanted].isna().to_numpy()
    if empty.any():
        row, column = (int(n) for n in np.argwhere(empty)[0])
        raise ValueError(f"{table}: row {row + 2} lacks a value in {wanted[column]}: fill it in.")
    return frame


def _cells(table: Path) -> Any:
    """Read what a table holds; of columns of one name, the first."""
    import pandas as pd

    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",", strict=True)
            header, *rows = [row for row in reader if len(row) > 1 or "".join(row).strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{table} cannot be read as a table: save it as CSV UTF-8.") from None
    except ValueError:
        raise ValueError(f"{table} cannot be read as a table: it is empty.") from None
    except (csv.Error, OSError) as error:
        raise ValueError(f"{table} cannot be read as a table: {error}.") from None
    names = [name.strip() for name in header]
    table_rows: list[list[Any]] = []
    for k, row in enumerate(rows):
        if any(cell.strip() for cell in row[len(names) :]):
            raise ValueError(
                f"{table}: row {k + 2} has {len(row)} cells, but there are {len(names)} columns: put cells with "
                "the separator in them into quotes, and write numbers with a point."
            )
        cells = (cell if name in _FILES else cell.strip() for name, cell in zip(names, row, strict=False))
        # A class may be called NA, None or null: only an empty cell is missing.
        table_rows.append([cell if cell.strip() else np.nan for cell in cells] + [np.nan] * (len(names) - len(row)))
    frame = pd.DataFrame(table_rows, columns=names, dtype=object)
    return frame.loc[:, ~frame.columns.duplicated()]


def _list_table(table: Path, group: str | None) -> tuple[list[Path], list[str], list[str] | None, Places | None]:
    frame = read_table(table, ["path", "class", *([group] if group else [])])
    column = group or ("group" if "group" in frame.columns else None)
    if column == "group":
        read_table(table, ["group"])
    paths = [table.parent / p for p in frame["path"]]
    groups = None if column is None else frame[column].str.strip().tolist()  # of image names, too
    return paths, frame["class"].tolist(), groups, _places(frame, groups)


def _places(frame: Any, groups: list[str] | None) -> Places | None:
    """Return where crops were cut, if a table tells it."""
    images = frame["image"].tolist() if "image" in frame.columns else groups
    if images is None or not {"y", "x"} <= set(frame.columns):
        return None
    try:
        return Places(np.array(images, dtype=np.str_), frame[["y", "x"]].to_numpy(float))
    except ValueError:  # columns of these names may mean anything
        return None
