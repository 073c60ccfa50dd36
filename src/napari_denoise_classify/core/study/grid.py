"""The grid of a study: conditions × recipes × splits × classifiers, run cell by cell."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._version import __version__
from ..classify.datasets import Crops
from ..classify.splits import IntArray
from ..device import precision
from ..explain.drift import drift_table_iter
from ..images import FloatArray
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from ..steps import get_step
from .cache import ImageCache, recipe_key
from .cells import (
    CellStore,
    Ended,
    Fitted,
    Outcome,
    failed_rows,
    failure,
    fit_iter,
    no_predictions,
    outcome_iter,
    prediction_table,
    score_rows,
)
from .declaration import Candidate, Condition, Study
from .designs import Split
from .prepared import Prepared, Range
from .seconds import Spent

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

_EXPLAINED = 48


@dataclass(frozen=True)
class FinishedCell:
    """A cell that finished: the ``data`` of a study's progress.

    Attributes
    ----------
    condition, recipe, classifier : str
    rows : tuple of dict
        As the rows of `StudyResult.cells`: one for each fold or partition that was tested.
    reused : bool
        Whether it was found in the study's folder.
    """

    condition: str
    recipe: str
    classifier: str
    rows: tuple[dict[str, Any], ...] = field(repr=False)
    reused: bool = False


@dataclass(frozen=True, eq=False)
class Cell:
    """One fit, or with mismatched training one test: a condition, a recipe, a classifier and a split."""

    condition: Condition
    recipe: str
    classifier: str
    number: int
    split: Split


class Grid:
    """The cells of a study and what they share.

    Parameters
    ----------
    study : Study
    data : Crops
    splits : list of Split
    folder : Path, optional
        Cells are kept in its subfolder ``cells``.
    cache : ImageCache
    """

    def __init__(self, study: Study, data: Crops, splits: list[Split], folder: Path | None, cache: ImageCache) -> None:
        self.study = study
        self.data = data
        self.splits = splits
        self.images = Prepared(data, cache, study.intensity_range, study.seed)
        self.store = CellStore(None if folder is None else folder / "cells")
        self.spent = Spent.read(self.store.folder, study)
        self.start = time.perf_counter()
        self.cells = list(self._cells())
        self.samples = 3 if data.images[0].ndim == 3 else 1
        self.explained = self._explained()
        self.heats: dict[tuple[str, str, str], list[FloatArray]] = {}
        self.reused = 0
        self.training_seconds = 0.0
        self._fitted: dict[Any, Fitted] = {}
        self._recipe_keys: dict[tuple[str, Range], str] = {}
        self._rows: dict[int, list[dict[str, Any]]] = {}
        self._predicted: dict[int, pd.DataFrame] = {}
        self.remarks: list[str] = []

    def _explained(self) -> IntArray:
        """Choose held-out samples of the first split, the same for every cell."""
        tests = np.concatenate([test for _, test in self.splits[0].tests])
        rng = np.random.default_rng((self.study.seed, 7))
        return np.sort(rng.permutation(tests)[:_EXPLAINED])

    def _cells(self) -> Iterator[Cell]:
        """Return the cells in an order in which those that share images, or a fit, stand together."""
        study = self.study
        if study.training == "mismatched":
            for number, split in enumerate(self.splits):
                for condition in study.conditions:
                    for recipe in study.recipes:
                        for classifier in study.classifiers:
                            yield Cell(condition, recipe, classifier, number, split)
            return
        for condition in study.conditions:
            for recipe in study.recipes:
                for number, split in enumerate(self.splits):
                    for classifier in study.classifiers:
                        yield Cell(condition, recipe, classifier, number, split)

    def run_iter(
        self, elsewhere: Callable[[list[int]], Steps[None]] | None = None
    ) -> Steps[tuple[pd.DataFrame, pd.DataFrame]]:
        """Run all cells.

        Parameters
        ----------
        elsewhere : callable, optional
            Runs the cells of the numbers it gets, if any, in any order, and leaves what they find in the study's
            folder; its progress has an `Ended` for each. By default they run here, one after the other.

        Returns
        -------
        cells, predictions : DataFrame
            As those of `StudyResult`.
        """
        import pandas as pd

        try:
            if elsewhere is None:
                for number in range(len(self.cells)):
                    yield from self._here_iter(number)
            else:
                yield from self._elsewhere_iter(elsewhere)
        finally:  # cancelled, too
            self._spend()
        numbers = range(len(self.cells))
        found = [self._predicted[n] for n in numbers if n in self._predicted]
        predictions = pd.concat(found, ignore_index=True) if found else no_predictions(self.data.classes)
        return pd.DataFrame([row for n in numbers for row in self._rows[n]]), predictions

    def _here_iter(self, number: int) -> Steps[None]:
        cell, share = self.cells[number], (number / len(self.cells), (number + 1) / len(self.cells))
        error = ""
        try:
            outcome = self.kept(cell)
            reused = outcome is not None
            if outcome is None:
                outcome = yield from within(self.compute_iter(cell), *share, self._label(cell))
                self._spend()  # a program that is killed has no other moment
        except Exception as raised:  # one failing cell is reported, and the rest goes on
            _log.debug("the cell %s failed", self._label(cell), exc_info=True)
            outcome, reused, error = None, False, failure(raised)
        yield Progress(share[1], self._label(cell), self._finish(number, outcome, error, reused))

    def _elsewhere_iter(self, elsewhere: Callable[[list[int]], Steps[None]]) -> Steps[None]:
        missing = []
        for number, cell in enumerate(self.cells):
            outcome = self._there(cell)
            if outcome is None:
                missing.append(number)
            else:
                share = len(self._rows) / len(self.cells)
                yield Progress(share, self._label(cell), self._finish(number, outcome, reused=True))
        for progress in within(elsewhere(missing), 1 - len(missing) / len(self.cells), 1.0):
            data = progress.data
            if isinstance(data, Ended):
                cell = self.cells[data.number]
                error = data.error or "its result is not in the folder of the study."
                finished = self._finish(data.number, self._there(cell), error)  # who died may have finished it before
                self._spend()
                yield Progress(progress.fraction, self._label(cell), finished)
            else:
                yield progress

    def _there(self, cell: Cell) -> Outcome | None:
        """Return what a cell found; None as well where it has no name: who runs it will tell why."""
        try:
            return self.kept(cell)
        except Exception:
            return None

    def _label(self, cell: Cell) -> str:
        names = (cell.condition.name, cell.recipe, cell.classifier)
        return " · ".join(filter(None, [*names, f"split {cell.number + 1} of {len(self.splits)}"]))

    def _finish(self, number: int, outcome: Outcome | None, error: str = "", reused: bool = False) -> FinishedCell:
        """Enter what a cell found, or why it failed, into the tables."""
        cell = self.cells[number]
        names = {"condition": cell.condition.name, "recipe": cell.recipe, "classifier": cell.classifier}
        found = failed_rows(error, cell.split, self.data.classes)
        if outcome is not None:
            try:
                found = score_rows(outcome, cell.split, self.data.labels, self.data.classes)
            except Exception as raised:  # numbers that are none, say
                _log.debug("the cell %s cannot be scored", self._label(cell), exc_info=True)
                found, outcome = failed_rows(failure(raised), cell.split, self.data.classes), None
        if outcome is not None:
            self.reused += reused
            self._predicted[number] = prediction_table(outcome, names, cell.split, self.data)
            if cell.number == 0 and outcome.heats:
                self.heats[cell.condition.name, cell.recipe, cell.classifier] = outcome.heats
            if outcome.remark and outcome.remark not in self.remarks:
                self.remarks.append(outcome.remark)
        rows = self._rows[number] = [{**names, **row} for row in found]
        return FinishedCell(**names, rows=tuple(rows), reused=reused)

    # --- one cell -------------------------------------------------------------------------------------------------

    def _key(self, cell: Cell) -> str:
        """Return a name for all that decides what a cell finds."""
        study, candidate = self.study, self.study.classifiers[cell.classifier]
        known = {
            "version": __version__,
            "data": study.data.sha256,
            "recipe": self._recipe_key(cell),
            "classifier": candidate.to_dict(),
            "weights": self._weights(candidate),
            "precision": precision(),
            "noise": cell.condition.noise,
            "augmentation": cell.condition.augmentation,
            "training": study.training,
            "seed": study.seed,
            "repeat": cell.split.repeat,
            "explain": study.explain if cell.number == 0 else "",
            "classes": list(self.data.classes),
        }
        return CellStore.key(known, [cell.split.train, *(test for _, test in cell.split.tests), self._shown(cell)])

    def _weights(self, candidate: Candidate) -> list[dict[str, Any]]:
        """Return the SHA-256 of the weights that a classifier starts from, for each choice it may tune over."""
        record = get_step(candidate.method, "classifier").record
        return [] if record is None else [record(self.samples, **parameters) for parameters in candidate.points]

    def _recipe_key(self, cell: Cell) -> str:
        known = (cell.recipe, self.range_of(cell))
        if known not in self._recipe_keys:  # files of weights are read for it
            self._recipe_keys[known] = recipe_key(self.study.recipes[cell.recipe], self.samples, known[1])
        return self._recipe_keys[known]

    def _shown(self, cell: Cell) -> IntArray:
        return self.explained if cell.number == 0 and self.study.explain else self.explained[:0]

    def _train_noise(self, condition: Condition) -> str:
        return condition.noise if self.study.training == "matched" else ""

    def range_of(self, cell: Cell) -> Range:
        """Return the intensity range of a cell: fitted on its training images."""
        return self.images.range_of(self._train_noise(cell.condition), cell.split.train)

    def kept(self, cell: Cell) -> Outcome | None:
        """Return what a cell found before."""
        return self.store.read(self._key(cell))

    def compute_iter(self, cell: Cell) -> Steps[Outcome]:
        """Run a cell, and keep what it finds."""
        key = self._key(cell)  # names weights that are not there before they are asked for
        outcome = yield from self._outcome_iter(cell)
        self.store.write(key, outcome)
        return outcome

    def fit_of(self, cell: Cell) -> tuple[Any, ...]:
        """Return what decides the fit of a cell; those that have it in common stand in one process."""
        matched = self.study.training == "matched"
        own = (cell.condition, cell.recipe) if matched else ()
        return (cell.classifier, cell.number, cell.condition.augmentation, *own)

    def _outcome_iter(self, cell: Cell) -> Steps[Outcome]:
        study, candidate = self.study, self.study.classifiers[cell.classifier]
        recipe, scale = study.recipes[cell.recipe], self.range_of(cell)
        fitted = yield from within(self._fitted_iter(cell, scale), 0.0, 0.8)
        X = yield from within(self._scaled_iter(cell.condition.noise, recipe, scale), 0.8, 0.9)
        about = {
            "samples": self.samples,
            "crop_size": int(np.median([min(image.shape[:2]) for image in self.data.images])),
            "dtype": str(self.data.images[0].dtype),
            "intensity_range": scale,
        }
        work = outcome_iter(
            fitted, candidate.method, X, self.data.labels, cell.split, study.explain, self._shown(cell), about
        )
        outcome: Outcome = yield from within(work, 0.9, 1.0)
        self.training_seconds += outcome.seconds - fitted.seconds
        return outcome

    def _fitted_iter(self, cell: Cell, scale: Range) -> Steps[Fitted]:
        """Fit, or take the fit over from the cell before: mismatched ones share it between recipes and noises."""
        study, data, train = self.study, self.data, cell.split.train
        matched = study.training == "matched"
        key = self.fit_of(cell)
        if key in self._fitted:
            return self._fitted[key]
        recipe = study.recipes[cell.recipe] if matched else Recipe()
        X = yield from within(self._scaled_iter(self._train_noise(cell.condition), recipe, scale), 0.0, 0.3)
        work = fit_iter(
            study.classifiers[cell.classifier],
            study.seed + cell.split.repeat,
            [X[i] for i in train],
            data.labels[train],
            None if data.groups is None else data.groups[train],
            cell.condition.augmentation,
        )
        fitted = yield from within(work, 0.3, 1.0, "training")
        self.training_seconds += fitted.seconds
        if not matched:
            self._fitted = {k: v for k, v in self._fitted.items() if k[1] == cell.number}
            self._fitted[key] = fitted
        return fitted

    def _scaled_iter(self, noise: str, recipe: Recipe, scale: Range) -> Steps[Sequence[FloatArray]]:
        return (yield from self.images.scaled_iter(noise, recipe, scale))

    # --- afterwards -----------------------------------------------------------------------------------------------

    def drift_iter(self) -> Steps[tuple[pd.DataFrame | None, list[str]]]:
        """Compare critical areas with those under the reference recipe; returns the table and remarks."""
        import pandas as pd

        yield Progress(0.0, "comparing critical areas")
        tables = []
        for k, ((condition, recipe, classifier), heats) in enumerate(self.heats.items()):
            before = self.heats.get((condition, self.study.reference, classifier))
            if recipe == self.study.reference or before is None:
                continue
            columns: dict[str, Any] = {"condition": condition, "recipe": recipe, "classifier": classifier}
            share = k / len(self.heats), (k + 1) / len(self.heats)
            table = yield from within(drift_table_iter(before, heats), *share)
            tables.append(pd.DataFrame({**columns, "sample": self.explained, "iou": table["iou"].to_numpy()}))
        remarks = [f"Some samples could not be explained: {text}" for text in self.remarks]
        return (pd.concat(tables, ignore_index=True) if tables else None), remarks

    def recipe_records(self) -> dict[str, Any]:
        """Return each recipe's record, with the SHA-256 of its weights."""
        found: dict[str, Any] = {}
        for name, recipe in self.study.recipes.items():
            try:
                found[name] = recipe.record(self.samples)
            except ValueError as error:
                found[name] = {"error": str(error)}
        return found

    def _spend(self) -> dict[str, float]:
        """Return the seconds of all runs of this study, and keep them."""
        now = {
            "total": time.perf_counter() - self.start,
            "preparing": self.images.seconds,
            "training_and_testing": self.training_seconds,
        }
        return self.spent.add(now)

    def seconds(self) -> dict[str, float]:
        """Return where the time went, and what denoising again would have cost.

        ``total``, ``preparing`` and ``training_and_testing`` are those of all ``runs`` of a study that was resumed in
        its folder; ``total_now`` and ``denoising_now`` are what this run took. ``denoising`` is what the processed
        images took, now or when they were made. Seconds of several processes are added up, but for ``total`` and
        ``total_now``. ``saved_by_classifier`` compares with denoising again for every
        classifier, ``saved_by_cell`` with denoising again for every cell.
        """
        cache, study = self.images.cache, self.study
        costs = sum(seconds for packs in cache.costs.values() for seconds in packs.values())
        # Of a recipe on its own, with all noises; recipes that share a denoiser would each run it.
        each = {known: cache.cost(study.recipes[known[0]], self.samples, known[1]) for known in self._recipe_keys}
        by_recipe = sum(each.values())
        fits = len(self.splits) if len(each) <= len(study.recipes) else 1  # ranges of their own: processed by split
        return {
            **self._spend(),
            "runs": self.spent.runs + 1,
            "total_now": time.perf_counter() - self.start,
            "denoising": costs,
            "denoising_now": cache.seconds,
            "saved_by_classifier": by_recipe * len(study.classifiers) - costs,
            "saved_by_cell": by_recipe * len(study.classifiers) * fits - costs,
        }
