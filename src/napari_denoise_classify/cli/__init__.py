"""The command line."""

from __future__ import annotations

import io
import logging
import sys

import typer

from .classify import classify
from .clusters import cluster_scores
from .demo import demo
from .explanations import check_explanation, explain
from .images import denoise, mask
from .listing import steps
from .quality import compare, estimate_noise
from .study import study
from .train import train
from .training import train_denoiser
from .zoo import export_model, import_model

app = typer.Typer(
    name="napari-denoise-classify",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Denoise, mask, classify and explain microscopy images.",
)

for _command in (
    demo,
    denoise,
    mask,
    train,
    classify,
    explain,
    check_explanation,
    study,
    compare,
    estimate_noise,
    cluster_scores,
    steps,
    train_denoiser,
    export_model,
    import_model,
):
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # Redirected on Windows, they may know neither a minus sign nor the letters of a class; "?" must do then.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what matters of it is said in a sentence
    app()
