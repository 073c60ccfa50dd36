"""The only place that turns a napari layer into a core image, and results into layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.classify.fields import micrometres, square_pixel_size
from ..core.figures import CONTOUR_COLOUR, HEAT_COLORMAP
from ..core.images import PlaneImage

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer

METADATA_KEY = "napari_denoise_classify"
_ONE_LEVEL = 2048  # pixels along a side of what needs no pyramid
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


def take(layer: Image | None) -> Source:
    """Read an image layer; of a multiscale one the full resolution.

    Raises
    ------
    ValueError
        If there is no layer, or its data cannot be processed.
    """
    if layer is None:
        raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
    data = layer.data[0] if layer.multiscale else layer.data
    n_lead = data.ndim - (3 if layer.rgb else 2)
    axes = _lead_axes(layer, n_lead) + ("YXS" if layer.rgb else "YX")
    code = f"viewer.layers[{layer.name!r}].data" + ("[0]" if layer.multiscale else "")
    look: dict[str, Any] = {"rgb": layer.rgb} | {
        name: getattr(layer, name) for name in ("gamma", "interpolation2d", "blending", "opacity")
    }
    if not layer.rgb:
        look |= {"colormap": layer.colormap, "contrast_limits": tuple(layer.contrast_limits)}
    return Source(PlaneImage.wrap(data, axes), layer.name, code, transform_of(layer), look)


def _lead_axes(layer: Layer, count: int) -> str:
    """Return the letters of a layer's leading axes, ``?`` for those whose name tells none."""
    named = [_AXIS_WORDS.get(label.lower(), "?") for label in layer.axis_labels[:count]]
    return "".join(letter if named.count(letter) == 1 else "?" for letter in named)


def label_axes(labels: Labels, image: Image) -> str:
    """Return the axes of a label image; where they have no names, those of the image that it belongs to."""
    count = labels.ndim - 2
    own = _lead_axes(labels, count)
    shared = _lead_axes(image, count) if image.ndim == labels.ndim else own
    return (shared if set(own) <= {"?"} else own) + "YX"


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


def unit_factors(layer: Layer, viewer: napari.Viewer) -> npt.NDArray[np.float64]:
    """Return how many of the viewer's units one of a layer's is, per axis: beside nm, napari shows µm in nm."""
    shared = getattr(viewer.dims, "units", None)  # napari 0.6 shows all layers as if in one unit
    if shared is None:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, shared[-layer.ndim :], strict=True)
    return np.array([float((1.0 * own).to(common).magnitude) for own, common in pairs])


def affine_map(
    layer: Layer, viewer: napari.Viewer | None = None, inverse: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (A, b) with which a layer maps its data coordinates to the world, p → A p + b, or back.

    The world is in the viewer's units; without a viewer in the layer's own.
    """
    n = layer.ndim
    factors = np.ones(n) if viewer is None else unit_factors(layer, viewer)
    origin = np.array(layer.data_to_world(np.zeros(n)), float)
    columns = [np.array(layer.data_to_world(unit), float) - origin for unit in np.eye(n)]
    a, b = np.stack(columns, axis=1) * factors[:, None], origin * factors
    if inverse:
        a = np.linalg.inv(a)
        b = -a @ b
    return a, b


def data_coordinates(layer: Layer, viewer: napari.Viewer, point: Sequence[float]) -> npt.NDArray[np.float64]:
    """Map a point of the viewer's world, of as many axes or others, into a layer's data."""
    own = np.zeros(layer.ndim)
    common = np.asarray(point, float)[-layer.ndim :]
    own[layer.ndim - len(common) :] = common
    a, b = affine_map(layer, viewer, inverse=True)
    return a @ own + b


def shown_plane(source: Source, layer: Layer, viewer: napari.Viewer) -> tuple[int, ...]:
    """Return the leading index of the plane that the viewer shows of an image, or of the nearest one."""
    lead = source.image.lead_shape
    at = np.rint(data_coordinates(layer, viewer, viewer.dims.point)[: len(lead)]).astype(int)
    return tuple(np.clip(at, 0, np.array(lead, int) - 1).tolist())


def positions_in(
    image: Image, other: Layer, positions: npt.NDArray[Any], viewer: napari.Viewer
) -> npt.NDArray[np.float64]:
    """Map positions of another layer into an image's pixels.

    Where the other layer has fewer axes, its positions lie on the planes that the viewer shows.
    """
    a, b = affine_map(other, viewer)
    world = np.asarray(positions, float) @ a.T + b
    missing = image.ndim - world.shape[1]
    if missing > 0:
        point = np.asarray(viewer.dims.point, float)[-image.ndim :][:missing]
        world = np.hstack([np.tile(point, (len(world), 1)), world])
    elif missing < 0:
        world = world[:, -missing:]
    a, b = affine_map(image, viewer, inverse=True)
    return world @ a.T + b


def size_factor(image: Image, other: Layer, viewer: napari.Viewer) -> float:
    """Return how many pixels of an image one pixel of another layer is long, over Y and X."""
    a, _ = affine_map(other, viewer)
    b, _ = affine_map(image, viewer, inverse=True)
    linear = b[-2:, -2:] @ a[-2:, -2:]
    return float(np.sqrt(abs(np.linalg.det(linear))))


def pixel_size_of(layer: Layer) -> float | None:
    """Return the micrometres per pixel; None where the units are no lengths, just pixels, or Y and X differ."""
    stretch = np.linalg.norm(layer.affine.linear_matrix[-2:, -2:], axis=0)
    y, x = (
        micrometres(abs(float(layer.scale[axis]) * float(stretch[axis])), str(layer.units[axis])) for axis in (-2, -1)
    )
    return square_pixel_size(y, x)


def whole_data(layer: Layer) -> Any:
    """Return a layer's pixels, of a multiscale one the full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def same_place(one: Layer, other: Layer, viewer: napari.Viewer) -> bool:
    """Say whether the pixels of two layers are the same places."""
    if whole_data(one).shape != whole_data(other).shape:
        return False
    (a, b), (c, d) = affine_map(one, viewer), affine_map(other, viewer)
    return bool(np.allclose(a, c) and np.allclose(b, d))


def painted_in(objects: Labels, painted: Labels, viewer: napari.Viewer) -> npt.NDArray[Any]:
    """Return what is painted in one Labels layer, in the pixels of another."""
    data = np.asarray(whole_data(painted))
    if same_place(objects, painted, viewer):
        return data
    shape = whole_data(objects).shape
    where = np.argwhere(data > 0)
    rounded = np.rint(positions_in(objects, painted, where, viewer)).astype(int)
    inside = ((rounded >= 0) & (rounded < shape)).all(axis=1)
    out = np.zeros(shape, data.dtype)
    out[tuple(rounded[inside].T)] = data[tuple(where[inside].T)]
    return out


def column_of(features: Any, column: str, what: str) -> Any:
    """Return a column of a layer's features.

    Raises
    ------
    ValueError
        Naming the columns that exist.
    """
    if column not in features.columns:
        has = ", ".join(map(str, features.columns))
        what_to_do = f"choose among {has}" if has else "set layer.features in the console"
        raise ValueError(f"The {what} have no feature {column!r}: {what_to_do}.")
    return features[column]


def filled_column(features: Any, column: str, what: str) -> Any:
    """Return a column of a layer's features as text, (N,); every cell must be filled.

    Raises
    ------
    ValueError
        If it is missing, or some are empty.
    """
    values = column_of(features, column, what)
    empty = values.isna() | (values.astype(str).str.strip() == "")
    if empty.any():
        some = "1 lacks" if empty.sum() == 1 else f"{int(empty.sum())} lack"
        raise ValueError(f"Of the {len(empty)} {what}, {some} a {column}: give each one in the features table.")
    return values.astype(str).to_numpy(dtype=np.str_)


def object_numbers(layer: Labels) -> npt.NDArray[Any]:
    """Return the number of the object that each row of a Labels layer's features is about, as napari reads them."""
    features = layer.features
    return features["index"].to_numpy() if "index" in features.columns else np.arange(len(features))


def add_image_like(viewer: napari.Viewer, source: Source, data: Any, name: str, record: dict[str, Any]) -> Image:
    """Add an image that looks like its source and lies where it lies; it may have been enlarged, or be a pyramid."""
    multiscale = isinstance(data, list)
    height = (data[0] if multiscale else data).shape[-3 if source.image.rgb else -2]
    factor = height // source.image.plane_shape[0]
    transform = refined(source.transform, factor) if factor > 1 else source.transform
    return viewer.add_image(
        data,
        name=f"{source.name} {name}",
        metadata={METADATA_KEY: record},
        multiscale=multiscale,
        **transform,
        **source.look,
    )


def levels_as_shown(data: Any, letters: str) -> Any:
    """Put an array's colour samples last, where napari wants them."""
    return np.moveaxis(data, letters.index("S"), -1) if "S" in letters else data


def refined(transform: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return where a layer lies whose pixels were each divided into ``factor`` × ``factor``; below 1, put together."""
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
    """Add a heat map as a translucent image, of which zero is see-through; a lazy one as a pyramid."""
    data = heat if isinstance(heat, np.ndarray) else _pyramid(heat)
    return viewer.add_image(
        data,
        multiscale=isinstance(data, list),
        name=f"{source.name} {name}",
        colormap=_heat_colormap(),
        contrast_limits=(0.0, 1.0),
        blending="translucent",
        opacity=0.75,
        metadata={METADATA_KEY: record},
        **source.transform,
    )


def _pyramid(array: Any) -> Any:
    """Return the levels of a large lazy array (…, Y, X), each the largest of 2 × 2 pixels of the one before."""
    import dask.array as da

    levels = [array]
    while max(levels[-1].shape[-2:]) > _ONE_LEVEL:
        levels.append(da.coarsen(np.max, levels[-1], {array.ndim - 2: 2, array.ndim - 1: 2}, trim_excess=True))
    return levels if len(levels) > 1 else array


def _heat_colormap() -> Any:
    """Return the heat maps' colours, see-through where there is no influence."""
    from matplotlib import colormaps
    from napari.utils import Colormap

    colours = colormaps[HEAT_COLORMAP](np.linspace(0, 1, 256))
    colours[:, 3] = np.clip(np.linspace(0, 1.5, 256), 0, 1)
    return Colormap(colours, name=f"{HEAT_COLORMAP}_translucent")


def add_contours(viewer: napari.Viewer, source: Source, result: Any, name: str, record: dict[str, Any]) -> Any:
    """Add critical areas as closed outlines; ``features`` hold class, probability and reasons of their sample."""
    import pandas as pd

    rows = [row for row, _ in result.contours]
    reasons = list(result.table.columns)[result.table.columns.get_loc("explained") :]
    features = result.table.iloc[rows][["class", "probability", *reasons]].reset_index(drop=True)
    features.insert(0, "sample", rows)
    ndim = len(source.image.lead_shape) + 2
    return viewer.add_shapes(
        [_corners(contour) for _, contour in result.contours] or None,
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


def _corners(contour: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the corners of a closed contour: napari cannot fill some polygons with repeated or straight points."""
    points = contour[:-1]
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    (y, x), (next_y, next_x) = (
        (np.roll(points, k, axis=0) - np.roll(points, k + 1, axis=0))[:, -2:].T for k in (0, -1)
    )
    corners: npt.NDArray[np.float64] = points[y * next_x != x * next_y]
    return corners if len(corners) > 2 else contour


def _outline_width(result: Any) -> float:
    side = result.crop_size or min(
        result.image.shape[-3:-1] if result.image.shape[-1] in (3, 4) else result.image.shape[-2:]
    )
    return float(np.clip(side / 100, 1, 8))


def code_of(layer: Layer | None) -> str:
    """Return the Python that made a layer, if one of our runs made it."""
    record = layer.metadata.get(METADATA_KEY, {}) if layer is not None else {}
    return str(record.get("python", ""))
