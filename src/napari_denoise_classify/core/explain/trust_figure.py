"""The figure of a check: curves of deletion and insertion, and an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .trust import ExplanationCheck

_COLOURS = ("#D55E00", "#56B4E9", "#999999")
_HEAT = "magma"


def draw(check: ExplanationCheck, background: Any = "white", text: Any = "black", wide: bool = False) -> Figure:
    """Draw the mean curves of every map, and one sample with its maps.

    Parameters
    ----------
    check : ExplanationCheck
    background, text : colour
    wide : bool
        Everything in one row, for a low panel.
    """
    from matplotlib.figure import Figure

    n = len(check.example)
    size = (10.0, 2.2) if wide else (7.2, 4.8) if n else (7.2, 2.8)
    figure = Figure(figsize=size, layout="constrained", facecolor=background)
    if wide or n == 0:
        axes = list(figure.subplots(1, 2 + n, width_ratios=[1.7, 1.7] + [1] * n))
    else:
        grid = figure.add_gridspec(2, 6, height_ratios=(1.5, 1))
        axes = [figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])]
        axes += [figure.add_subplot(grid[1, 2 * k : 2 * k + 2]) for k in range(n)]
    for k, title in ((0, "Deletion: lower is better"), (1, "Insertion: higher is better")):
        _draw_curves(axes[k], check, k, text)
        axes[k].set_title(title, fontsize=9, color=text)
        axes[k].set_facecolor(background)
    axes[0].set_ylabel("probability of the class", fontsize=8, color=text)
    axes[0].legend(fontsize=7, frameon=False, labelcolor=text)
    for one, (name, plane) in zip(axes[2:], check.example, strict=True):
        plane = plane.squeeze()
        one.set_axis_off()
        one.set_title(name, fontsize=8, color=text)
        if name == "sample":
            one.imshow(np.clip(plane, 0, 1) if plane.ndim == 3 else plane, cmap="gray")
        else:
            one.imshow(plane, cmap=_HEAT, vmin=0, vmax=1)
    return figure


def _draw_curves(axes: Axes, check: ExplanationCheck, which: int, text: Any) -> None:
    for (name, curves), colour in zip(check.curves.items(), _COLOURS, strict=True):
        share = np.linspace(0, 1, curves.shape[1])
        axes.plot(share, curves[which], color=colour, linewidth=2 if colour == _COLOURS[0] else 1.2, label=name)
    axes.set_xlabel(("part of the pixels blurred", "part of the pixels sharp")[which], fontsize=8, color=text)
    axes.tick_params(labelsize=7, colors=text)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(text)
