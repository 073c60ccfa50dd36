"""Everything about why: heat map, critical area and its figures for each sample of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..progress import Steps, within
from ..steps import get_step
from .areas import area_statistics_iter, area_table
from .attribution import Method, check_target, heats_iter, read_method
from .contours import critical_mask

if TYPE_CHECKING:
    from ..classify.bundle import Classifier


@dataclass(frozen=True)
class Question:
    """What is to be explained, and how; checked before any work begins. Made by `ask`.

    Attributes
    ----------
    method : str
    parameters : mapping
        Of the method.
    target : str or None
        The class; None for each sample's predicted one.
    area : mapping
        Parameters of `critical_mask`.
    statistics : bool
        Whether to ask the classifier what each critical area decides.
    """

    method: str
    parameters: Mapping[str, Any]
    target: str | None
    area: Mapping[str, Any]
    statistics: bool

    def record(self) -> dict[str, Any]:
        """Describe it for the metadata of what it makes."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "target": self.target,
            "area": self.area["mode"],
            "fraction": self.area["fraction"],
            "statistics": self.statistics,
        }


def ask(
    classifier: Classifier, method: Method, target: str | None, area: str, fraction: float, statistics: bool
) -> Question:
    """Check what is to be explained.

    Raises
    ------
    ValueError
        For unknown methods, parameters, classes, or values that are not allowed.
    """
    spec, parameters = read_method(method)
    check_target(classifier, target)
    checked = get_step("critical_area").validate({"mode": area, "fraction": fraction})
    return Question(spec.id, parameters, target, checked, statistics)


def answer_iter(
    classifier: Classifier, scaled: Sequence[FloatArray], proba: npt.NDArray[np.float64], question: Question
) -> Steps[tuple[list[FloatArray], list[npt.NDArray[np.bool_]], Any]]:
    """Explain what `Classifier.prepare_iter` returned.

    Parameters
    ----------
    classifier : Classifier
    scaled : list of (Y, X, S) float32
    proba : (N, classes) array
        What the classifier says of them.
    question : Question

    Returns
    -------
    heats : list of (Y, X) float32
    masks : list of (Y, X) array of bool
        The critical areas.
    table : pandas.DataFrame
        A row for each sample: the class ``explained`` and the figures of its critical area, see `area_table` and
        `area_statistics_iter`.
    """
    import pandas as pd

    if question.target is None:
        targets = np.asarray(proba.argmax(axis=1))
    else:
        targets = np.full(len(scaled), classifier.classes.index(question.target))
    method = (question.method, question.parameters)
    share = 0.2 if question.statistics else 1.0
    heats = yield from within(heats_iter(classifier, scaled, method, targets), 0.0, share)
    area = dict(question.area)
    masks = [critical_mask(heat, **area) for heat in heats]
    table = area_table(heats, masks)
    table.insert(0, "explained", np.array(classifier.classes)[targets])
    if question.statistics:
        work = area_statistics_iter(classifier, scaled, method, targets, masks, area)
        table = pd.concat([table, (yield from within(work, share, 1.0))], axis=1)
    return heats, masks, table
