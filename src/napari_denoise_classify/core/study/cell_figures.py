"""Figures of single cells of a study's grid: confusion, ROC, reliability; and example images.

Each draws all cells, or those of one classifier, one recipe, or both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..figures import class_colours, show, show_heat
from .scores import BINS, auc_parts, confidence_bin
from .statistics import CLASSIFIER_NAMES
from .tables import classes_of, codes_of, each_condition, predictions_of, proba_of, recipe_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .result import StudyResult

EXAMPLES = 4  # rows of the figure of example images


def _chosen(
    result: StudyResult, classifier: str | None, recipe: str | None
) -> tuple[StudyResult, list[str], list[str]]:
    """Return the first condition, and the classifiers and recipes that are drawn."""
    _, result = each_condition(result)[0]
    classifiers = list(result.study.classifiers) if classifier is None else [classifier]
    recipes = list(result.study.recipes) if recipe is None else [recipe]
    return result, classifiers, recipes


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, npt.NDArray[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 1.1, height * rows + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)


def confusion_matrices(result: StudyResult, classifier: str | None = None, recipe: str | None = None) -> Figure | None:
    """Draw the confusion matrix of each cell: shares of the true class, and counts.

    Parameters
    ----------
    result : StudyResult
        Of several conditions, the first is drawn.
    classifier, recipe : str, optional
        Draw only these cells.

    Returns
    -------
    Figure or None
        None if there are no predictions.
    """
    result, classifiers, recipes = _chosen(result, classifier, recipe)
    classes = classes_of(result)
    n = len(classes)
    if not len(result.predictions):
        return None
    side = max(1.7, 0.46 * n + 0.3) if len(recipes) * len(classifiers) > 1 else max(3.2, 0.7 * n)
    figure, axes = _grid(len(classifiers), len(recipes), side, side)
    size = float(np.clip(side * 72 / n / 5.2, 3.5, 9))
    for i, name in enumerate(classifiers):
        for j, cleaning in enumerate(recipes):
            ax = axes[i, j]
            truth, predicted = codes_of(predictions_of(result, name, cleaning), classes)
            counts = np.bincount(truth * n + predicted, minlength=n * n).reshape(n, n)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for r in range(n):
                for c in range(n):
                    colour = "white" if shares[r, c] > 0.55 else "black"
                    text = f"{shares[r, c]:.2f}\n{counts[r, c]}"
                    ax.text(c, r, text, ha="center", va="center", fontsize=size, color=colour)
            ax.set_xticks(range(n), classes, rotation=40, ha="right", fontsize=8, rotation_mode="anchor")
            ax.set_yticks(range(n), classes, fontsize=8)
            if i == 0:
                ax.set_title(cleaning, fontsize=9)
            if j == 0:
                ax.set_ylabel(CLASSIFIER_NAMES.get(name, name), fontsize=9, fontweight="bold")
    figure.supxlabel("predicted class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    return figure


def roc_curve(positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the false and true positive rates of one class against the rest."""
    from sklearn.metrics import roc_curve as sklearn_curve

    false, true, _ = sklearn_curve(positive, score)
    return false, true


def macro_curve(truth: npt.NDArray[np.intp], proba: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the mean of the classes' ROC curves on a common axis of false positive rates."""
    grid = np.linspace(0, 1, 201)
    curves = [np.interp(grid, *roc_curve(truth == code, proba[:, code])) for code in np.unique(truth)]
    return np.append(0.0, grid), np.append(0.0, np.mean(curves, axis=0))


def roc_curves(result: StudyResult, classifier: str | None = None, recipe: str | None = None) -> Figure | None:
    """Draw the ROC curves, one class against the rest: their mean for each recipe; of one cell, each class, too.

    Parameters
    ----------
    result : StudyResult
        Of several conditions, the first is drawn.
    classifier, recipe : str, optional
        Draw only these cells.

    Returns
    -------
    Figure or None
        None if there are no predictions.
    """
    result, classifiers, recipes = _chosen(result, classifier, recipe)
    if not len(result.predictions):
        return None
    classes, colours = classes_of(result), recipe_colours(result)
    columns = min(len(classifiers), 2)
    rows = -(-len(classifiers) // columns)
    figure, axes = _grid(rows, columns, 3.7, 3.7)
    for ax, name in zip(axes.ravel(), classifiers, strict=False):
        for cleaning in recipes:
            table = predictions_of(result, name, cleaning)
            truth, proba = codes_of(table, classes)[0], proba_of(table, classes)
            if len(np.unique(truth)) < 2 or np.isnan(proba).any():
                continue
            # The mean over classes, of all tested samples together.
            label = f"{cleaning}, {auc_parts(truth, proba)[0]:.3f}"
            if len(recipes) == 1:
                label = f"mean, {auc_parts(truth, proba)[0]:.3f}"
                for code in np.unique(truth):
                    area = auc_parts((truth == code).astype(np.intp), np.c_[-proba[:, code], proba[:, code]])[0]
                    curve = roc_curve(truth == code, proba[:, code])
                    colour = class_colours(classes)[classes[code]]
                    ax.plot(*curve, color=colour, linewidth=1, label=f"{classes[code]}, {area:.3f}")
            colour = colours[cleaning] if len(recipes) > 1 else "black"
            ax.plot(*macro_curve(truth, proba), color=colour, linewidth=1.6, label=label)
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        title = CLASSIFIER_NAMES.get(name, name)
        ax.set_title(title if len(recipes) > 1 else f"{title}, {recipes[0]}", fontsize=9)
        ax.legend(fontsize=7, loc="lower right", title="area under the curve", title_fontsize=7)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.ravel()[len(classifiers) :]:
        ax.set_visible(False)
    figure.supxlabel("false positive rate", fontsize=9)
    figure.supylabel("true positive rate", fontsize=9)
    return figure


def reliability_diagrams(
    result: StudyResult, classifier: str | None = None, recipe: str | None = None
) -> Figure | None:
    """Draw how often a classifier is right against how sure it is, in 15 bins, and how many samples are in each.

    Parameters
    ----------
    result : StudyResult
        Of several conditions, the first is drawn.
    classifier, recipe : str, optional
        Draw only these cells.

    Returns
    -------
    Figure or None
        None if there are no predictions.
    """
    result, classifiers, recipes = _chosen(result, classifier, recipe)
    if not len(result.predictions):
        return None
    classes = classes_of(result)
    figure, axes = _grid(
        len(classifiers), len(recipes), 1.75 if len(recipes) > 1 else 3.5, 1.9 if len(recipes) > 1 else 3.5
    )
    middle = (np.arange(BINS) + 0.5) / BINS
    for i, name in enumerate(classifiers):
        for j, cleaning in enumerate(recipes):
            ax = axes[i, j]
            table = predictions_of(result, name, cleaning)
            truth, predicted = codes_of(table, classes)
            confidence = proba_of(table, classes).max(axis=1)
            bins = confidence_bin(confidence)
            count = np.bincount(bins, minlength=BINS)
            right = np.bincount(bins, truth == predicted, BINS) / np.maximum(count, 1)
            error = np.abs(np.bincount(bins, confidence - (truth == predicted), BINS)).sum() / max(len(table), 1)
            ax.bar(middle, count / max(count.sum(), 1), width=1 / BINS, color="0.85")
            ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, linestyle=":")
            ax.plot(middle[count > 0], right[count > 0], "o-", color="#0072B2", ms=3.5, linewidth=1)
            ax.set(xlim=(0, 1), ylim=(0, 1.02))
            ax.set_title(f"{cleaning}\nECE {error:.3f}" if i == 0 else f"ECE {error:.3f}", fontsize=8)
            ax.set_xticks([0, 0.5, 1])
            ax.tick_params(labelsize=7)
            if j == 0:
                ax.set_ylabel(CLASSIFIER_NAMES.get(name, name), fontsize=9, fontweight="bold")
    figure.supxlabel("confidence; gray bars: share of the samples", fontsize=9)
    figure.supylabel("share that is right", fontsize=9)
    return figure


def example_images(result: StudyResult) -> Figure | None:
    """Draw held-out samples under each recipe, with heat map, critical area, and what the classifier says.

    Parameters
    ----------
    result : StudyResult

    Returns
    -------
    Figure or None
        None if the result holds no examples.
    """
    from matplotlib.figure import Figure

    examples = result.examples[:EXAMPLES]
    recipes = [name for name in result.study.recipes if any(name in example["images"] for example in examples)]
    if not recipes:
        return None
    explained = any(example["heats"] for example in examples)
    rows = len(examples) * (2 if explained else 1)
    figure = Figure(figsize=(1.55 * len(recipes) + 0.9, 1.62 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, len(recipes), squeeze=False)
    for k, example in enumerate(examples):
        for j, name in enumerate(recipes):
            top = axes[k * (2 if explained else 1), j]
            image = example["images"].get(name)
            if image is not None:
                show(top, np.asarray(image))
            if k == 0:
                top.set_title(name, fontsize=9)
            _label_row(top, example, j)
            said = example["predicted"].get(name)
            bottom = top
            if explained:
                bottom = axes[2 * k + 1, j]
                heat = example["heats"].get(name)
                if heat is not None and image is not None:
                    show(bottom, np.asarray(image))
                    show_heat(bottom, np.asarray(heat), [np.asarray(c) for c in example["contours"].get(name, [])])
            _bare(top)
            _bare(bottom)
            if said is not None:
                right = str(said[0]) == str(example["label"])
                bottom.set_xlabel(
                    f"{said[0]} {float(said[1]):.2f}", fontsize=7.5, color="black" if right else "#B03000", labelpad=2
                )
    classifier = examples[0].get("classifier") or ""
    says = (
        f"below: what the {CLASSIFIER_NAMES.get(classifier, classifier)} says"
        if classifier
        else "below: what a classifier says"
    )
    note = f"left: true class; {says}, with its probability; red: wrong"
    if explained:
        note += "\nmagma: heat map; cyan: critical area"
    figure.supxlabel(note, fontsize=8)
    return figure


def _label_row(ax: Axes, example: dict[str, Any], column: int) -> None:
    if column == 0:
        ax.set_ylabel(str(example["label"]), fontsize=8)


def _bare(ax: Axes) -> None:
    """Take ticks and frame away, but not the labels."""
    ax.set_axis_on()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
