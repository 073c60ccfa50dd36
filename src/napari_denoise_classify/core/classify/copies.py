"""Exact copies among images: on both sides of a split they flatter every figure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def image_key(image: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of an image's pixels, shape and dtype, in hexadecimal."""
    digest = hashlib.sha256(f"{image.dtype.str} {image.shape} ".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def find_duplicates(keys: Sequence[str]) -> list[list[int]]:
    """Return the samples that are exactly alike, as lists of their numbers."""
    where: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        where.setdefault(key, []).append(i)
    return [found for found in where.values() if len(found) > 1]


def copies_note(train: Sequence[npt.NDArray[Any]], test: Sequence[npt.NDArray[Any]]) -> str:
    """Say in one sentence how many test images have an exact copy among the training images; empty if none has."""
    known = {image_key(image) for image in train}
    count = sum(image_key(image) in known for image in test)
    if not count:
        return ""
    samples = "sample has" if count == 1 else "samples have"
    return (
        f"{count} of {len(test)} test {samples} an exact copy among the training samples, which flatters every figure: "
        "remove the copies, or give them the same group."
    )
