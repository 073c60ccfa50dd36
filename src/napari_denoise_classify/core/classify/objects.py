"""The objects of a label image, and the classes that were painted, clicked or listed for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from ..images import Index, PlaneImage

_PART = 2048  # side, in pixels, of the parts of a lazy label image that are read at a time, about


@dataclass(frozen=True, eq=False)
class Objects:
    """Where the objects of a label image are.

    Attributes
    ----------
    ids : (N,) array of int
        Ascending: their numbers in the label image; or 1 to N where objects of several times or channels have one
        number.
    centres : (N, D) array
        Leading indices, then the centroid (Y, X), in pixels.
    sides : (N,) array
        Side of the smallest square around the centroid that holds the object, in pixels.
    numbers : (N,) array of int
        Their numbers in the label image.
    separate : tuple of int
        The leading axes along which objects are others, though they have one number: times and channels.
    spread : int
        How many objects lie in several planes along an axis without a name, which may be times.
    """

    ids: npt.NDArray[np.intp]
    centres: npt.NDArray[np.float64]
    sides: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    separate: tuple[int, ...] = ()
    spread: int = 0

    def __post_init__(self) -> None:
        if len(self.numbers) != len(self.ids):
            object.__setattr__(self, "numbers", self.ids)

    @property
    def note(self) -> str:
        """What is to be said of objects in several planes, in a sentence; empty if there are none."""
        if not self.spread:
            return ""
        return (
            f"{self.spread} objects lie in several planes and count once, where they are largest: if these planes are "
            "times, name their axis t, or give objects of other times other numbers."
        )

    def rows(self, ids: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Return where objects stand in these arrays.

        Raises
        ------
        ValueError
            If there is no such object.
        """
        wanted = np.asarray(ids)
        found = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        missing = wanted[self.ids[found] != wanted]
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {len(wanted)} objects are not in the label image; the first is {missing[0]}."
            )
        return found

    def renumbered(self, labels: Any, axes: str | None = None) -> Any:
        """Return the label image with each object's ``ids`` in place of its number, which others may have, too.

        Parameters
        ----------
        labels, axes
            As for `measure_objects`; or another level of the pyramid. Of a lazy image the result is lazy.
        """
        if self.numbers is self.ids:
            return labels
        source = PlaneImage.wrap(labels, axes)
        places = np.rint(self.centres[:, list(self.separate)]).astype(int)

        def plane(part: npt.NDArray[Any], place: Any) -> npt.NDArray[np.int32]:
            here = np.flatnonzero((places == place).all(axis=1))
            known = np.append(self.numbers[here], 0)  # ascending, but for what stands for none
            rows = np.searchsorted(known[:-1], part)
            found = (part > 0) & (known[rows] == part)
            return np.where(found, np.append(self.ids[here], 0)[rows], 0).astype(np.int32)

        if source.lazy:
            data = source.data.rechunk(dict.fromkeys(self.separate, 1))

            def block(part: npt.NDArray[Any], block_info: Any = None) -> npt.NDArray[np.int32]:
                return plane(part, [block_info[0]["array-location"][axis][0] for axis in self.separate])

            return source.unwrap(data.map_blocks(block, dtype=np.int32, meta=np.empty((0,) * data.ndim, np.int32)))
        out = np.empty(source.data.shape, np.int32)
        for index in source.indices():
            out[index] = plane(source.raw_plane(index), [index[axis] for axis in self.separate])
        return source.unwrap(out)


def measure_objects(labels: Any, axes: str | None = None) -> Objects:
    """Find the objects of a label image.

    An object that spans several planes is taken in the plane where it is largest. Objects of several times or channels
    are others, even if they have one number.

    Parameters
    ----------
    labels : (…, Y, X) array of int
        0 is background. A lazy one is read part by part.
    axes : str, optional
        As ``"TZYX"``; where they are not given, no plane is of another time.

    Returns
    -------
    Objects

    Raises
    ------
    ValueError
        If there are no objects, or the numbers are not whole.
    """
    source = PlaneImage.wrap(labels, axes)
    if source.data.dtype.kind not in "ui":
        raise ValueError(f"A label image holds whole numbers, one for each object; this one is {source.data.dtype}.")
    parts = [np.empty((0, 4 + len(source.lead_shape)))]
    ids = [np.empty(0, np.intp)]
    for index in source.indices():
        found, measured = _measure_plane(source, index)
        ids.append(found)
        lead = np.tile(np.array(index, float), (len(found), 1))
        parts.append(np.hstack([measured[:, :1], lead, measured[:, 1:]]))
    numbers, rows = np.concatenate(ids), np.concatenate(parts)
    if len(numbers) == 0:
        raise ValueError("The label image holds no objects: choose another, or label the cells first.")
    separate = tuple(k for k, letter in enumerate(source.lead_axes) if letter in "TC")
    unnamed = [k for k, letter in enumerate(source.lead_axes) if letter == "?"]
    keys = np.column_stack([rows[:, [1 + k for k in separate]].astype(np.intp), numbers])
    spread = 0
    if unnamed:
        places = np.unique(np.column_stack([keys, rows[:, [1 + k for k in unnamed]].astype(np.intp)]), axis=0)
        counts = np.unique(places[:, : keys.shape[1]], axis=0, return_counts=True)[1]
        spread = int((counts > 1).sum())
    # Of each object the plane with the largest area; of equal ones the first.
    largest = np.argsort(-rows[:, 0], kind="stable")
    keys, first = np.unique(keys[largest], axis=0, return_index=True)
    numbers, rows = keys[:, -1], rows[largest][first]
    if len(np.unique(numbers)) < len(numbers):
        apart = np.arange(1, len(numbers) + 1, dtype=np.intp)
        return Objects(apart, rows[:, 1:-1], rows[:, -1], numbers, separate, spread)
    order = np.argsort(numbers)
    return Objects(numbers[order], rows[order, 1:-1], rows[order, -1], spread=spread)


def _parts(source: PlaneImage) -> Iterator[tuple[slice, slice]]:
    """Cut a plane into what is read at a time: all of it, or whole chunks of a lazy one."""
    if not source.lazy:
        yield slice(0, source.plane_shape[0]), slice(0, source.plane_shape[1])
        return
    n_lead = len(source.lead_shape)
    edges = []
    for lengths in source.data.chunks[n_lead : n_lead + 2]:
        step = max(lengths) * max(1, _PART // max(lengths))
        edges.append([slice(start, min(start + step, sum(lengths))) for start in range(0, sum(lengths), step)])
    yield from product(*edges)


def _measure_plane(source: PlaneImage, index: Index) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the numbers of one plane's objects, and area, centroid (Y, X) and side of each."""
    ids, rows = [], []
    for part in _parts(source):
        plane = source.read([index], *part).data[0] if source.lazy else source.raw_plane(index)
        found, extents = _measure_part(plane, part[0].start, part[1].start)
        ids.append(found)
        rows.append(extents)
    numbers, which = np.unique(np.concatenate(ids), return_inverse=True)
    parts = np.concatenate(rows)
    area, *sums = (np.bincount(which, column, len(numbers)) for column in parts[:, :3].T)
    ends = np.full((len(numbers), 4), -np.inf)
    np.maximum.at(ends, which, parts[:, 3:])
    columns: list[npt.NDArray[Any]] = [area]
    reach = np.zeros(len(numbers))
    for k, total in enumerate(sums):
        centre = total / area
        columns.append(centre)
        reach = np.maximum(reach, np.maximum(centre + ends[:, 2 * k], ends[:, 2 * k + 1] - centre))
    return numbers, np.stack([*columns, 2 * reach + 1], axis=1)


def _measure_part(plane: npt.NDArray[Any], top: int, left: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Measure the objects of a part of a plane: one sort for all.

    Returns
    -------
    ids : (N,) array of int
    extents : (N, 7) array
        Area, the sums of Y and X, then for each of them what is to be as large as can be: minus the lowest, the
        highest.
    """
    flat = plane.ravel()
    pixels = np.flatnonzero(flat > 0)
    values = flat[pixels]
    order = np.argsort(values, kind="stable")
    pixels, values = pixels[order], values[order]
    starts = np.flatnonzero(np.diff(values, prepend=0))
    if len(starts) == 0:
        return np.empty(0, np.intp), np.empty((0, 7))
    area = np.diff(starts, append=len(values))
    sums, ends = [], []
    for coordinate, first in zip(np.divmod(pixels, plane.shape[1]), (top, left), strict=True):
        sums.append(np.add.reduceat(coordinate, starts) + first * area)
        ends += [-np.minimum.reduceat(coordinate, starts) - first, np.maximum.reduceat(coordinate, starts) + first]
    return values[starts].astype(np.intp), np.stack([area, *sums, *ends], axis=1).astype(float)


@dataclass(frozen=True, eq=False)
class Marks:
    """The classes of some objects.

    Attributes
    ----------
    ids : (N,) array of int
        Numbers of the objects that have a class.
    classes : (N,) array of str
    outside : int
        How many marks lie in no object.
    tied : int
        How many objects are left out because two classes were marked in them equally often.
    """

    ids: npt.NDArray[np.intp]
    classes: npt.NDArray[np.str_]
    outside: int = 0
    tied: int = 0

    @property
    def note(self) -> str:
        """What was left out, in a sentence; empty if nothing was."""
        parts = []
        if self.outside:
            parts.append(f"{self.outside} points lie in no object and were ignored.")
        if self.tied:
            parts.append(f"{self.tied} objects with two classes marked equally often were left out.")
        return " ".join(parts)


def painted_classes(labels: Any, painted: Any, names: Mapping[int, str]) -> Marks:
    """Give each object the class that most of its painted pixels have.

    Parameters
    ----------
    labels : (…, Y, X) array of int
        The objects.
    painted : array of int, of the same shape
        The number of a class where one is painted, else 0.
    names : mapping
        From painted number to the name of its class; numbers without a name are no class.

    Returns
    -------
    Marks

    Raises
    ------
    ValueError
        If the shapes differ, or no object has a class.
    """
    labels, painted = np.asarray(labels), np.asarray(painted)
    if labels.shape != painted.shape:
        raise ValueError(f"The objects have shape {labels.shape} and the painted classes {painted.shape}: not equal.")
    here = (painted > 0) & (labels > 0)
    numbers = painted[here]
    known = np.array(sorted(n for n, name in names.items() if n > 0 and str(name).strip()), dtype=np.int64)
    named = np.isin(numbers, known)
    classes = np.array([str(names[n]).strip() for n in known.tolist()], dtype=np.str_)
    marks = _vote(labels[here][named], np.searchsorted(known, numbers[named]), classes)
    if len(marks.ids) == 0:
        raise ValueError("No object has a class: paint over some objects of each class, and name the painted numbers.")
    return marks


def clicked_classes(labels: Any, positions: npt.ArrayLike, classes: npt.ArrayLike) -> Marks:
    """Give each object the class of the points that lie in it.

    Parameters
    ----------
    labels : (…, Y, X) array of int
    positions : (N, D) array
        In pixels of the label image.
    classes : (N,) array of str

    Returns
    -------
    Marks

    Raises
    ------
    ValueError
        If no point lies in an object, or they have another number of coordinates or classes.
    """
    labels = np.asarray(labels)
    where = np.asarray(positions, float)
    if where.size and (where.shape[1:] != (labels.ndim,) or len(where) != np.size(classes)):
        raise ValueError(
            f"Points need {labels.ndim} coordinates and a class each: these have shape {where.shape}, and there are "
            f"{np.size(classes)} classes."
        )
    where = where.reshape(-1, labels.ndim)
    rounded = np.rint(np.where(np.isfinite(where), where, -1)).astype(int)
    inside = ((rounded >= 0) & (rounded < labels.shape)).all(axis=1)
    found = np.zeros(len(where), labels.dtype)
    found[inside] = labels[tuple(rounded[inside].T)]
    hit = found > 0
    names, codes = np.unique(np.asarray(classes, dtype=np.str_), return_inverse=True)
    if not hit.any():
        raise ValueError(f"None of the {len(where)} points lies in an object: click into the objects.")
    marks = _vote(found[hit], codes.ravel()[hit], names)
    return Marks(marks.ids, marks.classes, int((~hit).sum()), marks.tied)


def _vote(objects: npt.NDArray[Any], codes: npt.NDArray[np.intp], names: npt.NDArray[np.str_]) -> Marks:
    """Let marks vote: for each object the class with the most marks."""
    ids, rows = np.unique(objects, return_inverse=True)
    counts = np.bincount(rows.ravel() * len(names) + codes, minlength=len(ids) * len(names))
    counts = counts.reshape(len(ids), max(1, len(names)))
    tied = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1 if len(ids) else np.zeros(0, bool)
    winners = names[counts.argmax(axis=1)] if len(ids) else np.empty(0, np.str_)
    return Marks(ids[~tied].astype(np.intp), winners[~tied], 0, int(tied.sum()))


def listed_classes(ids: npt.ArrayLike, classes: npt.ArrayLike) -> Marks:
    """Take the classes from a list; objects whose class is empty have none.

    Parameters
    ----------
    ids : (N,) array of int
        The numbers of the objects.
    classes : (N,) array of str
        Empty, None or NaN is no class.

    Returns
    -------
    Marks

    Raises
    ------
    ValueError
        If an object stands in it twice, a number is not whole, or no object has a class.
    """
    names = ["" if name is None or name != name else str(name).strip() for name in np.asarray(classes, object)]
    kept = np.array([name.lower() not in ("", "nan", "<na>") for name in names], bool)
    try:
        exact = np.asarray(ids, float)[kept]
    except ValueError:
        raise ValueError("The objects' numbers must be whole numbers.") from None
    numbers = exact.astype(np.intp)
    if not np.isfinite(exact).all() or (numbers != exact).any():
        raise ValueError("The objects' numbers must be whole numbers.")
    if len(numbers) == 0:
        raise ValueError("No object has a class: fill in the class of some objects.")
    unique, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"Object {unique[counts > 1][0]} has its class listed twice.")
    order = np.argsort(numbers)
    return Marks(numbers[order], np.array(names, dtype=np.str_)[kept][order])
