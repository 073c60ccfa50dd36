"""Rare classes: drawing them more often."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .splits import IntArray


def oversample(y: npt.ArrayLike, rng: np.random.Generator) -> IntArray:
    """Draw samples of the rarer classes again until every class has as many as the most frequent one.

    For training samples only, after the split: drawn before it, copies of one sample would be on both sides.

    Parameters
    ----------
    y : (N,) array
        Classes.
    rng : numpy.random.Generator

    Returns
    -------
    (M,) array of int
        Indices: every sample at least once, and one of a class at most once more often than another.
    """
    codes = np.unique(np.asarray(y), return_inverse=True)[1]
    counts = np.bincount(codes)
    chosen = [np.arange(len(codes))]
    for k, count in enumerate(counts):
        members = np.flatnonzero(codes == k)
        whole, rest = divmod(int(counts.max() - count), int(count))
        chosen += [np.tile(members, whole), rng.permutation(members)[:rest]]
    return np.concatenate(chosen).astype(np.intp)
