"""Running a study: every recipe with every classifier on the same splits."""

from __future__ import annotations

import contextlib
import functools
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ..classify.datasets import Crops
from ..device import precision
from ..progress import Progress, Steps, run, within
from .cache import ImageCache
from .checks import check_data
from .declaration import Study
from .declaring import declare
from .designs import Split, make_splits
from .extras import examples_iter, majority_rows, quality_iter
from .files import begin, prepare_folder
from .grid import FinishedCell, Grid
from .result import StudyResult
from .shares import check_files, shares_iter
from .sources import describe, load_source

__all__ = ["Checked", "FinishedCell", "study", "study_iter"]


@dataclass(frozen=True)
class Checked:
    """What was found before anything ran; the ``data`` of the first progress of a study.

    Attributes
    ----------
    study : Study
    notes : tuple of str
    cells : int
        How many are to come.
    """

    study: Study
    notes: tuple[str, ...]
    cells: int


def study(
    data: Any,
    recipes: Any = None,
    classifiers: Any = None,
    design: Any = None,
    *,
    preset: str | None = None,
    seed: int | None = None,
    reference: str | None = None,
    training: str | None = None,
    noise: str | Sequence[str] | None = None,
    augmentation: str | Sequence[str] | None = None,
    margin: float | None = None,
    explain: str | None = None,
    intensity_range: tuple[float, float] | None = None,
    input_size: int | None = None,
    group: str | None = None,
    sweep: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    folder: str | Path | None = None,
    overwrite: bool = False,
    cache: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    crops: Crops | None = None,
) -> StudyResult:
    """Ask whether denoising or masking helps a classification.

    Every recipe is tried with every classifier on the same splits; groups are never split; whatever is fitted is
    fitted on training samples alone; each image goes through each recipe once. A cell that fails is reported, and the
    others go on.

    Parameters
    ----------
    data : Crops, str, Path or Study
        Labelled crops; what `load_crops` reads; ``"synthetic:signatures"`` or ``"synthetic:cells"``; or a `Study`, or
        the path of a study file (.json): then it is rerun as declared there.
    recipes : dict or list
        From name to `Recipe`; or recipes, named by their steps.
    classifiers : list or dict
        Ids, or from name to id or (id, parameters). A parameter given as a list is tuned over, by folds of the
        training samples alone: ``{"svm": ("svm", {"C": [0.1, 1, 10]})}``.
    design : str, dict or Design, optional
        ``"partitions"``, ``"holdout:test_fraction=0.2"``, ``"cross-validation:folds=5,repeats=3"``.
    preset : {"custom", "denoising", "masking", "robustness", "signatures", "sweep"}, optional
        Settles what is not given; see `PRESETS`. Default: ``"custom"``, which settles nothing.
    seed : int, optional
        Of splits, noise and training; default: 0.
    reference : str, optional
        The recipe that others are compared with; default: the first.
    training : {"matched", "mismatched"}, optional
        Default: matched, or as the preset says. Matched: training and test images get the same noise and recipe.
        Mismatched: training images stay clean and unprocessed, test images get the noise and the recipe.
    noise : str or list of str, optional
        Put on the images first, as ``"gaussian:25"``; each of a list is a condition of its own, ``""`` is none.
    augmentation : str or list of str, optional
        ``"turns"`` adds turned and mirrored copies to the training samples.
    margin : float, optional
        The smallest difference that matters, in points of macro-F1; default: 2.
    explain : str, optional
        Explain step for the critical areas, ``"gradcam"`` (of CNNs) by default; ``""`` for none.
    intensity_range : (float, float), optional
        What maps to 0..1. By default 0 to 255 for 8-bit images; for others it is found on the training samples of each
        split, and images are processed anew where it differs.
    input_size : int, optional
        Side to which classifiers resize crops, where their parameters do not say; for the presets' CNN, 224 is slow
        without a GPU, and 32 enough for small cells.
    group : str, optional
        As for `load_crops`.
    sweep : dict, optional
        Grid for the preset of that name: ``{"gaussian": {"kernel_size": [3, 5, 7]}}``.
    folder : str or Path, optional
        Cells are kept there as they finish, so that a study that was interrupted goes on, and the result is saved.
    overwrite : bool
        Allow the results of another study in that folder to be replaced.
    cache : str or Path, optional
        Folder for processed images; default: beside the downloaded weights.
    workers : int, optional
        So many processes of this machine share the cells, each with its part of the threads and memory of its own.
        Needs dask.distributed.
    scheduler : str, optional
        Instead: the address of a dask scheduler (``tcp://host:8786``) or its scheduler file, whose workers share the
        cells. Folder, cache and weights must be where all of them see them.
    crops : Crops, optional
        The data of a study that is rerun and that names no path.

    Returns
    -------
    StudyResult

    Raises
    ------
    ValueError
        For what is not allowed, too few samples of a class (naming the minimum), splits that groups forbid, or a
        folder that holds another study.
    ImportError
        With ``workers`` or ``scheduler``, if dask.distributed is not installed.
    ConnectionError
        If the scheduler does not answer, has no workers, or is lost; finished cells are kept.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> recipes = {"raw": ndc.Recipe(), "median": ndc.Recipe(["median"])}
    >>> result = ndc.study("crops.csv", recipes, ["knn"], "partitions")  # doctest: +SKIP
    >>> result.table  # doctest: +SKIP
    """
    settings = {
        "preset": preset,
        "seed": seed,
        "reference": reference,
        "training": training,
        "noise": noise,
        "augmentation": augmentation,
        "margin": margin,
        "explain": explain,
        "intensity_range": intensity_range,
        "input_size": input_size,
        "group": group,
        "sweep": sweep,
    }
    work = study_iter(
        data,
        recipes,
        classifiers,
        design,
        folder=folder,
        overwrite=overwrite,
        cache=cache,
        workers=workers,
        scheduler=scheduler,
        crops=crops,
        **{name: value for name, value in settings.items() if value is not None},
    )
    return run(work)


def study_iter(
    data: Any,
    recipes: Any = None,
    classifiers: Any = None,
    design: Any = None,
    *,
    folder: str | Path | None = None,
    overwrite: bool = False,
    cache: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    crops: Crops | None = None,
    **settings: Any,
) -> Steps[StudyResult]:
    """As `study`, with progress, whose ``data`` is `Checked` first and then a `FinishedCell` for each cell.

    The ``settings`` are the other arguments of `study`, those that are None left out.
    """
    precision()  # refuses what the environment says wrongly
    if workers is not None and (not isinstance(workers, Integral) or isinstance(workers, bool) or workers < 1):
        raise ValueError(f"workers={workers!r} is not allowed: give a whole number from 1 on.")
    if workers is not None and scheduler is not None:
        raise ValueError("workers and scheduler exclude each other: a cluster has workers of its own.")
    if scheduler is not None and folder is None:
        raise ValueError("A study on a cluster needs a folder that all of its machines share: give one as folder.")
    yield Progress(0.0, "loading the data")
    declared = _declared(data)
    if declared is None:
        declared, crops = declare(data, recipes, classifiers, design, **settings)
    else:
        unused = [
            name for name, value in (("recipes", recipes), ("classifiers", classifiers), ("design", design)) if value
        ]
        if unused or settings:
            raise ValueError(
                f"{[*unused, *settings][0]} is settled by the study that is rerun: leave it out, or declare another."
            )
        crops = _data_of(declared, crops)
    if folder is not None:
        prepare_folder(folder, declared, overwrite)
    if scheduler is not None:
        check_files(declared)
    shared = workers is not None or scheduler is not None
    images = ImageCache.at(cache)
    with tempfile.TemporaryDirectory() if shared and folder is None else contextlib.nullcontext(folder) as kept:
        own = None if kept is None else Path(kept)
        work = _run_iter(declared, crops, own, images, (workers, scheduler) if shared else None)
        result = yield from work
    if folder is not None:
        result.save(folder)
    return result


def _declared(data: Any) -> Study | None:
    if isinstance(data, Study):
        return data
    if isinstance(data, (str, Path)) and str(data).lower().endswith(".json"):
        return Study.from_json(Path(data))
    return None


def _data_of(declared: Study, crops: Crops | None) -> Crops:
    source = declared.data
    if crops is None:
        if not source.path:
            raise ValueError("This study was made of crops that were given as they are: give them again, as crops=….")
        crops = load_source(source.path, source.group)[0]
    if describe(crops, source.path, source.group).sha256 != source.sha256:
        raise ValueError(
            f"The data {source.path or 'given'} are not those of this study (SHA-256 differs): restore them, or "
            "declare a new study."
        )
    return crops


def _run_iter(
    declared: Study,
    data: Crops,
    folder: Path | None,
    cache: ImageCache,
    processes: tuple[int | None, str | None] | None,
) -> Steps[StudyResult]:
    splits = make_splits(data.labels, data.groups, declared.design, declared.seed)
    grid = Grid(declared, data, splits, folder, cache)
    notes = [*declared.remarks, *check_data(data, splits, grid.images.keys), *_design_notes(declared, data, splits)]
    yield Progress(0.0, "checked the data", Checked(declared, tuple(notes), len(grid.cells)))
    elsewhere = None
    if folder is not None and processes is not None:
        elsewhere = functools.partial(shares_iter, grid, folder, *processes)
    elif folder is not None:
        begin(folder, declared)
    cells, predictions = yield from within(grid.run_iter(elsewhere), 0.0, 0.95)
    drift, remarks = yield from within(grid.drift_iter(), 0.95, 0.96)
    quality = yield from within(quality_iter(grid), 0.96, 0.98)
    examples, kept = yield from within(examples_iter(grid, predictions), 0.98, 1.0)
    failed = cells[cells["status"] == "failed"]
    if len(failed):
        one = failed.iloc[0]
        notes.append(
            f"{len(failed)} of {len(cells)} cells failed; the first, {one['classifier']} on {one['recipe']}: "
            f"{one['error']}"
        )
    return StudyResult(
        study=declared,
        cells=cells,
        predictions=predictions,
        quality=quality,
        drift=drift,
        examples=examples,
        notes=[*notes, *remarks],
        record={
            **_versions(),
            "seed": declared.seed,
            "data": {"sha256": declared.data.sha256, "counts": dict(data.counts), "groups": declared.data.groups},
            "recipes": grid.recipe_records(),
            "kept": kept,
            "majority": majority_rows(data, splits),
            "seconds": grid.seconds(),
            "cache": {"hits": cache.hits, "misses": cache.misses, "cells_reused": grid.reused},
        },
    )


def _design_notes(declared: Study, data: Crops, splits: list[Split]) -> Iterable[str]:
    design = declared.design
    if design.layout == "cross-validation" and len(splits) < design.folds * design.repeats:
        yield f"There are {declared.data.groups} groups, so there are as many folds instead of {design.folds}."
    if design.layout == "partitions" and len(splits[0].tests) < design.partitions:
        yield f"The held-out half has {len(splits[0].tests)} groups, so there are as many partitions."
    if data.images[0].dtype not in (np.uint8, bool) and declared.intensity_range is None:
        yield (
            f"The images are {data.images[0].dtype}: what maps to 0..1 is found on the training samples of each split, "
            "so images are processed again where it differs. Give intensity_range to process them once."
        )
    for name, recipe in declared.recipes.items():
        if any(Path(str(s.parameters.get("weights", ""))).suffix for s in recipe.steps):
            yield f"The recipe {name!r} uses weights from a file: they must not have been trained on these images."


def _versions() -> dict[str, Any]:
    import scipy
    import sklearn
    import torch

    return {
        "versions": {
            "napari-denoise-classify": __version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {"system": platform.platform(), "processor": platform.machine(), "threads": torch.get_num_threads()},
    }
