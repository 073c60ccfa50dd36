"""A denoiser trained together with a CNN against the two one after the other, on noisy crops split by group.

    python benchmarks/integrated.py CROPS.csv --group image [--sigma 25] [--per-class 150] [--epochs 12] [--splits 3]

Gaussian noise, drawn anew for every crop, is put on training and test crops alike. Prints a Markdown table: mean and
standard deviation over the splits.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from crops import thinned

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.noise import GaussianNoise


def noisy(data: Crops, sigma: float, rng: np.random.Generator) -> Crops:
    noise = GaussianNoise(sigma)
    images = [np.clip(np.rint(noise.apply(image, rng)), 0, 255).astype(np.uint8) for image in data.images]
    return replace(data, images=images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--group", required=True)
    parser.add_argument("--sigma", type=float, default=25)
    parser.add_argument("--per-class", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--denoiser", default="irunet")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    data = noisy(thinned(ndc.load_crops(options.crops, options.group), options.per_class, rng), options.sigma, rng)
    common = {"input_size": 32, "epochs": options.epochs, "batch_size": 32, "learning_rate": 0.001}
    common |= {"augmentation": "light", "views": 1}  # what a few epochs can take
    joined = {"denoiser": options.denoiser, **common}
    ways = {
        "CNN on the noisy crops": ("cnn", None, common),
        f"{options.denoiser}, then CNN": ("cnn", Recipe([options.denoiser]), common),
        "integrated, denoiser fixed": ("integrated", None, {**joined, "denoiser_learning_rate": 0}),
        "integrated, denoiser × 0.1": ("integrated", None, {**joined, "denoiser_learning_rate": 0.1}),
    }
    print(f"{len(data)} crops, σ {options.sigma:g}, {options.splits} splits by {options.group}, seeds 0 and up\n")
    print("| | macro-F1 | expected calibration error | seconds |")
    print("|---|---|---|---|")
    for title, (method, recipe, parameters) in ways.items():
        found, seconds = [], []
        for seed in range(options.splits):
            train, test = data.split(seed=seed)
            start = time.perf_counter()
            classifier = ndc.train_classifier(train, method, recipe, seed, **parameters)
            seconds.append(time.perf_counter() - start)
            evaluation = classifier.evaluate(test)
            found.append((evaluation.macro_f1, evaluation.ece))
        (f1, ece), (f1_sd, ece_sd) = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        print(f"| {title} | {f1:.3f} ± {f1_sd:.3f} | {ece:.3f} ± {ece_sd:.3f} | {np.mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
