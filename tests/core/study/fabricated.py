"""Studies with known effects, fabricated: scores of classes with a shared difficulty of each sample and group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from napari_denoise_classify import Recipe
from napari_denoise_classify.core.study.declaration import Candidate, Design, Source, Study
from napari_denoise_classify.core.study.result import StudyResult
from napari_denoise_classify.core.study.scores import auc_parts, sample_rows, scores_of

CLASSES = ("epithelial", "fibroblast", "inflammatory", "others")
RECIPES = {
    "none": Recipe([]),
    "gaussian": Recipe([("gaussian", {"kernel_size": 5})]),
    "median": Recipe([("median", {"kernel_size": 5})]),
    "dncnn": Recipe(["dncnn"]),
    "centre": Recipe(["centre"]),
    "random": Recipe(["random"]),
}


def make_result(
    design: str | Design = "partitions",
    recipes: tuple[str, ...] = ("none", "gaussian", "dncnn"),
    classifiers: tuple[str, ...] = ("cnn", "knn"),
    effects: dict[tuple[str, str], float] | None = None,
    n: int = 400,
    groups: int = 0,
    noise: tuple[str, ...] = ("",),
    training: str = "matched",
    margin: float = 2.0,
    seed: int = 0,
    examples: int = 0,
    classes: tuple[str, ...] = CLASSES,
    own: float = 0.6,
) -> StudyResult:
    """Fabricate a result.

    ``effects`` adds to the strength of the right class's score of (classifier, recipe); 0.3 is about 6 points.
    ``own`` is the part of the scores that each cell has for itself; with 0 and no effect all cells agree.
    """
    rng = np.random.default_rng(seed)
    design = Design.of(design)
    truth = rng.permutation(np.arange(n) % len(classes))
    group = np.array([f"field {g}" for g in rng.integers(groups, size=n)] if groups else [""] * n)
    recipe_map = {name: RECIPES.get(name, Recipe([])) for name in recipes}
    study = Study(
        data=Source("crops.csv", "image" if groups else None, "ab" * 32, _counts(truth, classes), groups or None),
        recipes=recipe_map,
        classifiers={name: Candidate.of(name) for name in classifiers},
        design=design,
        noise=noise,
        training=training,  # type: ignore[arg-type]
        margin=margin,
        seed=seed,
    )
    cells, predictions, quality = [], [], []
    for level, condition in enumerate(study.conditions):
        shared = rng.standard_normal((n, len(classes)))
        for classifier in classifiers:
            for recipe in recipes:
                strength = 1.8 - 0.3 * level + (effects or {}).get((classifier, recipe), 0.0)
                scores = strength * np.eye(len(classes))[truth] + shared
                scores = scores + own * rng.standard_normal(scores.shape)
                for repeat, fold, test in _splits(design, n, rng):
                    head = {"condition": condition.name, "recipe": recipe, "classifier": classifier}
                    head |= {"repeat": repeat, "fold": fold}
                    cell, rows = _cell(head, truth[test], scores[test], group[test], test, n, design, classes)
                    cells.append(cell)
                    predictions.append(rows)
        for i, recipe in enumerate(recipes):
            quality.append(
                {"noise": condition.noise, "recipe": recipe, "psnr": 36 - 4.0 * level + i, "ssim": 0.95 - 0.1 * level}
            )
    return StudyResult(
        study=study,
        cells=pd.DataFrame(cells),
        predictions=pd.concat(predictions, ignore_index=True),
        quality=pd.DataFrame(quality) if len(noise) > 1 else None,
        drift=_drift(study, rng) if "cnn" in classifiers else None,
        examples=[_example(k, recipes, classes, rng) for k in range(examples)],
        notes=["2 of 400 images have an exact copy among the others (1 sets of copies)."],
        record={"package_version": "0.1", "machine": "two cores", "seconds": 12.5},
    )


def _counts(truth: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(truth, minlength=len(classes)).tolist(), strict=True))


def _splits(design: Design, n: int, rng: np.random.Generator) -> list[tuple[int, int, np.ndarray]]:
    found = []
    for repeat in range(design.repeats):
        order = np.random.default_rng(repeat).permutation(n)
        if design.layout == "cross-validation":
            parts = np.array_split(order, design.folds)
        else:
            held = order[: round(n * design.test_fraction)]
            parts = [held] if design.layout == "holdout" else np.array_split(held, design.partitions)
        found += [(repeat, fold, np.sort(part)) for fold, part in enumerate(parts)]
    return found


def _cell(
    head: dict[str, Any],
    truth: np.ndarray,
    scores: np.ndarray,
    group: np.ndarray,
    test: np.ndarray,
    n: int,
    design: Design,
    classes: tuple[str, ...],
) -> tuple[dict[str, Any], pd.DataFrame]:
    proba = np.exp(1.5 * scores)
    proba /= proba.sum(axis=1, keepdims=True)
    predicted = proba.argmax(axis=1)
    found = scores_of(sample_rows(truth, predicted, proba).sum(axis=0), classes)
    n_train = n - len(test) if design.layout == "cross-validation" else n - round(n * design.test_fraction)
    cell = {**head, "n_train": n_train, "n_test": len(test), "roc_auc": auc_parts(truth, proba)[0]}
    cell |= {name: float(value) for name, value in found.items()}
    cell |= {"seconds": 1.0, "status": "done", "error": "", "tuned": ""}
    rows = pd.DataFrame({**{key: [value] * len(test) for key, value in head.items()}, "sample": test, "group": group})
    rows["truth"], rows["predicted"] = np.array(classes)[truth], np.array(classes)[predicted]
    for i, name in enumerate(classes):
        rows[f"p_{name}"] = proba[:, i]
    return cell, rows


def _drift(study: Study, rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {"condition": condition.name, "recipe": recipe, "classifier": "cnn", "sample": k, "iou": rng.uniform(0.2, 0.6)}
        for condition in study.conditions
        for recipe in study.recipes
        if recipe != study.reference
        for k in range(10)
    ]
    return pd.DataFrame(rows)


def _example(k: int, recipes: tuple[str, ...], classes: tuple[str, ...], rng: np.random.Generator) -> dict[str, Any]:
    from scipy.ndimage import gaussian_filter
    from skimage.measure import find_contours

    y, x = np.mgrid[:48, :48]
    cy, cx = rng.uniform(18, 30, 2)
    blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 90)
    images, heats, contours, predicted = {}, {}, {}, {}
    for i, recipe in enumerate(recipes):
        noisy = gaussian_filter(blob + 0.25 * rng.standard_normal(blob.shape), 0.6 * i, axes=(0, 1))
        images[recipe] = np.clip(60 + 150 * noisy, 0, 255).astype(np.uint8)
        heat = gaussian_filter(rng.random(blob.shape), 5) * blob
        heats[recipe] = (heat / heat.max()).astype(np.float32)
        contours[recipe] = list(find_contours(heats[recipe], np.quantile(heats[recipe], 0.8)))
        predicted[recipe] = (classes[(k + i // 2) % len(classes)], float(rng.uniform(0.4, 0.99)))
    return {
        "sample": 10 * k,
        "label": classes[k % len(classes)],
        "classifier": "cnn",
        "images": images,
        "heats": heats,
        "contours": contours,
        "predicted": predicted,
    }
