"""The splits of a study: made once, the same for every cell; a group is never on two sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..classify.splits import IntArray, holdout
from ..classify.training import MINIMUM_PER_CLASS
from .declaration import Design

_DRAWS = 100
_APART = 10_007  # seeds of repeats keep this distance, so that those of neighbouring studies do not meet


@dataclass(frozen=True, eq=False)
class Split:
    """One training part, and the parts on which what was trained there is tested.

    Attributes
    ----------
    repeat : int
    train : (N,) array of int
        Sorted.
    tests : tuple of (int, array of int)
        Number of the fold, or partition, and its samples.
    """

    repeat: int
    train: IntArray
    tests: tuple[tuple[int, IntArray], ...]


def minimum_per_class(design: Design) -> int:
    """Return how many samples each class needs at least, so that every training part has enough of it."""
    if design.layout == "cross-validation":
        return max(design.folds, math.ceil(MINIMUM_PER_CLASS * design.folds / (design.folds - 1)))
    return math.ceil(round(MINIMUM_PER_CLASS / (1 - design.test_fraction), 6))


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
        If the samples are of one group, or a class occurs in one part only.
    """
    y = np.asarray(y)
    parts = balanced_parts(y, groups, n_splits, seed)
    if len(parts) < 2:
        raise ValueError("All samples are of one group: folds by group need at least 2 groups.")
    for part in parts:
        lost = sorted(set(y) - set(np.delete(y, part)))
        if lost:
            raise ValueError(
                f"The class {str(lost[0])!r} occurs in too few groups for folds by group: add groups that hold it."
            )
    return parts


def make_splits(y: npt.ArrayLike, groups: npt.ArrayLike | None, design: Design, seed: int) -> list[Split]:
    """Make the splits of a study.

    Parameters
    ----------
    y : (N,) array
        Classes.
    groups : (N,) array or None
    design : Design
    seed : int

    Returns
    -------
    list of Split
        One for each fit.

    Raises
    ------
    ValueError
        If a class has too few samples, naming the minimum, or no split by group has every class in training.
    """
    y = np.asarray(y)
    names, counts = np.unique(y, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"There is only the class {str(names[0])!r}: a study needs at least two.")
    needed = minimum_per_class(design)
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < needed]
    if few:
        raise ValueError(f"Too few samples of {', '.join(few)}: with {design.text} each class needs at least {needed}.")
    splits: list[Split] = []
    for repeat in range(design.repeats):
        here = seed + _APART * repeat
        if design.layout == "cross-validation":
            tests = balanced_folds(y, groups, design.folds, here)
            for fold, test in enumerate(tests):
                train = np.setdiff1d(np.arange(len(y)), test)
                splits.append(Split(repeat, train, ((fold, test),)))
            continue
        train, rest = holdout(y, groups, design.test_fraction, here)
        if design.layout == "holdout":
            splits.append(Split(repeat, train, ((0, rest),)))
            continue
        rest_groups = None if groups is None else np.asarray(groups)[rest]
        parts = balanced_parts(y[rest], rest_groups, design.partitions, here)
        splits.append(Split(repeat, train, tuple((k, rest[part]) for k, part in enumerate(parts))))
    _check(splits, y)
    return splits


def _check(splits: list[Split], y: npt.NDArray[Any]) -> None:
    names = np.unique(y)
    for split in splits:
        for name in names:
            count = int((y[split.train] == name).sum())
            if count < MINIMUM_PER_CLASS:
                raise ValueError(
                    f"A training part of this design has {count} samples of {str(name)!r}, and each needs at least "
                    f"{MINIMUM_PER_CLASS} of each class: add samples or groups, or take fewer folds."
                )
