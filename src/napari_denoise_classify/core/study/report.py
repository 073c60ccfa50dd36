"""The report of a study: one HTML file that needs nothing else, and the tables as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..whole import write_whole
from .declaration import METRICS
from .figures import box_plot, difference_plot, each_figure
from .limits import answers, data_facts, limits, protocol, provenance, rerun, title
from .page import definitions, document, element, escape, fixed, image, listing, missing, p_value, paragraph, table
from .statistics import CLASSIFIER_NAMES, DECISIONS, METRIC_NAMES, metric_name, remarks, summary, tests
from .tables import classes_of, condition_name, confusion_table, each_condition

if TYPE_CHECKING:
    from .result import StudyResult

CAPTIONS = {
    "box_plot": (
        "Macro-F1 of each fold or partition, by classifier and recipe.",
        "Boxes span the quartiles, whiskers reach to the furthest point within 1.5 box lengths.",
    ),
    "differences": (
        "Differences of macro-F1 to the reference recipe, with 95 % intervals.",
        "An interval that lies within the gray band shows that the recipe makes no difference that matters.",
    ),
    "robustness": ("Quality and macro-F1 against the noise that was added.", "Means over folds or partitions."),
    "confusion_matrices": (
        "Confusion matrices of all test predictions.",
        "Upper number: share of the true class; lower number: samples. Repeats are added up.",
    ),
    "roc_curves": (
        "ROC curves, the mean of each class against the rest.",
        "Of all test predictions together; the table has the mean over folds instead.",
    ),
    "reliability": (
        "Reliability diagrams: how often each classifier is right, against how sure it is.",
        "ECE: expected calibration error in 15 bins, of all test predictions together. Bins with few samples scatter.",
    ),
    "examples": (
        "Held-out samples under each recipe.",
        "A few samples, chosen before any result was known: they illustrate, and prove nothing.",
    ),
}
"""From the name of a figure to its description and what to know when reading it."""


def write_report(result: StudyResult, path: str | Path, tables: str | Path | None = None) -> Path:
    """Write the report of a study.

    Parameters
    ----------
    result : StudyResult
    path : str or Path
        ``.html``; written whole or not at all.
    tables : str or Path, optional
        Folder into which all tables are written as CSV, too; see `write_tables`.

    Returns
    -------
    Path
    """
    text = document(title(result), _body(result))
    written = write_whole(Path(path), lambda p: p.write_text(text, encoding="utf-8"))
    if tables is not None:
        write_tables(result, tables)
    return written


def write_tables(result: StudyResult, folder: str | Path) -> list[Path]:
    """Write all tables of a study as CSV.

    Parameters
    ----------
    result : StudyResult
    folder : str or Path
        Made if it does not exist.

    Returns
    -------
    list of Path
        ``summary.csv``, ``tests.csv`` (of all metrics), ``confusion.csv``, ``cells.csv``, ``predictions.csv``, and
        ``quality.csv`` and ``drift.csv`` if there are any.
    """
    frames: dict[str, pd.DataFrame | None] = {
        "summary": summary(result),
        "tests": tests(result, METRICS),
        "confusion": confusion_table(result),
        "cells": result.cells,
        "predictions": result.predictions,
        "quality": result.quality,
        "drift": result.drift,
    }
    found = {Path(folder) / f"{name}.csv": frame for name, frame in frames.items() if frame is not None}
    return [write_whole(path, _csv_writer(frame)) for path, frame in found.items()]


def _csv_writer(frame: pd.DataFrame) -> Any:
    return lambda path: frame.to_csv(path, index=False)


# --- the page -------------------------------------------------------------------------------------------------------


def _body(result: StudyResult) -> Iterator[str]:
    study = result.study
    everything = _readable(tests(result, METRICS))
    table_of_tests = everything[everything["metric"] == "macro_f1"]
    head, *sentences = answers(result)
    yield "<main>"
    yield element("h1", escape(title(result)))
    yield paragraph(
        f"{sum(study.data.counts.values())} samples of {len(study.data.counts)} classes; recipes: "
        f"{', '.join(study.recipes)}; classifiers: {', '.join(CLASSIFIER_NAMES.get(c, c) for c in study.classifiers)}; "
        f"compared with {study.reference!r}.",
        class_="lead",
    )
    yield element("div", paragraph(head, class_="main") + listing(sentences), class_="answer")
    cautions = [*result.notes, *remarks(result)]
    if cautions:
        yield element("h2", "Before you believe it")
        yield element("div", listing(cautions), class_="caution")

    yield element("h2", "How well each cell does")
    yield _summary_table(result)
    yield from _drawn(box_plot, "box_plot", result)

    if len(table_of_tests):
        yield element("h2", escape(f"Differences to {study.reference!r}"))
        yield paragraph(
            f"In points of macro-F1. The decision is by the 95 % interval and a margin of {study.margin:g} points. "
            "The naive t-test and Wilcoxon's take folds or partitions for independent, which they are not; they stand "
            "here for comparison. Holm's p is that of the interval after correction for the number of comparisons."
        )
        yield _tests_table(table_of_tests, "Differences of macro-F1 (points)")
        yield from _drawn(difference_plot, "differences", result)
        others = everything[everything["metric"] != "macro_f1"]
        yield _tests_table(others, "The other metrics (points; a lower calibration error or Brier score is better)")

    yield element("h2", "Figures")
    yield from _figures(result)
    yield from _more_tables(result)

    yield element("h2", "Protocol")
    yield definitions(protocol(result))
    yield element("h2", "Data")
    yield definitions(data_facts(result))
    yield element("h2", "Limits of interpretation")
    yield listing(limits(result))
    yield element("h2", "Versions, weights and machine")
    yield definitions(provenance(result))
    yield element("h2", "How to run it again")
    yield paragraph(
        "The file study.json beside this report, also printed below, declares the whole study; it reruns to the same "
        f"numbers. {'It reads ' + study.data.path + '.' if study.data.path else 'Its crops came from no file.'}"
    )
    yield "\n".join(element("pre", element("code", escape(code))) for code in rerun(result))
    yield element("details", element("summary", "study.json") + _declared(result))
    yield "</main>"


def _declared(result: StudyResult) -> str:
    return element("pre", element("code", escape(json.dumps(result.study.to_dict(), indent=2, ensure_ascii=False))))


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    if "condition" in frame:
        frame = frame.assign(condition=[condition_name(name) for name in frame["condition"]])
    return frame.assign(
        name=[CLASSIFIER_NAMES.get(name, name) for name in frame["classifier"]],
    )


def _summary_table(result: StudyResult) -> str:
    frame = _readable(summary(result))
    names = {"condition": "condition", "name": "classifier", "recipe": "recipe", "n": "folds", "failed": "failed"}
    if result.study.design.layout == "partitions":
        names |= {"n": "partitions"}
    if not frame["failed"].any():
        names.pop("failed")
    formats: dict[str, Any] = {"n": fixed(0), "failed": fixed(0)}
    for metric in METRICS:
        column = f"{metric} text"
        frame[column] = [_spread(m, s) for m, s in zip(frame[metric], frame[f"{metric}_sd"], strict=True)]
        names[column], formats[column] = METRIC_NAMES[metric], str
        if metric == "macro_f1":
            names["macro_f1_pooled"], formats["macro_f1_pooled"] = "macro-F1, pooled", fixed(3)
    parts = [table(frame, "Mean ± standard deviation over folds or partitions", names, formats)]
    parts.append(
        paragraph(
            "Macro-F1 is the mean of the classes' F1. Pooled: of all test predictions of a repeat together; where "
            "classifiers were trained once, the differences below are between these. The Brier score is summed over "
            "classes."
        )
    )
    classes = classes_of(result)
    names = {"condition": "condition", "name": "classifier", "recipe": "recipe"}
    formats = {}
    for name in classes:
        column = f"f1_{name} text"
        values = zip(frame[f"f1_{name}"], frame[f"f1_{name}_sd"], strict=True)
        frame[column] = [_spread(mean, sd) for mean, sd in values]
        names[column], formats[column] = name, str
    scored = frame[[f"f1_{name}" for name in classes]].notna().any(axis=1)
    parts.append(table(frame[scored], "F1 of each class", names, formats))
    return "\n".join(parts)


def _spread(mean: Any, sd: Any) -> str:
    if missing(mean):
        return ""
    return f"{mean:.3f}" + ("" if missing(sd) else f" ± {sd:.3f}")


def _tests_table(frame: pd.DataFrame, caption: str) -> str:
    points = fixed(1)
    frame = frame.assign(
        metric=[metric_name(name) for name in frame["metric"]],
        interval=[
            "too little to tell" if missing(low) else f"[{points(low)}, {points(high)}]"
            for low, high in zip(frame["low"], frame["high"], strict=True)
        ],
        units=[f"{method} ({units})" for method, units in zip(frame["method"], frame["units"], strict=True)],
    )
    names = {"metric": "metric"} if frame["metric"].nunique() > 1 else {}
    alike = frame["units"].nunique() == 1
    if alike:
        caption += f"; intervals: {frame['units'].iloc[0]}"
    names |= {"condition": "condition", "name": "classifier", "recipe": "recipe", "difference": "difference"}
    names |= {"interval": "95 % interval", "p_naive": "p naive t", "p_wilcoxon": "p Wilcoxon"}
    names |= {"p_corrected": "p corrected", "p_holm": "p Holm", "decision": "decision"}
    names |= {"beyond_margin": "gain above the margin"} | ({} if alike else {"units": "interval by"})
    formats: dict[str, Any] = dict.fromkeys(("p_naive", "p_wilcoxon", "p_corrected", "p_holm"), p_value)
    formats |= {"difference": points, "interval": str}
    return table(frame, caption, names, formats, [decision in DECISIONS[:2] for decision in frame["decision"]])


def _drawn(draw: Any, name: str, result: StudyResult) -> Iterator[str]:
    for condition, part in each_condition(result):
        figure = draw(part)
        if figure is not None:
            yield _figure(result, name, condition, figure)


def _figure(result: StudyResult, name: str, condition: str, figure: Any) -> str:
    description, reading = CAPTIONS[name]
    several = len(result.conditions) > 1 and name not in ("robustness", "examples")
    where = f" With {condition_name(condition)}." if several else ""
    caption = f"{description}{where} {reading}"
    return image(figure, description + where, caption, bitmap=name == "examples")


def _figures(result: StudyResult) -> Iterator[str]:
    """Yield the figures of cells; of many conditions, those of the first."""
    first = result.conditions[0]
    conditions = len(result.conditions)
    if conditions > 1:
        yield paragraph(
            "Confusion matrices, ROC curves and reliability diagrams are those of the first condition, "
            f"{condition_name(first)}; the figures' folder holds those of all {conditions}."
        )
    for name, condition, figure in each_figure(result, "box_plot", "differences", first_only=True):
        yield _figure(result, name, condition, figure)


def _more_tables(result: StudyResult) -> Iterator[str]:
    drift, quality = result.drift, result.quality
    if drift is not None and len(drift):
        by = [*(["condition"] if len(result.conditions) > 1 else []), "classifier", "recipe"]
        frame = drift.groupby(by, sort=False)["iou"].agg(["mean", "std", "count"]).reset_index()
        names = {**{name: name for name in by}, "mean": "mean IoU", "std": "SD", "count": "samples"}
        formats = {"mean": fixed(2), "std": fixed(2), "count": fixed(0)}
        yield element("h2", "Do the reasons stay the same?")
        yield table(
            _named_conditions(frame), "Overlap of the critical areas with those of the reference", names, formats
        )
        yield paragraph(
            "Intersection over union of the critical area under a recipe and under the reference: 1 is the same area, "
            "0 none in common. Even little noise moves it: σ 10 brings it to about 0.4."
        )
    if quality is not None and len(quality):
        yield element("h2", "Image quality")
        names = {"noise": "noise", "recipe": "recipe", "psnr": "PSNR (dB)", "ssim": "SSIM"}
        frame = quality.assign(noise=[condition_name(str(name)) for name in quality["noise"]])
        yield table(frame, "Against the clean images", names, {"psnr": fixed(2), "ssim": fixed(3)})


def _named_conditions(frame: Mapping[str, Any] | pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame(frame)
    if "condition" in frame:
        frame = frame.assign(condition=[condition_name(str(name)) for name in frame["condition"]])
    return frame
