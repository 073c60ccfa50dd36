"""The command ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.recipe import Recipe
from .common import Overwrite, check_new, check_suffix, guarded, say, with_bar
from .images import Axes
from .options import chosen, method_option, with_step_options

if TYPE_CHECKING:
    from ..core.classify.datasets import Crops
    from ..core.classify.fields import Unit

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
        str | None,
        typer.Option(
            help="px (default), um (needs the files' pixel size), or object: as large as each object.",
            show_default=False,
        ),
    ] = None,
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
    context: Annotated[
        float,
        typer.Option(
            min=0, help="Let cells within about so many pixels have a say in a cell's class; 0: each by itself."
        ),
    ] = 0.0,
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Train a classifier on labelled crops, and say how good it is on crops held out."""

    def work() -> None:
        from ..core.classify.training import train_classifier_iter

        spec, checked = chosen("classifier", method, parameters)
        check_suffix(output, [".ndc"], "classifiers")
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
        work = train_classifier_iter(train_part, spec.id, prepared, seed, context, **checked)
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
    unit: str | None,
    axes: str | None,
    group: str | None,
) -> Crops:
    if (data is None) == (not images):
        raise ValueError("Give a folder or table of crops, or else --image with --points or --labels and --classes.")
    if data is not None:
        from ..core.classify.datasets import load_crops

        if any(marked.values()):
            raise ValueError("--points, --labels and --classes go with --image: give the image, too.")
        own = {"--crop-size": size, "--crop-unit": unit, "--axes": axes}
        given = [name for name, value in own.items() if value is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: these options go with --image; the crops of DATA are cut already.")
        return load_crops(data, group)
    from ..core.classify.marked import load_marked

    unit = unit or "px"
    if unit not in ("px", "um", "µm", "object"):
        raise ValueError(f"--crop-unit {unit} is not allowed: give px, um or object.")
    known: Unit = "object" if unit == "object" else "px" if unit == "px" else "µm"
    return load_marked(images, **marked, size=size, unit=known, axes=axes, group=group)
