"""Labels and Shapes layers as masks: brought into the pixels of an image through both layers' transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .layers import data_coordinates, positions_in, take

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Shapes

BoolArray = npt.NDArray[np.bool_]


def mask_from_layer(viewer: napari.Viewer, image: Image, layer: Labels | Shapes, label: int | None = None) -> BoolArray:
    """Return where a layer has labels or shapes, in the pixels of an image.

    A layer with fewer axes than the image counts for each of its planes; of one with more axes, what the viewer shows
    counts. A pixel has the label in which its centre lies. A shape that was drawn in a stack is on its own plane alone.

    Parameters
    ----------
    viewer : napari.Viewer
    image : Image
    layer : Labels or Shapes
    label : int, optional
        Only this label. Default: every one but 0.

    Returns
    -------
    array of bool
        The image's axes without the samples of RGB.

    Raises
    ------
    ValueError
        If the layer holds nothing of the kind within the image.
    """
    source = take(image).image
    shape = (*source.lead_shape, *source.plane_shape)
    mask = np.zeros(shape, bool)
    if hasattr(layer, "to_masks"):
        what = "no shape"
        _draw(viewer, image, layer, mask)
    else:
        what = "no label" if label is None else f"no label {label}"
        _look_up(viewer, image, layer, label, mask)
    if not mask.any():
        raise ValueError(f"{layer.name} has {what} on {image.name}: choose another layer or label.")
    return mask


def _look_up(viewer: napari.Viewer, image: Image, labels: Labels, label: int | None, mask: BoolArray) -> None:
    data = np.asarray(labels.data[0] if labels.multiscale else labels.data)
    height, width = mask.shape[-2:]
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    found = None
    for index in np.ndindex(mask.shape[:-2]):
        if found is None or labels.ndim > 2:
            corners = np.array([(*index, *corner) for corner in ((0, 0), (1, 0), (0, 1))], float)
            origin, down, right = positions_in(labels, image, corners, viewer)  # the map between layers is affine
            where = [
                np.floor(origin[k] + y * (down - origin)[k] + x * (right - origin)[k] + 0.5) for k in range(data.ndim)
            ]
            inside = np.logical_and.reduce([(w >= 0) & (w < n) for w, n in zip(where, data.shape, strict=True)])
            values = data[tuple(np.clip(w, 0, n - 1).astype(np.intp) for w, n in zip(where, data.shape, strict=True))]
            found = inside & (values != 0 if label is None else values == label)
        mask[index] = found


def _draw(viewer: napari.Viewer, image: Image, shapes: Shapes, mask: BoolArray) -> None:
    from napari.layers import Shapes

    n_lead = mask.ndim - 2
    more = max(0, shapes.ndim - image.ndim)
    shown = np.rint(data_coordinates(shapes, viewer, viewer.dims.point)[:more])
    for outline, kind in zip(shapes.data, shapes.shape_type, strict=True):
        on = np.rint(outline[:, :more])
        if not ((on.min(axis=0) <= shown) & (shown <= on.max(axis=0))).all():
            continue  # it is drawn on a plane that the viewer does not show
        corners = positions_in(image, shapes, outline, viewer)
        # A rectangle need not be one in the image's pixels.
        flat: Any = Shapes([corners[:, n_lead:]], shape_type="polygon" if kind == "rectangle" else kind)
        drawn = flat.to_masks(mask.shape[-2:])[0]
        if shapes.ndim < image.ndim:
            mask |= drawn
            continue
        first, last = (
            np.rint(corners[:, :n_lead]).astype(int)
            for corners in (corners.min(axis=0, keepdims=True), corners.max(axis=0, keepdims=True))
        )
        planes = tuple(slice(max(0, a), max(0, b + 1)) for a, b in zip(first[0], last[0], strict=True))
        mask[planes] |= drawn
