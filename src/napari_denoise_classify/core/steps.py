"""Steps: plain functions on planes, registered under an id, their parameters declared once in their signature.

From that one declaration come the panel in napari, the option on the command line, the row in the documentation,
the check of bad input and the record that every output carries.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from .images import FloatArray
from .parameters import Parameter
from .progress import Steps

Kind: TypeAlias = Literal["denoise", "mask", "classifier", "explain", "area"]
F = TypeVar("F", bound=Callable[..., Any])


class Reach(NamedTuple):
    """How far a step looks: a block with this many pixels around it gives the same result as the whole plane.

    Attributes
    ----------
    halo : int
        Pixels around a pixel that its result depends on.
    multiple : int
        Blocks must begin and end on multiples of this, or at the border of the plane.
    exact : bool
        False where the result changes a little with the block, whatever its halo (attention networks).
    """

    halo: int
    multiple: int = 1
    exact: bool = True


Halo: TypeAlias = int | Callable[..., int | tuple[int, int] | Reach | None] | None
"""How a step declares its reach: a number of pixels, or ``halo(samples, **parameters)``; None = the whole plane."""


@dataclass(frozen=True)
class StepSpec:
    """A registered step.

    Attributes
    ----------
    id, kind, title, summary, reference : str
        ``kind`` is ``"denoise"``, ``"mask"``, ``"classifier"``, ``"explain"`` or ``"area"``; ``reference`` is the
        source of the method.
    parameters : tuple of Parameter
    function : callable
    model : type of BaseModel
        Validates the parameters.
    record : callable, optional
        What results remember besides the parameters, from them and the samples of a pixel: the SHA-256 of weights.
    halo
        How far it looks, see `Halo`.
    """

    id: str
    kind: Kind
    title: str
    summary: str
    reference: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any] = field(repr=False)
    model: type[BaseModel] = field(repr=False)
    record: Callable[..., dict[str, Any]] | None = field(default=None, repr=False)
    halo: Halo = field(default=None, repr=False)

    def reach(self, samples: int, parameters: Mapping[str, Any]) -> Reach | None:
        """Tell how far the step looks; None where it needs the whole plane.

        Parameters
        ----------
        samples : int
            3 for RGB images, 1 for gray ones.
        parameters : mapping
            From `validate`.
        """
        found = self.halo(samples, **parameters) if callable(self.halo) else self.halo
        if found is None:
            return None
        return Reach(*found) if isinstance(found, tuple) else Reach(found)

    @property
    def long(self) -> bool:
        """Whether the function is a generator of `Progress`."""
        return inspect.isgeneratorfunction(self.function)

    def run_iter(
        self, planes: FloatArray, ranges: npt.NDArray[np.float64], parameters: Mapping[str, Any]
    ) -> Steps[Any]:
        """Run a step that processes planes.

        Parameters
        ----------
        planes : (N, Y, X, S) float32
            The intensity range at 0..1.
        ranges : (N, 2) float64
            The intensities of the image that 0 and 1 stand for; handed on to functions that take two arrays.
        parameters : mapping
            From `validate`.
        """
        arrays = (planes, ranges)[: self._arrays]
        if not self.long:
            return self.function(*arrays, **parameters)
        return (yield from self.function(*arrays, **parameters))

    @property
    def _arrays(self) -> int:
        kinds = (arg.kind for arg in inspect.signature(self.function).parameters.values())
        return sum(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)

    def defaults(self) -> dict[str, Any]:
        """Return the default of every parameter."""
        return {p.name: p.default for p in self.parameters}

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Check parameters and fill in defaults.

        Parameters
        ----------
        parameters : mapping
            From name to value; texts are converted to numbers where a number is wanted.

        Raises
        ------
        ValueError
            Naming the parameter, what was given and what is allowed.
        """
        try:
            return self.model.model_validate(
                {str(name): _plain(value) for name, value in parameters.items()}
            ).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            known = {p.name: p for p in self.parameters}
            if name not in known:
                names = ", ".join(known) or "no parameters"
                raise ValueError(f"{self.id} has no parameter {name!r}; it has {names}.") from None
            raise ValueError(
                f"{self.id}: {name}={first['input']!r} is not allowed; give {known[name].allowed}."
            ) from None


def read_step(text: str) -> tuple[str, dict[str, str]]:
    """Read a step and its parameters from text as people write it: ``"gaussian:kernel_size=5"``.

    Parameters
    ----------
    text : str
        The id; after a colon, parameters separated by commas.

    Returns
    -------
    id : str
    parameters : dict
        As texts, not checked yet; see `StepSpec.validate`.

    Raises
    ------
    ValueError
        If a parameter is not written as ``name=value``.
    """
    id, _, rest = text.partition(":")
    parameters = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ValueError(f"{part!r} cannot be read: write a step as gaussian:kernel_size=5,blur_sigma=1.")
        parameters[name] = value
    return id.strip(), parameters


def write_step(id: str, parameters: Mapping[str, Any]) -> str:
    """Write a step as text that `read_step` reads; parameters at their default are left out."""
    defaults = {p.name: p.default for p in get_step(id).parameters}
    own = [f"{name}={value}" for name, value in parameters.items() if value is not None and defaults[name] != value]
    return f"{id}:{','.join(own)}" if own else id


def _plain(value: Any) -> Any:
    """Turn paths into texts and numpy's numbers into Python's: a recipe is saved as JSON."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value


_registry: dict[str, StepSpec] = {}


def step(
    id: str,
    *,
    kind: Kind,
    title: str,
    reference: str = "",
    record: Callable[..., dict[str, Any]] | None = None,
    halo: Halo = None,
) -> Callable[[F], F]:
    """Register a function as a step.

    Its keyword-only arguments are the parameters, each ``Annotated[type, param(...)]`` with a default; the first
    line of its docstring is the summary.

    Parameters
    ----------
    id : str
        The name in recipes, on the command line and in the API.
    kind : {"denoise", "mask", "classifier", "explain", "area"}
    title : str
        The name in the panel.
    reference : str, optional
        Paper or library that the method comes from.
    record : callable, optional
        ``record(samples, **parameters)`` gives what the record should hold beyond the parameters: the SHA-256 of
        weights, say.
    halo : int or callable, optional
        How many pixels around a pixel its result depends on, or ``halo(samples, **parameters)``, which gives that
        number, or a pair of it and what the sides of blocks must be multiples of, or a `Reach`. None (the default): the
        whole plane.
    """

    def register(function: F) -> F:
        if id in _registry:
            raise ValueError(f"A step with the id {id!r} exists already.")
        signature = inspect.signature(function).parameters.values()
        declared = [arg for arg in signature if arg.kind is inspect.Parameter.KEYWORD_ONLY]
        # The other annotations may name types that are only imported for type checking.
        only = SimpleNamespace(__annotations__={arg.name: arg.annotation for arg in declared})
        hints = get_type_hints(only, function.__globals__, include_extras=True)
        fields: dict[str, Any] = {}
        parameters: list[Parameter] = []
        for arg in declared:
            fields[arg.name] = (hints[arg.name], arg.default)
            parameters.append(Parameter.declared(arg.name, hints[arg.name], arg.default))
        model = create_model(f"{id}_parameters", __config__=ConfigDict(extra="forbid"), **fields)
        summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        _registry[id] = StepSpec(id, kind, title, summary, reference, tuple(parameters), function, model, record, halo)
        return function

    return register


def steps(kind: Kind | None = None) -> tuple[StepSpec, ...]:
    """List what exists.

    Parameters
    ----------
    kind : {"denoise", "mask", "classifier", "explain", "area"}, optional
        Only steps of this kind.

    Returns
    -------
    tuple of StepSpec
        Each with id, kind, title, summary, parameters and reference.
    """
    return tuple(s for s in _registry.values() if kind is None or s.kind == kind)


def get_step(id: str, *kinds: Kind) -> StepSpec:
    """Look up a step.

    Parameters
    ----------
    id : str
    *kinds : str
        If given, the step must be of one of these kinds.

    Raises
    ------
    ValueError
        Naming the steps that exist, if there is none of this id and kind.
    """
    found = _registry.get(id) if isinstance(id, str) else None
    if found is None or (kinds and found.kind not in kinds):
        names = ", ".join(s.id for s in _registry.values() if not kinds or s.kind in kinds)
        what = " or ".join(kinds) if kinds else "known"
        article = "an" if what[0] in "aeiou" else "a"
        raise ValueError(f"{id!r} is not {article} {what} step; there are: {names}.")
    return found
