"""Training a denoiser: on pairs, on clean images and fresh synthetic noise, or on noisy images alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._version import __version__
from ..device import best_device, place, trains_in_bfloat16
from ..fitting import fit_iter
from ..images import FloatArray
from ..progress import Progress, Steps, run
from ..whole import write_whole
from . import losses
from .pairs import Example, Images, load_examples, split_examples
from .settings import Data, DenoiserTraining, uses_raw
from .task import Batch, Task, levels, masked, matched
from .weights import about_text, sha256_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training came to; the ``data`` of its `Progress`.

    Attributes
    ----------
    number : int
        From 1.
    loss, score : float
        Mean training loss, and the score on held-out images: PSNR in dB, or the negative loss without clean images.
    improved : bool
        Whether it is the best so far: its weights have been written.
    example : tuple of (Y, X, S) float32
        A held-out patch: input, output and, where there is one, target; intensities from 0 to 1.
    """

    number: int
    loss: float
    score: float
    improved: bool
    example: tuple[FloatArray, ...]


def train_denoiser_iter(
    output: str | Path,
    *,
    inputs: Images | None = None,
    targets: Images | None = None,
    masks: Images | None = None,
    validation: Images | None = None,
    validation_targets: Images | None = None,
    config: DenoiserTraining | None = None,
    start_from: str | Path | None = None,
    name: str = "",
    command: str = "",
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Train a denoiser step by step; see `train_denoiser`.

    Every epoch that is the best so far is written at once, so that a training which is cancelled leaves its best
    weights; a checkpoint beside them lets the same call go on later.
    """
    import torch

    from .networks import build, build_from
    from .weights import read_about, read_tensors

    config = config or DenoiserTraining()
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: the weights are written as .safetensors; give such a name.")
    data: Data = "noisy" if targets is None else "clean" if inputs is None else "pairs"
    if config.upscale == 2 and data != "pairs":
        raise ValueError("upscale=2 needs pairs: noisy images, and clean ones of twice their size.")
    held = validation is not None, validation_targets is not None
    if any(held) and held != (inputs is not None, targets is not None):
        raise ValueError("Held-out images must be of the same kind as the others: noisy ones, clean ones, or both.")
    yield Progress(0.0, "reading the images")
    options: dict[str, Any] = {
        "samples": config.samples,
        "upscale": config.upscale,
        "raw": uses_raw(config, data),
    }
    examples = load_examples(inputs, targets, masks, **options)
    if validation is None and validation_targets is None:
        training, held_out = split_examples(examples, 0.1, config.seed)
    else:
        held_out = load_examples(validation, validation_targets, None, **options)
        same = {(e.name, _digest(e)) for e in held_out}  # by content, too: other folders may use the same names
        names = {e.name for e in examples if (e.name, _digest(e)) in same}
        training = [e for e in examples if e.name not in names]
        if not training:
            raise ValueError(
                "All training images are also among the validation images, so that nothing is left to train on: hold "
                "out others."
            )
    if config.match_intensities and data == "pairs":
        training, held_out = ([matched(e) for e in part] for part in (training, held_out))
    if config.mask and masks is None:
        training = [masked(e, config.mask) for e in training]
    unit = start_from is not None and read_about(Path(start_from)).get("normalisation") is None
    task = Task(training, held_out, config, data, unit)
    device = best_device()
    torch.manual_seed(config.seed)
    network = build(config.network, **config.size())
    if start_from is not None:
        given = build_from(read_tensors(Path(start_from)), f"The file {Path(start_from).name}")
        if given.step != config.network or given.samples != config.samples or given.upscale != config.upscale:
            raise ValueError(
                f"start_from={str(start_from)!r} is not allowed: it holds a {given.step} with {given.samples} "
                f"samples and upscale {given.upscale}, other than the training's. Set these, or choose another file."
            )
        sizes = [{key: t.shape for key, t in one.state_dict().items()} for one in (network, given)]
        if (config.depth, config.features) != (None, None) and sizes[0] != sizes[1]:
            raise ValueError("start_from brings another size of the network: leave depth and features out.")
        network = given
    multiple = network.multiple
    cell = 2 * multiple if data == "noisy" else multiple  # some losses see the image at half its size
    if config.patch % cell:
        raise ValueError(f"patch={config.patch} is not allowed: give a multiple of {cell} for this network.")
    place(network, device)
    mixed = trains_in_bfloat16(device) if config.mixed_precision is None else config.mixed_precision

    def tensor(batch: FloatArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(batch)).to(device).permute(0, 3, 1, 2)

    def loss(batch: Batch) -> torch.Tensor:
        noisy, target, weight = (tensor(part) for part in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            if data == "noisy":
                return task.self_supervised(network, noisy).float()
            out = network(noisy)
        return losses.supervised(task.loss_name, out.float(), target, weight)

    def predict(plane: FloatArray) -> FloatArray:
        height, width = plane.shape[:2]
        padded = np.pad(plane, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
        with torch.inference_mode():
            out = network(tensor(padded[None])).permute(0, 2, 3, 1)[0].float().cpu().numpy()
        return np.asarray(out[: height * config.upscale, : width * config.upscale])

    variants = task.variants()
    whole = [c.seen[: c.seen.shape[0] // cell * cell, : c.seen.shape[1] // cell * cell] for c in task.crops]
    whole = [plane for plane in whole if plane.size]
    if data == "noisy" and not whole:
        raise ValueError(f"The held-out images are too small: give some of at least {cell} × {cell} pixels.")

    def figures() -> dict[str, float]:
        if data == "noisy":
            torch.manual_seed(config.seed)
            with torch.no_grad():
                values = [float(task.held_out_loss(network, tensor(c[None]))) for c in whole]
            return {"loss": float(np.mean(values))}
        return {
            label: float(np.mean([task.psnr(k, predict(task.noisy(k, noise))) for k in range(len(task.crops))]))
            for label, noise in variants.items()
        }

    latest: dict[str, float] = {}

    def score() -> float:
        latest.update(figures())
        mean = float(np.mean(list(latest.values())))
        return -mean if data == "noisy" else mean

    def example() -> tuple[FloatArray, ...]:
        noisy = task.noisy(0, list(variants.values())[len(variants) // 2])
        target = task.crops[0].target
        planes = [noisy, predict(noisy), *([target] if target is not None else [])]
        return tuple(task.shown(p) for p in planes)

    about = {
        "step": config.network,
        "samples": config.samples,
        "sigma": levels(task.noise if data == "clean" else None),
        "normalisation": None if task.normalisation is None else task.normalisation.to_dict(),
    }
    started_from = None if start_from is None else sha256_of(Path(start_from))
    record: dict[str, Any] = {
        "name": name or output.stem,
        **about,
        "licence": "BSD-3-Clause",
        "file": output.name,
        "training": {
            "command": command,
            "data": data,
            "loss": task.loss_name,
            "package_version": __version__,
            "torch_version": torch.__version__,
            "device": device.type,
            "config": asdict(config),
            "files": len({e.name for e in training}),
            "validation_files": len({e.name for e in held_out}),
            "started_from": started_from,
        },
    }

    def save(epoch: int, done: int, found: dict[str, float]) -> None:
        tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        _save(output, tensors, about)
        record["sha256"], record["size"] = sha256_of(output), output.stat().st_size
        rounded = {key: round(value, 4) for key, value in found.items()}
        record["training"] |= {"best_epoch": epoch, "epochs_done": done, "figures": rounded}
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        write_whole(output.with_suffix(".json"), lambda path: path.write_text(text, encoding="utf-8"))

    checkpoint = output.with_suffix(".checkpoint")
    if not resume:
        checkpoint.unlink(missing_ok=True)
    yield Progress(0.0, f"{len(training)} planes of {record['training']['files']} images, loss {task.loss_name}")
    work = fit_iter(
        network,
        task.batches,
        loss,
        score,
        epochs=config.epochs,
        steps_per_epoch=config.steps_per_epoch,
        learning_rate=config.learning_rate,
        clip_norm=0.5,
        checkpoint=checkpoint,
        split=_split,
        settings={
            **asdict(config),
            "data": data,
            "images": _digest(*sorted([*training, *held_out], key=lambda e: e.name), whole=True),
            "start_from": started_from,
        },
    )
    try:
        while True:
            progress = next(work)
            entry: Any = progress.data
            if entry is None:
                yield progress
                continue
            number = int(entry["epoch"])
            if entry["improved"]:
                save(number, number, latest)
            shown = Epoch(number, entry["loss"], entry["score"], entry["improved"], example())
            yield Progress(progress.fraction, progress.message, shown)
    except StopIteration as stop:
        fit = stop.value
    finally:
        work.close()
    save(fit.best_epoch, len(fit.history), figures())
    checkpoint.unlink(missing_ok=True)
    return record


def train_denoiser(
    output: str | Path,
    *,
    inputs: Images | None = None,
    targets: Images | None = None,
    masks: Images | None = None,
    validation: Images | None = None,
    validation_targets: Images | None = None,
    start_from: str | Path | None = None,
    resume: bool = True,
    report: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a denoiser on your own images, and write its weights.

    Parameters
    ----------
    output : str or Path
        ``.safetensors`` file, for the parameter ``weights`` of the network's step. The record goes beside it as
        ``.json``; a training that stopped early leaves its best weights and a ``.checkpoint``, with which the same
        call goes on.
    inputs : files or mapping of arrays, optional
        Noisy images. Alone: self-supervised training.
    targets : files or mapping of arrays, optional
        Clean images. With ``inputs``: pairs, matched by name. Alone: ``noise`` is added to them, fresh for each patch.
    masks : files or mapping of arrays, optional
        Where training looks, matched by name; the rest counts with the weight ``outside``.
    validation, validation_targets : optional
        Held-out images; default: a tenth of the images.
    start_from : str or Path, optional
        Weights to start from. If they are for images from 0 to 1, as the shipped ones for Gaussian noise are, your
        images are brought onto that scale.
    resume : bool
        Take up the checkpoint if there is one.
    report : callable, optional
        Called with every `Progress`; its ``data`` is an `Epoch` after each epoch.
    **settings
        Of `DenoiserTraining`: ``network="unet"``, ``noise="gaussian:0-55"``, ``epochs=50``, ….

    Returns
    -------
    dict
        The record: settings, figures on the held-out images, SHA-256 of the weights.

    Raises
    ------
    ValueError
        If images cannot be read or matched, or settings do not fit.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> ndc.train_denoiser("mine.safetensors", inputs=["noisy/"], targets=["clean/"])  # doctest: +SKIP
    >>> ndc.denoise(image, "unet", weights="mine.safetensors")  # doctest: +SKIP
    """
    try:
        config = DenoiserTraining(**settings)
    except TypeError as error:
        raise ValueError(f"The settings do not fit: {error}.") from None
    work = train_denoiser_iter(
        output,
        inputs=inputs,
        targets=targets,
        masks=masks,
        validation=validation,
        validation_targets=validation_targets,
        config=config,
        start_from=start_from,
        resume=resume,
    )
    return run(work, report)


def _split(batch: Batch, parts: int) -> list[tuple[Batch, float]]:
    """Cut a batch; the share of a part is that of its pixels' weights, by which the loss is a mean."""
    pieces = [np.array_split(part, min(parts, len(part))) for part in batch]
    total = float(batch[2].sum())
    return [(part, float(part[2].sum()) / total if total else 0.0) for part in zip(*pieces, strict=True)]


def _digest(*examples: Example, whole: bool = False) -> str:
    """Return the SHA-256 of what the network sees; or of all that it learns from, targets and weights included."""
    digest = hashlib.sha256()
    for example in examples:
        for plane in (example.input, example.target, example.weight) if whole else (example.seen,):
            digest.update(f"{None if plane is None else plane.shape}".encode())
            digest.update(b"" if plane is None else np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _save(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=about_text(about)))
