"""The command ``study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.study.text import named_classifiers, named_recipes, swept
from .common import Overwrite, console, guarded, results_folder, say

_NAMED = "[NAME=]STEP[:PARAMETER=VALUE,…]"


def study(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder with a subfolder for each class, CSV with columns path and class, synthetic:cells, "
            "synthetic:signatures, or a study.json to run again.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            callback=results_folder,
            help="Folder for tables, figures and report; a study is resumed there.",
        ),
    ] = Path("study"),
    preset: Annotated[
        str | None,
        typer.Option(help="denoising, masking, robustness, signatures, sweep or custom (default).", show_default=False),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column with the patient, slide or field; for a folder, a regular expression on names."),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Several times. A recipe is a JSON file, or steps: blurred=gaussian:kernel_size=5+centre; "
            "raw=raw does nothing.",
            metavar="NAME=RECIPE",
        ),
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(help="Several times: svm, or forest=random_forest:trees=100.", metavar=_NAMED),
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(help="partitions, holdout:test_fraction=0.2, or cross-validation:folds=5,repeats=3."),
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(
            help="matched (training and test images alike) or mismatched (trained on clean, tested on processed)."
        ),
    ] = None,
    noise: Annotated[
        list[str] | None, typer.Option(help="Noise put on the images first, several times: gaussian:25; none for none.")
    ] = None,
    augmentation: Annotated[
        list[str] | None, typer.Option(help="turns: turned and mirrored copies of training crops; none for none.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="For the preset sweep: gaussian:kernel_size=3/5/7.", metavar="STEP:PARAMETER=VALUE/VALUE"),
    ] = None,
    reference: Annotated[str | None, typer.Option(help="The recipe that others are compared with.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Smallest difference that matters, in points of macro-F1.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="How critical areas are found for their drift: gradcam, occlusion or none.")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Side to which classifiers resize crops; 32 is enough for small cells.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: 0.", show_default=False)] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for processed images.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Have the cells run by so many processes of this machine.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Have them run by the workers of a dask scheduler: tcp://host:8786, or its scheduler file (.json).",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Ask whether denoising or masking helps a classification: same splits for all, intervals, one HTML report.

    An interrupted study goes on when the same command is given again.
    """
    settings: dict[str, Any] = {
        "preset": preset,
        "group": group,
        "design": design,
        "training": training,
        "noise": noise,
        "augmentation": augmentation,
        "reference": reference,
        "margin": margin,
        "explain": "" if explain == "none" else explain,
        "input_size": input_size,
        "seed": seed,
    }

    def work() -> None:
        from ..core.study.declaring import declare
        from ..core.study.files import declared_in
        from ..core.study.run import study_iter

        again = data.lower().endswith(".json")
        if again:
            settled = {**settings, "recipe": recipe, "classifier": classifier, "sweep": sweep}
            given = [name for name, value in settled.items() if value not in (None, [])]
            if given:
                raise ValueError(f"{data} settles --{given[0].replace('_', '-')}: leave it out to run it again.")
            declared, crops = declared_in(data)
        else:
            declared, crops = declare(
                data,
                recipes=named_recipes(recipe or ()) or None,
                classifiers=named_classifiers(classifier or ()) or None,
                sweep=swept(sweep or ()) or None,
                **{**settings, "preset": preset or "custom", "seed": seed or 0},
            )
        where: dict[str, Any] = {"folder": output, "cache": cache, "workers": workers, "scheduler": scheduler}
        _run(study_iter(declared, crops=crops, overwrite=overwrite, **where), output)

    try:
        guarded(work)
    except KeyboardInterrupt:
        console.print(f"Stopped. Finished cells are kept in {output}: give the same command again to go on.")
        raise typer.Exit(130) from None


def _run(work: Any, output: Path) -> None:
    """Run a study, telling of each cell, and write what it found."""
    from ..core.progress import Progress, run
    from ..core.study.files import save_all_iter
    from ..core.study.run import Checked, FinishedCell

    def report(progress: Progress) -> None:
        if isinstance(progress.data, Checked):
            console.print(f"{progress.data.cells} cells to run")
            for note in progress.data.notes:
                console.print(f"Note: {note}", markup=False)
        elif isinstance(progress.data, FinishedCell):
            cell = progress.data
            row = cell.rows[0]
            name = " · ".join(filter(None, (cell.condition, cell.recipe, cell.classifier)))
            outcome = f"macro-F1 {row['macro_f1']:.3f}" if row["status"] == "done" else f"failed: {row['error']}"
            again = " (kept from before)" if cell.reused else ""
            console.print(f"{progress.fraction:4.0%}  {name}: {outcome}{again}", markup=False)

    result = run(save_all_iter(work, output), report)
    for sentence in result.tests.get("sentence", ()):
        say(sentence)
    say(result.table.to_string(index=False, float_format="{:.3f}".format))
    say(str(output / "report.html"))
    if (result.cells["status"] == "failed").all():
        raise ValueError(f"All cells failed, the first with: {result.cells['error'].iloc[0]}")
