"""The data of a study: crops, a path to them, or synthetic images by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..classify.datasets import Crops, load_crops
from ..synthetic import collagen, he_cells
from ..synthetic.fibres import Signature
from .checks import data_sha256
from .declaration import Source

SYNTHETIC = "synthetic:"
_SIGNATURES: tuple[Signature, ...] = get_args(Signature)


def load_source(data: Any, group: str | None = None) -> tuple[Crops, str]:
    """Load the data of a study.

    Parameters
    ----------
    data : Crops, str or Path
        Crops; what `load_crops` reads; or ``"synthetic:signatures"``, ``"synthetic:cells"``, with
        ``count=…,side=…,seed=…`` after another colon.
    group : str, optional
        As for `load_crops`.

    Returns
    -------
    data : Crops
    path : str
        As it was given, from which the same can be loaded again; empty for crops.
    """
    if isinstance(data, Crops):
        return data, ""
    if not isinstance(data, (str, Path)):
        raise ValueError(f"data={data!r} is not allowed: give crops, a folder, a table, or a study file.")
    text = str(data)
    if not text.startswith(SYNTHETIC):
        return load_crops(text, group), text
    name, _, rest = text.removeprefix(SYNTHETIC).partition(":")
    settings: dict[str, int] = {}
    for part in filter(None, rest.split(",")):
        match = re.fullmatch(r"\s*(count|side|seed)\s*=\s*(\d+)\s*", part)
        if match is None:
            raise ValueError(f"{text!r} cannot be read: write it as synthetic:signatures:count=40,side=128,seed=0.")
        settings[match[1]] = int(match[2])
    if name not in ("signatures", "cells"):
        raise ValueError(f"There are no synthetic {name!r}: choose synthetic:signatures or synthetic:cells.")
    return (synthetic_signatures if name == "signatures" else synthetic_cells)(**settings), text


def describe(data: Crops, path: str, group: str | None) -> Source:
    """Return what a study keeps of its data."""
    groups = None if data.groups is None else len(np.unique(data.groups))
    return Source(path, group, data_sha256(data), data.counts, groups)


def synthetic_signatures(count: int = 40, side: int = 128, seed: int = 0) -> Crops:
    """Draw collagen with each of the three tumour-associated signatures; each image is a group of its own.

    Parameters
    ----------
    count : int
        Of each signature.
    side : int
        In pixels.
    seed : int
    """
    images, labels = [], []
    for k, name in enumerate(_SIGNATURES):
        for i in range(count):
            images.append(collagen(name, (side, side), seed=(seed * len(_SIGNATURES) + k) * 100_000 + i).image)
            labels.append(name)
    names = [f"image {i}" for i in range(len(images))]
    return Crops(images, np.array(labels), np.array(names), names)


def synthetic_cells(count: int = 12, side: int = 256, seed: int = 0) -> Crops:
    """Draw H&E-like fields and cut 32 × 32 pixels around every nucleus; the field is the group.

    Parameters
    ----------
    count : int
        Of fields.
    side : int
        Of a field, in pixels.
    seed : int
    """
    images: list[Any] = []
    labels: list[str] = []
    groups: list[str] = []
    for k in range(count):
        crops = he_cells((side, side), seed=seed * 100_000 + k).crops(32)
        images += crops.images
        labels += crops.labels.tolist()
        groups += [f"field {k}"] * len(crops)
    return Crops(images, np.array(labels), np.array(groups), [f"nucleus {i}" for i in range(len(images))])
