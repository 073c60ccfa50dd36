"""What may spoil a study, looked for before anything runs: duplicates, confounding, missing groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..classify.copies import find_duplicates, image_key
from ..classify.datasets import Crops
from .designs import Split

CONFOUNDED = 0.5
"""Cramér's V from which classes count as confounded with groups."""


def data_sha256(data: Crops) -> str:
    """Return the SHA-256 of crops: their pixels, classes and groups, in order."""
    digest = hashlib.sha256()
    groups: Sequence[str] = [""] * len(data) if data.groups is None else [str(group) for group in data.groups]
    for image, label, group in zip(data.images, data.labels, groups, strict=True):
        digest.update(f"{image_key(image)}\0{label}\0{group}\0".encode())
    return digest.hexdigest()


def cramers_v(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return how far one naming of samples tells another: 0 not at all, 1 wholly.

    Corrected for the bias that many groups of few samples bring: Bergsma, A bias-correction for Cramér's V, J. Korean
    Statistical Society 42 (2013), doi:10.1016/j.jkss.2012.10.002.
    """
    a, b = (np.unique(np.asarray(values), return_inverse=True)[1] for values in (one, other))
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    n, (rows, columns) = len(a), table.shape
    if min(rows, columns) < 2:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    smaller = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    # Where every sample is a group of its own, chance alone tells the classes as well.
    return float(np.sqrt(min(1.0, corrected / smaller))) if smaller > 0 else 0.0


def check_data(data: Crops, splits: Sequence[Split], keys: Sequence[str]) -> list[str]:
    """Say what may spoil a study of these data.

    Parameters
    ----------
    data : Crops
    splits : sequence of Split
    keys : sequence of str
        The `image_key` of every image.

    Returns
    -------
    list of str
        Sentences; empty if nothing was found.
    """
    return [*_duplicates(data, splits, keys), *_groups(data, splits)]


def _duplicates(data: Crops, splits: Sequence[Split], keys: Sequence[str]) -> list[str]:
    alike = find_duplicates(keys)
    if not alike:
        return []
    members = sum(map(len, alike))
    notes = [f"{members} of {len(data)} images have an exact copy among the others ({len(alike)} sets of copies)."]
    conflicts = [found for found in alike if len(set(data.labels[found])) > 1]
    if conflicts:
        names = ", ".join(data.names[i] for i in conflicts[0][:3])
        notes.append(
            f"{len(conflicts)} sets of exact copies carry conflicting classes, so no classifier can be right about "
            f"all of them ({names}, for example): mend the labels."
        )
    across = set()
    for split in splits:
        known = {keys[i] for i in split.train}
        across |= {int(i) for _, test in split.tests for i in test if keys[i] in known}
    if across:
        notes.append(
            f"{len(across)} test samples have an exact copy among the training samples of their split, which flatters "
            "every figure: remove the copies, or give them the same group."
        )
    return notes


def _groups(data: Crops, splits: Sequence[Split]) -> list[str]:
    if data.groups is None:
        return [
            "No groups were given: crops of one patient, slide or field may lie on both sides of a split, which "
            "flatters every figure. Give the groups if there are any."
        ]
    notes = []
    single = [name for name in data.classes if len(np.unique(data.groups[data.labels == name])) == 1]
    if single:
        notes.append(
            f"The class {', '.join(map(repr, single))} occurs in one group only: what is learnt may be that group."
        )
    v = cramers_v(data.labels, data.groups)
    if v >= CONFOUNDED:
        notes.append(
            f"Classes are confounded with groups (Cramér's V {v:.2f}, where 0 is none and 1 is wholly): what is "
            "learnt may be the patient, slide or field. Add groups that hold several classes."
        )
    n_tests = len(splits[0].tests)
    if n_tests > 1 and any(len(split.tests) < n_tests for split in splits):
        notes.append("Repeats have different numbers of partitions, because some have fewer groups to test on.")
    return notes
