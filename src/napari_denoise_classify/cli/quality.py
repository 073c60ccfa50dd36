"""The commands ``compare`` and ``estimate-noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from ..core.estimation import estimate_noise_iter
from ..core.files import ImageFile, find_images, read_image, write_like
from ..core.images import PlaneImage
from ..core.quality import compare_iter, residual_iter, residual_structure_iter
from .common import Inputs, Overwrite, check_new, fail, for_each, guarded, output_names, say, with_bar
from .images import Axes, RangeOption, parse_range
from .tables import Table, check_table, write_tables

if TYPE_CHECKING:
    import pandas as pd


def compare(
    reference: Annotated[Path, typer.Argument(help="The clean image.", show_default=False)],
    images: Inputs,
    output: Table = None,
    axes: Axes = None,
    value_range: Annotated[
        float | None,
        typer.Option(help="Peak of the PSNR. Default: the reference's range, 255 for 8 bit.", show_default=False),
    ] = None,
    residual: Annotated[
        bool,
        typer.Option("--residual", help="Write the reference minus each image, and tell whether it looks like noise."),
    ] = False,
    residuals: Annotated[
        Path | None, typer.Option(help="Folder for the residual images; default: results.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare images with a reference: PSNR, SSIM, affine-matched PSNR, RMSE, NRMSE for each plane.

    With --residual, take the noisy image as REFERENCE: the residual is what the denoiser took away.
    """
    if residuals is not None and not residual:
        fail("--residuals goes with --residual: give that, too.")
    folder = residuals or Path("results")
    paths = guarded(lambda: find_images(images))
    names = guarded(lambda: output_names(paths, folder, lambda _: "_residual.tif")) if residual else {}
    guarded(lambda: check_table(output, overwrite))
    clean = guarded(lambda: read_image(reference))
    base = guarded(lambda: _wrap(clean, axes))
    tables: list[pd.DataFrame] = []

    def one(path: Path) -> None:
        image = _wrap(read_image(path), axes or clean.axes)
        if residual:
            check_new([names[path]], overwrite)
        table = with_bar(compare_iter(base, {str(path): image}, value_range), path.name)
        tables.append(table)
        say(_text(table, header=len(tables) == 1))
        if residual:
            taken = with_bar(residual_iter(base, image), path.name)
            write_like(names[path], taken, clean, base.axes)
            found = with_bar(residual_structure_iter(base, image), path.name)
            say(f"{names[path]}: {found.sentence}")

    try:
        for_each(paths, one)
    finally:
        write_tables(tables, output)


def estimate_noise(
    images: Inputs,
    output: Table = None,
    axes: Axes = None,
    intensity_range: RangeOption = None,
    overwrite: Overwrite = False,
) -> None:
    """Estimate the noise of images, and propose a method against it."""
    how = guarded(lambda: parse_range(intensity_range))
    paths = guarded(lambda: find_images(images))
    guarded(lambda: check_table(output, overwrite))
    tables: list[pd.DataFrame] = []

    def one(path: Path) -> None:
        import pandas as pd

        found = with_bar(estimate_noise_iter(_wrap(read_image(path), axes), how), path.name)
        row = {"image": str(path), **found.to_dict()}
        row["parameters"] = " ".join(f"{name}={value}" for name, value in found.parameters.items())
        tables.append(pd.DataFrame([row]))
        shown = tables[-1].drop(columns=["sentence", "parameters", "step"])
        say(_text(shown, header=len(tables) == 1))
        say(f"{path.name}: {found.sentence}")

    try:
        for_each(paths, one)
    finally:
        write_tables(tables, output)


def _wrap(file: ImageFile, axes: str | None) -> PlaneImage:
    return PlaneImage.wrap(file.data, axes or file.axes)


def _text(table: pd.DataFrame, header: bool) -> str:
    """Lay a table out in columns that stay where they are from one file to the next."""
    lines = []
    if header:
        lines.append("  ".join([*(f"{name:>12}" for name in table.columns[1:]), str(table.columns[0])]))
    for row in table.itertuples(index=False):
        cells = (f"{v:12.4g}" if isinstance(v, (float, np.floating)) else f"{v!s:>12}" for v in row[1:])
        lines.append("  ".join([*cells, str(row[0])]))
    return "\n".join(lines)
