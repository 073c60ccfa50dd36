"""Splits that never put one group on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]
Found = TypeVar("Found")
_DRAWS = 100


class TooFewGroupsError(ValueError):
    """Groups that a split cannot keep whole."""


def by_groups(split: Callable[[npt.NDArray[Any] | None], Found], groups: npt.ArrayLike | None) -> tuple[Found, bool]:
    """Split by whole groups where there are enough of them; where there are not, mix them.

    Parameters
    ----------
    split : callable
        Takes groups (N,), or None to mix them.
    groups : (N,) or (N, levels) array, or None
        The further columns are ever finer groups, such as the copies of one sample: those of the first column that can
        be whole are.

    Returns
    -------
    found
        What ``split`` returned.
    whole : bool
        Whether the groups of the first column are whole in it.
    """
    for level, column in enumerate([] if groups is None else np.atleast_2d(np.asarray(groups).T)):
        try:
            return split(column), level == 0
        except TooFewGroupsError:
            continue
    return split(None), False


def holdout(y: npt.ArrayLike, groups: npt.ArrayLike | None, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Split samples in two, by whole groups where they are given, and keep the shares of the classes.

    Parameters
    ----------
    y : (N,) array
        Classes.
    groups : (N,) array or None
        Patient, slide or field of each sample. Of many random draws of whole groups the one is taken whose second
        part comes closest to the fraction and to the shares of the classes.
    fraction : float
        Size of the second part, between 0 and 1.
    seed : int

    Returns
    -------
    first, second : (N1,), (N2,) arrays of int
        Sorted indices.

    Raises
    ------
    ValueError
        If a class would be missing on one side; a `TooFewGroupsError` where it is whole groups that leave no other way.
    """
    from sklearn.model_selection import GroupShuffleSplit

    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction!r} is not allowed: give a number between 0 and 1.")
    counts = np.bincount(codes)
    if counts.min() < 2:
        raise ValueError(
            f"The class {str(classes[counts.argmin()])!r} has one sample: a split needs at least 2 of each class."
        )
    if groups is None:
        rng = np.random.default_rng(seed)
        second_mask = np.zeros(len(codes), bool)
        for k, count in enumerate(counts):  # at least one of each class on both sides
            size = int(np.clip(round(fraction * count), 1, count - 1))
            second_mask[rng.permutation(np.flatnonzero(codes == k))[:size]] = True
        return np.flatnonzero(~second_mask), np.flatnonzero(second_mask)
    groups = np.asarray(groups)
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise TooFewGroupsError("All samples are of one group: a split by group needs at least 2 groups.")
    size = int(np.clip(round(fraction * n_groups), 1, n_groups - 1))
    best: tuple[float, Any, Any] | None = None
    for first, second in GroupShuffleSplit(_DRAWS, test_size=size, random_state=seed).split(codes, groups=groups):
        shares = np.bincount(codes[second], minlength=len(classes)) / counts
        if shares.min() == 0 or shares.max() == 1:
            continue
        distance = float(np.abs(shares - fraction).max())
        if best is None or distance < best[0]:
            best = (distance, first, second)
    if best is None:
        raise TooFewGroupsError(
            "No split by group has every class on both sides: some class occurs in one group only. "
            "Add groups, or split without them."
        )
    return np.sort(best[1]), np.sort(best[2])


def balanced_parts(y: npt.ArrayLike, groups: npt.ArrayLike | None, n_parts: int, seed: int) -> list[IntArray]:
    """Cut samples into parts alike in size and in the shares of the classes; whole groups, where there are any.

    Groups are dealt out one by one, each to the part that lacks its classes most, in random order; the best of many
    such draws is taken. (scikit-learn's ``StratifiedGroupKFold(shuffle=True)`` sorts the groups first, and so gives the
    same folds for nearly every seed.)

    Parameters
    ----------
    y : (N,) array
        Classes.
    groups : (N,) array or None
    n_parts : int
    seed : int

    Returns
    -------
    list of arrays of int
        Sorted; as many as there are groups or samples, if that is fewer than ``n_parts``.
    """
    codes = np.unique(np.asarray(y), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    if groups is None:
        # Class by class, dealt out in turn: parts differ by at most one sample of each class.
        order = np.concatenate([rng.permutation(np.flatnonzero(codes == k)) for k in range(codes.max() + 1)])
        n_parts = min(n_parts, len(order))
        return [np.sort(order[k::n_parts]) for k in range(n_parts)]
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    table = np.zeros((len(names), codes.max() + 1))
    np.add.at(table, (members, codes), 1)
    table = np.column_stack([table, table.sum(axis=1)])  # sizes are balanced like one more class
    n_parts = min(n_parts, len(names))
    share = table / (table.sum(axis=0) / n_parts)  # of what a part should have of each class
    best, least = np.zeros(len(names), int), np.inf
    for _ in range(max(5, min(_DRAWS, 20_000 // len(names)))):
        filled = np.zeros((n_parts, table.shape[1]))
        where = np.zeros(len(names), int)
        # Larger groups tend to come first, because the last ones fill the gaps.
        order = np.argsort(-table[:, -1] * rng.uniform(0.3, 1, len(names)))
        for n, k in enumerate(order):
            part = n if n < n_parts else int((filled @ share[k]).argmin())
            where[k] = part
            filled[part] += share[k]
        cost = float(((filled - 1) ** 2).sum())
        if cost < least:
            best, least = where, cost
    return [np.flatnonzero(best[members] == part) for part in range(n_parts)]


def balanced_folds(y: npt.ArrayLike, groups: npt.ArrayLike | None, n_splits: int, seed: int) -> list[IntArray]:
    """Cut samples into the test parts of a cross-validation; see `balanced_parts`.

    Raises
    ------
    ValueError
        If the samples are of one group, or a class occurs in one part only; a `TooFewGroupsError` where groups are
        given.
    """
    y = np.asarray(y)
    parts = balanced_parts(y, groups, n_splits, seed)
    if groups is not None and len(parts) < 2:
        raise TooFewGroupsError("All samples are of one group: folds by group need at least 2 groups.")
    for part in parts:
        lost = sorted(set(y) - set(np.delete(y, part)))
        if lost and groups is None:
            raise ValueError(f"The class {str(lost[0])!r} has one sample: folds need at least 2 of each class.")
        if lost:
            raise TooFewGroupsError(
                f"The class {str(lost[0])!r} occurs in too few groups for folds by group: add groups that hold it."
            )
    return parts


def folds(y: npt.ArrayLike, groups: npt.ArrayLike | None, n_splits: int, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Cut samples into the training and test parts of a cross-validation; see `balanced_folds`."""
    tests = balanced_folds(y, groups, n_splits, seed)
    return [(np.setdiff1d(np.arange(len(np.asarray(y))), test), test) for test in tests]
