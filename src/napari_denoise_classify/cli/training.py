"""The command ``train-denoiser``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .common import Inputs, Overwrite, check_new, console, guarded, say


def train_denoiser(
    images: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    validation: Annotated[
        list[str] | None,
        typer.Option(help="Clean files held out for validation; default: a tenth of the images."),
    ] = None,
    rgb: Annotated[bool, typer.Option("--rgb", help="Train for RGB images instead of gray ones.")] = False,
    sigma: Annotated[tuple[float, float], typer.Option(help="Lowest and highest noise level.")] = (0.0, 55.0),
    depth: Annotated[int, typer.Option(min=3, max=40, help="Number of convolutions.")] = 17,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    steps_per_epoch: Annotated[int, typer.Option(min=1)] = 200,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    patch: Annotated[int, typer.Option(min=8, help="Side of the training patches in pixels.")] = 48,
    learning_rate: Annotated[float, typer.Option(min=1e-8)] = 1e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    mixed_precision: Annotated[bool, typer.Option(help="Convolutions in bfloat16.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a DnCNN on clean images with fresh Gaussian noise.

    An interrupted training goes on from its last epoch when the same command is given again.
    """
    from ..core.denoise.training import DenoiserTraining, load_clean, split_files, train_denoiser_iter
    from ..core.progress import Progress, run

    def report(progress: Progress) -> None:
        if progress.data is not None:
            console.print(progress.message)

    def work() -> None:
        if output.suffix != ".safetensors":
            raise ValueError(f"{output}: the weights are written as .safetensors; give such a name.")
        check_new([output], overwrite)
        samples = 3 if rgb else 1
        config = DenoiserTraining(
            samples=samples,
            depth=depth,
            sigma=sigma,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            patch=patch,
            learning_rate=learning_rate,
            seed=seed,
            mixed_precision=mixed_precision,
        )
        clean = load_clean(images, samples)
        held_out = load_clean(validation, samples) if validation else {}
        if not held_out:
            clean, held_out = split_files(clean, 0.1, seed)
        elif set(clean) & set(held_out):
            clean = {name: planes for name, planes in clean.items() if name not in held_out}
        command = shlex.join(["napari-denoise-classify", *sys.argv[1:]])
        record = run(train_denoiser_iter(clean, held_out, output, config, command=command), report)
        figures = ", ".join(f"{key} {value:.2f} dB" for key, value in record["training"]["figures"].items())
        say(f"{output}: {figures}")

    guarded(work)
