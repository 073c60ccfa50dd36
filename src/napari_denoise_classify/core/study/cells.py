"""One cell of a study: a classifier fitted on a training part, and what it says of the parts it is tested on."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..classify.augmentation import augment
from ..classify.bundle import Classifier, proba_iter
from ..classify.evaluation import Evaluation
from ..classify.scaled import take
from ..classify.splits import IntArray, balanced_folds
from ..classify.training import fit_estimator_iter
from ..explain.attribution import heats_iter
from ..images import FloatArray
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from ..whole import write_whole
from .declaration import Candidate
from .designs import Split

if TYPE_CHECKING:
    import pandas as pd

    from ..classify.datasets import Crops

_log = logging.getLogger(__name__)

_INNER_FOLDS = 3
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted estimator.

    Attributes
    ----------
    estimator : scikit-learn estimator
    parameters : dict
        With which it was fitted.
    tuned : str
        Those of them that were chosen, as JSON; empty where nothing was tuned.
    seconds : float
    """

    estimator: Any
    parameters: Mapping[str, Any]
    tuned: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a fitted classifier says of the test parts of a split.

    Attributes
    ----------
    proba : list of (N, classes) float64
        Of each test part.
    tuned : str
    seconds : float
        Fitting and testing.
    heats : list of (Y, X) float32
        Of the samples that are explained, for their true class; empty if none are.
    remark : str
        Why samples could not be explained, or empty.
    """

    proba: list[Doubles]
    tuned: str
    seconds: float
    heats: list[FloatArray] = field(default_factory=list)
    remark: str = ""


@dataclass(frozen=True)
class Ended:
    """How a cell ended that was run elsewhere: the ``data`` of a progress.

    Attributes
    ----------
    number : int
        Among the cells of the grid.
    error : str
        Why it failed, in one sentence, or empty: then what it found is in the study's folder.
    """

    number: int
    error: str = ""


def fit_iter(
    candidate: Candidate,
    seed: int,
    X: Sequence[FloatArray],
    y: npt.NDArray[np.str_],
    groups: npt.NDArray[np.str_] | None,
    augmentation: str = "",
) -> Steps[Fitted]:
    """Fit a candidate on training samples; its grid is searched by folds of these alone.

    Parameters
    ----------
    candidate : Candidate
    seed : int
    X : list of (Y, X, S) float32
    y, groups : (N,) arrays of str
    augmentation : {"", "turns"}
        Copies keep the group of their sample; folds of the grid search are cut before copies are made.
    """
    start = time.perf_counter()
    points = candidate.points
    best, tuned = points[0], ""
    if len(points) > 1:
        parts = balanced_folds(y, groups, _INNER_FOLDS, seed)
        scores = np.zeros(len(points))
        done = 0
        for test in parts:
            train = np.setdiff1d(np.arange(len(y)), test)
            for k, parameters in enumerate(points):
                work = _fit_iter(candidate.method, parameters, seed, X, y, groups, train, augmentation)
                share = 0.8 / (len(parts) * len(points))
                estimator = yield from within(work, done * share, (done + 1) * share, "tuning")
                proba = yield from proba_iter(estimator, take(X, test))
                classes = tuple(map(str, estimator.classes_))
                predicted = np.array(classes)[proba.argmax(axis=1)]
                scores[k] += Evaluation.of(y[test], predicted, classes).macro_f1 / len(parts)
                done += 1
        best = points[int(scores.argmax())]
        tuned = json.dumps({name: best[name] for name in candidate.grid})
    everything = np.arange(len(y))
    work = _fit_iter(candidate.method, best, seed, X, y, groups, everything, augmentation)
    estimator = yield from within(work, 0.8 if tuned else 0.0, 1.0)
    return Fitted(estimator, best, tuned, time.perf_counter() - start)


def _fit_iter(
    method: str,
    parameters: dict[str, Any],
    seed: int,
    X: Sequence[FloatArray],
    y: npt.NDArray[np.str_],
    groups: npt.NDArray[np.str_] | None,
    chosen: IntArray,
    augmentation: str,
) -> Steps[Any]:
    samples, labels = take(X, chosen), y[chosen]
    members = None if groups is None else groups[chosen]
    if augmentation:
        # No inner split of the classifier parts a sample from its copies, not even where groups cannot be whole.
        own = chosen.astype(str)
        members = own if members is None else np.column_stack([members, own])
        copies = augment(samples, labels, members)
        samples, labels, members = copies.images, copies.labels, copies.groups
    estimator, _ = yield from fit_estimator_iter(method, parameters, seed, samples, labels, members)
    return estimator


def outcome_iter(
    fitted: Fitted,
    method: str,
    X: Sequence[FloatArray],
    y: npt.NDArray[np.str_],
    split: Split,
    explain: str,
    explained: IntArray,
    about: Mapping[str, Any],
) -> Steps[Outcome]:
    """Test a fitted classifier on the test parts of a split, and explain some of their samples.

    Parameters
    ----------
    fitted : Fitted
    method : str
    X : list of (Y, X, S) float32
        All samples of the data, as they are tested.
    y : (N,) array of str
        All classes.
    split : Split
    explain : str
        Id of an explain step; empty for none.
    explained : array of int
        Samples.
    about : mapping
        What `Classifier` has to know beyond: ``samples``, ``crop_size``, ``dtype``, ``intensity_range``.
    """
    start = time.perf_counter()
    tests = [test for _, test in split.tests]
    chosen = np.concatenate(tests)
    estimator = fitted.estimator
    proba = yield from within(proba_iter(estimator, take(X, chosen)), 0.0, 0.8, "testing")
    parts = np.split(proba, np.cumsum([len(test) for test in tests])[:-1])
    heats: list[FloatArray] = []
    remark = ""
    if explain and len(explained) and (explain != "gradcam" or hasattr(estimator, "network_")):
        classes = tuple(map(str, estimator.classes_))
        classifier = Classifier(
            method=method, classes=classes, recipe=Recipe(), estimator=estimator, training={}, **about
        )
        # For the true class, whatever is predicted: maps of two classes cannot be compared.
        targets = np.array([classes.index(str(y[i])) for i in explained], np.intp)
        try:
            work = heats_iter(classifier, take(X, explained), explain, targets)
            heats = yield from within(work, 0.8, 1.0, "explaining")
        except Exception as error:  # an explanation that fails is no reason to lose the cell
            _log.debug("no explanation", exc_info=True)
            remark = str(error)
    return Outcome(parts, fitted.tuned, fitted.seconds + time.perf_counter() - start, heats, remark)


def score_rows(
    outcome: Outcome, split: Split, y: npt.NDArray[np.str_], classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Compare an outcome with the truth: one row of figures for each test part."""
    rows = []
    for (fold, test), proba in zip(split.tests, outcome.proba, strict=True):
        predicted = np.array(classes)[proba.argmax(axis=1)]
        found = Evaluation.of(y[test], predicted, classes, proba)
        truth = set(y[test].tolist())
        rows.append(
            {
                **place(split, fold, test),
                "macro_f1": found.macro_f1,
                "accuracy": found.accuracy,
                "balanced_accuracy": found.balanced_accuracy,
                "roc_auc": found.roc_auc,
                "ece": found.ece,
                "brier": found.brier,
                # Of a class that no sample here has, nothing is known; 0 would count as wrong.
                **{f"f1_{name}": found.f1[name] if name in truth else math.nan for name in classes},
                "seconds": outcome.seconds / len(split.tests),
                "status": "done",
                "error": "",
                "tuned": outcome.tuned,
            }
        )
    return rows


def failed_rows(error: str, split: Split, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the rows of a cell that failed."""
    names = ("macro_f1", "accuracy", "balanced_accuracy", "roc_auc", "ece", "brier", *(f"f1_{c}" for c in classes))
    nothing = dict.fromkeys((*names, "seconds"), np.nan)
    return [
        {**place(split, fold, test), **nothing, "status": "failed", "error": error, "tuned": ""}
        for fold, test in split.tests
    ]


def place(split: Split, fold: int, test: IntArray) -> dict[str, int]:
    """Return the columns that tell where in the design a row belongs."""
    return {"repeat": split.repeat, "fold": fold, "n_train": len(split.train), "n_test": len(test)}


def failure(error: Exception) -> str:
    """Return what an error says in one line, with its kind where it says little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def prediction_table(outcome: Outcome, names: Mapping[str, str], split: Split, data: Crops) -> pd.DataFrame:
    """Draw up what an outcome says of each sample.

    Parameters
    ----------
    outcome : Outcome
    names : dict
        The first columns, the same in each row.
    split : Split
    data : Crops
    """
    import pandas as pd

    classes = np.array(data.classes)
    tests = [test for _, test in split.tests]
    samples, proba = np.concatenate(tests), np.concatenate(outcome.proba)
    groups = np.full(len(data), "") if data.groups is None else data.groups.astype(str)
    columns: dict[str, Any] = {
        **names,
        "repeat": split.repeat,
        "fold": np.repeat([fold for fold, _ in split.tests], [len(test) for test in tests]),
        "sample": samples,
        "group": groups[samples].astype(object),
        "truth": data.labels[samples].astype(object),
        "predicted": classes[proba.argmax(axis=1)].astype(object),
    }
    return pd.DataFrame({**columns, **{f"p_{name}": proba[:, k] for k, name in enumerate(data.classes)}})


def no_predictions(classes: Sequence[str]) -> pd.DataFrame:
    """Return such a table without rows."""
    import pandas as pd

    names = ["condition", "recipe", "classifier", "repeat", "fold", "sample", "group", "truth", "predicted"]
    return pd.DataFrame(columns=[*names, *(f"p_{name}" for name in classes)])


# --- kept on disk ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellStore:
    """Outcomes in a folder, found again by all that decides them; each file is written whole or not at all.

    Attributes
    ----------
    folder : Path or None
        None keeps nothing.
    """

    folder: Path | None

    @staticmethod
    def key(known: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]]) -> str:
        """Return the SHA-256 of JSON-ready values and arrays of int."""
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
        for array in arrays:
            digest.update(np.asarray(array, np.int64).tobytes() + b"|")
        return digest.hexdigest()

    def read(self, key: str) -> Outcome | None:
        """Return an outcome, None if it is not there or damaged."""
        if self.folder is None or not (path := self.folder / f"{key}.npz").is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                about = json.loads(str(saved["about"]))
                proba = [saved[f"proba{k}"] for k in range(about["tests"])]
                heats = [saved[f"heat{k}"] for k in range(about["heats"])]
            return Outcome(proba, about["tuned"], about["seconds"], heats, about["remark"])
        except Exception:  # a damaged file brings about errors of every kind; the cell is run again
            return None

    def write(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome."""
        if self.folder is None:
            return
        about = {
            "tests": len(outcome.proba),
            "heats": len(outcome.heats),
            "tuned": outcome.tuned,
            "seconds": outcome.seconds,
            "remark": outcome.remark,
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        arrays |= {f"proba{k}": proba for k, proba in enumerate(outcome.proba)}
        arrays |= {f"heat{k}": heat for k, heat in enumerate(outcome.heats)}
        write_whole(self.folder / f"{key}.npz", lambda path: np.savez_compressed(path, **arrays))


def say(message: str, done: int, total: int, data: object = None) -> Progress:
    """Return the progress after some of all cells."""
    return Progress(done / max(total, 1), message, data)
