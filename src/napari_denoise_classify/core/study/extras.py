"""What a study shows beside its figures: image quality, example samples, and always saying the commonest class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classify.datasets import Crops, Image
from ..classify.evaluation import Evaluation
from ..classify.preparing import prepare_masked_iter
from ..explain.contours import critical_area
from ..images import PlaneImage, from_float
from ..progress import Progress, Steps, within
from ..quality import compare_iter
from .designs import Split

if TYPE_CHECKING:
    import pandas as pd

    from .grid import Grid

_log = logging.getLogger(__name__)

_EXAMPLES = 6
_COMPARED = 256


def majority_rows(data: Crops, splits: Sequence[Split]) -> list[dict[str, Any]]:
    """Return what always saying the commonest training class scores, for each repeat and fold."""
    rows = []
    for split in splits:
        names, counts = np.unique(data.labels[split.train], return_counts=True)
        common = str(names[counts.argmax()])
        for fold, test in split.tests:
            found = Evaluation.of(data.labels[test], np.full(len(test), common), data.classes)
            rows.append(
                {
                    "repeat": split.repeat,
                    "fold": fold,
                    "class": common,
                    "n_test": len(test),
                    "macro_f1": found.macro_f1,
                    "accuracy": found.accuracy,
                    "balanced_accuracy": found.balanced_accuracy,
                }
            )
    return rows


def quality_iter(grid: Grid) -> Steps[pd.DataFrame | None]:
    """Compare noisy and denoised images with the clean ones: the table ``quality`` of `StudyResult`."""
    import pandas as pd

    study, images = grid.study, grid.images
    noises = [noise for noise in study.noise if noise]
    recipes = {name: recipe for name, recipe in study.recipes.items() if not recipe.masks}
    if not noises or not recipes:
        return None
    rng = np.random.default_rng((study.seed, 11))
    chosen = np.sort(rng.permutation(len(grid.data))[:_COMPARED]).tolist()
    clean = [grid.data.images[i] for i in chosen]
    rows: list[dict[str, Any]] = []
    low, high = images.noise_range
    for k, noise in enumerate(noises):
        scale = images.range_of(noise if study.training == "matched" else "", grid.splits[0].train)
        made: dict[str, list[Image]] = {}
        for name, recipe in recipes.items():
            yield Progress(k / len(noises), f"comparing images at {noise}")
            try:
                work = images.processed_iter(noise, recipe, scale, chosen)
                made[name] = yield from within(work, k / len(noises), k / len(noises), "comparing images")
            except Exception:  # its cells have failed for the same reason, and say so
                _log.debug("no comparison of %s", name, exc_info=True)
                continue
        tables = []
        for shape in dict.fromkeys(image.shape for image in clean):
            at = [i for i, image in enumerate(clean) if image.shape == shape]
            stacks = {name: _stack([found[i] for i in at]) for name, found in made.items()}
            if stacks:
                comparing = compare_iter(_stack([clean[i] for i in at]), stacks, high - low)
                table = yield from within(comparing, k / len(noises), (k + 1) / len(noises))
                tables.append(table[table["plane"] != "mean"])
        if tables:
            means = pd.concat(tables).groupby("image", sort=False)[["psnr", "ssim"]].mean()
            figures = means.to_numpy(float).tolist()
            for name, (psnr, ssim) in zip(means.index, figures, strict=True):
                rows.append({"noise": noise, "recipe": name, "psnr": psnr, "ssim": ssim})
    return pd.DataFrame(rows) if rows else None


def _stack(images: list[Image]) -> PlaneImage:
    stack = np.stack(images)
    return PlaneImage.wrap(stack, "?YXS" if stack.ndim == 4 else "?YX")


def examples_iter(grid: Grid, predictions: pd.DataFrame) -> Steps[tuple[list[dict[str, Any]], dict[str, float]]]:
    """Collect some held-out samples of the first condition, and the fraction of pixels that each recipe keeps.

    Returns
    -------
    examples : list of dict
        See `StudyResult`.
    kept : dict
        From recipe to fraction, where it masks.
    """
    study, images = grid.study, grid.images
    condition = study.conditions[0]
    scale = images.range_of(condition.noise if study.training == "matched" else "", grid.splits[0].train)
    chosen = _spread(grid)
    made: dict[str, list[Image]] = {}
    kept: dict[str, float] = {}
    for k, (name, recipe) in enumerate(study.recipes.items()):
        yield Progress(k / len(study.recipes), "collecting examples")
        try:
            at = k / len(study.recipes)
            work = images.processed_iter(condition.noise, recipe, scale, chosen)
            made[name] = yield from within(work, at, at, "collecting examples")
            if recipe.masks:
                noisy = images.noisy(condition.noise)[0]
                masking = prepare_masked_iter([noisy[i] for i in chosen], recipe, scale)
                _, _, masks = yield from within(masking, at, at, "masking")
                kept[name] = float(np.mean([mask.mean() for mask in masks or ()]))
        except Exception:  # its cells have failed for the same reason, and say so
            _log.debug("no examples of %s", name, exc_info=True)
            continue
    heard = {classifier for _, _, classifier in grid.heats}
    speaker = next((name for name in study.classifiers if name in heard), next(iter(study.classifiers)))
    table = predictions[
        (predictions["condition"] == condition.name)
        & (predictions["classifier"] == speaker)
        & (predictions["repeat"] == grid.splits[0].repeat)
    ]
    examples = []
    for n, i in enumerate(chosen):
        predicted, heats = {}, {}
        for name in made:
            row = table[(table["recipe"] == name) & (table["sample"] == i)]
            if len(row):
                label = str(row.iloc[0]["predicted"])
                predicted[name] = (label, float(row.iloc[0][f"p_{label}"]))
            maps = grid.heats.get((condition.name, name, speaker))
            if maps is not None:
                heats[name] = maps[int(np.searchsorted(grid.explained, i))]
        examples.append(
            {
                "sample": int(i),
                "label": str(grid.data.labels[i]),
                "classifier": speaker if heats else "",
                "images": {name: _shown(found[n], scale) for name, found in made.items()},
                "heats": heats,
                "contours": {name: critical_area(heat) for name, heat in heats.items()},
                "predicted": predicted,
            }
        )
    return examples, kept


def _spread(grid: Grid) -> list[int]:
    """Choose a few of the explained samples, class by class."""
    labels = grid.data.labels[grid.explained]
    ranks = np.zeros(len(labels), int)
    for name in np.unique(labels):
        ranks[labels == name] = np.arange((labels == name).sum())
    return [int(i) for i in grid.explained[np.argsort(ranks, kind="stable")[:_EXAMPLES]]]


def _shown(image: Image, scale: tuple[float, float]) -> Any:
    if image.dtype == np.uint8:
        return image
    low, high = scale
    return from_float((image.astype(np.float64) - low) * (255 / (high - low)), np.uint8)
