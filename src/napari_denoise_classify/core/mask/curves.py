"""The figure of clusterings: each score over the number of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SCORES = {
    "silhouette": "silhouette (high is good)",
    "davies_bouldin": "Davies–Bouldin (low is good)",
    "wcss": "sum of squares",
}
_STYLES = {"kmeans": ("#4c9be8", "o"), "dbscan": ("#f0913a", "s"), "hdbscan": ("#58b368", "^")}


def draw_scores(figure: Any, table: pd.DataFrame, *, background: Any = "white", text: Any = "black") -> None:
    """Draw the curves over K of K-means, and the other methods as a mark each.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What it shows is replaced.
    table : pandas.DataFrame
        From `cluster_scores`. Of several planes every one has a curve.
    background, text : colour
    """
    from matplotlib.ticker import MaxNLocator

    from ..steps import get_step

    figure.clear()
    figure.set_facecolor(background)
    lead = list(table.columns[: list(table.columns).index("method")])
    lead = [name for name in lead if name != "image"]
    planes = [part for _, part in table.groupby(lead)] if lead else [table]
    for axes, (score, words) in zip(figure.subplots(1, len(_SCORES)), _SCORES.items(), strict=True):
        for k, plane in enumerate(planes):
            for method, part in plane.groupby("method", sort=False):
                colour, marker = _STYLES[str(method)]
                style = {"color": colour, "marker": marker, "linewidth": 1.2, "markersize": 5}
                label = get_step(str(method)).title if k == 0 else None
                axes.plot(part["K"], part[score], linestyle="-" if len(part) > 1 else "none", label=label, **style)
        axes.set_title(words, fontsize=9, color=text)
        axes.set_xlabel("clusters K", fontsize=8, color=text)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_facecolor(background)
        axes.tick_params(colors=text, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(text)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, labelcolor=text, frameon=False)
