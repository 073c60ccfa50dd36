"""The figures of a study: each a function of its result; those of single cells are in `cell_figures`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figures import save
from .cell_figures import confusion_matrices, example_images, reliability_diagrams, roc_curves
from .statistics import CLASSIFIER_NAMES, DECISIONS, metric_name, number, summary, tests
from .tables import cells_of, condition_name, each_condition, recipe_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .result import StudyResult

MARKERS = "osD^vP*X"

__all__ = [
    "FIGURES",
    "box_plot",
    "confusion_matrices",
    "difference_plot",
    "example_images",
    "reliability_diagrams",
    "robustness_curves",
    "roc_curves",
    "save_figures",
]


def box_plot(result: StudyResult, metric: str = "macro_f1") -> Figure | None:
    """Draw a metric's folds by classifier and recipe: box, single folds, and the mean as a white diamond.

    Parameters
    ----------
    result : StudyResult
        Of several conditions, the first is drawn.
    metric : str

    Returns
    -------
    Figure or None
        None if no cell was done.
    """
    from matplotlib.figure import Figure

    _, result = each_condition(result)[0]
    recipes, classifiers = list(result.study.recipes), list(result.study.classifiers)
    colours = recipe_colours(result)
    figure = Figure(figsize=(max(4.5, 1.2 + len(classifiers) * (0.6 + 0.34 * len(recipes))), 4.2), layout="constrained")
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    step = 0.8 / len(recipes)
    drawn = False
    for k, classifier in enumerate(classifiers):
        for i, recipe in enumerate(recipes):
            cells = cells_of(result, classifier, recipe)
            values = cells.loc[cells["status"] == "done", metric].dropna().to_numpy(float)
            if not len(values):
                continue
            drawn = True
            x = k - 0.4 + step * (i + 0.5)
            if len(values) > 2:
                _box(ax, x, values, 0.8 * step, colours[recipe])
            ax.plot(
                x + rng.uniform(-0.18, 0.18, len(values)) * step, values, "o", ms=3, mew=0, color="black", alpha=0.45
            )
            ax.plot(x, values.mean(), "D", ms=5, mfc="white", mec="black", mew=1, zorder=5)
    if not drawn:
        return None
    what = {"partitions": "partition", "holdout": "repeat"}.get(result.study.design.layout, "fold")
    note = f"dot = {what}, diamond = mean"
    chance = float(summary(result)[metric].iloc[-1])
    low, high = ax.get_ylim()
    if np.isfinite(chance):
        note += f"\nalways the majority class: {chance:.2f}"
        if low - (high - low) < chance < high:  # a line far below would squeeze the boxes
            note += " (dotted line)"
            ax.axhline(chance, color="black", linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(classifiers)), [CLASSIFIER_NAMES.get(name, name) for name in classifiers])
    ax.set_xlim(-0.55, len(classifiers) - 0.45)
    ax.set_ylabel(metric_name(metric))
    ax.set_title(note, fontsize=8, color="0.3")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", linewidth=0.4, alpha=0.6)
    _legend(figure, colours)
    return figure


def _box(ax: Axes, x: float, values: Any, width: float, colour: str) -> None:
    ax.boxplot(
        values,
        positions=[x],
        widths=width,
        manage_ticks=False,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.65, "linewidth": 0.8},
        medianprops={"color": "black", "linewidth": 1.2},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
    )


def _legend(figure: Figure, colours: dict[str, str], markers: bool = False) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, marker=MARKERS[i % len(MARKERS)], label=name)
        if markers
        else Patch(facecolor=colour, alpha=0.65, edgecolor="black", linewidth=0.8, label=name)
        for i, (name, colour) in enumerate(colours.items())
    ]
    longest = max(len(name) for name in colours)
    fitting = int(figure.get_figwidth() * 14 / (longest + 5))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=max(1, min(len(handles), fitting)), frameon=False, fontsize=8
    )


def difference_plot(result: StudyResult, metric: str = "macro_f1") -> Figure | None:
    """Draw the differences to the reference recipe with their 95 % intervals, and the margin.

    Parameters
    ----------
    result : StudyResult
        Of several conditions, the first is drawn.
    metric : str

    Returns
    -------
    Figure or None
        None if there is nothing to compare.
    """
    from matplotlib.figure import Figure

    _, result = each_condition(result)[0]
    table = tests(result, (metric,))
    table = table[table["difference"].notna()]
    if not len(table):
        return None
    colours, margin = recipe_colours(result), float(result.study.margin)
    classifiers = [name for name in result.study.classifiers if name in set(table["classifier"])]
    heights = [max(1, int((table["classifier"] == name).sum())) for name in classifiers]
    figure = Figure(figsize=(7.4, 1.1 + 0.3 * sum(heights) + 0.2 * len(classifiers)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(classifiers), sharex=True, height_ratios=heights))
    ends = table[["low", "high", "difference"]].abs().max(axis=1).to_numpy(float)
    # An interval several times as wide as most says nothing, and must not squeeze the others.
    reach = 1.1 * max(margin, min(float(np.nanmax(ends)), 4 * float(np.nanmedian(ends)), 100.0))
    for ax, classifier in zip(axes, classifiers, strict=True):
        rows = table[table["classifier"] == classifier]
        ax.axvspan(-margin, margin, color="0.93", zorder=0)
        ax.axvline(0, color="black", linewidth=0.8)
        for y, row in enumerate(rows.to_dict("records")):
            colour = colours[str(row["recipe"])]
            ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
            for end, mark in ((row["low"], "<"), (row["high"], ">")):
                if abs(end) > reach:  # it goes on outside
                    ax.plot(np.copysign(0.985 * reach, end), y, mark, ms=6, color=colour)
            shown = row["decision"] in DECISIONS[:2]
            ax.plot(row["difference"], y, "o", ms=6, mfc=colour if shown else "white", mec=colour, mew=1.6)
            text = f"{number(row['difference'])} [{number(row['low'])}, {number(row['high'])}]".replace("nan", "?")
            ax.annotate(
                text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, annotation_clip=False
            )
        ax.set_yticks(range(len(rows)), list(rows["recipe"]), fontsize=8)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-reach, reach)
        ax.set_title(CLASSIFIER_NAMES.get(classifier, classifier), fontsize=9, loc="left")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[-1].set_xlabel(
        f"difference of {metric_name(metric)} to {result.study.reference!r} (points), 95 % interval\n"
        f"filled: the interval excludes 0; gray: ± the margin of {margin:g} points",
        fontsize=8,
    )
    return figure


def robustness_curves(result: StudyResult) -> Figure | None:
    """Draw quality and macro-F1 against the noise that was added, recipe by recipe.

    Parameters
    ----------
    result : StudyResult

    Returns
    -------
    Figure or None
        None if there is one condition only.
    """
    from matplotlib.figure import Figure

    parts = each_condition(result)
    if len(parts) < 2:
        return None
    names, places, kind = noise_axis([name for name, _ in parts])
    colours = recipe_colours(result)
    quality = result.quality
    panels: list[tuple[str, dict[str, list[float]]]] = []
    if quality is not None and len(quality):
        levels = [part.study.conditions[0].noise for _, part in parts]
        for column, title in (("psnr", "PSNR (dB)"), ("ssim", "SSIM")):
            lookup = {(row["noise"], row["recipe"]): row[column] for row in quality.to_dict("records")}
            curves = {recipe: [float(lookup.get((level, recipe), np.nan)) for level in levels] for recipe in colours}
            panels.append((title, curves))
    means = summary(result).set_index(["classifier", "recipe", "condition"])["macro_f1"]
    for classifier in result.study.classifiers:
        curves = {
            recipe: [float(means.get((classifier, recipe, name), np.nan)) for name, _ in parts] for recipe in colours
        }
        panels.append((f"macro-F1, {CLASSIFIER_NAMES.get(classifier, classifier)}", curves))
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.7 * rows + 0.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for ax, (title, curves) in zip(axes, panels, strict=False):
        for i, (recipe, values) in enumerate(curves.items()):
            x, y = np.array(places), np.array(values)
            known = np.isfinite(y)
            if known.any():  # a PSNR without noise is infinite: no point
                ax.plot(x[known], y[known], color=colours[recipe], marker=MARKERS[i % len(MARKERS)], ms=4.5)
        ax.set_title(title, fontsize=9)
        rotate = max(len(name) for name in names) > 5
        ax.set_xticks(places, names, fontsize=7.5, rotation=30 if rotate else 0, ha="right" if rotate else "center")
        ax.tick_params(axis="y", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(linewidth=0.4, alpha=0.6)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(panels) - columns) : len(panels)]:
        ax.set_xlabel(kind, fontsize=8)  # the figure's own label would lie on the legend
    _legend(figure, colours, markers=True)
    return figure


def noise_axis(conditions: list[str]) -> tuple[list[str], list[float], str]:
    """Return the labels, the places and the name of an axis of conditions.

    By level where all are of one kind of noise, else in a row.
    """
    levels = [0.0 if not name else _level(name) for name in conditions]
    kinds = {name.split(":")[0] for name in conditions if name}
    known = [level for level in levels if level is not None]
    if len(kinds) == 1 and len(known) == len(levels) and len(set(known)) == len(known):
        labels = ["none" if not name else f"{level:g}" for name, level in zip(conditions, known, strict=True)]
        return labels, known, f"level of the added noise ({next(iter(kinds))})"
    return [condition_name(name) for name in conditions], [float(i) for i in range(len(conditions))], "condition"


def _level(name: str) -> float | None:
    found = re.fullmatch(r"\w+:(?:sigma=)?(\d+(?:\.\d+)?)", name)
    return float(found[1]) if found else None


FIGURES: dict[str, Callable[[StudyResult], Figure | None]] = {
    "box_plot": box_plot,
    "differences": difference_plot,
    "robustness": robustness_curves,
    "confusion_matrices": confusion_matrices,
    "roc_curves": roc_curves,
    "reliability": reliability_diagrams,
    "examples": example_images,
}
"""From the name of its file to the function that draws a figure."""

ONCE = ("robustness", "examples")  # of all conditions together


def each_figure(result: StudyResult, *without: str, first_only: bool = False) -> Iterator[tuple[str, str, Figure]]:
    """Yield the name, the condition and the figure of everything that can be drawn.

    Parameters
    ----------
    result : StudyResult
    *without : str
        Names in `FIGURES` to leave out.
    first_only : bool
        Of several conditions, only the first.

    Yields
    ------
    str, str, Figure
    """
    parts = each_condition(result)[: 1 if first_only else None]
    for name, draw in FIGURES.items():
        if name in without:
            continue
        for condition, part in [("", result)] if name in ONCE else parts:
            figure = draw(part)
            if figure is not None:
                yield name, condition, figure


def save_figures(result: StudyResult, folder: str | Path) -> list[Path]:
    """Write all figures of a study as SVG and PNG.

    Parameters
    ----------
    result : StudyResult
    folder : str or Path
        Made if it does not exist.

    Returns
    -------
    list of Path
        The files: ``box_plot``, ``differences``, ``robustness``, ``confusion_matrices``, ``roc_curves``,
        ``reliability`` and ``examples``, as far as there is something to draw; where there are several conditions
        their names are added.
    """
    folder, written = Path(folder), []
    for name, condition, figure in each_figure(result):
        stem = name if not condition else f"{name}_{re.sub('[^A-Za-z0-9.]+', '-', condition).strip('-')}"
        written += [save(figure, folder / f"{stem}.{suffix}") for suffix in ("svg", "png")]
    return written
