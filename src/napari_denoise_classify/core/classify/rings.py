"""What lies how far from the middle of a crop: stains, colour and structure in rings around it.

For crops around one nucleus or cell: the middle is the object, and the outer rings are what surrounds it. Stains as in
Ruifrok and Johnston: Quantification of histochemical staining by color deconvolution. Anal. Quant. Cytol. Histol. 23
(2001).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..images import FloatArray

_COLOURS = {1: ("intensity",), 3: ("haematoxylin", "eosin", "lightness", "green_red", "blue_yellow")}
_GRADIENTS = (1.0, 2.0)  # standard deviations of Gaussians, in pixels
_BLOBS = (1.5, 3.0, 5.0)
_RIDGES = (1.5, 3.0)
_STRUCTURES = (
    *(f"gradient_{sigma:g}px" for sigma in _GRADIENTS),
    *(f"blob_{sigma:g}px" for sigma in _BLOBS),
    *(f"{kind}_{sigma:g}px" for sigma in _RIDGES for kind in ("valley", "ridge")),
)
_RINGS = (0.25, 0.5, 0.75)  # outer radii, of half the side; then what is further away, then the whole crop
_RING_NAMES = ("centre", "inner", "middle", "outer", "all")
_PERCENTILES = (10, 50, 90)
_FIGURES = ("mean", "sd", *(f"p{q}" for q in _PERCENTILES))


def ring_names(samples: int) -> list[str]:
    """Return the names of the figures of images of 1 or 3 samples."""
    channels = (*_COLOURS[samples], *_STRUCTURES)
    return [f"{ring}_{name}_{figure}" for ring in _RING_NAMES for figure in _FIGURES for name in channels]


def describe_rings(image: FloatArray) -> dict[str, float]:
    """Measure mean, deviation and percentiles of colours and structures in four rings and in the whole crop.

    Colours of RGB images: haematoxylin and eosin in optical density, and lightness, green to red, blue to yellow (CIE
    L*a*b*). Structures, of haematoxylin or of a gray image: gradient magnitude, Laplacian of Gaussian (blobs) and both
    eigenvalues of the Hessian matrix (ridges and valleys), at several scales.

    Parameters
    ----------
    image : (Y, X, S) float32
        In 0..1; the radii are parts of half the shorter side.

    Returns
    -------
    dict of str to float
        As `ring_names` lists them; NaN for a ring without pixels.
    """
    channels = _channels(image)
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) / (min(height, width) / 2)
    ring = np.searchsorted(_RINGS, radius, side="right")
    figures: list[npt.NDArray[np.float64]] = []
    for k in range(len(_RING_NAMES)):
        values = channels[:, ring == k] if k <= len(_RINGS) else channels.reshape(len(channels), -1)
        if not values.shape[1]:
            figures += len(_FIGURES) * [np.full(len(channels), np.nan)]
            continue
        figures += [values.mean(axis=1), values.std(axis=1), *np.percentile(values, _PERCENTILES, axis=1)]
    names = ring_names(image.shape[-1])
    return {name: float(value) for name, value in zip(names, np.concatenate(figures), strict=True)}


def _channels(image: FloatArray) -> npt.NDArray[np.float64]:
    """Return (channels, Y, X)."""
    from scipy import ndimage as ndi
    from skimage.color import rgb2hed, rgb2lab

    pixels = image.astype(np.float64)
    if image.shape[-1] == 3:
        pixels = pixels.clip(0, 1)
        stains = rgb2hed(pixels)[..., :2]
        colours = np.moveaxis(np.concatenate([stains, rgb2lab(pixels)], axis=-1), -1, 0)
    else:
        colours = np.moveaxis(pixels, -1, 0)
    plane = colours[0]
    found = [ndi.gaussian_gradient_magnitude(plane, sigma) for sigma in _GRADIENTS]
    found += [ndi.gaussian_laplace(plane, sigma) for sigma in _BLOBS]
    for sigma in _RIDGES:
        yy, yx, xx = (ndi.gaussian_filter(plane, sigma, order=order) for order in ((2, 0), (1, 1), (0, 2)))
        middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
        found += [middle + spread, middle - spread]
    return np.concatenate([colours, np.stack(found)])
