"""The command ``classify``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.files import find_images
from ..core.progress import Steps
from ..core.recipe import Recipe
from ..core.remote.jobs import Job
from ..core.whole import all_or_none, write_whole
from .common import Inputs, Output, Overwrite, guarded, output_names
from .images import Axes
from .samples import (
    CropSize,
    Labels,
    Points,
    PointTable,
    Samples,
    check_marks,
    point_tables,
    read_samples,
    read_with_axes,
)
from .scheduler import Scheduler, Workers, run_jobs

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier
    from ..core.workflow import Classified

Model = Annotated[Path, typer.Option("--model", help="Classifier (.ndc) made by the command train.")]
OtherRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="Prepare images by this recipe instead of the one the classifier was trained with."),
]


@lru_cache(maxsize=1)
def _loaded(model: Path, changed: int) -> Classifier:
    from ..core.classify.storage import load_classifier

    return load_classifier(model)


def _load(model: Path) -> Classifier:
    """Read a classifier; the one that was read last is kept."""
    return _loaded(model, model.stat().st_mtime_ns if model.is_file() else 0)


def load_model(model: Path, recipe: Path | None) -> tuple[Classifier, Recipe | None]:
    """Read a classifier, and the recipe that takes the place of its own."""
    return _load(model), Recipe.from_json(recipe) if recipe else None


def classify_samples_iter(
    samples: Samples, classifier: Classifier, recipe: Recipe | None, **how: Any
) -> Steps[Classified]:
    """Classify the samples of one image; ``how`` as for `core.workflow.classify_iter`."""
    from ..core.workflow import classify_iter

    return classify_iter(
        samples.file.data,
        classifier,
        axes=samples.file.axes,
        centres=samples.centres,
        ids=samples.ids,
        groups=samples.groups,
        crop_size=samples.crop_size,
        pixel_size=samples.pixel_size,
        recipe=recipe,
        **how,
    )


@dataclass(frozen=True)
class _ModelFile:
    """One file of ``classify``.

    Attributes
    ----------
    path, model : Path
        Image and classifier.
    target : Path
        The table; of maps, what their names begin with.
    recipe : Recipe or None
        Instead of the classifier's own.
    axes : str or None
        Instead of those that the file tells.
    """

    path: Path
    target: Path
    model: Path
    recipe: Recipe | None
    axes: str | None


@dataclass(frozen=True)
class ClassifyFile(_ModelFile):
    """Planes, crops around points or label objects of a file: a `Job`.

    Attributes
    ----------
    points : PointTable or None
    labels, crop_size
        From the options of these names.
    """

    points: PointTable | None
    labels: Path | None
    crop_size: int | None

    @property
    def targets(self) -> list[Path]:
        """The table and the figure."""
        return [self.target, self.target.with_suffix(".png")]

    def run_iter(self) -> Steps[str]:
        """Classify the file; returns how many samples of each class there are, in words."""
        from ..core.figures import result_figure, save

        classifier = _load(self.model)
        samples = read_samples(self.path, classifier, self.axes, self.points, self.labels, self.crop_size)
        result = yield from classify_samples_iter(samples, classifier, self.recipe)
        table, figure = self.targets
        with all_or_none(self.targets):
            write_whole(table, lambda p: result.table.to_csv(p, index=False))
            save(result_figure(samples.file.data, samples.file.axes, False, result, classifier.classes), figure)
        counts = result.table["class"].value_counts()
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f": {found}" + (f"\n{samples.note}" if samples.note else "")


@dataclass(frozen=True)
class MapFile(_ModelFile):
    """Tiles of a file: a `Job`.

    Attributes
    ----------
    tile, stride
        From the options ``--tiles`` and ``--stride``.
    """

    tile: int
    stride: int | None

    @property
    def targets(self) -> list[Path]:
        """The maps, their table and record."""
        from ..core.results import class_map_paths

        return list(class_map_paths(self.target.parent, self.target.name).values())

    def run_iter(self) -> Steps[str]:
        """Classify the tiles of the file; returns the part of each class, in words."""
        from ..core.class_maps import class_map
        from ..core.results import save_class_map

        file = read_with_axes(self.path, self.axes)
        classifier = _load(self.model)
        lazy = class_map(file.data, classifier, tile=self.tile, stride=self.stride, axes=file.axes, recipe=self.recipe)
        found = yield from lazy.compute_iter()
        save_class_map(self.target.parent, self.target.name, file, found, overwrite=True)
        parts = ", ".join(f"{name} {part:.1%}" for name, part in found.fractions().items())
        return f": {parts} of {found.labels.size} tiles"


def classify(
    images: Inputs,
    model: Model,
    points: Points = None,
    labels: Labels = None,
    crop_size: CropSize = None,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Classify tiles of this side instead; writes maps of their classes.")
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Distance of the tiles; default: their side.")] = None,
    recipe: OtherRecipe = None,
    output: Output = Path("results"),
    axes: Axes = None,
    overwrite: Overwrite = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
) -> None:
    """Classify whole images, crops around points, label objects, or tiles; writes a CSV and a figure, or maps."""

    def plan() -> Recipe | None:
        if tiles is None and stride is not None:
            raise ValueError("--stride goes with --tiles: give the side of the tiles, too.")
        if tiles is not None and (points or labels or crop_size):
            raise ValueError("--tiles excludes --points, --labels and --crop-size: tiles cover the whole image.")
        check_marks(points, labels, crop_size)
        return load_model(model, recipe)[1]

    other = guarded(plan)
    paths = guarded(lambda: find_images(images))
    names = guarded(lambda: output_names(paths, output, lambda _: "_classes.csv" if tiles is None else ""))
    tables = guarded(lambda: point_tables(points, paths))

    jobs: list[Job] = [
        ClassifyFile(path, names[path], model, other, axes, tables.get(path), labels, crop_size)
        if tiles is None
        else MapFile(path, names[path], model, other, axes, tiles, stride)
        for path in paths
    ]
    run_jobs(jobs, overwrite, scheduler, workers)
