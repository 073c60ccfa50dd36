"""From one large image to crops: around points, and around the objects of a label image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..images import PlaneImage
from .cutting import cut_iter
from .datasets import Crops, Image
from .fields import CropField, Sizes, common_field
from .neighbours import Places
from .objects import Marks, Objects, measure_objects


def crop_around(source: PlaneImage, centres: npt.NDArray[np.floating[Any]], size: Sizes) -> list[Image]:
    """Cut square crops around positions; borders are reflected.

    Parameters
    ----------
    source : PlaneImage
    centres : (N, D) array
        In pixels: the leading axes (rounded to the nearest plane), then Y, X.
    size : int or (N,) array of int
        Side of the crops: one for all, or one for each.

    Returns
    -------
    list of array
        Each (size, size) or (size, size, 3).

    Raises
    ------
    ValueError
        If a position lies outside the image, or ``size`` is not allowed.
    """
    rounded = check_positions(source, centres)
    if np.min(size, initial=1) < 1:
        raise ValueError(f"size={np.min(size)} is not allowed: crops need at least 1 pixel.")
    if len(rounded) == 0:
        return []
    crops: list[Image] = [np.empty(0)] * len(rounded)
    for rows, cut in cut_iter(source, rounded, np.broadcast_to(np.asarray(size, int), len(rounded))):
        for row, crop in zip(rows.tolist(), cut, strict=True):
            crops[row] = crop.copy()
    return crops


def check_positions(source: PlaneImage, centres: npt.ArrayLike) -> npt.NDArray[np.int_]:
    """Round positions to pixels, (N, D).

    Raises
    ------
    ValueError
        If one lies outside the image, or they have another number of coordinates.
    """
    centres = np.asarray(centres, float)
    n_lead = len(source.lead_shape)
    if centres.ndim != 2 or centres.shape[1] != n_lead + 2:
        raise ValueError(f"Positions need {n_lead + 2} coordinates each; these have shape {centres.shape}.")
    # NaN and infinity are nowhere in the image either.
    rounded = np.rint(np.where(np.isfinite(centres), centres, -1)).astype(int)
    limits = np.array((*source.lead_shape, *source.plane_shape))
    outside = ((rounded < 0) | (rounded >= limits)).any(axis=1)
    if outside.any():
        first = centres[outside][0].round(1).tolist()
        raise ValueError(
            f"{int(outside.sum())} of {len(centres)} positions lie outside the image, the first at {first}: move them "
            "into it, or take them away."
        )
    return rounded


def object_centres(labels: Any) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Find where the objects of a label image are; see `measure_objects`.

    Returns
    -------
    ids : (N,) array of int
    centres : (N, D) array
        Leading indices, then the centroid (Y, X), in pixels.
    """
    objects = measure_objects(labels)
    return objects.ids, objects.centres


def default_size(source: PlaneImage) -> int:
    """Return the side of a crop where nothing else says it: 32 pixels, or the image's shorter side if less."""
    return min(32, *source.plane_shape)


def crops_from_points(
    image: Any,
    positions: npt.ArrayLike,
    classes: npt.ArrayLike,
    *,
    crop: int | CropField | None = None,
    groups: npt.ArrayLike | None = None,
    axes: str | None = None,
    rgb: bool = False,
    name: str = "point",
) -> Crops:
    """Cut labelled crops around points.

    Parameters
    ----------
    image : array-like
    positions : (N, D) array
        In pixels: the leading axes, then Y, X.
    classes : (N,) array of str
    crop : int or CropField, optional
        Side in pixels, or a `CropField`. Default: 32 pixels, or the image's shorter side if less.
    groups : (N,) array of str, optional
        Patient, slide or field of each.
    axes, rgb
        As for `Recipe.apply`.
    name : str
        What the crops are called, with their numbers.

    Returns
    -------
    Crops

    Raises
    ------
    ValueError
        If a position lies outside the image or has no class.
    """
    source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
    return _labelled(source, np.asarray(positions, float), classes, groups, _field(crop, source), name)


def crops_from_objects(
    image: Any,
    labels: Any,
    classes: Marks,
    *,
    crop: int | CropField | None = None,
    groups: Mapping[int, str] | None = None,
    axes: str | None = None,
    rgb: bool = False,
    name: str = "object",
) -> Crops:
    """Cut a labelled crop around every object of a label image that has a class.

    Parameters
    ----------
    image : array-like
    labels : (…, Y, X) array of int, or Objects
        Of the same pixels as the image.
    classes : Marks
        From `painted_classes`, `clicked_classes` or `listed_classes`.
    crop : int or CropField, optional
        As for `crops_from_points`; ``CropField(0.2, "object")`` follows the size of each object.
    groups : mapping, optional
        From the number of an object to its patient, slide or field.
    axes, rgb, name
        As for `crops_from_points`.

    Returns
    -------
    Crops

    Raises
    ------
    ValueError
        If there is no such object, or one has no group while others have.
    """
    if not isinstance(classes, Marks):
        raise ValueError(
            "classes must tell them by object: take those of painted_classes, clicked_classes or listed_classes."
        )
    source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
    objects = labels if isinstance(labels, Objects) else measure_objects(labels)
    rows = objects.rows(classes.ids)
    chosen: list[str] | None = None
    if groups:
        chosen = [str(groups.get(i, "")) for i in classes.ids.tolist()]
    where, sides = objects.centres[rows], objects.sides[rows]
    return _labelled(source, where, classes.classes, chosen, _field(crop, source), name, classes.ids, sides)


def _field(crop: int | CropField | None, source: PlaneImage) -> CropField:
    return crop if isinstance(crop, CropField) else CropField(crop or default_size(source))


def _labelled(
    source: PlaneImage,
    positions: npt.NDArray[np.float64],
    classes: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    field: CropField,
    name: str,
    ids: npt.NDArray[np.intp] | None = None,
    sides: npt.NDArray[np.float64] | None = None,
) -> Crops:
    if len(positions) == 0:
        raise ValueError(f"There is no {name} to learn from: add some of each class.")
    texts = _texts(classes, name, "class")
    crops = crop_around(source, positions, field.pixels(field.pixel_size, sides))
    numbers = range(len(crops)) if ids is None else ids.tolist()
    return Crops(
        crops,
        texts,
        None if groups is None else _texts(groups, name, "group"),
        [f"{name} {i}" for i in numbers],
        field,
        Places.of(positions, name),
    )


def _texts(values: npt.ArrayLike, name: str, what: str) -> npt.NDArray[np.str_]:
    """Return values as text; every sample must have one."""
    texts = ["" if v is None or v != v else str(v).strip() for v in np.asarray(values, object).ravel()]
    empty = sum(text in ("", "nan", "<NA>") for text in texts)
    if empty:
        raise ValueError(f"{empty} {name}s have no {what}: give them one.")
    return np.array(texts, dtype=np.str_)


def join_crops(parts: Sequence[Crops]) -> Crops:
    """Put the crops of several images together.

    Parameters
    ----------
    parts : sequence of Crops
        All with groups, or all without; from images of equal dtype.

    Returns
    -------
    Crops

    Raises
    ------
    ValueError
        If only some have groups, or gray and RGB crops or dtypes are mixed.
    """
    if len({part.groups is None for part in parts}) > 1:
        raise ValueError("Some of the images have groups and some have none: give all of them groups, or none.")
    groups = [part.groups for part in parts if part.groups is not None]
    places = [part.places for part in parts if part.places is not None]
    return Crops(
        [image for part in parts for image in part.images],
        np.concatenate([part.labels for part in parts]),
        np.concatenate(groups) if groups else None,
        [name for part in parts for name in part.names],
        common_field(part.field for part in parts),
        Places.joined(places) if len(places) == len(parts) else None,
    )
