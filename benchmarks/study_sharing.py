"""Seconds of a study beside those of the same cells, each run by itself, with images that are denoised anew.

    python benchmarks/study_sharing.py CROPS.csv --preset denoising --group image --noise none gaussian:25 \
        --input-size 32 --workers 2

Runs the preset in one process, then by ``--workers`` processes, and then every noise, recipe and classifier as a
study of its own, all with an empty cache; and prints a table. All use the threads that PyTorch chooses. Macro-F1 of the
ways is compared, so that they are known to have done the same. With ``--groups``, on so many groups of the data, drawn
at random.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study.declaring import declare
from napari_denoise_classify.core.study.run import study_iter
from napari_denoise_classify.core.study.sources import load_source
from napari_denoise_classify.core.study.text import named_classifiers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--preset", default="denoising")
    parser.add_argument("--group")
    parser.add_argument("--noise", nargs="+", default=["none"])
    parser.add_argument("--classifier", action="append")
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--groups", type=int, help="on so many of them")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=("one", "shared", "apart"), default=["one", "shared", "apart"])
    options = parser.parse_args()
    data, _ = load_source(options.data, options.group)
    if options.groups is not None:
        names = np.random.default_rng(0).permutation(np.unique(data.groups))[: options.groups]
        data = data.subset(np.isin(data.groups, names))
    study, crops = declare(
        data,
        classifiers=named_classifiers(options.classifier or ()) or None,
        preset=options.preset,
        noise=options.noise,
        input_size=options.input_size,
    )
    print(f"{len(data)} samples, {len(study.conditions) * len(study.recipes) * len(study.classifiers)} cells a split")
    parts = [
        dataclasses.replace(study, noise=(noise,), recipes={name: recipe}, classifiers={key: candidate}, reference=name)
        for noise in study.noise or ("",)
        for name, recipe in study.recipes.items()
        for key, candidate in study.classifiers.items()
    ]
    ways: dict[str, tuple[str, list[Any], int | None]] = {
        "apart": ("each recipe and classifier by itself", parts, None),
        "one": ("the study, one process", [study], None),
        "shared": (f"the study, --workers {options.workers}", [study], options.workers),
    }
    found = {}
    for name in options.only:
        words, studies, workers = ways[name]
        seconds, scores = measure(studies, crops, workers)
        found[name] = seconds, scores
        print(f"{words}: {seconds:.0f} s, mean macro-F1 {scores.mean():.4f}", flush=True)
    if "apart" in found:
        for name in ("one", "shared"):
            if name in found:
                difference = np.abs(found[name][1] - found["apart"][1]).max()
                print(
                    f"{ways[name][0]}: {found['apart'][0] / found[name][0]:.2f} times as fast, "
                    f"macro-F1 differs by {difference:.4f} at most"
                )


def measure(studies: list[Any], crops: ndc.Crops, workers: int | None) -> tuple[float, np.ndarray]:
    """Run studies one after the other, each with an empty cache; returns the seconds and macro-F1 of their cells."""
    start = time.perf_counter()
    scores: list[float] = []
    for study in studies:
        with tempfile.TemporaryDirectory() as cache:
            result = run(study_iter(study, crops=crops, cache=Path(cache), workers=workers))
        scores += result.cells["macro_f1"].tolist()
    return time.perf_counter() - start, np.array(scores)


if __name__ == "__main__":
    main()
