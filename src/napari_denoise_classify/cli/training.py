"""The command ``train-denoiser``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.denoise.settings import PARAMETERS
from .common import Overwrite, check_new, console, guarded, say
from .options import with_options


@with_options([p for p in PARAMETERS.values() if p.name != "samples"])
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
    rgb: Annotated[bool, typer.Option("--rgb", help="Train for RGB images instead of gray ones.")] = False,
    start_from: Annotated[Path | None, typer.Option(help="Weights to start from.")] = None,
    overwrite: Overwrite = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a denoiser: on pairs, on clean images with fresh noise, or on noisy images alone.

    An interrupted training leaves its best weights, and goes on from its last epoch when the same command is given
    again.
    """

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
