"""Splits that never put one group on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]
_DRAWS = 100


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
        If a class would be missing on one side.
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
        raise ValueError("All samples are of one group: a split by group needs at least 2 groups.")
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
        raise ValueError(
            "No split by group has every class on both sides: some class occurs in one group only. "
            "Add groups, or split without them."
        )
    return np.sort(best[1]), np.sort(best[2])


def folds(y: npt.ArrayLike, groups: npt.ArrayLike | None, n_splits: int, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Cut samples into cross-validation folds, by whole groups where they are given.

    Raises
    ------
    ValueError
        If a training part would lack a class.
    """
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    y = np.asarray(y)
    if groups is None:
        splitter: Any = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    else:
        n_splits = min(n_splits, len(np.unique(np.asarray(groups))))
        if n_splits < 2:
            raise ValueError("All samples are of one group: folds by group need at least 2 groups.")
        splitter = GroupKFold(n_splits, shuffle=True, random_state=seed)
    found = list(splitter.split(y, y, groups))
    n_classes = len(np.unique(y))
    if any(len(np.unique(y[train])) < n_classes for train, _ in found):
        raise ValueError("Some class occurs in too few groups for folds by group: add groups that hold it.")
    return found
