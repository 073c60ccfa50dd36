"""The command ``cluster-scores``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.files import find_images, read_image, user_path
from ..core.images import PlaneImage
from ..core.mask.cluster import METHODS, cluster_scores_iter
from ..core.whole import write_whole
from .common import Inputs, Overwrite, check_new, check_suffix, for_each, guarded, say, with_bar
from .images import Axes
from .options import with_step_options
from .tables import Table, check_table, write_tables

if TYPE_CHECKING:
    import pandas as pd


@with_step_options("mask")
def cluster_scores(
    images: Inputs,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help=f"One of: {', '.join(METHODS)}; repeat for more.", show_default="all"),
    ] = None,
    output: Table = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw the curves over K of the only image into this PNG file.", show_default=False),
    ] = None,
    axes: Axes = None,
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Score clusterings of images: silhouette, Davies-Bouldin, sum of squares; K-means over the number of clusters."""
    methods = method or list(METHODS)
    paths = guarded(lambda: find_images(images))
    guarded(lambda: check_table(output, overwrite))
    guarded(lambda: _check_figure(figure, len(paths), overwrite))
    tables: list[pd.DataFrame] = []

    def one(path: Path) -> None:
        file = read_image(path)
        source = PlaneImage.wrap(file.data, axes or file.axes)
        table = with_bar(cluster_scores_iter(source, methods, parameters), path.name)
        say(f"{path}\n{table.to_string(index=False, na_rep='', float_format='%.4g')}")
        tables.append(table)
        table.insert(0, "image", str(path))

    try:
        for_each(paths, one)
    finally:
        write_tables(tables, output)
        _draw(tables, figure)


def _check_figure(figure: Path | None, count: int, overwrite: bool) -> None:
    if figure is not None:
        check_suffix(figure, [".png"], "figures")
        check_new([user_path(figure)], overwrite)
        if count > 1:
            raise ValueError(f"--figure is for one image, and these are {count}: draw them in as many runs.")


def _draw(tables: list[pd.DataFrame], figure: Path | None) -> None:
    if figure is None or not tables:
        return
    from matplotlib.figure import Figure

    from ..core.mask.curves import draw_scores

    drawn = Figure(figsize=(9, 3), layout="constrained")
    draw_scores(drawn, tables[0])
    guarded(lambda: write_whole(user_path(figure), lambda path: drawn.savefig(path, dpi=150)))
    say(str(figure))
