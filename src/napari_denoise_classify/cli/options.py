"""Command-line options that come from declared parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from ..core.parameters import Parameter
from ..core.steps import Kind, StepSpec, get_step, steps


def with_step_options(kind: Kind) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the parameters of every step of a kind as options.

    The command takes them as its keyword argument ``parameters``: those that were given, as text. `chosen` checks
    them against the step that was chosen.
    """
    uses: dict[str, list[str]] = {}
    for spec in steps(kind):
        for p in spec.parameters:
            default = "nothing" if p.default is None else p.default
            uses.setdefault(p.name, []).append(f"{spec.id}: {p.help} Allowed: {p.allowed}; default: {default}.")

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "parameters"]
        _check_apart(command, {p.name for p in own}, set(uses))
        options = [
            inspect.Parameter(
                f"step_{name}",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    str | None,
                    typer.Option(
                        f"--{name.replace('_', '-')}",
                        help=_merge(lines),
                        rich_help_panel="Parameters of the method",
                        metavar="VALUE",
                    ),
                ],
            )
            for name, lines in uses.items()
        ]

        def called(**arguments: Any) -> None:
            given = {name: arguments.pop(f"step_{name}") for name in uses}
            command(**arguments, parameters={name: value for name, value in given.items() if value is not None})

        return _like(command, called, [*own, *options])

    return decorate


def with_options(parameters: Sequence[Parameter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command parameters as options, which it takes as its keyword argument ``settings``.

    What depends on more than one parameter, and words to choose from, are checked by who uses them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True).parameters
        own = [p for name, p in signature.items() if name != "settings"]
        _check_apart(command, {p.name for p in own}, {p.name for p in parameters})
        options = [
            inspect.Parameter(p.name, inspect.Parameter.KEYWORD_ONLY, default=p.default, annotation=_option(p))
            for p in parameters
        ]

        def called(**arguments: Any) -> None:
            settings = {p.name: arguments.pop(p.name) for p in parameters}
            command(**arguments, settings=settings)

        return _like(command, called, [*own, *options])

    return decorate


def _check_apart(command: Callable[..., None], own: set[str], others: set[str]) -> None:
    """Refuse options of the same name: one would silently take the place of the other."""
    if own & others:
        names = sorted(own & others)
        raise TypeError(f"The command {command.__name__} has options named like declared parameters: {names}.")


def _option(p: Parameter) -> Any:
    """Declare the option of one parameter to typer."""
    name = f"--{p.name.replace('_', '-')}"
    names = [f"{name}/--no-{name[2:]}"] if p.type is bool and p.optional else [name]
    unit = f" In {p.unit}." if p.unit else ""
    allowed = f" One of: {', '.join(p.choices)}." if p.choices and p.choices[0] not in p.help else ""
    limits: dict[str, Any] = {} if p.type not in (int, float) else {"min": p.minimum, "max": p.maximum}
    kind: Any = p.type | None if p.optional else p.type
    return Annotated[kind, typer.Option(*names, help=f"{p.help}{unit}{allowed}", **limits)]


def _like(command: Callable[..., None], called: Callable[..., None], options: list[Any]) -> Callable[..., None]:
    """Have a function stand for a command, with other options, all of them by name."""
    called.__doc__ = command.__doc__
    called.__name__ = command.__name__
    run: Any = called  # the types of Python do not know that functions may have the attribute, which typer reads
    run.__signature__ = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in options])
    return called


def _merge(lines: list[str]) -> str:
    """Join the help of several steps; where they say the same, say it once."""
    texts: dict[str, list[str]] = {}
    for line in lines:
        step, text = line.split(": ", 1)
        texts.setdefault(text, []).append(step)
    return " ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())


def chosen(kind: Kind, method: str, parameters: Mapping[str, str]) -> tuple[StepSpec, dict[str, Any]]:
    """Check a method's parameters that were given as text.

    Raises
    ------
    ValueError
        For unknown methods, parameters that it does not have, and values that are not allowed.
    """
    spec = get_step(method, kind)
    return spec, spec.validate(parameters)


def method_option(kind: Kind, default: str | None = None) -> Any:
    """Declare the option that chooses a step of a kind; the default is told if None stands for it."""
    names = ", ".join(spec.id for spec in steps(kind))
    told = f"; default: {default}" if default else ""
    return typer.Option("--method", "-m", help=f"One of: {names}{told}.", show_default=default is None)
