"""A denoiser that is trained on the very image that it denoises."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from ..estimation import estimate_poisson_gaussian
from ..images import FloatArray
from ..parameters import param
from ..progress import Progress, Steps, within
from ..steps import step
from . import weights
from .anscombe import Anscombe

_TRAINING = 0.9  # the part of a run that training takes
_EPOCH = 50  # steps


def _record(samples: int, **_: Any) -> dict[str, Any]:
    start = weights.resolve("dncnn", "auto", samples)
    return {"weights": start.name, "sha256": start.sha256}


@step(
    "self_supervised",
    kind="denoise",
    title="Self-supervised",
    reference="Huang et al., Neighbor2Neighbor, CVPR (2021); Pang et al., Recorrupted-to-Recorrupted, CVPR (2021); "
    "Krull et al., Noise2Void, CVPR (2019); Metzler et al., SURE, arXiv:1805.10531",
    record=_record,
)
def self_supervised(
    planes: FloatArray,
    *,
    noise: Annotated[
        Literal["auto", "gaussian", "poisson_gaussian", "other"],
        param("Kind of the noise, whose level is estimated. Pixels must be independent in any case."),
    ] = "auto",
    loss: Annotated[
        Literal["auto", "neighbour2neighbour", "blind_spot", "r2r", "sure"],
        param("What replaces the clean image; auto = what fits the noise."),
    ] = "auto",
    training_steps: Annotated[int, param("Training steps; more take longer.", ge=1, le=100_000, step=100)] = 400,
    seed: Annotated[int, param("Of everything random in the training.", ge=0)] = 0,
) -> Steps[FloatArray]:
    """DnCNN that goes on learning from the image itself, without any clean image; takes minutes.

    It starts from the shipped network, which knows noise in general, and learns this noise and these structures. Noise
    that grows with the signal is made even before and restored after, so that bright parts do not rule the loss.
    """
    from .neural import open_network, run_network
    from .settings import DenoiserTraining
    from .training import train_denoiser_iter

    side = min(planes.shape[1:3])
    if side < 32:
        raise ValueError("self_supervised needs an image of at least 32 × 32 pixels: choose another method.")
    lines = []
    for i, plane in enumerate(planes):
        yield Progress(0.0, f"measuring the noise of plane {i + 1} of {len(planes)}")
        lines.append(estimate_poisson_gaussian(plane))
    gain, offset, read_noise = np.median([(v.gain, v.offset, v.read_noise) for v in lines], axis=0) / 255
    if np.median([max(v.dark, v.bright, v.read_noise) for v in lines]) == 0:
        return planes  # constant: there is nothing to learn, and nothing to remove
    kind = noise
    if noise == "auto":
        kind = "poisson_gaussian" if np.median([v.depends for v in lines]) else "gaussian"
    # On the scale of the planes; a noise without any gain has nothing to be made even.
    even = Anscombe(gain, offset, read_noise) if kind == "poisson_gaussian" and gain > 0 else None
    seen = planes if even is None else even.forward(planes.astype(np.float64)).astype(np.float32)
    config = DenoiserTraining(
        network="dncnn",
        samples=planes.shape[-1],
        noise="gaussian" if kind == "gaussian" else "",
        loss=loss,
        normalisation="dataset",
        epochs=max(1, training_steps // _EPOCH),
        steps_per_epoch=min(training_steps, _EPOCH),
        batch_size=8,
        patch=16 if side < 64 else 32 if side < 96 else 64,
        learning_rate=2e-4,
        seed=seed,
    )
    ranges: npt.NDArray[np.float64] = np.tile((0.0, 1.0), (len(planes), 1))
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "self.safetensors"
        images = {f"plane {i}": plane if plane.shape[-1] == 3 else plane[..., 0] for i, plane in enumerate(seen)}
        start = weights.locate(weights.resolve("dncnn", "auto", planes.shape[-1]))
        work = train_denoiser_iter(own, inputs=images, config=config, start_from=start)
        yield from within(work, 0.0, _TRAINING, "training")
        loaded, _ = open_network("dncnn", str(own), planes.shape[-1])
    yield Progress(_TRAINING, "denoising")
    out = yield from within(run_network(loaded, seen, ranges, self_ensemble=True), _TRAINING, 1.0)
    return out if even is None else even.inverse(out.astype(np.float64)).astype(np.float32)
