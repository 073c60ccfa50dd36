"""Figures for files: drawn without a screen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .images import Index, PlaneImage
from .steps import get_step
from .whole import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .workflow import Classified

# Okabe and Ito's palette, made to be told apart by colour-blind readers; black is left out.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442", "#999999")
HEAT_COLORMAP = "magma"
CONTOUR_COLOUR = "#00E5FF"
_MOST = 4096  # pixels of a lazy image along a side of a figure


def class_colours(classes: Sequence[str], chosen: Any = None) -> dict[str, str]:
    """Give each class a colour: the same in every figure and layer.

    Parameters
    ----------
    classes : sequence of str
    chosen : mapping, optional
        Colours ``#rrggbb`` of some classes, out of a classifier's record; what is no colour is passed over.
    """
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(classes)}
    if isinstance(chosen, Mapping):
        colours |= {n: c for n, c in chosen.items() if n in colours and re.fullmatch("#[0-9a-fA-F]{6}", str(c))}
    return colours


def shown(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stretch a plane for display: RGB to 0..1, gray between its 0.5 and 99.5 percentiles."""
    if plane.ndim == 3:
        plane = plane[..., :3]
        if plane.dtype == np.uint8:
            return plane
        return np.asarray(np.clip(plane / (np.iinfo(plane.dtype).max if plane.dtype.kind in "ui" else 1.0), 0, 1))
    low, high = np.percentile(plane.astype(np.float32), (0.5, 99.5))
    return np.asarray(np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1))


def show(ax: Axes, plane: npt.NDArray[Any], title: str = "", step: int = 1) -> None:
    """Draw a plane without axes; of one that has only each ``step``-th pixel, the axes count all of them."""
    ax.imshow(shown(plane), cmap="gray", interpolation="nearest", extent=_extent(plane, step))
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def show_heat(
    ax: Axes,
    heat: npt.NDArray[Any],
    contours: list[npt.NDArray[Any]] | None = None,
    linewidth: float = 1.0,
    step: int = 1,
) -> None:
    """Draw a heat map and contours over what the axes show, see `show`; no influence is transparent."""
    alpha, extent = 0.6 * np.clip(heat * 1.5, 0, 1), _extent(heat, step)
    ax.imshow(heat, cmap=HEAT_COLORMAP, vmin=0, vmax=1, alpha=alpha, interpolation="bilinear", extent=extent)
    for contour in contours or []:
        ax.plot(contour[:, -1], contour[:, -2], color=CONTOUR_COLOUR, linewidth=linewidth)


def _extent(plane: npt.NDArray[Any], step: int) -> tuple[float, float, float, float]:
    height, width = plane.shape[:2]
    return -0.5, width * step - 0.5, height * step - 0.5, -0.5


def _drawn(image: PlaneImage, index: Index, step: int, largest: bool = False) -> npt.NDArray[Any]:
    """Read each ``step``-th pixel of a plane, or the largest of as many, without holding the plane."""
    if step == 1:
        return image.raw_plane(index)
    if not largest:
        return np.asarray(image.data[(*index, slice(None, None, step), slice(None, None, step))])
    import dask.array as da

    return np.asarray(da.coarsen(np.max, image.data[index], {0: step, 1: step}, trim_excess=True))


def show_classes(ax: Axes, table: Any, colours: dict[str, str], size: float) -> None:
    """Draw positions coloured by class, with a legend."""
    for name, rows in table.groupby("class"):
        ax.scatter(
            rows["x"],
            rows["y"],
            s=size,
            facecolors="none",
            edgecolors=colours[str(name)],
            linewidths=1.1,
            label=f"{name} ({len(rows)})",
        )
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, frameon=False)


def show_probabilities(ax: Axes, probabilities: dict[str, float], colours: dict[str, str]) -> None:
    """Draw the probabilities of one sample as bars."""
    names = list(probabilities)
    values = [probabilities[name] for name in names]
    ax.barh(names, values, color=[colours[name] for name in names])
    for i, value in enumerate(values):
        ax.text(min(value + 0.02, 0.86), i, f"{value:.2f}", va="center", fontsize=8)
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all; the format is that of the suffix."""
    return write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150, facecolor="white"))


def result_figure(source: Any, axes: str | None, rgb: bool, result: Classified, classes: tuple[str, ...]) -> Figure:
    """Draw an image, what became of it, its classes and why.

    Parameters
    ----------
    source : array
        The image; of several planes the one with the first sample is drawn. Of a large lazy one the pixels that a
        figure can show are read, and what became of it is left out: it would have to be made again.
    axes, rgb
        As for `Recipe.apply`.
    result : Classified
    classes : tuple of str
    """
    from matplotlib.figure import Figure

    image, processed = PlaneImage.wrap(source, axes, rgb), PlaneImage.wrap(result.image, axes, rgb)
    n = len(image.lead_shape)
    coordinates = result.table.iloc[:, : n + 2].to_numpy()
    index = tuple(np.rint(coordinates[0, :n]).astype(int).tolist())
    here = (np.rint(coordinates[:, :n]) == np.array(index)).all(axis=1)
    table = result.table[here]
    step = max(1, -(-max(image.plane_shape) // _MOST)) if image.lazy else 1
    plane = _drawn(image, index, step)
    count = 2 + (result.heat is not None) + (step == 1)
    figure = Figure(figsize=(3.4 * count, 3.9), layout="constrained")
    axs = figure.subplots(1, count)
    show(axs[0], plane, "image", step)
    if step == 1:
        kept = "" if result.mask is None else f", {result.kept:.1%} kept"
        show(axs[1], processed.raw_plane(index), f"as classified: {_recipe_title(result)}{kept}")
    if result.heat is not None:
        heat = _drawn(PlaneImage.wrap(result.heat, image.axes.replace("S", "")), index, step, largest=True)
        rows = set(np.flatnonzero(here).tolist())
        contours = [c for row, c in result.contours if row in rows]
        show(axs[-2], plane, f"{get_step(result.record['explanation']['method']).title} and critical area", step)
        show_heat(axs[-2], heat, contours, 1.0 if len(table) <= 20 else 0.3, step)
        height, width = image.plane_shape
        axs[-2].set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    colours = class_colours(classes, result.record.get("colours"))
    if result.crop_size is None:
        row = table.iloc[0]
        show_probabilities(axs[-1], {name: float(row[f"p_{name}"]) for name in classes}, colours)
        axs[-1].set_title(f"class: {row['class']}", fontsize=9)
    else:
        show(axs[-1], plane, f"{len(table)} objects", step)
        show_classes(axs[-1], table, colours, size=18)
    return figure


def _recipe_title(result: Classified) -> str:
    return " + ".join(s["step"] for s in result.record["recipe"]["steps"]) or "raw"
