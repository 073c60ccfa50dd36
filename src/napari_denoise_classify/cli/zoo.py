"""The commands ``export-model`` and ``import-model``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Overwrite, check_new, guarded, say
from .images import parse_range


def export_model(
    weights: Annotated[str, typer.Argument(help="A file of weights, or a name: see steps.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .zip file to write.")],
    name: Annotated[str, typer.Option(help="Name of the model: at least 5 letters, digits, spaces, _+-().")],
    author: Annotated[list[str], typer.Option(help="Name of an author; may be given several times.")],
    description: Annotated[str, typer.Option(help="One sentence.")] = "",
    licence: Annotated[str, typer.Option(help="SPDX identifier, CC-BY-4.0 say. Default: that of the weights.")] = "",
    test_image: Annotated[
        Path | None, typer.Option(help="A noisy image of the kind that the network is for.", show_default=False)
    ] = None,
    intensity_range: Annotated[
        str,
        typer.Option(help="Intensities that the network sees as 0 and 1, where it has no normalisation of its own."),
    ] = "0,255",
    documentation: Annotated[
        Path | None, typer.Option(help="Markdown file. Default: made from what is known.", show_default=False)
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag; may be given several times.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a package for the BioImage Model Zoo, which other programs run as well."""

    def work() -> None:
        from ..core.denoise.zoo import export_zoo

        check_new([output], overwrite)
        limits = parse_range(intensity_range)
        if isinstance(limits, str):
            raise ValueError(f"--intensity-range {limits} is not allowed: give two numbers with a comma: 0,4095.")
        export_zoo(
            weights,
            output,
            name=name,
            authors=author,
            description=description,
            licence=licence,
            test_image=test_image,
            intensity_range=limits,
            documentation="" if documentation is None else documentation.read_text(encoding="utf-8"),
            tags=tag or [],
        )
        say(f"{output}: a package of the BioImage Model Zoo; 'bioimageio test {output}' tests it.")

    guarded(work)


def import_model(
    package: Annotated[
        Path, typer.Argument(help="Package of the BioImage Model Zoo: .zip, folder or rdf.yaml.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Read a denoising network of the BioImage Model Zoo into weights; none of its code is run."""

    def work() -> None:
        from ..core.denoise.zoo_import import import_zoo

        check_new([output], overwrite)
        about = import_zoo(package, output)
        kind = "RGB" if about["samples"] == 3 else "gray"
        enlarging = f" --upscale {about['upscale']}" if about["upscale"] > 1 else ""
        say(
            f"{output}: {about['name']}, for {kind} images, licence {about['licence']}. "
            f"Use it with: denoise --method {about['step']}{enlarging} --weights {output}"
        )

    guarded(work)
