"""Labelled crops, as several benchmarks take them."""

from __future__ import annotations

import numpy as np

from napari_denoise_classify import Crops


def thinned(data: Crops, per_class: int, rng: np.random.Generator) -> Crops:
    """Draw at most so many crops of each class; they keep their order."""
    members = [rng.permutation(np.flatnonzero(data.labels == name))[:per_class] for name in data.classes]
    return data.subset(np.sort(np.concatenate(members)))
