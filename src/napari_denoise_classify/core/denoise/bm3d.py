"""BM3D: groups of like patches, denoised together in three dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt

from ..device import best_device, with_room_iter
from ..images import FloatArray
from ..parameters import param
from ..progress import Progress, Steps, within
from ..steps import step
from .classical import Sigma, from_opponent, noise_levels_iter, opponent

if TYPE_CHECKING:
    import torch

_PATCH = 8
_SMALLEST = 2 * _PATCH  # a shorter side has too few patches for a group
_BLOCK = 8  # groups along each side of a block, whose candidates are compared in one matrix product
_BLOCKS = {"cpu": 16, "cuda": 256, "mps": 64}  # blocks at once: what fits a CPU's cache, or keeps a GPU busy
_KAISER = 2.0
# The authors leave poor matches out of a group; full groups need no such limit, and these thresholds make up for it.
_THRESHOLD = 2.9  # of a coefficient, in units of sigma
_WIENER = 0.5  # the noise's variance in the Wiener filter, in units of sigma²
_FIRST_GROUP, _SECOND_GROUP = 16, 32


def _wavelet() -> npt.NDArray[np.float64]:
    """Return the biorthogonal wavelet transform of a patch's side, rows of length 1."""
    from pywt import dwt

    matrix, length = np.eye(_PATCH), _PATCH
    while length > 1:
        low, high = dwt(matrix[:length], "bior1.5", mode="periodization", axis=0)
        matrix[:length] = np.concatenate([low, high])
        length //= 2
    rows: npt.NDArray[np.float64] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return rows


def _cosine() -> npt.NDArray[np.float64]:
    from scipy.fft import dct

    matrix: npt.NDArray[np.float64] = dct(np.eye(_PATCH), axis=0, norm="ortho")
    return matrix


def _haar(size: int) -> npt.NDArray[np.float64]:
    """Return the orthonormal Haar transform along a group."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.vstack([np.kron(matrix, [1, 1]), np.kron(np.eye(len(matrix)), [1, -1])])
    rows: npt.NDArray[np.float64] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return rows


def _matches(guide: torch.Tensor, radius: int, stride: int, size: int) -> Iterator[tuple[float, torch.Tensor]]:
    """Find the patches that are most like each of a grid of patches, which is always the first of its group.

    Parameters
    ----------
    guide : (Y, X) float32
    radius : int
        How far away to look, in pixels.
    stride : int
        Of the grid; divides (Y - 8) and (X - 8).
    size : int
        Patches in a group.

    Yields
    ------
    done : float
        From 0 to 1.
    corners : (N, size) int64
        Upper left pixel of each patch, as an index into the flattened image.
    """
    import torch
    from torch.nn import functional

    height, width = (side - _PATCH + 1 for side in guide.shape)  # positions of patches
    device = guide.device
    guide = guide - guide.mean()  # keeps the digits that tell squares apart
    rows, columns = (-(-((n - 1) // stride + 1) // _BLOCK) for n in (height, width))
    window, step = 2 * radius + 1, stride * _BLOCK
    reach = stride * (_BLOCK - 1) + window  # a block's candidates along each side
    squares = functional.avg_pool2d(guide[None, None] ** 2, _PATCH, 1)[0, 0] * _PATCH**2

    def blocks(image: torch.Tensor, side: int, value: float) -> torch.Tensor:
        """Cut an image into what each block sees, (rows, columns, side, side), overlapping and without a copy."""
        bottom, right = ((n - 1) * step + side for n in (rows, columns))
        border = (radius, max(0, right - radius - image.shape[1]), radius, max(0, bottom - radius - image.shape[0]))
        padded = functional.pad(image, border, value=value)
        return padded.unfold(0, side, step).unfold(1, side, step)

    pixels = blocks(guide, reach + _PATCH - 1, 0.0)
    energies = blocks(squares, reach, torch.inf)  # beyond the border there is nothing to find
    own = torch.arange(_BLOCK, device=device) * stride
    chunk = _BLOCKS.get(device.type, _BLOCKS["cpu"])
    for row in range(rows):
        for first in range(0, columns, chunk):
            some = slice(first, min(first + chunk, columns))
            count = some.stop - first
            candidates = functional.unfold(pixels[row, some, None], _PATCH)  # (count, 64, reach²)
            at = (radius + own)[:, None] * reach + radius + own
            patches = candidates[:, :, at.flatten()]
            # |p - c|² without |p|², which is the same for all candidates of p
            distances = torch.baddbmm(
                energies[row, some].reshape(count, 1, -1), patches.transpose(1, 2), candidates, alpha=-2
            )
            # Each patch looks at its own window of what its block sees.
            near = distances.as_strided(
                (count, _BLOCK, _BLOCK, window, window),
                (distances.stride(0), _BLOCK * reach**2 + stride * reach, reach**2 + stride, reach, 1),
            ).reshape(count, _BLOCK, _BLOCK, window**2)
            near[..., window**2 // 2] = -torch.inf
            chosen = near.topk(size, largest=False).indices
            y = (row * step + own)[None, :, None]
            x = (torch.arange(first, some.stop, device=device)[:, None] * step + own)[:, None, :]
            top = y[..., None] + chosen // window - radius
            left = x[..., None] + chosen % window - radius
            inside = (y < height) & (x < width)
            yield (row * columns + some.stop) / (rows * columns), (top * guide.shape[1] + left)[inside]


def _stage(
    noisy: torch.Tensor, basic: torch.Tensor | None, sigma: float, radius: int, stride: int
) -> Steps[torch.Tensor]:
    """Filter every group: by a threshold, or by Wiener's filter where there is a basic estimate.

    Parameters
    ----------
    noisy, basic : (S, Y, X) float32
        Patches are matched by the first sample, of the basic estimate where there is one.
    sigma : float
    radius, stride : int
    """
    import torch

    def constant(array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(noisy)

    samples, _, width = noisy.shape
    flat = noisy.flatten(1)
    size = _FIRST_GROUP if basic is None else _SECOND_GROUP
    side = _wavelet() if basic is None else _cosine()
    both = np.kron(side, side)
    forth, back, along = constant(both.T), constant(np.linalg.inv(both).T), constant(_haar(size))
    line = np.kaiser(_PATCH, _KAISER)
    window = constant(np.outer(line, line).ravel())
    pixel = torch.arange(_PATCH, device=noisy.device)
    offsets = (pixel[:, None] * width + pixel).flatten()
    total, weights = torch.zeros_like(flat), torch.zeros_like(flat)
    for done, corners in _matches((noisy if basic is None else basic)[0], radius, stride, size):
        where = corners[..., None] + offsets  # (groups, size, 64)
        for s in range(samples):
            spectrum = along @ (flat[s][where] @ forth)
            if basic is None:
                kept = spectrum.abs() > _THRESHOLD * sigma
                kept[:, 0, 0] = True
                spectrum = spectrum * kept
                weight = 1 / kept.sum((1, 2))
            else:
                energy = (along @ (basic.flatten(1)[s][where] @ forth)) ** 2
                gain = energy / (energy + _WIENER * sigma**2)
                spectrum = spectrum * gain
                weight = 1 / (gain**2).sum((1, 2)).clamp(min=1e-6)
            share = (weight[:, None, None] * window).expand(where.shape)
            patches = along.T @ spectrum @ back
            total[s].index_add_(0, where.flatten(), (patches * share).flatten())
            weights[s].index_add_(0, where.flatten(), share.flatten())
        yield Progress(done)
    return (total / weights).reshape(noisy.shape)


def _denoise_on(
    noisy: torch.Tensor, sigma: float, radius: int, stride: int, device: torch.device
) -> Steps[tuple[torch.Tensor, torch.device]]:
    return (yield from _denoise(noisy.to(device), sigma, radius, stride)), device


def _denoise(noisy: torch.Tensor, sigma: float, radius: int, stride: int) -> Steps[torch.Tensor]:
    basic = yield from within(_stage(noisy, None, sigma, radius, stride), 0.0, 0.45)
    return (yield from within(_stage(noisy, basic, sigma, radius, stride), 0.45, 1.0))


def _halo(samples: int, *, sigma: float | None, search_distance: int, stride: int) -> tuple[int, int] | None:
    """Tell the reach: a patch meets others twice as far away as a group looks, in each of two stages.

    Of patches that are equally alike to the last digit, a block may choose others than the whole plane does.
    """
    if sigma is None:
        return None
    return 2 * (2 * search_distance + _PATCH - 1), stride


@step(
    "bm3d",
    kind="denoise",
    title="BM3D",
    reference="Dabov et al., Image denoising by sparse 3-D transform-domain collaborative filtering, IEEE TIP 16 "
    "(2007), doi:10.1109/TIP.2007.901238",
    halo=_halo,
)
def bm3d(
    planes: FloatArray,
    *,
    sigma: Sigma = None,
    search_distance: Annotated[
        int, param("How far away to look for like patches; time grows with its square.", unit="px", ge=5, le=40)
    ] = 19,
    stride: Annotated[int, param("Distance between groups; 1 = best, 6 = fastest.", unit="px", ge=1, le=6)] = 3,
) -> Steps[FloatArray]:
    """Filter groups of patches that look alike together; the best of the classical methods, slower than most.

    Colour images are taken apart into luminance and colour differences; patches are matched by luminance.
    """
    import torch

    device = best_device()
    height, width = planes.shape[1:3]
    # The last group of a row ends at the border.
    tall, wide = (side + (_PATCH - side) % stride for side in (max(height, _SMALLEST), max(width, _SMALLEST)))
    border = ((0, tall - height), (0, wide - width), (0, 0))
    out = planes.copy()
    levels = yield from within(noise_levels_iter(planes, sigma), 0.0, 0.0)
    for i, level in enumerate(levels):
        share = i / len(planes), (i + 1) / len(planes)
        yield Progress(share[0], f"plane {i + 1} of {len(planes)}")
        if level <= 0:
            continue
        x = torch.from_numpy(np.pad(opponent(planes[i]), border, mode="symmetric")).permute(2, 0, 1).contiguous()
        work = partial(_denoise_on, x, level, search_distance, stride)
        y, device = yield from within(with_room_iter(device, work), *share)  # where there is room, for the next one too
        out[i] = from_opponent(y[:, :height, :width].permute(1, 2, 0).cpu().numpy())
    return out
