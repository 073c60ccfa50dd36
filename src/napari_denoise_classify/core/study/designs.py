"""The splits of a study: made once, the same for every cell; a group is never on two sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..classify.splits import IntArray, balanced_folds, balanced_parts, holdout
from ..classify.training import MINIMUM_PER_CLASS
from .declaration import Design

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
