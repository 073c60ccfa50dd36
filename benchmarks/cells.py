"""Macro-F1 of every classifier with every set of features on labelled crops, over folds by group.

    python benchmarks/cells.py CROPS.csv --group image --results cells.json [--only "cnn" "svm texture"] [--rows]
    python benchmarks/cells.py CROPS.csv --group image --results cells.json --only "svm texture" --share 0.5
    python benchmarks/cells.py CROPS.csv --group image --results cells.json --only "svm texture" --random

Every fold that is done is written to the results file and not done again, so that the benchmark can be run in pieces;
at the end, and with ``--rows`` at once, it prints the table of what the file holds. Networks see crops of 32 × 32
pixels; the one called cnn learns from all crops of a fold's training part. Seconds are of the processor, for one fold,
features and prediction included. With ``--share``, only so many groups of a fold's training part are learnt from; with
``--random``, crops are split whatever their group, which is how results come out too good.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.classify.evaluation import Evaluation
from napari_denoise_classify.core.classify.splits import folds

FOLDS = 5
FEATURES = ("pixels", "texture", "embedding", "texture+embedding")
CNN = {"input_size": 32, "epochs": 24, "width": 16, "validation": 0.0}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {"cnn": ("cnn", CNN)}
RUNS |= {
    f"{method} {kind}": (method, {"features": kind}) for method in ("svm", "random_forest", "knn") for kind in FEATURES
}
RUNS["cnn, context 60"] = ("cnn", {**CNN, "context": 60.0})
RUNS["svm texture, context 60"] = ("svm", {"features": "texture", "calibration": "none", "context": 60.0})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--group")
    parser.add_argument("--results", type=Path, default=Path("cells.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help=", ".join(RUNS))
    parser.add_argument("--share", type=float, default=1.0, help="of the groups to learn from")
    parser.add_argument("--random", action="store_true", help="split crops of one group, too")
    parser.add_argument("--rows", action="store_true", help="only print the table of the results file")
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = json.loads(options.results.read_text()) if options.results.exists() else {}
    if not options.rows:
        data = ndc.load_crops(options.crops, group=options.group)
        variant = ", split at random" if options.random else ""
        variant += f", {options.share:g} of the groups" if options.share < 1 else ""
        parted = folds(data.labels, None if options.random else data.groups, FOLDS, options.seed)
        for k, (train, test) in enumerate(parted):
            if options.share < 1:
                train = some_groups(data, train, options.share, options.seed)
            for name in options.only:
                done = results.setdefault(f"{name}{variant}", {})
                if str(k) not in done:
                    done[str(k)] = measure(data.subset(train), data.subset(test), name, options.seed)
                    options.results.write_text(json.dumps(results))
                    print(f"{name}, fold {k + 1}: {done[str(k)]['macro_f1']:.3f}", flush=True)
    print("| classifier and features | folds | macro-F1, mean | SD | of the folds together | seconds |")
    print("|---|---|---|---|---|---|")
    for name, found in results.items():
        rows = list(found.values())
        scores = [row["macro_f1"] for row in rows]
        deviation = np.std(scores, ddof=1) if len(rows) > 1 else float("nan")
        labels, predicted = (np.concatenate([row[key] for row in rows]) for key in ("labels", "predicted"))
        pooled = Evaluation.of(labels, predicted, tuple(np.unique(labels))).macro_f1
        seconds = np.mean([row["seconds"] for row in rows])
        print(f"| {name} | {len(rows)} | {np.mean(scores):.3f} | {deviation:.3f} | {pooled:.3f} | {seconds:.0f} |")


def some_groups(data: ndc.Crops, train: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the training crops of a share of their groups."""
    own = np.asarray(data.groups)[train]
    names = np.random.default_rng(seed).permutation(np.unique(own))
    return train[np.isin(own, names[: round(share * len(names))])]


def measure(train: ndc.Crops, test: ndc.Crops, name: str, seed: int) -> dict[str, Any]:
    """Train on one part and test on the other."""
    method, parameters = RUNS[name]
    start = time.process_time()
    classifier = ndc.train_classifier(train, method, None, seed, **parameters)
    proba = classifier.predict_proba(test.images, places=test.places)
    seconds = time.process_time() - start
    predicted = classifier.label(proba)
    return {
        "macro_f1": Evaluation.of(test.labels, predicted, classifier.classes).macro_f1,
        "seconds": seconds,
        "labels": test.labels.tolist(),
        "predicted": predicted.tolist(),
        "proba": proba.round(4).tolist(),
    }


if __name__ == "__main__":
    main()
