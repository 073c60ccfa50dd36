"""The declaration of a study: everything that is needed to rerun it to the same numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from ..json_text import as_json, read_json
from ..noise import parse_noise
from ..recipe import Recipe
from ..steps import get_step

FORMAT = "napari-denoise-classify/study"
VERSION = 1
Training: TypeAlias = Literal["matched", "mismatched"]
Layout: TypeAlias = Literal["partitions", "holdout", "cross-validation"]

_LEARNING = ("self_supervised",)
"""Steps that learn from all images they are given together, so that test images would have a say."""

METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "roc_auc", "ece", "brier")
"""What is computed of every cell, beside the F1 of each class."""


@dataclass(frozen=True)
class Design:
    """How samples are cut into training and test parts; the same for every cell, and never through a group.

    Attributes
    ----------
    layout : {"partitions", "holdout", "cross-validation"}
        Train once and test on equal parts of the rest; train once and test on the rest; or folds.
    folds : int
        Of a cross-validation.
    repeats : int
        How often all of it is done, each time with other random parts.
    test_fraction : float
        Held out, where there are no folds.
    partitions : int
        Parts of what is held out.
    """

    layout: Layout = "cross-validation"
    folds: int = 5
    repeats: int = 1
    test_fraction: float = 0.5
    partitions: int = 10

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise ValueError(f"design={self.layout!r} is not allowed: give one of {', '.join(get_args(Layout))}.")
        for name, low, high in (("folds", 2, 100), ("repeats", 1, 1000), ("partitions", 2, 1000)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"design: {name}={value!r} is not allowed: give a whole number from {low} to {high}.")
        if not isinstance(self.test_fraction, (int, float)) or not 0.05 <= self.test_fraction <= 0.95:
            raise ValueError(
                f"design: test_fraction={self.test_fraction!r} is not allowed: give a number from 0.05 to 0.95."
            )

    @classmethod
    def of(cls, value: Any) -> Design:
        """Make a design of a design, a mapping of its fields, or text.

        Parameters
        ----------
        value : Design, dict or str
            ``"partitions"``, ``"holdout:test_fraction=0.2"``, ``"cross-validation:folds=5,repeats=3"``.

        Raises
        ------
        ValueError
            If it cannot be read, or says what is not allowed.
        """
        if isinstance(value, Design):
            return value
        if isinstance(value, str):
            layout, _, rest = value.partition(":")
            value = {"layout": layout.strip()}
            for part in filter(None, rest.split(",")):
                name, _, number = (text.strip() for text in part.partition("="))
                if not re.fullmatch(r"\d+(\.\d+)?", number):
                    raise ValueError(
                        f"design: {part.strip()!r} cannot be read: write it as cross-validation:folds=5,repeats=3."
                    )
                value[name] = float(number) if "." in number else int(number)
        if not isinstance(value, Mapping):
            raise ValueError(f"design={value!r} is not allowed: give one of {', '.join(get_args(Layout))}.")
        known = [f.name for f in fields(cls)]
        for name in value:
            if name not in known:
                raise ValueError(f"design has no {name!r}: it has {', '.join(known)}.")
        return cls(**value)

    @property
    def text(self) -> str:
        """What `of` reads, with what matters for this layout."""
        own = {
            "partitions": ("test_fraction", "partitions", "repeats"),
            "holdout": ("test_fraction", "repeats"),
            "cross-validation": ("folds", "repeats"),
        }[self.layout]
        return f"{self.layout}:" + ",".join(f"{name}={getattr(self, name)}" for name in own)


@dataclass(frozen=True)
class Candidate:
    """A classifier of a study.

    Attributes
    ----------
    method : str
        Id of a classifier step.
    parameters : dict
        All of them.
    grid : dict
        From parameter to the values to choose from, by an inner cross-validation on the training samples alone.
    """

    method: str
    parameters: Mapping[str, Any]
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any) -> Candidate:
        """Make one of an id, or of a pair (id, {parameter: value or list of values to tune over}).

        Raises
        ------
        ValueError
            For unknown classifiers and parameters that are not allowed.
        """
        if isinstance(value, Candidate):
            return value
        if isinstance(value, str):
            value = (value, {})
        try:
            method, parameters = value
            parameters = dict(parameters)
        except (TypeError, ValueError):
            raise ValueError(
                f"{value!r} is not a classifier: give an id, or a pair (id, {{parameter: value}})."
            ) from None
        spec = get_step(method, "classifier")
        fixed = {name: item for name, item in parameters.items() if not isinstance(item, (list, tuple))}
        grid: dict[str, tuple[Any, ...]] = {}
        for name, values in parameters.items():
            if name not in fixed:
                if len(values) == 0:
                    raise ValueError(f"{method}: {name} has no values to choose from: give at least one.")
                grid[name] = tuple(spec.validate({**fixed, name: item})[name] for item in values)
        checked = spec.validate(fixed)
        checked.update({name: values[0] for name, values in grid.items()})
        return cls(method, MappingProxyType(checked), MappingProxyType(grid))

    def __reduce__(self) -> tuple[Any, ...]:
        saved = self.to_dict()
        return (Candidate.of, ((saved["method"], saved["parameters"]),))

    @property
    def points(self) -> list[dict[str, Any]]:
        """All parameters at every point of the grid; one where nothing is tuned."""
        combinations = itertools.product(*self.grid.values())
        return [{**self.parameters, **dict(zip(self.grid, values, strict=True))} for values in combinations]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        parameters = {**self.parameters, **{name: list(values) for name, values in self.grid.items()}}
        return {"method": self.method, "parameters": parameters}


@dataclass(frozen=True)
class Source:
    """The data of a study.

    Attributes
    ----------
    path : str
        What `load_crops` reads, or ``"synthetic:…"``; empty for crops that were given as they are.
    group : str or None
        As for `load_crops`.
    sha256 : str
        Of pixels, labels and groups.
    counts : dict
        Samples of each class.
    groups : int or None
        How many there are.
    """

    path: str
    group: str | None
    sha256: str
    counts: Mapping[str, int]
    groups: int | None


@dataclass(frozen=True)
class Condition:
    """Under what all recipes and classifiers are compared: the noise added, and the augmentation of training crops."""

    noise: str = ""
    augmentation: str = ""

    @property
    def name(self) -> str:
        """A short name, empty for images as they are."""
        return ", ".join(part for part in (self.noise, self.augmentation and "augmented") if part)


@dataclass(frozen=True)
class Study:
    """The declaration of a study; ``study(declared)`` gives the same numbers again.

    Attributes
    ----------
    data : Source
    recipes : dict
        From name to `Recipe`.
    classifiers : dict
        From name to `Candidate`.
    design : Design
    reference : str
        The recipe that the others are compared with.
    training : {"matched", "mismatched"}
        Matched: training and test images go through the same noise and recipe. Mismatched: training images stay clean
        and unprocessed, test images get the noise and go through the recipe.
    noise : tuple of str
        Noise put on the images before the recipe, each a condition of its own; ``""`` for none.
    augmentation : tuple of str
        ``""`` for none; ``"turns"`` adds turned and mirrored copies to the training crops, after the recipe. Each is a
        condition of its own.
    seed : int
        Of splits, noise and training.
    margin : float
        The smallest difference that matters, in points (100 × macro-F1).
    explain : str
        How critical areas are found for the drift: an explain step's id; empty for not at all.
    intensity_range : (float, float) or None
        What maps to 0..1; None finds it on the training samples (8-bit images always have 0..255).
    preset : str
        The one that it was made from, or empty.
    remarks : tuple of str
        Sentences of the preset for the notes.
    """

    data: Source
    recipes: Mapping[str, Recipe]
    classifiers: Mapping[str, Candidate]
    design: Design = Design()
    reference: str = ""
    training: Training = "matched"
    noise: tuple[str, ...] = ("",)
    augmentation: tuple[str, ...] = ("",)
    seed: int = 0
    margin: float = 2.0
    explain: str = "gradcam"
    intensity_range: tuple[float, float] | None = None
    preset: str = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.recipes or not self.classifiers:
            raise ValueError("A study needs at least one recipe and one classifier.")
        for what, named in (("recipes", list(self.recipes)), ("classifiers", list(self.classifiers))):
            if not all(isinstance(name, str) and name.strip() for name in named):
                raise ValueError(f"{what}: every one needs a name, a text that is not empty.")
        for name, recipe in self.recipes.items():
            if recipe.upscale != 1:
                raise ValueError(f"The recipe {name!r} enlarges images: set upscale to 1 for a study.")
            learning = [s.id for s in recipe.steps if s.id in _LEARNING]
            if learning:
                raise ValueError(
                    f"The recipe {name!r} has the step {learning[0]}, which would learn from test images, too: train a "
                    "denoiser on other images with train_denoiser, and use its weights."
                )
        object.__setattr__(self, "reference", self.reference or next(iter(self.recipes)))
        if self.reference not in self.recipes:
            raise ValueError(
                f"reference={self.reference!r} is not allowed: give one of the recipes, {', '.join(self.recipes)}."
            )
        if self.training not in get_args(Training):
            raise ValueError(f"training={self.training!r} is not allowed: give 'matched' or 'mismatched'.")
        if not self.noise or not self.augmentation:
            raise ValueError("noise and augmentation need at least one entry each; '' stands for none.")
        object.__setattr__(self, "noise", tuple(str(parse_noise(text)) if text else "" for text in self.noise))
        unknown = [text for text in self.augmentation if text not in ("", "turns")]
        if unknown:
            raise ValueError(f"augmentation={unknown[0]!r} is not allowed: give '' or 'turns'.")
        names = [condition.name for condition in self.conditions]
        if len(set(names)) < len(names):
            raise ValueError("The study has the same condition twice: give every noise and augmentation once.")
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed={self.seed!r} is not allowed: give a whole number from 0 to 2147483647.")
        if not isinstance(self.margin, (int, float)) or not 0 <= self.margin < 100:
            raise ValueError(f"margin={self.margin!r} is not allowed: give points of macro-F1, from 0 to 100.")
        if self.explain:
            get_step(self.explain, "explain")

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Every noise with every augmentation."""
        return tuple(Condition(n, a) for a in self.augmentation for n in self.noise)

    # --- saved form -----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the study as JSON-ready values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "data": {**asdict(replace(self.data, counts={})), "counts": dict(self.data.counts)},
            "recipes": {name: recipe.to_dict() for name, recipe in self.recipes.items()},
            "classifiers": {name: candidate.to_dict() for name, candidate in self.classifiers.items()},
            "design": asdict(self.design),
            "reference": self.reference,
            "training": self.training,
            "noise": list(self.noise),
            "augmentation": list(self.augmentation),
            "seed": self.seed,
            "metrics": list(METRICS),
            "margin": self.margin,
            "explain": self.explain,
            "intensity_range": None if self.intensity_range is None else list(self.intensity_range),
            "preset": self.preset,
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, saved: Any) -> Study:
        """Make a study from what `to_dict` returned.

        Raises
        ------
        ValueError
            If it is something else, damaged, or written by a newer version.
        """
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ValueError("This is not a study: a study is JSON written by Study.to_json.")
        if not isinstance(saved.get("version"), int) or saved["version"] > VERSION:
            raise ValueError(
                f"This study has version {saved.get('version')!r}; this program reads up to {VERSION}. "
                "Update napari-denoise-classify."
            )
        try:
            given = saved["intensity_range"]
            return cls(
                data=Source(**saved["data"]),
                recipes={name: Recipe.from_dict(item) for name, item in saved["recipes"].items()},
                classifiers={
                    name: Candidate.of((item["method"], item["parameters"]))
                    for name, item in saved["classifiers"].items()
                },
                design=Design.of(saved["design"]),
                noise=tuple(saved["noise"]),
                augmentation=tuple(saved["augmentation"]),
                intensity_range=None if given is None else (float(given[0]), float(given[1])),
                remarks=tuple(saved["remarks"]),
                **{key: saved[key] for key in ("reference", "training", "seed", "margin", "explain", "preset")},
            )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"This study is damaged ({error}): write it again with Study.to_json.") from None

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the study as JSON, and write it to ``path`` if one is given.

        Parameters
        ----------
        path : str or Path, optional
        """
        return as_json(self.to_dict(), path)

    @classmethod
    def from_json(cls, source: str | Path) -> Study:
        """Read a study from a file, or from the JSON text itself.

        Parameters
        ----------
        source : str or Path

        Raises
        ------
        ValueError
            If it cannot be read or is not a study.
        """
        return cls.from_dict(read_json(source, "study"))
