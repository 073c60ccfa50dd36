"""The command ``train-denoiser``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ..core.denoise.losses import SELF_SUPERVISED, SUPERVISED
from ..core.denoise.settings import Architecture
from .common import Overwrite, check_new, console, guarded, say

_NETWORKS = ", ".join(get_args(Architecture))


def train_denoiser(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    noisy: Annotated[
        list[str] | None,
        typer.Option(help="Noisy images: file, folder or glob; may be given several times. Alone: self-supervised."),
    ] = None,
    clean: Annotated[
        list[str] | None,
        typer.Option(help="Clean images, with --noisy matched by name; alone they need --noise."),
    ] = None,
    masks: Annotated[
        list[str] | None, typer.Option(help="Masks, matched by name: training looks where they are not 0.")
    ] = None,
    validation_noisy: Annotated[
        list[str] | None, typer.Option(help="Held-out noisy images; default: a tenth of the images.")
    ] = None,
    validation_clean: Annotated[list[str] | None, typer.Option(help="Held-out clean images.")] = None,
    network: Annotated[str, typer.Option(help=f"One of: {_NETWORKS}.")] = "unet",
    rgb: Annotated[bool, typer.Option("--rgb", help="Train for RGB images instead of gray ones.")] = False,
    upscale: Annotated[int, typer.Option(min=1, max=2, help="2: the clean images are twice as large.")] = 1,
    noise: Annotated[
        str,
        typer.Option(
            help="Noise to add to clean images (gaussian:0-55, poisson:10-500, poisson_gaussian:gain=2,read_noise=3, "
            "salt_and_pepper:0.1), or that noisy images have."
        ),
    ] = "",
    loss: Annotated[
        str, typer.Option(help=f"auto, {', '.join(SUPERVISED)}; without clean images {', '.join(SELF_SUPERVISED)}.")
    ] = "auto",
    normalisation: Annotated[str, typer.Option(help="auto, range (of each image) or dataset.")] = "auto",
    match_intensities: Annotated[
        bool, typer.Option("--match-intensities", help="Fit the brightness of each clean image to its noisy partner.")
    ] = False,
    mask: Annotated[str, typer.Option(help="Id of a masking step that makes masks where none are given.")] = "",
    outside: Annotated[float, typer.Option(min=0, max=1, help="Weight of the pixels outside of the masks.")] = 0.0,
    depth: Annotated[int | None, typer.Option(min=1, max=40, help="Convolutions, or levels of a U-Net.")] = None,
    features: Annotated[int | None, typer.Option(min=1, max=512, help="Width of the network.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    steps_per_epoch: Annotated[int, typer.Option(min=1)] = 200,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    patch: Annotated[int, typer.Option(min=8, help="Side of the training patches in pixels.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-8)] = 5e-4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    mixed_precision: Annotated[
        bool | None, typer.Option(help="Convolutions in bfloat16; default: where that is faster.")
    ] = None,
    start_from: Annotated[Path | None, typer.Option(help="Weights to start from.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a denoiser: on pairs, on clean images with fresh noise, or on noisy images alone.

    An interrupted training leaves its best weights, and goes on from its last epoch when the same command is given
    again.
    """
    settings: dict[str, Any] = {
        name: value
        for name, value in locals().items()
        if name in {"network", "upscale", "noise", "loss", "normalisation", "mask", "outside", "depth", "features"}
        or name in {"epochs", "steps_per_epoch", "batch_size", "patch", "learning_rate", "seed", "mixed_precision"}
        or name == "match_intensities"
    }

    def work() -> None:
        from ..core.denoise.settings import DenoiserTraining
        from ..core.denoise.training import train_denoiser_iter
        from ..core.progress import Progress, run

        if output.suffix != ".safetensors":
            raise ValueError(f"{output}: the weights are written as .safetensors; give such a name.")
        resumes = output.with_suffix(".checkpoint").exists()
        check_new([output, output.with_suffix(".json")], overwrite or resumes)

        def report(progress: Progress) -> None:
            if progress.data is not None or progress.fraction == 0:
                console.print(progress.message)

        record = run(
            train_denoiser_iter(
                output,
                inputs=noisy,
                targets=clean,
                masks=masks,
                validation=validation_noisy,
                validation_targets=validation_clean,
                config=DenoiserTraining(samples=3 if rgb else 1, **settings),
                start_from=start_from,
                command=shlex.join(["napari-denoise-classify", *sys.argv[1:]]),
                resume=resumes and not overwrite,
            ),
            report,
        )
        unit = "" if clean is None else " dB"
        figures = ", ".join(f"{key} {value:.4g}{unit}" for key, value in record["training"]["figures"].items())
        say(f"{output}: {figures}")

    try:
        guarded(work)
    except KeyboardInterrupt:
        kept = f"The best weights so far are in {output}. " if output.exists() else ""
        console.print(f"Stopped. {kept}Give the same command again to go on.")
        raise typer.Exit(130) from None
