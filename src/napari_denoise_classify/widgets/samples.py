"""Sample data for File ▸ Open Sample."""

from __future__ import annotations

from typing import Any

import numpy as np


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
