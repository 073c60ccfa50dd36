"""What the classical classifiers make of each kind of features, on labelled crops split by group.

    python benchmarks/features.py CROPS.csv --group image [--per-class 150] [--splits 3] [--features pixels texture]

Prints a Markdown table: mean and standard deviation over the splits. The expected calibration error (ECE) is that of
the held-out crops, without calibration and with isotonic regression, which is fitted to folds of the training crops.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from crops import thinned

import napari_denoise_classify as ndc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--group", required=True)
    parser.add_argument("--per-class", type=int, default=150)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["knn", "svm", "random_forest"])
    parser.add_argument("--features", nargs="*", default=["pixels", "texture"])
    parser.add_argument("--embedding", nargs="*", default=["random_forest"], help="methods for the embedding")
    options = parser.parse_args()
    data = thinned(ndc.load_crops(options.crops, options.group), options.per_class, np.random.default_rng(0))
    print(f"{len(data)} crops, {options.splits} splits by {options.group}, seeds 0 and up\n")
    print("| features | classifier | macro-F1 | ECE | ECE, isotonic | seconds |")
    print("|---|---|---|---|---|---|")
    pairs = [(features, method) for features in options.features for method in options.methods]
    pairs += [(features, method) for features in ("embedding", "texture+embedding") for method in options.embedding]
    for features, method in pairs:
        again = "embedding" not in features  # that would train three networks more for each split
        found, seconds = [], []
        for seed in range(options.splits):
            train, test = data.split(seed=seed)
            start = time.perf_counter()
            plain = ndc.train_classifier(train, method, seed=seed, features=features, calibration="none").evaluate(test)
            seconds.append(time.perf_counter() - start)
            ece = float("nan")
            if again:
                other = ndc.train_classifier(train, method, seed=seed, features=features, calibration="isotonic")
                ece = other.evaluate(test).ece
            found.append((plain.macro_f1, plain.ece, ece))
        mean, sd = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        cells = [f"{m:.3f} ± {s:.3f}" if np.isfinite(m) else "–" for m, s in zip(mean, sd, strict=True)]
        print(f"| {features} | {method} | {' | '.join(cells)} | {np.mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
