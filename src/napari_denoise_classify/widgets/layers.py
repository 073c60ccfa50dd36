"""The only place that turns a napari layer into a core image, and results into layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.figures import CONTOUR_COLOUR, HEAT_COLORMAP, class_colours
from ..core.images import PlaneImage

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer, Points

METADATA_KEY = "napari_denoise_classify"
_AXIS_WORDS = {"t": "T", "time": "T", "c": "C", "channel": "C", "ch": "C", "z": "Z"}


@dataclass(frozen=True)
class Source:
    """What a run needs of an image layer, taken when it starts: the layer may be gone when it ends.

    Attributes
    ----------
    image : PlaneImage
    name : str
    code : str
        Python that gets the same array from the viewer.
    transform : dict
        Keyword arguments that put a layer of the same axes at the same place.
    look : dict
        Keyword arguments for the look of an image layer like this one.
    """

    image: PlaneImage
    name: str
    code: str
    transform: dict[str, Any]
    look: dict[str, Any]

    @property
    def axes(self) -> str:
        """The axes for `Recipe.apply`, where the layer names any; else empty."""
        return "" if set(self.image.lead_axes) == {"?"} else self.image.axes


def take(layer: Image) -> Source:
    """Read an image layer; of a multiscale one the full resolution.

    Raises
    ------
    ValueError
        If the layer's data cannot be processed.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    n_lead = data.ndim - (3 if layer.rgb else 2)
    named = [_AXIS_WORDS.get(label.lower(), "?") for label in layer.axis_labels[:n_lead]]
    named = [letter if named.count(letter) == 1 else "?" for letter in named]
    axes = "".join(named) + ("YXS" if layer.rgb else "YX")
    code = f"viewer.layers[{layer.name!r}].data" + ("[0]" if layer.multiscale else "")
    look: dict[str, Any] = {"rgb": layer.rgb, "gamma": layer.gamma, "interpolation2d": layer.interpolation2d}
    if not layer.rgb:
        look |= {"colormap": layer.colormap, "contrast_limits": tuple(layer.contrast_limits)}
    return Source(PlaneImage.wrap(data, axes), layer.name, code, transform_of(layer), look)


def transform_of(layer: Layer) -> dict[str, Any]:
    """Return where a layer lies, as keyword arguments for another of the same axes."""
    return {
        "scale": np.array(layer.scale),
        "translate": np.array(layer.translate),
        "rotate": np.array(layer.rotate),
        "shear": np.array(layer.shear),
        "affine": layer.affine.affine_matrix.copy(),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def affine_map(layer: Layer, inverse: bool = False) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (A, b) with which a layer maps its data coordinates to the world, p → A p + b, or back."""
    n = layer.ndim
    function = layer.world_to_data if inverse else layer.data_to_world
    b = np.array(function(np.zeros(n)), float)
    columns = [np.array(function(unit), float) - b for unit in np.eye(n)]
    return np.stack(columns, axis=1), b


def positions_in(
    image: Image, other: Layer, positions: npt.NDArray[Any], viewer: napari.Viewer
) -> npt.NDArray[np.float64]:
    """Map positions of another layer into an image's pixels.

    Where the other layer has fewer axes, its positions lie on the planes that the viewer shows.
    """
    a, b = affine_map(other)
    world = np.asarray(positions, float) @ a.T + b
    missing = image.ndim - world.shape[1]
    if missing > 0:
        point = np.asarray(viewer.dims.point, float)[-image.ndim :][:missing]
        world = np.hstack([np.tile(point, (len(world), 1)), world])
    elif missing < 0:
        world = world[:, -missing:]
    a, b = affine_map(image, inverse=True)
    return world @ a.T + b


def add_image_like(viewer: napari.Viewer, source: Source, data: Any, name: str, record: dict[str, Any]) -> Image:
    """Add an image that looks like its source and lies where it lies; it may have been enlarged."""
    factor = data.shape[-3 if source.image.rgb else -2] // source.image.plane_shape[0]
    transform = _refined(source.transform, factor) if factor > 1 else source.transform
    return viewer.add_image(
        data, name=f"{source.name} {name}", metadata={METADATA_KEY: record}, **transform, **source.look
    )


def _refined(transform: dict[str, Any], factor: int) -> dict[str, Any]:
    """Return where a layer lies whose pixels were each divided into ``factor`` × ``factor``."""
    from napari.utils.transforms import Affine

    keys = ("scale", "translate", "rotate", "shear")
    linear = Affine(**{key: transform[key] for key in keys}).linear_matrix
    scale = np.array(transform["scale"], float)
    scale[-2:] /= factor
    # The first of the new pixels has its centre half an old pixel less half a new one before that of the old one.
    shift = np.zeros(len(scale))
    shift[-2:] = -(factor - 1) / (2 * factor)
    return {**transform, "scale": scale, "translate": np.array(transform["translate"]) + linear @ shift}


def add_heat(viewer: napari.Viewer, source: Source, heat: Any, name: str, record: dict[str, Any]) -> Image:
    """Add a heat map as a translucent image, of which zero is see-through."""
    return viewer.add_image(
        heat,
        name=f"{source.name} {name}",
        colormap=_heat_colormap(),
        contrast_limits=(0.0, 1.0),
        blending="translucent",
        opacity=0.75,
        metadata={METADATA_KEY: record},
        **source.transform,
    )


def _heat_colormap() -> Any:
    """Return the heat maps' colours, see-through where there is no influence."""
    from matplotlib import colormaps
    from napari.utils import Colormap

    colours = colormaps[HEAT_COLORMAP](np.linspace(0, 1, 256))
    colours[:, 3] = np.clip(np.linspace(0, 1.5, 256), 0, 1)
    return Colormap(colours, name=f"{HEAT_COLORMAP}_translucent")


def add_contours(viewer: napari.Viewer, source: Source, result: Any, name: str, record: dict[str, Any]) -> Any:
    """Add critical areas as closed outlines, with class and probability of their sample in ``features``."""
    import pandas as pd

    rows = [row for row, _ in result.contours]
    features = result.table.iloc[rows][["class", "probability", "explained"]].reset_index(drop=True)
    features.insert(0, "sample", rows)
    ndim = len(source.image.lead_shape) + 2
    return viewer.add_shapes(
        [contour for _, contour in result.contours] or None,
        ndim=ndim,
        shape_type="polygon",
        edge_color=CONTOUR_COLOUR,
        edge_width=_outline_width(result),
        face_color="transparent",
        features=features if rows else pd.DataFrame(columns=features.columns),
        name=f"{source.name} {name}",
        metadata={METADATA_KEY: record},
        **source.transform,
    )


def _outline_width(result: Any) -> float:
    side = result.crop_size or min(
        result.image.shape[-3:-1] if result.image.shape[-1] in (3, 4) else result.image.shape[-2:]
    )
    return float(np.clip(side / 100, 1, 8))


def add_points(
    viewer: napari.Viewer, source: Source, table: Any, classes: tuple[str, ...], size: float, record: dict[str, Any]
) -> Points:
    """Add a point for each sample, coloured by class, with all its figures in ``features``."""
    n = len(source.image.lead_shape) + 2
    colours = class_colours(classes)
    return viewer.add_points(
        table.iloc[:, :n].to_numpy(),
        features=table.iloc[:, n:].reset_index(drop=True),
        face_color=[colours[name] for name in table["class"]],
        border_color="white",
        border_width=0.08,
        size=size,
        text={"string": "{class} {probability:.2f}", "size": 9, "color": "white", "anchor": "upper_left"}
        if len(table) <= 20
        else None,
        name=f"{source.name} classes",
        metadata={METADATA_KEY: {**record, "colours": colours}},
        **source.transform,
    )


def add_objects(
    viewer: napari.Viewer,
    labels: Labels,
    ids: npt.NDArray[Any],
    table: Any,
    classes: tuple[str, ...],
    record: dict[str, Any],
) -> Labels:
    """Add a copy of a label image coloured by class, with all figures of each object in ``features``."""
    from napari.utils import DirectLabelColormap

    colours = class_colours(classes)
    colour_of: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    colour_of |= {int(i): colours[name] for i, name in zip(ids, table["class"], strict=True)}
    n = list(table.columns).index("class")
    features = table.iloc[:, n:].reset_index(drop=True)
    features.insert(0, "index", ids)
    data = labels.data[0] if labels.multiscale else labels.data
    return viewer.add_labels(
        np.array(data),
        features=features,
        colormap=DirectLabelColormap(color_dict=colour_of),
        opacity=0.6,
        name=f"{labels.name} classes",
        metadata={METADATA_KEY: {**record, "colours": colours}},
        **transform_of(labels),
    )


def code_of(layer: Layer | None) -> str:
    """Return the Python that made a layer, if one of our runs made it."""
    record = layer.metadata.get(METADATA_KEY, {}) if layer is not None else {}
    return str(record.get("python", ""))
