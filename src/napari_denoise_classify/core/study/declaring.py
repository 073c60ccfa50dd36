"""Declaring a study from what people give: names, texts, presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..classify.datasets import Crops
from ..images import check_intensity_range
from ..recipe import Recipe
from ..steps import get_step
from .declaration import Candidate, Design, Study
from .presets import preset as preset_of
from .sources import describe, load_source


def _texts(value: Any) -> tuple[str, ...]:
    given = [value] if value is None or isinstance(value, str) else list(value)
    return tuple("" if item in (None, "none") else str(item) for item in given)


def _recipes(given: Any) -> dict[str, Recipe]:
    if isinstance(given, Mapping):
        return {name: item if isinstance(item, Recipe) else Recipe(item) for name, item in given.items()}
    if not isinstance(given, (Recipe, str, list, tuple)):
        raise ValueError(f"recipes={given!r} is not allowed: give recipes, or a dict from name to recipe.")
    items = [given] if isinstance(given, (Recipe, str)) else given
    listed = [item if isinstance(item, Recipe) else Recipe([item]) for item in items]
    named = {recipe.title: recipe for recipe in listed}
    if len(named) < len(listed):
        raise ValueError("Two recipes have the same name: give a dict from name to recipe.")
    return named


def _classifiers(given: Any, input_size: int | None, *, insist: bool) -> dict[str, Candidate]:
    if not isinstance(given, (Mapping, str, list, tuple)):
        raise ValueError(f"classifiers={given!r} is not allowed: give ids, or a dict from name to (id, parameters).")
    if not isinstance(given, Mapping):
        items = [given] if isinstance(given, str) else given
        listed = [(item if isinstance(item, str) else Candidate.of(item).method, item) for item in items]
        given = dict(listed)
        if len(given) < len(listed):
            raise ValueError("Two classifiers have the same name: give a dict from name to (id, parameters).")
    found = {name: Candidate.of(item) for name, item in given.items()}
    if input_size is None:
        return found
    for name, item in given.items():
        method = found[name].method
        parameters = {} if isinstance(item, str) else item.parameters if isinstance(item, Candidate) else dict(item[1])
        sized = any(p.name == "input_size" for p in get_step(method, "classifier").parameters)
        if sized and (insist or "input_size" not in parameters):
            found[name] = Candidate.of((method, {**parameters, "input_size": input_size}))
    return found


def declare(
    data: Any,
    recipes: Any = None,
    classifiers: Any = None,
    design: Any = None,
    *,
    preset: str = "custom",
    seed: int = 0,
    reference: str | None = None,
    training: str | None = None,
    noise: str | Sequence[str] | None = None,
    augmentation: str | Sequence[str] | None = None,
    margin: float | None = None,
    explain: str | None = None,
    intensity_range: tuple[float, float] | None = None,
    input_size: int | None = None,
    group: str | None = None,
    sweep: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
) -> tuple[Study, Crops]:
    """Declare a study without running it; see `study` for the arguments.

    Returns
    -------
    study : Study
    data : Crops
    """
    crops, path = load_source(data, group)
    chosen = preset_of(preset, 3 if crops.images[0].ndim == 3 else 1, sweep)
    given = {
        "recipes": recipes,
        "classifiers": classifiers,
        "design": design,
        "reference": reference,
        "training": training,
        "noise": noise,
        "augmentation": augmentation,
        "margin": margin,
        "explain": explain,
    }
    chosen |= {name: value for name, value in given.items() if value is not None}
    for name in ("recipes", "classifiers"):
        if name not in chosen:
            raise ValueError(f"A study needs {name}: give them, or a preset that has some.")
    how = check_intensity_range(intensity_range) if intensity_range is not None else None
    if isinstance(how, str):
        raise ValueError("intensity_range of a study is two numbers (low, high), or nothing.")
    chosen["recipes"] = _recipes(chosen["recipes"])
    chosen["classifiers"] = _classifiers(chosen["classifiers"], input_size, insist=given["classifiers"] is None)
    chosen["design"] = Design.of(chosen["design"])
    for name in ("noise", "augmentation"):
        chosen[name] = _texts(chosen.get(name))
    declared = Study(describe(crops, path, group), **chosen, seed=seed, intensity_range=how, preset=preset)
    return declared, crops
