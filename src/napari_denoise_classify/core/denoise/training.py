"""Training a denoiser on clean images and fresh synthetic noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._version import __version__
from ..device import best_device, place
from ..files import ImageFile, find_images, read_image, write_whole
from ..fitting import fit_iter
from ..images import FloatArray, PlaneImage
from ..noise import add_gaussian, psnr
from ..progress import Progress, Steps, within
from .weights import sha256_of

if TYPE_CHECKING:
    import torch

_VALIDATION_SIGMAS = (15.0, 25.0, 50.0)
_VALIDATION_SIDE = 128
_VALIDATION_CROPS = 16


@dataclass(frozen=True)
class DenoiserTraining:
    """How a DnCNN is trained.

    Attributes
    ----------
    samples : int
        1 for gray, 3 for RGB. Gray networks trained on RGB files see their luminance.
    depth, features : int
    sigma : (float, float)
        Lowest and highest noise level; drawn anew for each patch. Equal ends train for one level.
    epochs, steps_per_epoch, batch_size : int
    patch : int
        Side of the training patches, in pixels.
    learning_rate : float
        Peak of the one-cycle schedule.
    seed : int
    mixed_precision : bool
        Convolutions in bfloat16; the weights stay float32. Pays on GPUs and on CPUs with bfloat16 units.
    """

    samples: int = 1
    depth: int = 17
    features: int = 64
    sigma: tuple[float, float] = (0.0, 55.0)
    epochs: int = 50
    steps_per_epoch: int = 200
    batch_size: int = 32
    patch: int = 48
    learning_rate: float = 1e-3
    seed: int = 0
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        if self.samples not in (1, 3):
            raise ValueError(f"samples={self.samples} is not allowed: give 1 (gray) or 3 (RGB).")
        low, high = self.sigma
        if not 0 <= low <= high <= 255:
            raise ValueError(f"sigma={self.sigma} is not allowed: give two numbers with 0 ≤ low ≤ high ≤ 255.")
        least = {"depth": 3, "features": 1, "epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "patch": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed: give a whole number of at least {minimum}."
                )
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate={self.learning_rate} is not allowed: give a number above 0.")


def load_clean(paths: Sequence[str | Path], samples: int) -> dict[str, list[FloatArray]]:
    """Read clean images for training.

    Parameters
    ----------
    paths : sequence
        Files, folders, globs.
    samples : int
        1 or 3. RGB files become their luminance for 1; gray files are left out for 3.

    Returns
    -------
    dict
        From file to its planes, each (Y, X, samples) float32 in 0..1.

    Raises
    ------
    ValueError
        If a file cannot be read, or none is left.
    """
    clean: dict[str, list[FloatArray]] = {}
    for path in find_images(paths):
        planes = _planes(read_image(path), samples)
        if planes:
            clean[str(path)] = planes
    if not clean:
        raise ValueError("There are no RGB images among the files: train with samples=1, or add RGB images.")
    return clean


def _planes(file: ImageFile, samples: int) -> list[FloatArray]:
    image = PlaneImage.wrap(file.data, file.axes)
    if samples == 3 and not image.rgb:
        return []
    ranges = image.ranges("image")
    planes = [image.planes([index], ranges)[0] for index in image.indices()]
    if samples == 1 and image.rgb:
        luminance = np.array([0.299, 0.587, 0.114], np.float32)
        planes = [(p @ luminance)[..., None] for p in planes]
    return planes


def _patches(planes: list[FloatArray], config: DenoiserTraining, epoch: int) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Draw an epoch's batches of (noisy, clean) patches; they depend on the seed and the epoch alone."""
    rng = np.random.default_rng((config.seed, epoch))
    big = [p for p in planes if min(p.shape[:2]) >= config.patch]
    weights = np.array([p.shape[0] * p.shape[1] for p in big], float)
    weights = np.sqrt(weights / weights.sum())  # large images count more, but do not drown the others
    weights /= weights.sum()
    for _ in range(config.steps_per_epoch):
        clean = np.empty((config.batch_size, config.patch, config.patch, config.samples), np.float32)
        for i, k in enumerate(rng.choice(len(big), config.batch_size, p=weights)):
            plane = big[k]
            y, x = (int(rng.integers(n - config.patch + 1)) for n in plane.shape[:2])
            patch = plane[y : y + config.patch, x : x + config.patch]
            patch = np.rot90(patch, int(rng.integers(4)))
            clean[i] = patch[:, ::-1] if rng.random() < 0.5 else patch
        sigma = rng.uniform(*config.sigma, config.batch_size).astype(np.float32) / 255
        noise: FloatArray = rng.standard_normal(clean.shape, dtype=np.float32)
        noise *= sigma[:, None, None, None]
        noise += clean
        yield noise, clean


def train_denoiser_iter(
    clean: dict[str, list[FloatArray]],
    validation: dict[str, list[FloatArray]],
    output: Path,
    config: DenoiserTraining,
    *,
    name: str = "",
    command: str = "",
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Train a DnCNN on clean images, and write its weights and a record of how it was made.

    Parameters
    ----------
    clean, validation : dict
        From `load_clean`. Validation scores are the mean PSNR over σ 15, 25 and 50 (or the one trained level), with
        the same noise in every epoch.
    output : Path
        ``.safetensors`` file; the record goes beside it as ``.json``, the checkpoint as ``.checkpoint``.
    config : DenoiserTraining
    name, command : str
        For the record.
    resume : bool
        Take up the checkpoint if there is one.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If no image is as large as a patch.
    """
    import torch
    from safetensors.torch import save_file

    from .networks.dncnn import DnCNN

    planes = [p for group in clean.values() for p in group]
    if not any(min(p.shape[:2]) >= config.patch for p in planes):
        raise ValueError(f"patch={config.patch} is not allowed: no training image is that large. Give a smaller one.")
    torch.manual_seed(config.seed)
    device = best_device()
    network = place(DnCNN(config.samples, config.depth, config.features), device)
    sigmas = _VALIDATION_SIGMAS if config.sigma[0] < config.sigma[1] else (config.sigma[0],)
    held_out = _validation_crops([p for group in validation.values() for p in group], config.seed)

    def tensor(batch: FloatArray) -> torch.Tensor:
        return torch.from_numpy(batch).to(device).permute(0, 3, 1, 2)

    def loss(batch: tuple[FloatArray, FloatArray]) -> torch.Tensor:
        noisy, target = (tensor(part) for part in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision):
            noise = network.model(noisy)
        return torch.nn.functional.l1_loss(noisy - noise.float(), target)

    def figures() -> dict[str, float]:
        found: dict[str, float] = {}
        for sigma in sigmas:
            values = []
            for i, crop in enumerate(held_out):
                noisy = add_gaussian(crop, sigma, np.random.default_rng((config.seed, i)), 1.0)
                with torch.inference_mode():
                    out = network(tensor(noisy[None])).permute(0, 2, 3, 1)[0].cpu().numpy()
                values.append(psnr(crop, np.clip(out, 0, 1), 1.0))
            found[f"psnr_{sigma:g}"] = float(np.mean(values))
        return found

    def score() -> float:
        return float(np.mean(list(figures().values())))

    checkpoint = output.with_suffix(".checkpoint")
    if not resume:
        checkpoint.unlink(missing_ok=True)
    yield Progress(0.0, f"{len(planes)} planes of {len(clean)} files")
    fit = yield from within(
        fit_iter(
            network,
            lambda epoch: _patches(planes, config, epoch),
            loss,
            score,
            epochs=config.epochs,
            steps_per_epoch=config.steps_per_epoch,
            learning_rate=config.learning_rate,
            clip_norm=0.5,
            checkpoint=checkpoint,
        ),
        0.0,
        1.0,
    )
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write_whole(output, lambda path: save_file(state, path))
    record = {
        "name": name or output.stem,
        "step": "dncnn",
        "samples": config.samples,
        "sigma": list(config.sigma),
        "sha256": sha256_of(output),
        "size": output.stat().st_size,
        "licence": "BSD-3-Clause",
        "file": output.name,
        "training": {
            "command": command,
            "package_version": __version__,
            "torch_version": torch.__version__,
            "config": asdict(config),
            "files": len(clean),
            "validation_files": len(validation),
            "best_epoch": fit.best_epoch,
            "epochs_done": len(fit.history),
            "figures": {key: round(value, 3) for key, value in figures().items()},
        },
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_whole(output.with_suffix(".json"), lambda path: path.write_text(text, encoding="utf-8"))
    return record


def _validation_crops(planes: list[FloatArray], seed: int) -> list[FloatArray]:
    """Cut the same few crops of held-out images for every epoch."""
    rng = np.random.default_rng(seed)
    crops = []
    for k in rng.choice(len(planes), _VALIDATION_CROPS, replace=len(planes) < _VALIDATION_CROPS):
        plane = planes[k]
        y, x = (int(rng.integers(max(0, n - _VALIDATION_SIDE) + 1)) for n in plane.shape[:2])
        crops.append(plane[y : y + _VALIDATION_SIDE, x : x + _VALIDATION_SIDE])
    return crops


def split_files(
    clean: dict[str, list[FloatArray]], fraction: float, seed: int
) -> tuple[dict[str, list[FloatArray]], dict[str, list[FloatArray]]]:
    """Hold out whole files for validation.

    Raises
    ------
    ValueError
        If there is only one file.
    """
    names = sorted(clean)
    if len(names) < 2:
        raise ValueError("One file cannot be split: give at least two, or name the validation files.")
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    return (
        {name: clean[name] for name in names if name not in chosen},
        {name: clean[name] for name in names if name in chosen},
    )
