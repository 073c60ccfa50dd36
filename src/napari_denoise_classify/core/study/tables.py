"""Reading the tables of a study: its classes, metrics, cells and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..figures import PALETTE
from .declaration import METRICS

if TYPE_CHECKING:
    from .result import StudyResult

REFERENCE_COLOUR = "#777777"
# Yellow lines are lost on white, and gray is the reference's.
COLOURS = (*(colour for colour in PALETTE if colour not in ("#F0E442", "#999999")), "#6B4226")


def classes_of(result: StudyResult) -> tuple[str, ...]:
    """Return the classes, in the order of the columns of probabilities."""
    return tuple(str(name)[2:] for name in result.predictions.columns if str(name).startswith("p_"))


def each_condition(result: StudyResult) -> list[tuple[str, StudyResult]]:
    """Return the result under each condition; of a single condition the result itself."""
    names = result.conditions
    return [(names[0], result)] if len(names) == 1 else [(name, result.at(name)) for name in names]


def condition_name(condition: str) -> str:
    """Return the words for a condition."""
    return condition or "no added noise"


def stack(parts: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Put the tables of conditions below one another; that of a single one stays as it is."""
    if len(parts) == 1:
        return parts[0][1]
    for name, table in parts:
        table.insert(0, "condition", name)
    return pd.concat([table for _, table in parts], ignore_index=True)


def metrics_of(result: StudyResult) -> list[str]:
    """Return the columns of `StudyResult.cells` that are metrics, macro-F1 first."""
    return [*METRICS, *(f"f1_{name}" for name in classes_of(result))]


def cells_of(result: StudyResult, classifier: str, recipe: str) -> pd.DataFrame:
    """Return the folds of one cell of the grid."""
    cells = result.cells
    return cells[(cells["classifier"] == classifier) & (cells["recipe"] == recipe)]


def predictions_of(result: StudyResult, classifier: str, recipe: str) -> pd.DataFrame:
    """Return the predictions of one cell of the grid, ordered by repeat, fold and sample."""
    table = result.predictions
    chosen = table[(table["classifier"] == classifier) & (table["recipe"] == recipe)]
    return chosen.sort_values(["repeat", "fold", "sample"], kind="stable", ignore_index=True)


def codes_of(predictions: pd.DataFrame, classes: Sequence[str]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the codes of true and predicted classes."""
    index = pd.Index(list(classes))
    truth, predicted = (index.get_indexer(pd.Index(predictions[name].astype(str))) for name in ("truth", "predicted"))
    return truth.astype(np.intp), predicted.astype(np.intp)


def proba_of(predictions: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the probabilities, (N, C)."""
    return predictions[[f"p_{name}" for name in classes]].to_numpy(float)


def recipe_colours(result: StudyResult) -> dict[str, str]:
    """Give each recipe a colour, the same in every figure: gray for the reference."""
    colours = {result.study.reference: REFERENCE_COLOUR}
    others = [name for name in result.study.recipes if name != result.study.reference]
    colours |= {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}
    return {name: colours[name] for name in result.study.recipes}


def confusion_table(result: StudyResult) -> pd.DataFrame:
    """Return how many samples of each true class were given each class, in every cell; repeats are added up."""
    by = ["condition", "classifier", "recipe", "truth", "predicted"]
    return result.predictions.groupby(by, sort=False).size().rename("samples").reset_index()
