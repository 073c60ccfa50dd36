"""Layers of classes: points, objects and maps, their colours and their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.images import as_array
from .layers import METADATA_KEY, Source, object_numbers, refined, transform_of, whole_data
from .session import session

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer, Points

    from ..core.class_maps import ClassMap
    from ..core.classify.objects import Objects

OTHER = "#808080"
"""The colour of a class that somebody wrote into a layer's features."""
LARGEST_COLOURED = 2**16
"""napari gives no colours of their own to larger label numbers, unless numba is installed."""


def add_points(
    viewer: napari.Viewer, source: Source, table: Any, classes: tuple[str, ...], size: float, record: dict[str, Any]
) -> Points:
    """Add a point for each sample, coloured by class, with all its figures in ``features``."""
    n = len(source.image.lead_shape) + 2
    colours = session.colours(classes)
    return viewer.add_points(
        table.iloc[:, :n].to_numpy(),
        features=table.iloc[:, n:].reset_index(drop=True),
        face_color=_rgba(colours, table["class"]),
        border_color="white",
        border_width=0.08,
        size=size,
        text=_text(source, table.iloc[:, :n].to_numpy(float), size) if len(table) <= 20 else None,
        name=f"{source.name} classes",
        metadata={METADATA_KEY: {**record, "colours": colours, "positions": list(table.columns[:n])}},
        **source.transform,
    )


def _text(source: Source, positions: npt.NDArray[np.float64], size: float) -> dict[str, Any]:
    """Return the text beside points: black where the image there is bright, else white."""
    aside = np.zeros(positions.shape[1])
    aside[-1] = 0.6 * size
    image = source.image
    shades = []
    for *lead, y, x in np.rint(positions + aside).astype(int).tolist():
        plane = tuple(min(max(i, 0), n - 1) for i, n in zip(lead, image.lead_shape, strict=True))
        part = np.asarray(image.data[(*plane, slice(max(y - 8, 0), max(y + 9, 0)), slice(max(x, 0), max(x + 64, 0)))])
        if not part.size:
            continue
        if image.rgb:
            full = np.iinfo(part.dtype).max if part.dtype.kind in "iu" else 1
            shades.append(float(part[..., :3].mean()) / full)
        else:
            low, high = source.look["contrast_limits"]
            shade = np.clip((part.astype(float) - low) / max(high - low, 1e-12), 0, 1).mean()
            shades.append(float(source.look["colormap"].map(np.array([shade]))[0, :3].mean()))
    colour = "black" if shades and np.mean(shades) > 0.5 else "white"
    string = "{class} {probability:.2f}"
    return {"string": string, "size": 9, "color": colour, "anchor": "upper_left", "translation": aside}


def _rgba(colours: dict[str, str], names: Any) -> npt.NDArray[np.float32]:
    """Return the colour of each class name, (N, 4): napari takes long to read many names of colours."""
    from napari.utils.colormaps.standardize_color import transform_color

    listed, inverse = np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)
    found: npt.NDArray[np.float32] = transform_color([colours.get(name, OTHER) for name in listed.tolist()])
    return found[inverse.ravel()]


def add_objects(
    viewer: napari.Viewer,
    labels: Labels,
    axes: str,
    objects: Objects,
    table: Any,
    classes: tuple[str, ...],
    record: dict[str, Any],
) -> Labels:
    """Add a copy of a label image coloured by class, with all figures of each object in ``features``.

    napari gives colours to label numbers up to 65,536 only: beyond them the copy holds the numbers of the classes
    instead of the objects', and the figures of the classes. Objects of several times that have one number get numbers
    of their own in the copy.
    """
    ids = objects.ids
    whole = whole_data(labels)
    if isinstance(whole, np.ndarray):
        levels = [whole.copy()]
    else:  # stays where it is
        levels = [as_array(level) for level in labels.data] if labels.multiscale else [as_array(whole)]
    levels = [objects.renumbered(level, axes) for level in levels]
    if len(ids) and int(ids.max()) > LARGEST_COLOURED:
        import pandas as pd

        of_class = np.zeros(len(ids) + 1, np.uint8)
        of_class[1:] = 1 + np.searchsorted(np.sort(classes), table["class"]).astype(np.uint8)

        def classes_of(part: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
            rows = np.searchsorted(ids, part)
            known = (rows < len(ids)) & (part == ids[np.minimum(rows, len(ids) - 1)])
            return of_class[np.where(known, rows + 1, 0)]

        levels = [
            classes_of(level) if isinstance(level, np.ndarray) else level.map_blocks(classes_of, dtype=np.uint8)
            for level in levels
        ]
        names = sorted(classes)
        counts = [int((table["class"] == name).sum()) for name in names]
        features = pd.DataFrame({"index": range(1, len(names) + 1), "class": names, "objects": counts})
    else:
        features = table.reset_index(drop=True)
        features.insert(0, "index", ids)
    colours = session.colours(classes)
    return viewer.add_labels(
        levels if len(levels) > 1 else levels[0],
        multiscale=len(levels) > 1,
        features=features,
        colormap=_label_colours(colours, features["index"], features["class"]),
        opacity=0.6,
        name=f"{labels.name} classes",
        metadata={METADATA_KEY: {**record, "colours": colours}},
        **transform_of(labels),
    )


def _label_colours(colours: dict[str, str], numbers: Any, classes: Any) -> Any:
    """Return the colormap of label numbers and their classes."""
    from napari.utils import DirectLabelColormap

    named: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    named |= {int(i): colours.get(name, OTHER) for i, name in zip(numbers, classes, strict=True)}
    return DirectLabelColormap(color_dict=named)


def add_class_map(
    viewer: napari.Viewer, source: Source, found: ClassMap, record: dict[str, Any]
) -> tuple[Labels, list[Image]]:
    """Add a class map, and hidden under it the probability of each class; they lie over the image."""
    import pandas as pd
    from napari.utils import Colormap

    colours = session.colours(found.classes)
    place = refined(source.transform, 1 / found.stride)
    metadata = {METADATA_KEY: {**record, "colours": colours}}
    features = pd.DataFrame({"index": range(1, len(found.classes) + 1), "class": found.classes})
    images = [
        viewer.add_image(
            found.probabilities[k],
            name=f"{source.name} p {name}",
            colormap=Colormap([(0, 0, 0), colours[name]], name=f"{name} {colours[name]}"),
            contrast_limits=(0.0, 1.0),
            blending="additive",
            visible=False,
            metadata={METADATA_KEY: {**record, "colours": {name: colours[name]}, "class": name}},
            **place,
        )
        for k, name in enumerate(found.classes)
    ]
    labels = viewer.add_labels(
        found.labels,
        features=features,
        colormap=_label_colours(colours, features["index"], features["class"]),
        opacity=0.5,
        name=f"{source.name} class map",
        metadata=metadata,
        **place,
    )
    return labels, images


def recolour(viewer: napari.Viewer, name: str, colour: str) -> None:
    """Give a class another colour in all layers that show it."""
    from napari.utils import Colormap

    for layer in viewer.layers:
        record = layer.metadata.get(METADATA_KEY, {})
        colours = record.get("colours", {}) if isinstance(record, dict) else {}
        if name not in colours:
            continue
        # A record of its own: several layers may share one.
        colours = {**colours, name: colour}
        layer.metadata = {**layer.metadata, METADATA_KEY: {**record, "colours": colours}}
        kind = type(layer).__name__
        if kind == "Labels" and "class" in layer.features:
            layer.colormap = _label_colours(colours, object_numbers(layer), layer.features["class"])
        elif kind == "Points" and "class" in layer.features:
            layer.face_color = _rgba(colours, layer.features["class"])
        elif kind == "Image" and record.get("class") == name:
            layer.colormap = Colormap([(0, 0, 0), colour], name=f"{name} {colour}")


def table_of(layer: Layer | None) -> Any:
    """Return a layer's positions and features as a table, in the columns that the command line writes.

    Raises
    ------
    ValueError
        If it is no layer of classes.
    """
    import pandas as pd

    record = layer.metadata.get(METADATA_KEY, {}) if layer is not None else {}
    features = getattr(layer, "features", None)
    if layer is None or features is None or "class" not in features.columns or not record:
        raise ValueError("Select a layer of classes that this panel made: its table can be saved.")
    if "positions" not in record:
        return features.drop(columns="index") if "label" in features.columns else features
    positions = pd.DataFrame(layer.data, columns=record["positions"])
    return pd.concat([positions, features.reset_index(drop=True)], axis=1)
