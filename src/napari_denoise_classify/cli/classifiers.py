"""The commands ``train`` and ``classify``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.files import ImageFile, all_or_none, find_images, read_image, write_whole
from ..core.images import PlaneImage
from ..core.progress import Steps
from ..core.recipe import Recipe
from ..core.remote import Job
from .common import Inputs, Output, Overwrite, check_new, guarded, output_names, say, with_bar
from .images import Axes
from .options import chosen, method_option, with_step_options
from .scheduler import Scheduler, Workers, run_jobs

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier
    from ..core.classify.datasets import Crops
    from ..core.classify.fields import Sizes, Unit
    from ..core.workflow import Classified

Model = Annotated[Path, typer.Option("--model", help="Classifier (.ndc) made by the command train.")]
Points = Annotated[
    Path | None,
    typer.Option(help="CSV of positions in pixels, columns y and x (and t, c, z where the image has them)."),
]
Labels = Annotated[Path | None, typer.Option(help="Label image of the same size: its objects are classified.")]
CropSize = Annotated[int | None, typer.Option(min=1, help="Side of the crops; default: as in training.")]
OtherRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="Prepare images by this recipe instead of the one the classifier was trained with."),
]


Many = list[Path] | None


@with_step_options("classifier")
def train(
    data: Annotated[
        Path | None, typer.Argument(help="Folder with a subfolder for each class, or CSV with columns path and class.")
    ] = None,
    image: Annotated[Many, typer.Option(help="Instead of DATA: image with marked cells; may be repeated.")] = None,
    points: Annotated[
        Many, typer.Option(help="CSV with y, x, class[, group] for each --image, or one with a column image for all.")
    ] = None,
    labels: Annotated[Many, typer.Option(help="Label image for each --image, whose objects are the samples.")] = None,
    classes: Annotated[
        Many, typer.Option(help="CSV with label, class[, group] for each --labels, or one with a column image for all.")
    ] = None,
    crop_size: Annotated[
        float | None, typer.Option(min=0, help="Side of the crops in --crop-unit; default: 32 px. Object: the margin.")
    ] = None,
    crop_unit: Annotated[
        str, typer.Option(help="px, um (needs the files' pixel size), or object: as large as each object.")
    ] = "px",
    axes: Axes = None,
    method: Annotated[str, method_option("classifier")] = "cnn",
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write.")] = Path("model.ndc"),
    group: Annotated[
        str | None,
        typer.Option(help="Column with the patient, slide or field; for a folder, a regular expression on names."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe (JSON) that prepares the images.")] = None,
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Part held out for the figures; 0 trains on everything.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Train a classifier on labelled crops, and say how good it is on crops held out."""

    def work() -> None:
        from ..core.classify.training import train_classifier_iter

        spec, checked = chosen("classifier", method, parameters)
        check_new([output], overwrite)
        marked = {"points": points or [], "labels": labels or [], "classes": classes or []}
        crops = _read_crops(data, image or [], marked, crop_size, crop_unit, axes, group)
        say(repr(crops)[1:-1])
        if crops.groups is None:
            say("No groups given: crops of one patient or field may be on both sides of the split, which flatters.")
        train_part, test_part, note = crops.split_with_note(test_fraction, seed) if test_fraction else (crops, None, "")
        if note:
            say(f"Note: {note}")
        prepared = Recipe.from_json(recipe) if recipe else Recipe()
        work = train_classifier_iter(train_part, spec.id, prepared, seed, **checked)
        classifier = with_bar(work, f"training {spec.title}")
        if test_part is not None:
            evaluation = classifier.evaluate(test_part)
            classifier.training["evaluation"] = evaluation.to_dict()
            say(f"trained on {len(train_part)} crops, tested on {len(test_part)}")
            say(str(evaluation))
        classifier.save(output)
        say(str(output))

    guarded(work)


def _read_crops(
    data: Path | None,
    images: list[Path],
    marked: dict[str, list[Path]],
    size: float | None,
    unit: str,
    axes: str | None,
    group: str | None,
) -> Crops:
    if (data is None) == (not images):
        raise ValueError("Give a folder or table of crops, or else --image with --points or --labels and --classes.")
    if data is not None:
        from ..core.classify.datasets import load_crops

        if any(marked.values()):
            raise ValueError("--points, --labels and --classes go with --image: give the image, too.")
        return load_crops(data, group)
    from ..core.classify.marked import load_marked

    if unit not in ("px", "um", "µm", "object"):
        raise ValueError(f"--crop-unit {unit} is not allowed: give px, um or object.")
    known: Unit = "object" if unit == "object" else "px" if unit == "px" else "µm"
    return load_marked(images, **marked, size=size, unit=known, axes=axes, group=group)


@dataclass(frozen=True)
class Positions:
    """Where the samples of an image are.

    Attributes
    ----------
    centres : (N, D) array, or None for whole planes
    ids : (N,) array of the numbers of label objects, or None
    sides : (N,) array of the objects' sizes in pixels, or None
    groups : (N,) array of str, or None
    """

    centres: Any = None
    ids: Any = None
    sides: Any = None
    groups: Any = None


def read_positions(file: ImageFile, points: Path | None, labels: Path | None) -> Positions:
    """Read where the samples are.

    Raises
    ------
    ValueError
        If the table cannot be read or lacks a column, or the label image has another size.
    """
    source = PlaneImage.wrap(file.data, file.axes)
    if points is not None and labels is not None:
        raise ValueError("--points and --labels exclude each other.")
    if points is not None:
        from ..core.classify.datasets import read_table

        wanted = [*source.lead_names, "y", "x"]
        table = read_table(points, wanted)
        groups = table["group"].to_numpy(str) if "group" in table.columns else None
        try:
            return Positions(table[wanted].to_numpy(float), groups=groups)
        except ValueError as error:
            raise ValueError(f"{points}: positions must be numbers ({error}).") from None
    if labels is not None:
        from ..core.classify.objects import measure_objects

        image = read_image(labels).data
        expected = (*source.lead_shape, *source.plane_shape)
        if image.shape != expected:
            raise ValueError(f"{labels} has shape {image.shape}, but the image {expected}: they must be equal.")
        objects = measure_objects(image)
        return Positions(objects.centres, objects.ids, objects.sides)
    return Positions()


def run_classifier(
    path: Path,
    classifier: Classifier,
    axes: str | None,
    points: Path | None,
    labels: Path | None,
    crop_size: int | None,
    recipe: Recipe | None,
    **how: Any,
) -> tuple[ImageFile, Classified]:
    """Read one image and classify it under a progress bar."""
    work = classify_file_iter(path, classifier, axes, points, labels, crop_size, recipe, **how)
    file, result, note = with_bar(work, path.name)
    if note:
        say(note)
    return file, result


def classify_file_iter(
    path: Path,
    classifier: Classifier,
    axes: str | None,
    points: Path | None,
    labels: Path | None,
    crop_size: int | None,
    recipe: Recipe | None,
    **how: Any,
) -> Steps[tuple[ImageFile, Classified, str]]:
    """Read one image and classify it; returns also what is to be said of its pixel size."""
    from ..core.classify.fields import field_of, pixel_size_of
    from ..core.workflow import classify_iter

    file = _read(path, axes)
    where = read_positions(file, points, labels)
    pixel_size = pixel_size_of(file)
    field = field_of(classifier.training, classifier.crop_size)
    size: Sizes | None = crop_size
    if size is None and field.unit == "object" and where.sides is not None:
        size = field.pixels(sides=where.sides)
    result = yield from classify_iter(
        file.data,
        classifier,
        axes=file.axes,
        centres=where.centres,
        ids=where.ids,
        groups=where.groups,
        crop_size=size,
        pixel_size=pixel_size,
        recipe=recipe,
        **how,
    )
    note = field.note(pixel_size) if where.centres is not None and crop_size is None else ""
    return file, result, f"{path.name}: {note}" if note else ""


def _read(path: Path, axes: str | None) -> ImageFile:
    file = read_image(path)
    return replace(file, axes=axes.upper()) if axes else file


def load_model(model: Path, recipe: Path | None) -> tuple[Classifier, Recipe | None]:
    """Read a classifier, and the recipe that takes the place of its own."""
    from ..core.classify.storage import load_classifier

    return load_classifier(model), Recipe.from_json(recipe) if recipe else None


@lru_cache(maxsize=1)
def _loaded(model: Path, changed: int) -> Classifier:
    from ..core.classify.storage import load_classifier

    return load_classifier(model)


def _load(model: Path) -> Classifier:
    """Read a classifier; the one that was read last is kept."""
    return _loaded(model, model.stat().st_mtime_ns if model.is_file() else 0)


@dataclass(frozen=True)
class ClassifyFile:
    """One file of ``classify``: a `Job`.

    Attributes
    ----------
    path, target, model : Path
        Image, table and classifier.
    recipe : Recipe or None
        Instead of the classifier's own.
    axes, points, labels, crop_size
        From the options of these names.
    """

    path: Path
    target: Path
    model: Path
    recipe: Recipe | None
    axes: str | None
    points: Path | None
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
        file, result, note = yield from classify_file_iter(
            self.path, classifier, self.axes, self.points, self.labels, self.crop_size, self.recipe
        )
        table, figure = self.targets
        with all_or_none(self.targets):
            write_whole(table, lambda p: result.table.to_csv(p, index=False))
            save(result_figure(file.data, file.axes, False, result, classifier.classes), figure)
        counts = result.table["class"].value_counts()
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f": {found}" + (f"\n{note}" if note else "")


@dataclass(frozen=True)
class MapFile:
    """One file of ``classify --tiles``: a `Job`.

    Attributes
    ----------
    path, model : Path
        Image and classifier.
    target : Path
        With which the names of the maps begin.
    recipe : Recipe or None
        Instead of the classifier's own.
    axes, tile, stride
        From the options of these names.
    """

    path: Path
    target: Path
    model: Path
    recipe: Recipe | None
    axes: str | None
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

        file = _read(self.path, self.axes)
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
        _load(model)
        return Recipe.from_json(recipe) if recipe else None

    other = guarded(plan)
    paths = guarded(lambda: find_images(images))
    names = guarded(lambda: output_names(paths, output, lambda _: "_classes.csv" if tiles is None else ""))

    jobs: list[Job] = [
        ClassifyFile(path, names[path], model, other, axes, points, labels, crop_size)
        if tiles is None
        else MapFile(path, names[path], model, other, axes, tiles, stride)
        for path in paths
    ]
    run_jobs(jobs, overwrite, scheduler, workers)
