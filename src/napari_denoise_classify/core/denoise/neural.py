"""Denoising steps that run a network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ..images import FloatArray
from ..progress import Progress, Steps
from ..steps import param, step
from . import weights as weights_registry

if TYPE_CHECKING:
    from .networks.dncnn import DnCNN

_Sigma = Annotated[
    float | None,
    param(
        "Noise level of the image on a scale of 0 to 255; nothing = blind. Weights made for one level see the image "
        "rescaled so that its noise matches.",
        unit="grey levels",
        ge=0.1,
        le=255,
        step=1,
    ),
]
_Weights = Annotated[
    str,
    param(
        "auto = shipped, blind, gray or RGB as the image; or a name from the list; or a file.",
        file=weights_registry.FILE_FILTER,
        suggestions=lambda: weights_registry.names("dncnn"),
    ),
]


@lru_cache(maxsize=4)
def _network(path: Path, sha256: str, name: str) -> DnCNN:
    """Load a network; kept for the next call, the SHA-256 in the key sees a file that changed."""
    from .networks import build_from

    return build_from(weights_registry.read_tensors(path), f"The file {name}").eval()


def _record(samples: int, *, weights: str, **_: Any) -> dict[str, Any]:
    entry = weights_registry.resolve("dncnn", weights, samples)
    return {"weights": entry.name, "sha256": entry.sha256}


@step(
    "dncnn",
    kind="denoise",
    title="DnCNN",
    reference="Zhang et al., Beyond a Gaussian denoiser, IEEE TIP 26 (2017), doi:10.1109/TIP.2017.2662206",
    record=_record,
)
def dncnn(planes: FloatArray, *, sigma: _Sigma = None, weights: _Weights = "auto") -> Steps[FloatArray]:
    """Convolutional network that predicts and removes Gaussian noise."""
    from ..inference import predict_iter

    samples = planes.shape[-1]
    entry = weights_registry.resolve("dncnn", weights, samples)
    yield Progress(0.0, f"loading the weights {entry.name}")
    network = _network(weights_registry.locate(entry), entry.sha256, entry.name)
    per_sample = network.samples == 1 and samples == 3
    if network.samples == 3 and samples == 1:
        raise ValueError(
            f"dncnn: weights={weights!r} are for RGB images, and this image is gray. Choose 'auto' or gray ones."
        )
    x = _split_samples(planes) if per_sample else planes
    scale = np.float32(1.0 if sigma is None else np.clip(sigma, *entry.sigma) / sigma)
    y = yield from predict_iter(network, x * scale if scale != 1 else x, network.halo)
    if scale != 1:
        y /= scale
    return _join_samples(y, samples) if per_sample else y


def _split_samples(planes: FloatArray) -> FloatArray:
    """(N, Y, X, S) → (N · S, Y, X, 1): a gray network sees each colour sample by itself."""
    return np.ascontiguousarray(np.moveaxis(planes, -1, 1)).reshape(-1, *planes.shape[1:3], 1)


def _join_samples(planes: FloatArray, samples: int) -> FloatArray:
    return np.moveaxis(planes.reshape(-1, samples, *planes.shape[1:3]), 1, -1)
