"""Parameters, declared once: their type, their help, and what is allowed.

A declaration is ``name: Annotated[type, param(...)] = default``, of a step or in a dataclass of settings. The panel,
the option on the command line, the row in the documentation and the check of bad input come from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
from pydantic import AfterValidator, Field


def param(
    help: str,
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    file: str = "",
    suggestions: Callable[[], list[str]] | None = None,
) -> Any:
    """Declare a step's parameter, inside ``Annotated``.

    Parameters
    ----------
    help : str
        One line, shown as tooltip, command-line help and in the documentation.
    unit : str, optional
    ge, le : float, optional
        Lowest and highest allowed value.
    step : float, optional
        What one click on the arrow of its box changes.
    file : str, optional
        The value may name a file; this is the filter of the file dialog.
    suggestions : callable, optional
        Lists texts to choose from; others are allowed too.
    """
    extra = {"unit": unit, "step": step, "ge": ge, "le": le, "file": file, "suggestions": suggestions}
    kwargs: dict[str, Any] = {} if ge is None and le is None else {"allow_inf_nan": False}
    return Field(description=help, ge=ge, le=le, json_schema_extra=extra, **kwargs)  # type: ignore[arg-type]  # pydantic wants JSON there; this is only for us


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


ODD = AfterValidator(_odd)
"""Put into ``Annotated`` beside `param`: the number must be odd."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a step, as its signature declares it.

    Attributes
    ----------
    name, help, unit : str
    type : type
        int, float, bool or str.
    default : object
        None where the parameter is optional and off by default.
    minimum, maximum, step : float or None
    choices : tuple of str
        The allowed words, where there are only some.
    optional, odd : bool
    file : str
        File-dialog filter where the value may be a file, else empty.
    suggestions : callable or None
        Lists texts to choose from; others are allowed too.
    """

    name: str
    help: str
    type: type
    default: Any
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    odd: bool = False
    file: str = ""
    suggestions: Callable[[], list[str]] | None = field(default=None, repr=False)

    @classmethod
    def declared(cls, name: str, hint: Any, default: Any) -> Parameter:
        """Read a declaration: ``name: Annotated[type, param(...)] = default``."""
        base, *annotations = get_args(hint)
        info = next(a for a in annotations if hasattr(a, "description"))
        extra = info.json_schema_extra
        options = get_args(base) if get_origin(base) in (UnionType, Union) else (base,)
        (inner,) = (o for o in options if o is not NoneType)
        choices = get_args(inner) if get_origin(inner) is Literal else ()
        return cls(
            name=name,
            help=info.description,
            type=str if choices else inner,
            default=default,
            unit=extra["unit"],
            minimum=extra["ge"],
            maximum=extra["le"],
            step=extra["step"],
            choices=choices,
            optional=NoneType in options,
            odd=ODD in annotations,
            file=extra["file"],
            suggestions=extra["suggestions"],
        )

    @property
    def label(self) -> str:
        """The name as people read it, with its unit if that is short."""
        text = self.name.replace("_", " ").capitalize()
        return f"{text} ({self.unit})" if 0 < len(self.unit) <= 3 else text

    @property
    def allowed(self) -> str:
        """What values are allowed, in words."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        words = {bool: "true or false", int: "whole number", float: "number", str: "text"}[self.type]
        if self.type in (int, float):
            words = f"an odd {words}" if self.odd else f"a {words}"
            low, high = (f"{v:.10g}" if v is not None else None for v in (self.minimum, self.maximum))
            if low is not None and high is not None:
                words += f" from {low} to {high}"
            elif low is not None:
                words += f" of at least {low}"
            elif high is not None:
                words += f" of at most {high}"
        return f"{words}, or nothing" if self.optional else words

    def allows(self, value: Any) -> bool:
        """Tell whether a value is allowed as it is: texts are not converted to numbers."""
        if value is None:
            return self.optional
        kinds: dict[type, Any] = {bool: (bool, np.bool_), int: Integral, float: Real, str: str}
        if not isinstance(value, kinds[self.type]) or (isinstance(value, bool) and self.type is not bool):
            return False
        if self.choices:
            return value in self.choices
        if self.type not in (int, float):
            return True
        low, high = (limit if limit is not None else value for limit in (self.minimum, self.maximum))
        finite = value == value and abs(value) != math.inf  # numpy knows no integers of any size
        return bool(finite and low <= value <= high and not (self.odd and value % 2 == 0))
