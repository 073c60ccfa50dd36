"""Whether heat maps can be trusted, and how denoising moves them, on crops held out by image.

    python benchmarks/explanations.py CROPS.csv [--group image] [--epochs 10] [--samples 100] [--model MODEL.ndc]

CROPS.csv has the columns path, class and image. A CNN and a random forest are trained on three quarters of the images;
every figure is of crops of the others.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.explain.areas import area_statistics_iter
from napari_denoise_classify.core.explain.attribution import heats_iter
from napari_denoise_classify.core.explain.contours import critical_mask
from napari_denoise_classify.core.progress import run

AREA: dict[str, Any] = {"mode": "top", "fraction": 0.2}
METHODS: tuple[tuple[str, str, Any], ...] = (
    ("cnn", "Grad-CAM, last stage", "gradcam"),
    ("cnn", "Grad-CAM, stage 2", ("gradcam", {"layer": "stage2"})),
    ("cnn", "Grad-CAM, stage 1", ("gradcam", {"layer": "stage1"})),
    ("cnn", "Occlusion, blurred", "occlusion"),
    ("cnn", "Occlusion, mean colour", ("occlusion", {"fill": "mean"})),
    ("random_forest", "Occlusion, blurred", "occlusion"),
    ("random_forest", "Occlusion, mean colour", ("occlusion", {"fill": "mean"})),
)


def statistics(classifier: ndc.Classifier, images: list[np.ndarray], method: Any) -> Any:
    """Return what the critical areas decide and how stable they are."""
    _, scaled = run(classifier.prepare_iter(images))
    targets = np.asarray(run(classifier.proba_of_scaled_iter(scaled)).argmax(axis=1))
    heats = run(heats_iter(classifier, scaled, method, targets))
    masks = [critical_mask(heat, **AREA) for heat in heats]
    return run(area_statistics_iter(classifier, scaled, method, targets, masks, AREA))


def drift(cnn: ndc.Classifier, images: list[np.ndarray], seed: int) -> None:
    """Print how far Grad-CAM's critical areas are from those of the clean crops."""
    rng = np.random.default_rng(seed + 1)
    noisy = [np.clip(image + rng.normal(0, 25, image.shape), 0, 255).astype(np.uint8) for image in images]
    print("\n| crops | recipe | IoU | distance, px | class changed |\n|---|---|---|---|---|")
    gaussian = {k: ndc.Recipe([("gaussian", {"kernel_size": k})]) for k in (3, 5)}
    median, nlm = ndc.Recipe([("median", {"kernel_size": 3})]), ndc.Recipe(["nlm"])
    for title, after, recipes in (
        ("clean", images, {"median 3": median, "gaussian 5": gaussian[5]}),
        ("σ = 25", noisy, {"raw": None, "gaussian 3": gaussian[3], "nlm": nlm}),
    ):
        for name, recipe in recipes.items():
            table = ndc.explanation_drift(cnn, images, images_b=after, recipe_b=recipe)
            changed = (table["class_a"] != table["class_b"]).mean()
            iou, distance = table["iou"].mean(), table["distance"].mean()
            print(f"| {title} | {name} | {iou:.2f} | {distance:.1f} | {changed:.0%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--group", default="image")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="CNN trained by an earlier run with the same seed; written if new.")
    parser.add_argument("--figure", type=Path, help="Picture of the curves of Grad-CAM.")
    options = parser.parse_args()
    data = ndc.load_crops(options.crops, group=options.group)
    train, test = data.split(0.25, seed=options.seed)
    if options.model and options.model.exists():
        cnn = ndc.load_classifier(options.model)
    else:
        cnn = ndc.train_classifier(train, "cnn", seed=options.seed, input_size=32, epochs=options.epochs)
        if options.model:
            cnn.save(options.model)
    forest = ndc.train_classifier(train, "random_forest", seed=options.seed)
    classifiers = {"cnn": cnn, "random_forest": forest}
    for name, classifier in classifiers.items():
        print(f"{name}: macro-F1 {classifier.evaluate(test).macro_f1:.2f} on {len(test)} crops held out by image")
    drawn = np.random.default_rng(options.seed).permutation(len(test))[: options.samples]
    images = [test.images[i] for i in np.sort(drawn)]
    print(f"{len(images)} of them:")
    print(
        "| classifier | map | deletion | insertion | difference | over the Gaussian [95 %] | over the noise [95 %] "
        "| Spearman, IoU with random weights | kept | removed | stability | no evidence |"
    )
    print("|" + "---|" * 12)
    for number, (name, title, method) in enumerate(METHODS):
        check = ndc.check_explanation(classifiers[name], images, method, seed=options.seed)
        first, *dummies = check.table.to_dict("records")
        over = [f"{row['advantage']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]" for row in dummies]
        random = "–"
        if check.randomised is not None:
            random = f"{check.randomised['spearman'].mean():.2f}, {check.randomised['iou'].mean():.2f}"
        worth = statistics(classifiers[name], images, method).mean()
        cells = [name, title, *(f"{first[key]:.2f}" for key in ("deletion", "insertion", "difference"))]
        cells += [*over, random, *(f"{value:.2f}" for value in worth), str(check.without_evidence)]
        if number in (0, 5):
            for row in dummies:
                figures = " | ".join(f"{row[key]:.2f}" for key in ("deletion", "insertion", "difference"))
                print(f"| {name} | {row['map']} | {figures} |" + " |" * 7)
        print("| " + " | ".join(cells) + " |", flush=True)
        if options.figure and number == 0:
            from napari_denoise_classify.core.figures import save

            save(replace(check, example=[]).figure(), options.figure)
    drift(cnn, images, options.seed)


if __name__ == "__main__":
    main()
