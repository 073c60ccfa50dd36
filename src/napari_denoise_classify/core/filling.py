"""What masked-out pixels become: one declaration for every masking step, one implementation for all masks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .images import FloatArray, Index, PlaneImage
from .parameters import param

BoolArray: TypeAlias = npt.NDArray[np.bool_]
FillMode: TypeAlias = Literal["zero", "mean", "blur"]

Fill = Annotated[
    FillMode,
    param("What masked-out pixels become: 0, the mean of the plane, or the plane strongly blurred."),
]
"""Every masking step has this parameter. The step itself tells what is kept; the recipe fills the rest."""

BLUR = 0.1
"""Width of the blur, as a part of the plane's shorter side."""


def filling(planes: FloatArray, fill: FillMode, zeros: npt.NDArray[np.float32]) -> FloatArray:
    """Return what masked-out pixels become.

    Parameters
    ----------
    planes : (N, Y, X, S) float32
    fill : {"zero", "mean", "blur"}
        ``"mean"``: of the whole plane, each sample on its own. ``"blur"``: the whole plane under a Gaussian of a tenth
        of its shorter side, mirrored at the borders.
    zeros : (N,) float32
        What an intensity of 0 is in each plane.

    Returns
    -------
    float32 that broadcasts with the planes

    Raises
    ------
    ValueError
        For other fills.
    """
    if fill == "zero":
        return zeros[:, None, None, None]
    if fill == "mean":
        return np.asarray(planes.mean(axis=(1, 2), keepdims=True, dtype=np.float64), np.float32)
    if fill == "blur":
        return _blurred(planes)
    raise ValueError(f"fill={fill!r} is not allowed: give 'zero', 'mean' or 'blur'.")


def _blurred(planes: FloatArray) -> FloatArray:
    """Blur in the cosine domain, where the width costs nothing and the borders are mirrors."""
    from scipy.fft import dctn, idctn

    height, width = planes.shape[1:3]
    sigma = BLUR * min(height, width)
    y, x = (np.exp(-0.5 * (np.pi * sigma * np.arange(n) / n) ** 2).astype(np.float32) for n in (height, width))
    out = np.empty_like(planes)
    for i, plane in enumerate(planes):
        spectrum = dctn(plane, axes=(0, 1), norm="ortho")
        out[i] = idctn(spectrum * y[:, None, None] * x[None, :, None], axes=(0, 1), norm="ortho")
    return out


class Outcome(NamedTuple):
    """Planes under work.

    Attributes
    ----------
    planes : (N, Y, X, S) float32
    kept : (N, Y, X) bool
        What all masks together kept.
    own : (N, Y, X) bool
        Pixels that no mask filled since the last denoising step.
    zero : (N, Y, X) bool
        Pixels that are filled with 0.
    """

    planes: FloatArray
    kept: BoolArray
    own: BoolArray
    zero: BoolArray

    @classmethod
    def start(cls, planes: FloatArray) -> Outcome:
        """Begin with planes as they are."""
        whole = np.ones(planes.shape[:3], bool)
        return cls(planes, whole, whole, ~whole)

    def mask(self, keep: BoolArray, fill: Any, ranges: npt.NDArray[np.float64]) -> Outcome:
        """Fill what is not kept; 0 and 1 stand for ``ranges`` (N, 2)."""
        zeros = (-ranges[:, 0] / (ranges[:, 1] - ranges[:, 0])).astype(np.float32)  # what intensity 0 maps to
        planes = np.where(keep[..., None], self.planes, filling(self.planes, fill, zeros))
        zero = (self.zero & keep) | ~keep if fill == "zero" else self.zero & keep
        return Outcome(planes, self.kept & keep, self.own & keep, zero)

    def replace(self, planes: FloatArray) -> Outcome:
        """Go on with denoised, perhaps enlarged planes."""
        factor = planes.shape[1] // self.planes.shape[1]
        kept = self.kept.repeat(factor, axis=1).repeat(factor, axis=2)
        return Outcome.start(planes)._replace(kept=kept)

    def restore(
        self, source: PlaneImage, indices: list[Index], ranges: dict[Index, tuple[float, float]], *, same: bool
    ) -> npt.NDArray[Any]:
        """Turn the planes back into the image's dtype, with exact zeros.

        With ``same``, which says that nothing denoised them, pixels that no mask filled are the source's own: not every
        32-bit number survives as a float32.
        """
        if same:
            restored = np.stack([source.raw_plane(index) for index in indices])
            filled = ~self.own & ~self.zero
            if filled.any():
                restored[filled] = source.restore(self.planes, indices, ranges)[filled]
        else:
            restored = source.restore(self.planes, indices, ranges)
        colour = restored[..., :3] if source.rgb else restored
        colour[self.zero] = 0
        return restored
