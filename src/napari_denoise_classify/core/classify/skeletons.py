"""Skeletons cut into branches: their paths, lengths and straightness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
_SMOOTHING = 7  # pixels of path: the steps of a digital line are evened out, bends of a fibre are not
_ROUNDS = 4  # of pruning: a spur may have spurs of its own


@dataclass(frozen=True, eq=False)
class Branch:
    """A piece of skeleton between two branch points or ends.

    Attributes
    ----------
    path : (N, 2) float64
        Y, X in pixels along the branch, evened out.
    length : float
        Along the path, in pixels.
    straightness : float
        Distance of the two ends over the length: 1 is straight, 0 is closed.
    free : (bool, bool)
        Whether the first and the last end belong to this branch alone.
    """

    path: Points
    length: float
    straightness: float
    free: tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class Traced:
    """What `trace` finds.

    Attributes
    ----------
    skeleton : (Y, X) bool
        Without what was pruned.
    branches : list of Branch
    branch_points : (M, 2) float64
        Y, X; pixels with three or more neighbours that touch are one point.
    """

    skeleton: BoolArray
    branches: list[Branch]
    branch_points: Points


def thinned(mask: BoolArray) -> BoolArray:
    """Thin a mask to lines one pixel wide (Guo and Hall, CACM 32 (1989)); scikit-image's default eats diagonals."""
    from scipy import ndimage as ndi
    from skimage.morphology import thin

    lines = np.pad(thin(mask), 1)
    # Corners that it leaves would pass for branch points.
    spare = _spare()
    flat, offsets = lines.ravel(), _offsets(lines.shape[1])
    codes = ndi.correlate(lines.astype(np.uint8), _BITS, mode="constant")
    for i in np.flatnonzero(lines & spare[codes]).tolist():
        if spare[sum(1 << k for k, o in enumerate(offsets) if flat[i + o])]:  # others have gone since
            flat[i] = False
    return lines[1:-1, 1:-1]


# The neighbours of a pixel as bits of a number, those at the sides first: a walk takes them before the diagonal ones.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))
_SIDES = ([1, 2, 1, 0], [2, 1, 0, 1])
_BITS = np.zeros((3, 3), np.uint8)
for _k, (_dy, _dx) in enumerate(_STEPS):
    _BITS[1 + _dy, 1 + _dx] = 1 << _k


def _offsets(width: int) -> list[int]:
    """Return the steps to the neighbours in a flattened array."""
    return [dy * width + dx for dy, dx in _STEPS]


@lru_cache(maxsize=1)
def _spare() -> BoolArray:
    """Tell for all 256 neighbourhoods whether the pixel can go: no hole opens, and its neighbours stay connected."""
    from scipy import ndimage as ndi

    around = np.ones((3, 3), int)
    patterns = [(_BITS & code) > 0 for code in range(256)]
    return np.array([p.sum() > 1 and not p[_SIDES].all() and ndi.label(p, around)[1] == 1 for p in patterns])


def trace(skeleton: BoolArray, shortest: float = 0.0) -> Traced:
    """Cut a skeleton into branches.

    Parameters
    ----------
    skeleton : (Y, X) bool
        One pixel wide.
    shortest : float
        Pixels. Spurs and lone pieces shorter than that are taken away.
    """
    for _ in range(_ROUNDS):
        found, pixels = _branches(skeleton)
        drop = [p for b, p in zip(found.branches, pixels, strict=True) if any(b.free) and b.length < shortest]
        if not drop:
            break
        kept = skeleton.copy()
        kept[tuple(np.concatenate(drop).T)] = False
        skeleton = thinned(kept)  # what was a branch point may now be a bend, or thicker than needed
    return found


def _branches(skeleton: BoolArray) -> tuple[Traced, list[npt.NDArray[np.intp]]]:
    from scipy import ndimage as ndi

    around = np.ones((3, 3), int)
    neighbours = ndi.convolve(skeleton.astype(np.int8), around, mode="constant") - 1
    junctions, n_junctions = ndi.label(skeleton & (neighbours > 2), around)
    points = np.reshape(ndi.center_of_mass(junctions > 0, junctions, range(1, n_junctions + 1)), (-1, 2))
    pieces, n_pieces = ndi.label(skeleton & (junctions == 0), around)
    # Flat indices into padded arrays: no pixel has to ask whether its neighbour exists.
    pieces, junctions = np.pad(pieces, 1), np.pad(junctions, 1)
    width = pieces.shape[1]
    offsets = _offsets(width)
    members: list[list[int]] = [[] for _ in range(n_pieces)]
    flat, joints = pieces.ravel(), junctions.ravel()
    for i in np.flatnonzero(flat).tolist():
        members[flat[i] - 1].append(i)
    branches, pixels = [], []
    for member in members:
        order = _walk(member, offsets)
        coordinates = np.column_stack(np.divmod(order, width)) - 1
        ends = _joints(joints, order, offsets)
        path = coordinates.astype(float)
        closed = len(order) > 3 and max(abs(path[0] - path[-1])) <= 1 and not any(ends)
        if ends[0]:
            path = np.vstack([points[ends[0] - 1], path])
        if ends[1]:
            path = np.vstack([path, points[ends[1] - 1]])
        elif closed:
            path = np.vstack([path, path[0]])
        branches.append(_measured(path, (not ends[0] and not closed, not ends[1] and not closed)))
        pixels.append(coordinates)
    return Traced(skeleton, branches, points), pixels


def _walk(member: list[int], offsets: list[int]) -> list[int]:
    """Put the pixels of one piece in order; none has more than two neighbours."""
    left = set(member)
    ends = (i for i in member if sum(i + o in left for o in offsets) < 2)
    here: int | None = next(ends, member[0])
    order = []
    while here is not None:
        order.append(here)
        left.discard(here)
        here = next((here + o for o in offsets if here + o in left), None)
    return order


def _joints(joints: npt.NDArray[np.int32], order: list[int], offsets: list[int]) -> tuple[int, int]:
    """Return the numbers of the branch points that the first and the last pixel touch, 0 for none."""
    first, last = ([int(joints[i + o]) for o in offsets if joints[i + o]] for i in (order[0], order[-1]))
    if len(order) == 1:  # its two ends are the same pixel
        other = [joint for joint in first if joint != first[0]]
        return (first[0] if first else 0, other[0] if other else 0)
    return (first[0] if first else 0, last[0] if last else 0)


def _measured(path: Points, free: tuple[bool, bool]) -> Branch:
    from scipy import ndimage as ndi

    if len(path) < 2:
        return Branch(path, 0.0, 1.0, free)
    half = _SMOOTHING // 2
    # Reflected through its ends, a path keeps them, and a straight line stays as it is.
    padded = np.pad(path, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    path = ndi.uniform_filter1d(padded, _SMOOTHING, axis=0)[half:-half]
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    distance = float(np.linalg.norm(path[-1] - path[0]))
    return Branch(path, length, min(distance / length, 1.0) if length else 1.0, free)
