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
from .networks import build, build_from
from .pairs import Example, Images, load_examples, split_examples
from .settings import Data, DenoiserTraining, uses_raw
from .task import Batch, Task, levels, masked, matched
from .weights import read_about, read_tensors, sha256_of, write_weights

if TYPE_CHECKING:
    import torch

    from .networks.network import Network


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

    config = config or DenoiserTraining()
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: the weights are written as .safetensors; give such a name.")
    start_from = None if start_from is None else Path(start_from)
    data: Data = "noisy" if targets is None else "clean" if inputs is None else "pairs"
    yield Progress(0.0, "reading the images")
    training, held_out = _read(inputs, targets, masks, validation, validation_targets, config, data)
    unit = start_from is not None and read_about(start_from).get("normalisation") is None
    task = Task(training, held_out, config, data, unit)
    device = best_device()
    torch.manual_seed(config.seed)
    network: Any = place(_network(config, start_from), device)
    cell = (2 if data == "noisy" else 1) * network.multiple  # some losses see the image at half its size
    if config.patch % cell:
        raise ValueError(f"patch={config.patch} is not allowed: give a multiple of {cell} for this network.")
    mixed = trains_in_bfloat16(device) if config.mixed_precision is None else config.mixed_precision

    def loss(batch: Batch) -> torch.Tensor:
        noisy, target, weight = (_tensor(part, device) for part in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            if data == "noisy":
                return task.self_supervised(network, noisy).float()
            out = network(noisy)
        return losses.supervised(task.loss_name, out.float(), target, weight)

    judge = _Judge(task, network, device, cell)
    started_from = None if start_from is None else sha256_of(start_from)
    result = _Result(output, task, name, command, device.type, (training, held_out), started_from)
    checkpoint = output.with_suffix(".checkpoint")
    if not resume:
        checkpoint.unlink(missing_ok=True)
    files = result.record["training"]["files"]
    yield Progress(0.0, f"{len(training)} planes of {files} images, loss {task.loss_name}")
    work = fit_iter(
        network,
        task.batches,
        loss,
        judge.score,
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
                result.write(network, number, number, judge.latest)
            shown = Epoch(number, entry["loss"], entry["score"], entry["improved"], judge.example())
            yield Progress(progress.fraction, progress.message, shown)
    except StopIteration as stop:
        fit = stop.value
    finally:
        work.close()
    result.write(network, fit.best_epoch, len(fit.history), judge.figures())
    checkpoint.unlink(missing_ok=True)
    return result.record


def _read(
    inputs: Images | None,
    targets: Images | None,
    masks: Images | None,
    validation: Images | None,
    validation_targets: Images | None,
    config: DenoiserTraining,
    data: Data,
) -> tuple[list[Example], list[Example]]:
    """Read the images to train on, and those held out: a tenth where none are given.

    Raises
    ------
    ValueError
        If they do not fit the settings or each other, or nothing is left to train on.
    """
    if config.upscale == 2 and data != "pairs":
        raise ValueError("upscale=2 needs pairs: noisy images, and clean ones of twice their size.")
    held = validation is not None, validation_targets is not None
    if any(held) and held != (inputs is not None, targets is not None):
        raise ValueError("Held-out images must be of the same kind as the others: noisy ones, clean ones, or both.")
    options: dict[str, Any] = {
        "samples": config.samples,
        "upscale": config.upscale,
        "raw": uses_raw(config, data),
    }
    examples = load_examples(inputs, targets, masks, **options)
    if not any(held):
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
    return training, held_out


def _network(config: DenoiserTraining, start_from: Path | None) -> Network:
    """Build the network of the settings, or open the one to start from.

    Raises
    ------
    ValueError
        If that one is another than the settings ask for.
    """
    network = build(config.network, **config.size())
    if start_from is None:
        return network
    given = build_from(read_tensors(start_from), f"The file {start_from.name}")
    if given.step != config.network or given.samples != config.samples or given.upscale != config.upscale:
        raise ValueError(
            f"start_from={str(start_from)!r} is not allowed: it holds a {given.step} with {given.samples} "
            f"samples and upscale {given.upscale}, other than the training's. Set these, or choose another file."
        )
    sizes = [{key: t.shape for key, t in one.state_dict().items()} for one in (network, given)]
    if (config.depth, config.features) != (None, None) and sizes[0] != sizes[1]:
        raise ValueError("start_from brings another size of the network: leave depth and features out.")
    return given


def _tensor(batch: FloatArray, device: torch.device) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).to(device).permute(0, 3, 1, 2)


class _Judge:
    """What the network makes of the held-out images.

    Attributes
    ----------
    latest : dict
        The figures of the last `score`.

    Raises
    ------
    ValueError
        If the held-out images are too small for the loss that judges them.
    """

    def __init__(self, task: Task, network: Any, device: torch.device, cell: int) -> None:
        self._task, self._network, self._device = task, network, device
        self._variants = task.variants()
        whole = [c.seen[: c.seen.shape[0] // cell * cell, : c.seen.shape[1] // cell * cell] for c in task.crops]
        self._whole = [plane for plane in whole if plane.size]
        self.latest: dict[str, float] = {}
        if task.data == "noisy" and not self._whole:
            raise ValueError(f"The held-out images are too small: give some of at least {cell} × {cell} pixels.")

    def figures(self) -> dict[str, float]:
        """Measure PSNR in dB for each kind of noise, or the loss where there are no clean images."""
        import torch

        task = self._task
        if task.data == "noisy":
            torch.manual_seed(task.config.seed)
            with torch.no_grad():
                planes = (_tensor(plane[None], self._device) for plane in self._whole)
                values = [float(task.held_out_loss(self._network, plane)) for plane in planes]
            return {"loss": float(np.mean(values))}
        crops = range(len(task.crops))
        return {
            label: float(np.mean([task.psnr(k, self._predict(task.noisy(k, noise))) for k in crops]))
            for label, noise in self._variants.items()
        }

    def score(self) -> float:
        """Return the mean of the figures; higher is better."""
        self.latest = self.figures()
        mean = float(np.mean(list(self.latest.values())))
        return -mean if self._task.data == "noisy" else mean

    def example(self) -> tuple[FloatArray, ...]:
        """Return a held-out patch, what the network makes of it, and the target if there is one."""
        task = self._task
        noisy = task.noisy(0, list(self._variants.values())[len(self._variants) // 2])
        target = task.crops[0].target
        planes = [noisy, self._predict(noisy), *([target] if target is not None else [])]
        return tuple(task.shown(p) for p in planes)

    def _predict(self, plane: FloatArray) -> FloatArray:
        import torch

        (height, width), multiple, upscale = plane.shape[:2], self._network.multiple, self._network.upscale
        padded = np.pad(plane, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
        with torch.inference_mode():
            out = self._network(_tensor(padded[None], self._device)).permute(0, 2, 3, 1)[0].float().cpu().numpy()
        return np.asarray(out[: height * upscale, : width * upscale])


class _Result:
    """The weights of a training and their record, as files.

    Attributes
    ----------
    record : dict
    """

    def __init__(
        self,
        output: Path,
        task: Task,
        name: str,
        command: str,
        device: str,
        examples: tuple[list[Example], list[Example]],
        started_from: str | None,
    ) -> None:
        import torch

        self._output, config = output, task.config
        self._about = {
            "step": config.network,
            "samples": config.samples,
            "sigma": levels(task.noise if task.data == "clean" else None),
            "normalisation": None if task.normalisation is None else task.normalisation.to_dict(),
        }
        files, validation_files = (len({e.name for e in part}) for part in examples)
        self.record: dict[str, Any] = {
            "name": name or output.stem,
            **self._about,
            "licence": "BSD-3-Clause",
            "file": output.name,
            "training": {
                "command": command,
                "data": task.data,
                "loss": task.loss_name,
                "package_version": __version__,
                "torch_version": torch.__version__,
                "device": device,
                "config": asdict(config),
                "files": files,
                "validation_files": validation_files,
                "started_from": started_from,
            },
        }

    def write(self, network: torch.nn.Module, epoch: int, done: int, figures: dict[str, float]) -> None:
        """Write the weights of an epoch, the best of those that are done, and the record with its figures."""
        output, record = self._output, self.record
        tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        write_weights(output, tensors, self._about)
        record["sha256"], record["size"] = sha256_of(output), output.stat().st_size
        rounded = {key: round(value, 4) for key, value in figures.items()}
        record["training"] |= {"best_epoch": epoch, "epochs_done": done, "figures": rounded}
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        write_whole(output.with_suffix(".json"), lambda path: path.write_text(text, encoding="utf-8"))


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
