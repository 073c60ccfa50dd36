"""Random variants of training images, and the eight symmetric views of an image; whole batches at once.

Tellez et al.: Quantifying the effects of data augmentation and stain color normalization in convolutional neural
networks for computational pathology. Medical Image Analysis 58 (2019). Stains as in Ruifrok and Johnston:
Quantification of histochemical staining by color deconvolution. Anal. Quant. Cytol. Histol. 23 (2001).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import affine_grid, grid_sample

VIEWS = 8
_ZOOM = 0.15  # largest change of the logarithm of the scale
_SHIFT = 1 / 16  # largest shift, as a part of the side
_STAIN_GAIN = 0.15
_STAIN_OFFSET = 0.015  # optical density
_DARKEST = 1 / 255


def views(x: torch.Tensor, count: int = VIEWS) -> Iterator[torch.Tensor]:
    """Yield the first of the eight turns and mirror images of square images.

    Parameters
    ----------
    x : (..., Y, X) tensor
    count : int
        1 is the image itself, 2 adds its half turn, 4 are all turns, 8 also their mirror images.
    """
    for k in range(count):
        yield _view(x, k)


def vary(x: torch.Tensor, rng: np.random.Generator, strong: bool) -> torch.Tensor:
    """Turn, mirror and recolour training images, each in its own way.

    Parameters
    ----------
    x : (N, S, Y, X) float32 tensor
        Square, in 0..1.
    rng : numpy.random.Generator
    strong : bool
        Besides turns by right angles, mirror images, and brightness and colour: half of the images are turned by any
        angle, zoomed by up to 16 % and shifted by up to a sixteenth of their side; the stains of RGB images vary.

    Returns
    -------
    (N, S, Y, X) float32 tensor
        New; it may leave 0..1 a little.
    """
    x = _turned(x, rng)
    if strong:
        # Half of them only: interpolation smooths, and the images to predict are not smoothed.
        chosen = torch.from_numpy(np.flatnonzero(rng.random(len(x)) < 0.5)).to(x.device)
        if len(chosen):
            x[chosen] = _moved(x[chosen], rng)
        if x.shape[1] == 3:
            x = _restained(x, rng)
    n, samples = x.shape[:2]
    # Each sample by itself: stains and illumination vary between slides.
    gain = _uniform(rng, 0.9, 1.1, (n, samples, 1, 1), x)
    return x * gain + _uniform(rng, -0.05, 0.05, (n, samples, 1, 1), x)


def _uniform(
    rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...], like: torch.Tensor
) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)).to(like.device)


def _view(x: torch.Tensor, k: int) -> torch.Tensor:
    turned = torch.rot90(x, (0, 2, 1, 3)[k % 4], (-2, -1))
    return turned.flip(-1) if k >= 4 else turned


def _turned(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    which = rng.integers(VIEWS, size=len(x))
    out = torch.empty_like(x)
    for k in range(VIEWS):
        chosen = torch.from_numpy(np.flatnonzero(which == k)).to(x.device)
        out[chosen] = _view(x[chosen], k)
    return out


def _moved(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Turn by any angle, zoom and shift; beyond the border the image is reflected."""
    n = len(x)
    angle, zoom = rng.uniform(-np.pi, np.pi, n), np.exp(rng.uniform(-_ZOOM, _ZOOM, n))
    shift = rng.uniform(-2 * _SHIFT, 2 * _SHIFT, (n, 2, 1))  # the grid runs from -1 to 1
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    matrix: npt.NDArray[np.float64] = np.concatenate([np.array([[cosine, -sine], [sine, cosine]]).T, shift], axis=2)
    grid = affine_grid(torch.from_numpy(matrix.astype(np.float32)).to(x.device), list(x.shape), align_corners=False)
    return grid_sample(x, grid, "bilinear", "reflection", align_corners=False)


def _restained(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary how much haematoxylin, eosin and remainder there is, in optical density."""
    from skimage.color import rgb_from_hed

    stains = torch.from_numpy(np.asarray(rgb_from_hed, np.float32)).to(x.device)
    density = -x.clamp(_DARKEST, 1).log()
    amounts = torch.einsum("nsyx,st->ntyx", density, torch.linalg.inv(stains))
    amounts = amounts * _uniform(rng, 1 - _STAIN_GAIN, 1 + _STAIN_GAIN, (len(x), 3, 1, 1), x)
    amounts = amounts + _uniform(rng, -_STAIN_OFFSET, _STAIN_OFFSET, (len(x), 3, 1, 1), x)
    return (-torch.einsum("ntyx,ts->nsyx", amounts, stains)).exp().clamp(0, 1)
