"""Studies by name: the recipes, classifiers and protocol of the questions that are asked most."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..denoise import weights
from ..recipe import Recipe
from ..steps import get_step

FOUR = ("cnn", "svm", "random_forest", "knn")
_PUBLISHED: dict[str, Any] = {name: name for name in FOUR} | {"cnn": ("cnn", {"input_size": 224})}
PRESETS: dict[str, str] = {
    "denoising": "Train once on 50 %, test on ten equal parts of the rest: raw, Gaussian, median, DnCNN, Restormer.",
    "masking": "Stratified cross-validation by group after DnCNN: whole, centre, non-centre, random grid.",
    "robustness": "Noise levels, denoisers, with and without a cluster mask: PSNR, SSIM and F1 as curves.",
    "signatures": "Fibre features and a random forest, 80/20: raw, Gaussian, BM3D, DRUNet; plain and augmented.",
    "sweep": "A grid over any parameters of one step.",
    "custom": "Any recipes, classifiers and design.",
}
"""What each preset is, in a line."""

_SIGMA = 25.0
_NOISE = ("gaussian:10", "gaussian:25", "gaussian:50")


def preset(name: str, samples: int, sweep: Mapping[str, Mapping[str, Sequence[Any]]] | None = None) -> dict[str, Any]:
    """Return what a preset declares: some of the arguments of `study`, and its remarks.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    samples : int
        3 for RGB images, 1 for gray ones.
    sweep : dict, optional
        For the preset of that name: from a step to its parameters' values.

    Raises
    ------
    ValueError
        For unknown presets, or a sweep without a grid.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
    if sweep and name != "sweep":
        raise ValueError("A grid is for the preset 'sweep': leave it out, or choose that preset.")
    if name == "custom":
        return {"design": "cross-validation:folds=5"}
    if name == "denoising":
        return _denoising()
    if name == "masking":
        return _masking()
    if name == "robustness":
        return _robustness(samples)
    if name == "signatures":
        return _signatures(samples)
    return {"recipes": sweep_recipes(sweep or {}), "classifiers": FOUR, "design": "cross-validation:folds=5"}


def _dncnn() -> tuple[str, dict[str, Any]]:
    return ("dncnn", {"sigma": _SIGMA})


_BLIND = "DnCNN for σ 25 runs with the shipped weights, which are blind to the noise level (σ 0 to 55)."


def _denoising() -> dict[str, Any]:
    return {
        "recipes": {
            "raw": Recipe(),
            "gaussian": Recipe([("gaussian", {"kernel_size": 5})]),
            "median": Recipe([("median", {"kernel_size": 5})]),
            "dncnn": Recipe([_dncnn()]),
            "restormer": Recipe(["restormer"]),
        },
        "classifiers": _PUBLISHED,
        "design": "partitions:test_fraction=0.5,partitions=10",
        "remarks": (_BLIND,),
    }


def _masking() -> dict[str, Any]:
    # Equal areas: else the centre would be judged by 40 % of the pixels and what is around it by 60 %.
    return {
        "recipes": {
            "none": Recipe([_dncnn()]),
            "centre": Recipe([_dncnn(), ("centre", {"equal_area": True})]),
            "non-centre": Recipe([_dncnn(), ("non_centre", {"equal_area": True})]),
            "random": Recipe([_dncnn(), ("random", {"fraction": 0.5})]),
        },
        "classifiers": _PUBLISHED,
        "design": "cross-validation:folds=5",
        "remarks": (_BLIND, "All masks keep half of the pixels, so that they differ in where, not in how much."),
    }


def _robustness(samples: int) -> dict[str, Any]:
    # In stained tissue the nuclei are dark; in fluorescence the signal is bright.
    mask = ("kmeans", {"clusters": 2, "keep": "darkest" if samples == 3 else "brightest"})
    denoisers: dict[str, list[Any]] = {
        "raw": [],
        "gaussian": [("gaussian", {"kernel_size": 5})],
        "median": [("median", {"kernel_size": 5})],
        "dncnn": ["dncnn"],
        "restormer": ["restormer"],
    }
    plain = {name: Recipe(steps) for name, steps in denoisers.items()}
    masked = {f"{name} + mask": Recipe([*steps, mask]) for name, steps in denoisers.items()}
    return {
        "recipes": {**plain, **masked},
        "classifiers": FOUR,
        "design": "holdout:test_fraction=0.5",
        "noise": ("", *_NOISE),
    }


def _signatures(samples: int) -> dict[str, Any]:
    recipes = {
        "raw": Recipe(),
        "gaussian": Recipe([("gaussian", {"kernel_size": 5})]),
        "bm3d": Recipe(["bm3d"]),
    }
    remarks = ["The phases are the conditions: as the data are, and with turned and mirrored training images."]
    if weights.resolve("drunet", "auto", samples).path.is_file():
        recipes["drunet"] = Recipe(["drunet"])
    else:
        remarks.append(
            "DRUNet is left out: its official weights (131 MB) are not on this computer. Use the step drunet once to "
            "download them."
        )
    parameters: dict[str, Any] = {"trees": 100}
    if any(p.name == "features" for p in get_step("random_forest", "classifier").parameters):
        parameters["features"] = "fibres"
    return {
        "recipes": recipes,
        "classifiers": {"random forest": ("random_forest", parameters)},
        "design": "holdout:test_fraction=0.2",
        "augmentation": ("", "turns"),
        "margin": 5.0,
        "explain": "",
        "remarks": tuple(remarks),
    }


def sweep_recipes(grid: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Recipe]:
    """Make a recipe of every point of a grid, and ``"raw"``.

    Parameters
    ----------
    grid : dict
        From the id of a step to its parameters' values: ``{"gaussian": {"kernel_size": [3, 5, 7]}}``. Several steps
        are swept one after the other, not crossed.

    Raises
    ------
    ValueError
        For an empty grid, unknown steps and values that are not allowed.
    """
    recipes: dict[str, Recipe] = {"raw": Recipe()}
    for step, parameters in grid.items():
        for values in itertools.product(*parameters.values()):
            point = dict(zip(parameters, values, strict=True))
            name = " ".join([step, *(f"{key}={value}" for key, value in point.items())])
            recipes[name] = Recipe([(step, point)])
    if len(recipes) < 2:
        raise ValueError("The preset 'sweep' needs a grid: sweep={'gaussian': {'kernel_size': [3, 5, 7]}}, say.")
    return recipes
