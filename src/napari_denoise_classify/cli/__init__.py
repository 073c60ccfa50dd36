"""The command line."""

from __future__ import annotations

import typer

from .training import train_denoiser

app = typer.Typer(
    name="napari-denoise-classify",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Denoise, mask, classify and explain microscopy images.",
)


@app.callback()
def _root() -> None:
    """Denoise, mask, classify and explain microscopy images."""


app.command("train-denoiser")(train_denoiser)


def main() -> None:
    """Run the command line."""
    app()
