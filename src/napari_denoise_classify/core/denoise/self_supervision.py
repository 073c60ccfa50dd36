"""A denoiser that is trained on the very image that it denoises."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..progress import Progress, Steps, within
from ..steps import param, step

_TRAINING = 0.95  # the part of a run that training takes


@step(
    "self_supervised",
    kind="denoise",
    title="Self-supervised",
    reference="Huang et al., Neighbor2Neighbor, CVPR (2021); Pang et al., Recorrupted-to-Recorrupted, CVPR (2021); "
    "Krull et al., Noise2Void, CVPR (2019); Metzler et al., SURE, arXiv:1805.10531",
)
def self_supervised(
    planes: FloatArray,
    *,
    loss: Annotated[
        Literal["auto", "neighbour2neighbour", "blind_spot", "r2r", "sure"],
        param("What replaces the clean image; auto = what fits the noise."),
    ] = "auto",
    noise: Annotated[
        Literal["unknown", "gaussian", "poisson_gaussian"],
        param("Kind of the noise, if it is known; its level is estimated. Pixels must be independent in any case."),
    ] = "unknown",
    training_steps: Annotated[int, param("Training steps; more take longer.", ge=1, le=100_000, step=100)] = 800,
    seed: Annotated[int, param("Of everything random in the training.", ge=0)] = 0,
) -> Steps[FloatArray]:
    """Small U-Net trained on the image itself, without any clean image; takes minutes."""
    from .neural import open_network, run_network
    from .settings import DenoiserTraining
    from .training import train_denoiser_iter

    side = min(planes.shape[1:3])
    if side < 32:
        raise ValueError("self_supervised needs an image of at least 32 × 32 pixels: choose another method.")
    config = DenoiserTraining(
        network="unet",
        samples=planes.shape[-1],
        depth=2 if side < 96 else 3,
        noise=noise if noise != "unknown" else "",
        loss=loss,
        normalisation="dataset",
        epochs=max(1, training_steps // 100),
        steps_per_epoch=min(training_steps, 100),
        batch_size=8,
        patch=16 if side < 64 else 32 if side < 96 else 64,
        learning_rate=1e-3,
        seed=seed,
    )
    ranges: npt.NDArray[np.float64] = np.tile((0.0, 1.0), (len(planes), 1))
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "self.safetensors"
        images = {f"plane {i}": plane if plane.shape[-1] == 3 else plane[..., 0] for i, plane in enumerate(planes)}
        work = train_denoiser_iter(weights, inputs=images, config=config)
        yield from within(work, 0.0, _TRAINING, "training")
        loaded, _ = open_network("unet", str(weights), planes.shape[-1])
    yield Progress(_TRAINING, "denoising")
    return (yield from within(run_network(loaded, planes, ranges), _TRAINING, 1.0))
