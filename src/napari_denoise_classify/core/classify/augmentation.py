"""More training crops: turned, mirrored and noisy copies. For training crops only, after the split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..images import PlaneImage, from_float
from ..noise import NoiseModel, parse_noise
from .datasets import Image
from .scaled import ScaledCrops


class Augmented(NamedTuple):
    """What `augment` returns.

    Attributes
    ----------
    images : sequence of array
        The originals first, then copies of each.
    labels, groups : (M,) arrays
        Of each image: those of the image it is a copy of. Groups are None where none were given, and have as many
        columns as were.
    sources : (M,) array of int
        The index of the image that each is a copy of.
    """

    images: Sequence[Image]
    labels: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None
    sources: npt.NDArray[np.intp]


def augment(
    images: Sequence[Image],
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    rng: np.random.Generator | int = 0,
    rotations: bool = True,
    flips: bool = True,
    noise: NoiseModel | str | None = None,
    intensity_range: tuple[float, float] | None = None,
) -> Augmented:
    """Add turned, mirrored and noisy copies to training crops.

    Call it with the training crops of a split, never before the split: copies of one crop on both sides would be
    recognised, not classified. Copies keep the group of their crop, so later splits by group still hold.

    Parameters
    ----------
    images : sequence of (Y, X), (Y, X, 1) or (Y, X, 3) arrays
    labels : (N,) array
    groups : (N,) or (N, levels) array, optional
    rng : numpy.random.Generator or int
        Of the noise; or a seed for one.
    rotations : bool
        Add quarter turns: 90°, 180° and 270°.
    flips : bool
        Add mirror images of the original and of its turns.
    noise : NoiseModel or str, optional
        Put on every copy, drawn anew, in grey levels of 0 to 255 over the intensity range of the image; originals stay
        clean. Without turns and mirror images, every crop gets one noisy copy.
    intensity_range : (float, float), optional
        What 0 and 255 grey levels stand for, for every image alike; default: each image's own range.

    Returns
    -------
    Augmented
        In the dtype of the images.

    Raises
    ------
    ValueError
        If the numbers of images, labels and groups differ, or the noise is not allowed.
    """
    labels = np.asarray(labels)
    groups = None if groups is None else np.asarray(groups)
    for name, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != len(images):
            raise ValueError(f"There are {len(images)} images but {len(values)} {name}: give one for each.")
    if isinstance(images, ScaledCrops) and (noise is None or intensity_range == (0.0, 1.0)):
        made = augment(images.images, labels, groups, rng, rotations, flips, noise, images.limits)
        return made._replace(images=ScaledCrops(made.images, images.limits))
    rng = np.random.default_rng(rng)
    model = parse_noise(noise) if isinstance(noise, str) else noise
    copies = [
        (turns, flip) for flip in ((False, True) if flips else (False,)) for turns in range(4 if rotations else 1)
    ]
    copies = copies[1:] or ([copies[0]] if model is not None else [])
    out, sources = list(images), list(range(len(images)))
    for i, image in enumerate(images):
        for turns, flip in copies:
            copy = np.rot90(image[:, ::-1] if flip else image, turns)
            out.append(np.ascontiguousarray(copy) if model is None else _noisy(copy, model, rng, intensity_range))
            sources.append(i)
    chosen = np.array(sources, np.intp)
    return Augmented(out, labels[chosen], None if groups is None else groups[chosen], chosen)


def _noisy(
    image: Image, model: NoiseModel, rng: np.random.Generator, intensity_range: tuple[float, float] | None
) -> Image:
    if intensity_range is None:
        plane = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
        intensity_range = PlaneImage.wrap(plane, rgb=plane.ndim == 3).ranges("image")[()]
    low, high = intensity_range
    noisy = model.apply(image.astype(np.float64) - low, rng, high - low).astype(np.float64) + low
    return from_float(noisy, image.dtype)
