"""How good a classifier is: the figures that `Classifier.evaluate` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of a classifier on labelled samples.

    Attributes
    ----------
    n : int
        Number of samples.
    classes : tuple of str
    macro_f1 : float
        Mean of the classes' F1.
    accuracy, balanced_accuracy : float
    precision, recall, f1 : dict
        Of each class.
    support : dict
        Samples of each class.
    confusion : (C, C) array of int
        Rows are true classes, columns predicted ones.
    ece : float or None
        Expected calibration error of the probabilities, over 15 bins of confidence: 0 = they mean what they say. This
        and the next two are None where no probabilities were given.
    brier : float or None
        Brier score: squared distance of the probabilities from the truth, summed over the classes and averaged over
        the samples; 0 is best, 2 worst, for any number of classes.
    roc_auc : float or None
        Mean over the classes of the area under the curve of one class against the others, of the classes that have
        samples on both sides; NaN if none has.
    """

    n: int
    classes: tuple[str, ...]
    macro_f1: float
    accuracy: float
    balanced_accuracy: float
    precision: dict[str, float]
    recall: dict[str, float]
    f1: dict[str, float]
    support: dict[str, int]
    confusion: npt.NDArray[np.intp]
    ece: float | None = None
    brier: float | None = None
    roc_auc: float | None = None

    @classmethod
    def of(
        cls,
        truth: npt.ArrayLike,
        predicted: npt.ArrayLike,
        classes: tuple[str, ...],
        proba: npt.ArrayLike | None = None,
    ) -> Evaluation:
        """Compare predictions with the truth.

        Parameters
        ----------
        truth, predicted : (N,) arrays of str
        classes : tuple of str
            A class that does not occur in ``truth`` counts towards neither macro-F1 nor balanced accuracy.
        proba : (N, classes) array, optional
            Probabilities, in the order of ``classes``.
        """
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        truth, predicted = np.asarray(truth), np.asarray(predicted)
        precision, recall, f1, support = precision_recall_fscore_support(
            truth, predicted, labels=list(classes), zero_division=0.0
        )
        present = support > 0
        names = list(classes)
        return cls(
            n=len(truth),
            classes=tuple(classes),
            macro_f1=float(f1[present].mean()),
            accuracy=float(np.mean(truth == predicted)),
            balanced_accuracy=float(recall[present].mean()),
            precision=dict(zip(names, precision.tolist(), strict=True)),
            recall=dict(zip(names, recall.tolist(), strict=True)),
            f1=dict(zip(names, f1.tolist(), strict=True)),
            support=dict(zip(names, support.tolist(), strict=True)),
            confusion=confusion_matrix(truth, predicted, labels=names),
            **({} if proba is None else _of_probabilities(truth, np.asarray(proba, np.float64), names)),
        )

    def table(self) -> Any:
        """Return the figures of each class as a `pandas.DataFrame`."""
        import pandas as pd

        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.support}
        return pd.DataFrame(columns, index=list(self.classes)).rename_axis("class")

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return {
            "n": self.n,
            "macro_f1": self.macro_f1,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "classes": list(self.classes),
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "support": self.support,
            "confusion": self.confusion.tolist(),
            "ece": self.ece,
            "brier": self.brier,
            "roc_auc": None if self.roc_auc is None or np.isnan(self.roc_auc) else self.roc_auc,
        }

    def __str__(self) -> str:
        head = (
            f"macro-F1 {self.macro_f1:.3f}   accuracy {self.accuracy:.3f}   "
            f"balanced accuracy {self.balanced_accuracy:.3f}   n = {self.n}"
        )
        if self.ece is not None:
            head += (
                f"\nROC-AUC {self.roc_auc:.3f}   Brier score {self.brier:.3f}   "
                f"expected calibration error {self.ece:.3f}"
            )
        table = self.table().to_string(float_format="{:.3f}".format)
        width = max(len(name) for name in self.classes)
        cells = max(6, *(len(str(v)) for v in self.confusion.ravel()))
        rows = [
            f"{name:>{width}} " + " ".join(f"{value:>{cells}}" for value in row)
            for name, row in zip(self.classes, self.confusion, strict=True)
        ]
        return "\n".join([head, "", table, "", "confusion (rows true, columns predicted)", *rows])


def _of_probabilities(truth: npt.NDArray[Any], proba: npt.NDArray[np.float64], names: list[str]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    from .calibration import expected_calibration_error

    is_class = truth[:, None] == np.array(names)
    areas = [
        roc_auc_score(is_class[:, k], proba[:, k])
        for k in range(len(names))
        if is_class[:, k].any() and not is_class[:, k].all()
    ]
    return {
        "ece": expected_calibration_error(proba, is_class.argmax(axis=1)),
        "brier": float(np.square(proba - is_class).sum(axis=1).mean()),
        "roc_auc": float(np.mean(areas)) if areas else float("nan"),
    }
