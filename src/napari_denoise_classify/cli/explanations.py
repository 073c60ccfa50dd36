"""The commands ``explain`` and ``check-explanation``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.files import find_images
from ..core.images import PlaneImage
from ..core.recipe import Recipe
from ..core.steps import get_step
from ..core.whole import write_whole
from .classify import Model, OtherRecipe, classify_samples_iter, load_model
from .common import Inputs, Output, Overwrite, check_new, check_suffix, for_each, guarded, output_names, say, with_bar
from .images import Axes
from .options import chosen, method_option, with_step_options
from .samples import CropSize, Labels, Points, check_marks, point_tables, read_samples

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier

_AREA = {p.name: p for p in get_step("critical_area").parameters}
Target = Annotated[str | None, typer.Option(help="Class to explain; default: the predicted one.")]
Area = Annotated[str, typer.Option(help=f"{_AREA['mode'].help} Allowed: {_AREA['mode'].allowed}.")]
Fraction = Annotated[float, typer.Option(help=f"{_AREA['fraction'].help} Allowed: {_AREA['fraction'].allowed}.")]


@with_step_options("explain")
def explain(
    images: Inputs,
    model: Model,
    method: Annotated[str, method_option("explain")] = "gradcam",
    target: Target = None,
    area: Area = _AREA["mode"].default,
    fraction: Fraction = _AREA["fraction"].default,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics",
            help="Ask the classifier what each critical area decides, and how stable it is; takes six times as long.",
        ),
    ] = False,
    points: Points = None,
    labels: Labels = None,
    crop_size: CropSize = None,
    recipe: OtherRecipe = None,
    output: Output = Path("results"),
    axes: Axes = None,
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Show why: heat map, critical area, classes and a figure, in one set of files for each image."""
    from ..core.explain.reasons import ask
    from ..core.results import possible_paths, save_result

    spec, checked = guarded(lambda: chosen("explain", method, parameters))
    how: dict[str, Any] = {"target": target, "area": area, "fraction": fraction, "statistics": statistics}

    def plan() -> tuple[Classifier, Recipe | None]:
        check_marks(points, labels, crop_size)
        classifier, other = load_model(model, recipe)
        ask(classifier, (spec.id, checked), **how)
        return classifier, other

    classifier, other = guarded(plan)
    paths = guarded(lambda: find_images(images))
    names = guarded(lambda: output_names(paths, output, lambda _: ""))
    tables = guarded(lambda: point_tables(points, paths))

    def one(path: Path) -> None:
        if not overwrite:
            check_new(possible_paths(output, names[path].name).values(), False)
        asked = {"explain": (spec.id, checked), **how}
        samples = read_samples(path, classifier, axes, tables.get(path), labels, crop_size)
        result = with_bar(classify_samples_iter(samples, classifier, other, **asked), path.name)
        if samples.note:
            say(samples.note)
        written = save_result(output, names[path].name, samples.file, result, classifier.classes, overwrite=overwrite)
        say("\n".join(str(p) for p in written.values()))

    for_each(paths, one)


@with_step_options("explain")
def check_explanation(
    images: Inputs,
    model: Model,
    method: Annotated[str, method_option("explain")] = "gradcam",
    target: Target = None,
    points: Points = None,
    labels: Labels = None,
    crop_size: CropSize = None,
    recipe: OtherRecipe = None,
    samples: Annotated[int, typer.Option(min=1, help="Of more samples, so many are drawn.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, the dummies and the random weights.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV of every sample's figures to write.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Picture of the curves to write (PNG, SVG, PDF).", show_default=False)
    ] = None,
    axes: Axes = None,
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Test whether heat maps can be trusted: deletion and insertion against dummies, and random weights."""

    def work() -> None:
        from ..core.figures import save
        from ..core.workflow import check_image_iter

        spec, checked = chosen("explain", method, parameters)
        check_marks(points, labels, crop_size)
        if output is not None:
            check_suffix(output, [".csv"], "tables")
        if figure is not None:
            check_suffix(figure, [".png", ".svg", ".pdf"], "figures")
        check_new([path for path in (output, figure) if path is not None], overwrite)
        classifier, other = load_model(model, recipe)
        paths = find_images(images)
        tables = point_tables(points, paths)
        found = [read_samples(path, classifier, axes, tables.get(path), labels, crop_size) for path in paths]
        for note in dict.fromkeys(one.note for one in found if one.note):
            say(note)
        work = check_image_iter(
            [PlaneImage.wrap(one.file.data, one.file.axes) for one in found],
            classifier,
            centres=[one.centres for one in found],
            crop_sizes=[one.crop_size for one in found],
            pixel_sizes=[one.pixel_size for one in found],
            recipe=other,
            method=(spec.id, checked),
            target=target,
            seed=seed,
            at_most=samples,
        )
        check = with_bar(work, f"checking {spec.title}")
        say(str(check))
        if output is not None:
            write_whole(output, lambda p: check.samples.to_csv(p, index=False))
            say(str(output))
        if figure is not None:
            say(str(save(check.figure(), figure)))

    guarded(work)
