"""Masks that are given: drawn, painted, or made elsewhere."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ..filling import BoolArray, FillMode, Outcome
from ..images import PlaneImage
from ..progress import Progress, Steps, run, within
from ..recipe import Processed


def apply_mask(
    image: Any, mask: npt.ArrayLike, axes: str | None = None, *, rgb: bool = False, fill: FillMode = "zero"
) -> Any:
    """Keep the pixels of an image that a mask names, and fill the others.

    Parameters
    ----------
    image : array-like
        As for `mask`.
    mask : array-like
        Kept where it is not 0. Its axes are those of the image without S; or Y and X alone, in the image's order,
        which counts for every plane.
    axes, rgb
        As for `denoise`.
    fill : {"zero", "mean", "blur"}
        What the other pixels become: 0, the mean of the plane, or the plane under a Gaussian of a tenth of its shorter
        side.

    Returns
    -------
    array
        In memory; same shape and dtype.

    Raises
    ------
    ValueError
        For masks of another shape, other fills, and images that are not allowed.

    Examples
    --------
    >>> import numpy as np, napari_denoise_classify as ndc
    >>> image = np.array([[1, 2], [3, 4]], np.uint8)
    >>> ndc.apply_mask(image, image > 2).tolist()
    [[0, 0], [3, 4]]
    """
    return run(apply_mask_iter(PlaneImage.wrap(image, axes, rgb), mask, fill)).image


def apply_mask_iter(source: PlaneImage, mask: npt.ArrayLike, fill: FillMode = "zero") -> Steps[Processed]:
    """As `apply_mask`, with progress; also returns the mask and the fraction kept."""
    if fill not in get_args(FillMode):
        raise ValueError(f"fill={fill!r} is not allowed: give 'zero', 'mean' or 'blur'.")
    keep = _aligned(source, mask)
    yield Progress(0.0, "reading the image")
    ranges = yield from within(source.ranges_iter("image"), 0.0, 0.1)
    out = np.empty(source.data.shape, source.data.dtype)
    chunks = list(source.chunks())
    for i, indices in enumerate(chunks):
        yield Progress(0.1 + 0.9 * i / len(chunks), "masking")
        planes = Outcome.start(source.planes(indices, ranges))
        here = np.stack([keep[index] for index in indices])
        done = planes.mask(here, fill, np.array([ranges[index] for index in indices]))
        for index, plane in zip(indices, done.restore(source, indices, ranges, same=True), strict=True):
            out[index] = plane
    whole = PlaneImage(keep, source.axes.replace("S", "")).unwrap(keep)
    return Processed(source.unwrap(out), whole, float(keep.mean()))


def _aligned(source: PlaneImage, mask: npt.ArrayLike) -> BoolArray:
    """Return the mask in canonical order, one plane for each of the image's."""
    array = np.asarray(mask)
    array = array if array.dtype == bool else array != 0
    axes = source.axes.replace("S", "")
    shape = (*source.lead_shape, *source.plane_shape)
    for letters in (axes, "".join(letter for letter in axes if letter in "YX")):
        if array.ndim == len(letters) and array.size:
            data = PlaneImage.wrap(array, letters).data
            if data.shape in (shape, source.plane_shape):
                return np.broadcast_to(data, shape)
    raise ValueError(
        f"The mask has shape {array.shape}: give one of the image's shape without colours, or of the shape of a plane."
    )
