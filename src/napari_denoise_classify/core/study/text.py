"""What people write of a study, on the command line and in the panel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..recipe import Recipe
from ..steps import read_step


def named_recipes(texts: Iterable[str]) -> dict[str, Recipe]:
    """Read recipes: ``[name=]step:parameter=value+step``, or a JSON file in place of the steps.

    Raises
    ------
    ValueError
        If a name comes twice, or a recipe cannot be read.
    """
    return {
        name: Recipe.from_json(Path(text)) if text.lower().endswith(".json") else Recipe.parse(text)
        for name, text in _named(texts, "recipes").items()
    }


def named_classifiers(texts: Iterable[str]) -> dict[str, tuple[str, dict[str, str | list[str]]]]:
    """Read classifiers: ``[name=]method:parameter=value``; a value with slashes is tuned over: ``svm:C=0.1/1/10``.

    Without a name, one is called by its method, or as it is written if there are others of that method.

    Raises
    ------
    ValueError
        If a name comes twice, or a classifier cannot be read.
    """
    found: dict[str, tuple[str, dict[str, str | list[str]]]] = {}
    named = _named(texts, "classifiers")
    methods = [read_step(text)[0] for text in named.values()]
    for name, text in named.items():
        method, parameters = read_step(text)
        values = {key: value.split("/") if "/" in value else value for key, value in parameters.items()}
        alone = methods.count(method) == 1 and method not in named
        found[method if name == text and alone else name] = method, values
    return found


def swept(texts: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Read the grid of a sweep: ``gaussian:kernel_size=3/5/7``.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    steps = (read_step(text) for text in texts)
    return {step: {name: value.split("/") for name, value in parameters.items()} for step, parameters in steps}


def _named(texts: Iterable[str], what: str) -> dict[str, str]:
    """Split name=text; the name may be left out where what stands before the first = is none."""
    found: dict[str, str] = {}
    for text in filter(None, (text.strip() for text in texts)):
        name, equals, rest = (part.strip() for part in text.partition("="))
        if not equals or ":" in name:
            name, rest = text, text
        if name in found:
            raise ValueError(f"Two {what} are named {name!r}: give each a name of its own, as name=….")
        found[name] = rest
    return found
