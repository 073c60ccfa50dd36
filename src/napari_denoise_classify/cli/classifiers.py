"""The commands ``train``, ``classify`` and ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..core.files import ImageFile, find_images, read_image, write_whole
from ..core.images import PlaneImage
from ..core.recipe import Recipe
from ..core.steps import get_step
from .common import Inputs, Output, Overwrite, check_new, for_each, guarded, output_names, say, with_bar
from .images import Axes
from .options import chosen, method_option, with_step_options

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier
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


@with_step_options("classifier")
def train(
    data: Annotated[
        Path, typer.Argument(help="Folder with a subfolder for each class, or CSV with columns path and class.")
    ],
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
        from ..core.classify.datasets import load_crops
        from ..core.classify.training import train_classifier_iter

        spec, checked = chosen("classifier", method, parameters)
        check_new([output], overwrite)
        crops = load_crops(data, group)
        say(repr(crops)[1:-1])
        if crops.groups is None:
            say("No groups given: crops of one patient or field may be on both sides of the split, which flatters.")
        train_part, test_part = crops.split(test_fraction, seed) if test_fraction else (crops, None)
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


def read_positions(file: ImageFile, points: Path | None, labels: Path | None) -> tuple[Any, Any]:
    """Read where the samples are, and the numbers of label objects; (None, None) for whole planes.

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
        try:
            return table[wanted].to_numpy(float), None
        except ValueError as error:
            raise ValueError(f"{points}: positions must be numbers ({error}).") from None
    if labels is not None:
        from ..core.classify.sampling import object_centres

        objects = read_image(labels).data
        expected = (*source.lead_shape, *source.plane_shape)
        if objects.shape != expected:
            raise ValueError(f"{labels} has shape {objects.shape}, but the image {expected}: they must be equal.")
        ids, centres = object_centres(objects)
        return centres, ids
    return None, None


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
    from ..core.workflow import classify_iter

    file = read_image(path)
    if axes:
        file = ImageFile(file.data, axes.upper(), file.path, file.resolution, file.unit, file.metadata)
    centres, ids = read_positions(file, points, labels)
    work = classify_iter(
        file.data, classifier, axes=file.axes, centres=centres, ids=ids, crop_size=crop_size, recipe=recipe, **how
    )
    return file, with_bar(work, path.name)


def _load(model: Path, recipe: Path | None) -> tuple[Classifier, Recipe | None]:
    from ..core.classify.storage import load_classifier

    return load_classifier(model), Recipe.from_json(recipe) if recipe else None


def classify(
    images: Inputs,
    model: Model,
    points: Points = None,
    labels: Labels = None,
    crop_size: CropSize = None,
    recipe: OtherRecipe = None,
    output: Output = Path("results"),
    axes: Axes = None,
    overwrite: Overwrite = False,
) -> None:
    """Classify whole images, crops around points, or the objects of a label image; writes a CSV and a figure."""
    from ..core.figures import result_figure, save

    classifier, other = guarded(lambda: _load(model, recipe))
    paths = guarded(lambda: find_images(images))
    names = guarded(lambda: output_names(paths, output, lambda _: "_classes.csv"))

    def one(path: Path) -> None:
        table, figure = names[path], names[path].with_suffix(".png")
        check_new([table, figure], overwrite)
        file, result = run_classifier(path, classifier, axes, points, labels, crop_size, other)
        write_whole(table, lambda p: result.table.to_csv(p, index=False))
        save(result_figure(file.data, file.axes, False, result, classifier.classes), figure)
        counts = result.table["class"].value_counts()
        say(f"{table}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))

    for_each(paths, one)


def explain(
    images: Inputs,
    model: Model,
    method: Annotated[str, method_option("explain")] = "gradcam",
    target: Annotated[str | None, typer.Option(help="Class to explain; default: the predicted one.")] = None,
    fraction: Annotated[float, typer.Option(help="Part of the pixels in the critical area, between 0 and 1.")] = 0.2,
    points: Points = None,
    labels: Labels = None,
    crop_size: CropSize = None,
    recipe: OtherRecipe = None,
    output: Output = Path("results"),
    axes: Axes = None,
    overwrite: Overwrite = False,
) -> None:
    """Show why: heat map, critical area, classes and a figure, in one set of files for each image."""
    from ..core.explain.attribution import check_target
    from ..core.explain.contours import critical_mask
    from ..core.results import save_result

    def plan() -> tuple[Classifier, Recipe | None]:
        get_step(method, "explain")
        classifier, other = _load(model, recipe)
        check_target(classifier, target)
        critical_mask(np.zeros((1, 1)), fraction)
        return classifier, other

    classifier, other = guarded(plan)
    paths = guarded(lambda: find_images(images))
    names = guarded(lambda: output_names(paths, output, lambda _: ""))

    def one(path: Path) -> None:
        if not overwrite:
            suffixes = ("classes.csv", "processed.tif", "record.json", "figure.png", "heat.tif", "critical_area.csv")
            check_new([output / f"{names[path].name}_{suffix}" for suffix in suffixes], False)
        how = {"explain": method, "target": target, "fraction": fraction}
        file, result = run_classifier(path, classifier, axes, points, labels, crop_size, other, **how)
        written = save_result(output, names[path].name, file, result, classifier.classes, overwrite=overwrite)
        say("\n".join(str(p) for p in written.values()))

    for_each(paths, one)
