"""What a study found, and its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..json_text import as_json, read_json
from ..whole import write_whole
from .declaration import Study

STUDY_FILE = "study.json"
TABLES = ("cells", "predictions", "quality", "drift")
RESULT_FILES = (*(f"{name}.csv" for name in TABLES), "examples.npz", "result.json")
"""What `StudyResult.save` writes beside the study."""
TEXTS = ("condition", "recipe", "classifier", "group", "truth", "predicted", "status", "error", "tuned", "noise")
"""Columns that hold texts; all others hold numbers."""


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a study found.

    Attributes
    ----------
    study : Study
        What was asked; ``study.reference`` is the recipe that others are compared with, ``study.margin`` the smallest
        difference that matters, in points (100 × macro-F1).
    cells : pandas.DataFrame
        One row per condition, recipe, classifier, repeat and fold (the columns of these names): ``n_train``,
        ``n_test``, ``macro_f1``, ``accuracy``, ``balanced_accuracy``, ``roc_auc``, ``ece``, ``brier``,
        ``f1_<class>`` for each class, ``seconds``, ``status`` (``"done"`` or ``"failed"``), ``error``, and ``tuned``
        (the parameters chosen on the training samples, as JSON; empty where nothing is tuned). ``condition`` is
        ``""`` unless noise is added (``"gaussian:25"``) or the training samples are augmented; a study of several
        conditions is several studies side by side, see `conditions` and `at`.
    predictions : pandas.DataFrame
        One row per tested sample: ``condition``, ``recipe``, ``classifier``, ``repeat``, ``fold``, ``sample`` (its
        number in the data), ``group`` (or ``""``), ``truth``, ``predicted``, ``p_<class>`` for each class.
    quality : pandas.DataFrame or None
        Where noise is added: ``noise``, ``recipe``, ``psnr``, ``ssim``, means over samples against the clean images,
        for recipes without a mask.
    drift : pandas.DataFrame or None
        ``condition``, ``recipe``, ``classifier``, ``sample``, ``iou`` of the critical area with the one under the
        reference recipe.
    examples : list of dict
        Some held-out samples of the first condition: ``sample``, ``label``, ``classifier`` (whose heats these are, or
        ``""``), ``images`` (from recipe to a (Y, X[, 3]) uint8 array), ``heats`` (to a (Y, X) float32 array),
        ``contours`` (to a list of (N, 2) arrays), ``predicted`` (to a pair of class and probability).
    notes : list of str
        Sentences: duplicates, confounding, no groups, failures.
    record : dict
        Versions, seeds, SHA-256 of weights, counts and SHA-256 of the data, machine, seconds, cache; ``majority``
        holds one dict per repeat and fold with what always saying the commonest training class scores.
    """

    study: Study
    cells: pd.DataFrame
    predictions: pd.DataFrame
    quality: pd.DataFrame | None = None
    drift: pd.DataFrame | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    # --- conditions -----------------------------------------------------------------------------------------------

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions, in the order in which they were run."""
        return tuple(condition.name for condition in self.study.conditions)

    def at(self, condition: str) -> StudyResult:
        """Return what was found under one condition, as a result of its own.

        Parameters
        ----------
        condition : str
            One of `conditions`.

        Returns
        -------
        StudyResult

        Raises
        ------
        ValueError
            If there is no such condition.
        """
        chosen = [c for c in self.study.conditions if c.name == condition]
        if not chosen:
            raise ValueError(f"There is no condition {condition!r}; there are {', '.join(map(repr, self.conditions))}.")
        study = dataclasses.replace(self.study, noise=(chosen[0].noise,), augmentation=(chosen[0].augmentation,))

        def part(table: pd.DataFrame | None, column: str, value: str) -> pd.DataFrame | None:
            return None if table is None else table[table[column] == value].reset_index(drop=True)

        cells, predictions = (part(table, "condition", condition) for table in (self.cells, self.predictions))
        assert cells is not None
        assert predictions is not None
        return dataclasses.replace(
            self,
            study=study,
            cells=cells,
            predictions=predictions,
            quality=part(self.quality, "noise", chosen[0].noise),
            drift=part(self.drift, "condition", condition),
        )

    # --- what it says ---------------------------------------------------------------------------------------------

    @property
    def table(self) -> pd.DataFrame:
        """Means of each classifier and recipe, and of always saying the commonest class."""
        from .statistics import summary

        return summary(self)

    @property
    def tests(self) -> pd.DataFrame:
        """Differences to the reference recipe, with intervals, corrected for their number."""
        from .statistics import tests

        return tests(self)

    def figures(self, folder: str | Path) -> Any:
        """Write all figures as SVG and PNG.

        Parameters
        ----------
        folder : str or Path
        """
        from .figures import save_figures

        return save_figures(self, Path(folder))

    def report(self, path: str | Path) -> Any:
        """Write one self-contained HTML file.

        Parameters
        ----------
        path : str or Path
        """
        from .report import write_report

        return write_report(self, Path(path))

    # --- saved form -----------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the tables as CSV, the study, notes and record as JSON, and the examples.

        Parameters
        ----------
        folder : str or Path
            Made if it does not exist. ``study.json`` in it reruns to the same numbers.
        """
        folder = Path(folder)
        self.study.to_json(folder / STUDY_FILE)
        for name in TABLES:
            table: pd.DataFrame | None = getattr(self, name)
            path = folder / f"{name}.csv"
            if table is None:
                path.unlink(missing_ok=True)
            else:
                _write_csv(path, table)
        arrays, listed = _pack(self.examples)
        write_whole(folder / "examples.npz", lambda p: np.savez_compressed(p, **arrays))
        as_json({"notes": self.notes, "record": self.record, "examples": listed}, folder / "result.json")


def load_study(folder: str | Path) -> StudyResult:
    """Read what `StudyResult.save` wrote.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    StudyResult

    Raises
    ------
    ValueError
        If the folder holds no finished study, or a file in it is damaged.
    """
    folder = Path(folder)
    if not (folder / "result.json").is_file():
        raise ValueError(f"{folder} holds no finished study: run it with this folder first.")
    study = Study.from_json(folder / STUDY_FILE)
    saved = read_json(folder / "result.json", "study result")
    try:
        # Opened here: numpy leaves a damaged file open.
        with (folder / "examples.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            examples = [_unpack(item, arrays) for item in saved["examples"]]
        tables = {name: _read_csv(folder / f"{name}.csv") for name in TABLES}
        notes, record = list(saved["notes"]), dict(saved["record"])
    except Exception as error:  # a damaged file brings about errors of every kind
        raise ValueError(f"The study in {folder} is damaged ({error}): run it again.") from None
    cells, predictions = tables["cells"], tables["predictions"]
    if cells is None or predictions is None:
        raise ValueError(f"The study in {folder} is damaged (cells.csv or predictions.csv is missing): run it again.")
    for name, table, own in (("cells", cells, {"n_test", "status"}), ("predictions", predictions, {"predicted"})):
        lost = {"condition", "recipe", "classifier", "repeat", "fold", *own} - {*table.columns}
        if lost:
            raise ValueError(f"The study in {folder} is damaged ({name}.csv has no {min(lost)}): run it again.")
    if cells.loc[cells["status"] == "done", "n_test"].sum() != len(predictions):
        raise ValueError(f"The study in {folder} is damaged (predictions.csv lacks rows): run it again.")
    return StudyResult(study, cells, predictions, tables["quality"], tables["drift"], examples, notes, record)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, lambda p: table.to_csv(p, index=False))


def _read_csv(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    # A class may be called NA, or 1: only what is known to be a number is read as one.
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if table.isna().any(axis=None):
        raise ValueError(f"{path.name} has a row that is cut off")
    for name in table.columns:
        if name not in TEXTS:
            # Python's own reading gives back the very number that was written.
            values = [float(text) if text else np.nan for text in table[name]]
            whole = all("." not in t and "e" not in t and t not in ("", "nan", "inf", "-inf") for t in table[name])
            table[name] = np.array(values, int if whole and len(values) else float)
    return table


def _pack(examples: list[dict[str, Any]]) -> tuple[dict[str, Any], list[Any]]:
    """Take the arrays out of the examples; each leaves the name under which it is saved."""
    arrays: dict[str, Any] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"a{len(arrays)}"] = value
            return {"array": f"a{len(arrays) - 1}"}
        if isinstance(value, Mapping):
            return {"dict": [[key, walk(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return [walk(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    return arrays, [walk(example) for example in examples]


def _unpack(value: Any, arrays: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _unpack(item, arrays) for key, item in value["dict"]}
    return value
