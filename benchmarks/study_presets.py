"""Run a preset of the study on labelled crops, and put its tables, figures and report into a folder for the docs.

    python benchmarks/study_presets.py CROPS.csv --preset denoising --group image --noise none gaussian:25 \
        --input-size 32 --folder runs/denoising --write docs/studies/denoising

The examples, which show the images themselves, stay out of what ``--write`` makes: the data may not be passed on. The
last lines compare the time with that of a loop that denoises the images again for every classifier and split.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import napari_denoise_classify as ndc
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study.run import FinishedCell, study_iter
from napari_denoise_classify.core.study.text import named_classifiers, named_recipes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--preset", default="denoising")
    parser.add_argument("--group")
    parser.add_argument("--noise", nargs="+")
    parser.add_argument("--training")
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--classifier", action="append")
    parser.add_argument("--design")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="where cells are kept, to go on after a stop")
    parser.add_argument("--cache", type=Path, help="where processed images are kept")
    parser.add_argument("--write", type=Path, help="folder for what the docs show")
    options = parser.parse_args()
    settings = {
        name: getattr(options, name)
        for name in ("preset", "group", "noise", "training", "design", "input_size", "seed")
        if getattr(options, name) is not None
    }

    def report(progress) -> None:
        if isinstance(progress.data, FinishedCell):
            cell = progress.data
            print(
                f"{time.perf_counter() - start:6.0f} s  {progress.fraction:4.0%}  {cell.condition} {cell.recipe} "
                f"{cell.classifier} {cell.rows[0]['macro_f1']:.3f} {cell.rows[0]['error']}",
                flush=True,
            )

    start = time.perf_counter()
    work = study_iter(
        options.data,
        recipes=named_recipes(options.recipe or ()) or None,
        classifiers=named_classifiers(options.classifier or ()) or None,
        folder=options.folder,
        cache=options.cache,
        **settings,
    )
    result = run(work, report)
    print(result.table.to_string(index=False, float_format="{:.3f}".format))
    print("\n".join(result.tests["sentence"]))
    print("\n".join(result.notes))
    print(json.dumps(result.record["seconds"]), json.dumps(result.record["cache"]))
    if options.write:
        write(result, options.write)


def write(result: ndc.StudyResult, folder: Path) -> None:
    """Write what the docs show: nothing that shows the images themselves."""
    data = dataclasses.replace(result.study.data, path=Path(result.study.data.path).name)
    study = dataclasses.replace(result.study, data=data)
    bare = dataclasses.replace(result, study=study, examples=[])
    folder.mkdir(parents=True, exist_ok=True)
    bare.report(folder / "report.html")
    bare.figures(folder / "figures")
    for path in (folder / "figures").iterdir():
        if path.suffix == ".png" and path.name.startswith(("differences", "box_plot")):
            path.replace(folder / path.name)
        else:
            path.unlink()  # the report holds it
    (folder / "figures").rmdir()
    result.table.to_csv(folder / "table.csv", index=False, float_format="%.4f")
    result.tests.to_csv(folder / "tests.csv", index=False, float_format="%.4f")
    (folder / "results.md").write_text(markdown(result), encoding="utf-8")


def markdown(result: ndc.StudyResult) -> str:
    """Draw up macro-F1 and its differences to the reference, with their intervals, as a table."""
    tests, table = result.tests, result.table
    lines = []
    for name in result.conditions:
        many = len(result.conditions) > 1
        part = table[table["condition"] == name] if many else table
        found = tests[tests["condition"] == name] if "condition" in tests else tests
        reference = result.study.reference
        others = [recipe for recipe in result.study.recipes if recipe != reference]
        lines += [f"{name or 'No added noise'}, macro-F1 of *{reference}* and points of difference to it:", ""]
        lines += [f"| classifier | {reference} | " + " | ".join(others) + " |", "|---|---|" + "---|" * len(others)]
        for classifier in result.study.classifiers:
            own = part[(part["classifier"] == classifier) & (part["recipe"] == reference)].iloc[0]
            cells = [f"{own['macro_f1']:.3f} ± {own['macro_f1_sd']:.3f}"]
            for recipe in others:
                row = found[(found["classifier"] == classifier) & (found["recipe"] == recipe)].iloc[0]
                cells.append(f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]")
            lines.append(f"| {classifier} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [f"- {note}" for note in result.notes]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
