"""Sample data for File ▸ Open Sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..core.synthetic import CellField, Signature


def ihc() -> list[tuple[Any, dict[str, Any], str]]:
    """Colon tissue with its nuclei: image, label image, and points with class and group."""
    from ..core.figures import class_colours
    from ..core.samples import CLASSES, ihc_nuclei

    nuclei = ihc_nuclei()
    colours = class_colours(CLASSES)
    points = {
        "name": "nuclei with class",
        "features": {"class": nuclei.classes, "group": nuclei.fields},
        "face_color": [colours[name] for name in nuclei.classes],
        "border_color": "white",
        "size": 8,
        "visible": False,
    }
    return [
        (nuclei.image, {"name": "IHC tissue", "rgb": True}, "image"),
        (nuclei.labels, {"name": "nuclei", "opacity": 0.4, "visible": False}, "labels"),
        (nuclei.centres, points, "points"),
    ]


def noisy_ihc() -> list[tuple[Any, dict[str, Any], str]]:
    """Colon tissue with its nuclei, with Gaussian noise of 50 grey levels."""
    from ..core.images import from_float
    from ..core.noise import add_gaussian

    layers = ihc()
    image, options, kind = layers[0]
    noisy = from_float(add_gaussian(image, 50, 0), np.uint8)
    return [(noisy, {**options, "name": "IHC tissue, noisy"}, kind), *layers[1:]]


def noisy_cell() -> list[tuple[Any, dict[str, Any], str]]:
    """One cell in phase contrast, with Gaussian noise of 25 grey levels."""
    from skimage import data

    from ..core.images import from_float
    from ..core.noise import add_gaussian

    noisy = from_float(add_gaussian(data.cell(), 25, 0), np.uint8)
    return [(noisy, {"name": "cell, noisy"}, "image")]


def synthetic_he() -> list[tuple[Any, dict[str, Any], str]]:
    """Synthetic H&E: image, label image, and points with one of three classes."""
    from ..core.synthetic import he_cells

    field = he_cells()
    return [(field.image, {"name": "synthetic H&E", "rgb": True}, "image"), *_cells(field, "cells")]


def synthetic_fluorescence() -> list[tuple[Any, dict[str, Any], str]]:
    """Synthetic fluorescence: a 16-bit image of nuclei, label image, and spots as points."""
    from ..core.synthetic import fluorescence

    field = fluorescence()
    labels, _ = _cells(field, "nuclei")
    spots = {"name": "spots", "face_color": "transparent", "border_color": "yellow", "size": 6, "visible": False}
    return [(field.image, {"name": "synthetic fluorescence"}, "image"), labels, (field.spots, spots, "points")]


def synthetic_tacs1() -> list[tuple[Any, dict[str, Any], str]]:
    """Synthetic collagen, dense and curly around a tumour: image, centre lines and boundary."""
    return _collagen("TACS-1")


def synthetic_tacs2() -> list[tuple[Any, dict[str, Any], str]]:
    """Synthetic collagen, straight and along the boundary of a tumour: image, centre lines and boundary."""
    return _collagen("TACS-2")


def synthetic_tacs3() -> list[tuple[Any, dict[str, Any], str]]:
    """Synthetic collagen, straight and perpendicular to the boundary of a tumour: image, centre lines and boundary."""
    return _collagen("TACS-3")


def _cells(field: CellField, name: str) -> list[tuple[Any, dict[str, Any], str]]:
    from ..core.figures import class_colours

    classes = field.table["class"].to_numpy().astype(str)
    colours = class_colours(tuple(sorted(set(classes))))
    points = {
        "name": f"{name} with class",
        "features": {"class": classes},
        "face_color": [colours[c] for c in classes],
        "border_color": "white",
        "size": 8,
        "visible": False,
    }
    return [
        (field.labels, {"name": name, "opacity": 0.4, "visible": False}, "labels"),
        (field.table[["y", "x"]].to_numpy(), points, "points"),
    ]


def _collagen(signature: Signature) -> list[tuple[Any, dict[str, Any], str]]:
    from ..core.synthetic import collagen

    field = collagen(signature)
    lines = {
        "name": "centre lines",
        "shape_type": "path",
        "features": {"angle": field.angles, "width": field.widths, "angle to boundary": field.boundary_angles},
        "edge_color": "cyan",
        "edge_width": 1,
        "visible": False,
    }
    outline = {"name": "boundary", "shape_type": "polygon", "edge_color": "yellow", "face_color": "transparent"}
    return [
        (field.image, {"name": f"synthetic collagen, {signature}"}, "image"),
        (field.centre_lines, lines, "shapes"),
        ([field.boundary], {**outline, "edge_width": 2, "visible": False}, "shapes"),
    ]
