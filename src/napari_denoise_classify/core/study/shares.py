"""The cells of a study on several processes: jobs, each of which leaves what it finds in the study's folder.

First the images that cells have in common are made, one recipe by one process, into the cache; then the cells are
run. Which process runs a cell, and when, changes nothing about what it finds; how many threads the process has does,
where networks are trained, by rounding.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..classify.datasets import Crops
from ..device import PRECISION_VARIABLE, precision
from ..files import user_path
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from ..remote.jobs import Finished
from ..remote.running import run_jobs_iter
from ..steps import get_step
from ..whole import write_whole
from .cache import ImageCache, split_recipe
from .cells import Ended, failure
from .declaration import Study
from .designs import make_splits
from .files import SHARED_DATA, begin
from .grid import Grid
from .prepared import Range
from .result import STUDY_FILE


@dataclass(frozen=True)
class Done:
    """What a share took.

    Attributes
    ----------
    errors : dict
        From the number of a cell that failed to why it did, in one sentence.
    training_seconds, preparing_seconds : float
    cache : ImageCache
        What was found and made in it.
    """

    errors: dict[int, str]
    training_seconds: float
    preparing_seconds: float
    cache: ImageCache


@dataclass(frozen=True)
class Share:
    """Some of the cells of a study, or the images of some, as a job.

    Attributes
    ----------
    path : Path
        The folder of the study.
    cache : Path
        Of processed images.
    run : str
        Of this run of the study alone: what a process holds of another is not used.
    precision : str
        How networks are to compute; it is part of what cells and images are found by.
    cells : tuple of int
        Their numbers.
    images : bool
        Only make their images.
    """

    path: Path
    cache: Path
    run: str
    precision: str
    cells: tuple[int, ...]
    images: bool = False

    @property
    def targets(self) -> list[Path]:
        """None of its own: cells and images are named by all that decides them."""
        return []

    def run_iter(self) -> Steps[Done]:
        """Run the cells, or make their images."""
        yield Progress(0.0, "reading the study")
        with _computing(self.precision):
            grid = _grid(self.path, self.cache, self.run)
            grid.images.cache = ImageCache.at(self.cache)
            before, errors = (grid.training_seconds, grid.images.seconds), {}
            for k, number in enumerate(self.cells):
                work = self._cell_iter(grid, number)
                try:
                    yield from within(work, k / len(self.cells), (k + 1) / len(self.cells))
                except Exception as error:  # one failing cell is reported, and the rest goes on
                    errors[number] = failure(error)
            spent = (grid.training_seconds - before[0], grid.images.seconds - before[1])
            return Done(errors, *spent, grid.images.cache)

    def _cell_iter(self, grid: Grid, number: int) -> Steps[Any]:
        cell = grid.cells[number]
        if not self.images:
            # A worker that died at another cell may have run this one already.
            return grid.kept(cell) or (yield from grid.compute_iter(cell))
        recipe, start = grid.study.recipes[cell.recipe], time.perf_counter()
        yield from grid.images.processed_iter(cell.condition.noise, recipe, grid.range_of(cell))
        grid.images.seconds += time.perf_counter() - start


@contextlib.contextmanager
def _computing(wanted: str) -> Iterator[None]:
    """Have networks of this process compute as those of another do."""
    before = os.environ.get(PRECISION_VARIABLE)
    os.environ[PRECISION_VARIABLE] = wanted
    try:
        yield
    finally:
        if before is None:
            del os.environ[PRECISION_VARIABLE]
        else:
            os.environ[PRECISION_VARIABLE] = before


@functools.lru_cache(maxsize=1)
def _grid(folder: Path, cache: Path, run: str) -> Grid:
    """Return the grid of a study; a process keeps that of one, with its images."""
    study = Study.from_json(folder / STUDY_FILE)
    data = read_data(folder / SHARED_DATA)
    splits = make_splits(data.labels, data.groups, study.design, study.seed)
    return Grid(study, data, splits, folder, ImageCache.at(cache))


def shares_iter(
    grid: Grid, folder: Path, workers: int | None, scheduler: str | None, numbers: Sequence[int]
) -> Steps[None]:
    """Have cells run by several processes.

    Parameters
    ----------
    grid : Grid
    folder : Path
        Of the study, which is begun once there are workers; all processes share it.
    workers : int or None
        So many processes are started on this machine; or
    scheduler : str or None
        the address of a dask scheduler, whose workers do it.
    numbers : sequence of int
        Of the cells.

    Yields
    ------
    Progress
        Whose ``data`` is an `Ended` after each cell.

    Raises
    ------
    ImportError, ConnectionError, ValueError
        As `run_jobs_iter`.
    """
    if not numbers:
        begin(folder, grid.study)
        return
    common = (folder, grid.images.cache.folder, uuid.uuid4().hex, precision())
    jobs = [Share(*common, (number,), images=True) for number in _with_own_images(grid, numbers)]
    first = len(jobs)
    jobs += [Share(*common, tuple(fit)) for fit in _fits(grid, numbers)]

    def before() -> None:
        begin(folder, grid.study)
        write_data(folder / SHARED_DATA, grid.data)

    try:
        work = run_jobs_iter(jobs, scheduler, workers or 0, first, before, _grid.cache_clear)
        with contextlib.closing(work):
            for progress in work:
                finished = progress.data
                if not isinstance(finished, Finished):
                    yield progress
                    continue
                job = jobs[finished.number]
                errors = dict.fromkeys(job.cells, _without(job.path, finished.error))
                if isinstance(finished.result, Done):
                    done = finished.result
                    errors = done.errors
                    grid.training_seconds += done.training_seconds
                    grid.images.add(done.cache, done.preparing_seconds)
                if not job.images:  # where images fail, their cells will say why
                    for number in job.cells:
                        yield Progress(progress.fraction, data=Ended(number, errors.get(number, "")))
    finally:
        (folder / SHARED_DATA).unlink(missing_ok=True)


def _without(path: Path, error: str) -> str:
    """Leave the folder of the study away where an error begins with it: it says nothing of a cell."""
    rest = error.removeprefix(f"{path}: ")
    return rest[:1].upper() + rest[1:] if rest != error else error


def check_files(study: Study) -> None:
    """Refuse files of weights that other machines would look for in folders of their own.

    Raises
    ------
    ValueError
        Naming the file.
    """
    steps = [(s.spec, s.parameters) for recipe in study.recipes.values() for s in recipe.steps]
    for candidate in study.classifiers.values():
        steps += [(get_step(candidate.method, "classifier"), parameters) for parameters in candidate.points]
    for spec, parameters in steps:
        for name in (p.name for p in spec.parameters if p.file):
            path = user_path(str(parameters[name]))
            if path.is_file() and not path.is_absolute():
                raise ValueError(f"{path}: workers have other folders; give the whole path, {path.absolute()}.")


def _with_own_images(grid: Grid, numbers: Sequence[int]) -> list[int]:
    """Return one cell for each noise, range and recipe, geometric masks at its end aside."""
    found: dict[tuple[str, Recipe, Range], int] = {}
    for number in numbers:
        cell = grid.cells[number]
        recipe, _ = split_recipe(grid.study.recipes[cell.recipe])
        if recipe:
            found.setdefault((cell.condition.noise, recipe, grid.range_of(cell)), number)
    return list(found.values())


def _fits(grid: Grid, numbers: Sequence[int]) -> list[list[int]]:
    """Return the cells that have a fit in common, together."""
    found: dict[Any, list[int]] = {}
    for number in numbers:
        found.setdefault(grid.fit_of(grid.cells[number]), []).append(number)
    return list(found.values())


def write_data(path: Path, data: Crops) -> None:
    """Write what a study needs of its data into one file."""
    arrays = {
        "pixels": np.concatenate([np.ravel(image) for image in data.images]),
        "shapes": np.array([image.shape for image in data.images]),
        "labels": data.labels.astype(str),
        **({} if data.groups is None else {"groups": data.groups.astype(str)}),
    }
    write_whole(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]  # of allow_pickle


def read_data(path: Path) -> Crops:
    """Read what `write_data` wrote."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
        pixels, shapes, labels = saved["pixels"], saved["shapes"], saved["labels"]
        groups = saved.get("groups")
    parts = np.split(pixels, np.cumsum(shapes.prod(axis=1))[:-1])
    images = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return Crops(images, labels, groups, [f"image {i}" for i in range(len(images))])
