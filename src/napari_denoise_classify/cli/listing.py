"""The command ``steps``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.steps import steps as all_steps
from .common import say


def steps(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List every method and its parameters."""
    if json:
        from json import dumps

        listed = [
            {
                "id": s.id,
                "kind": s.kind,
                "title": s.title,
                "summary": s.summary,
                "reference": s.reference,
                "parameters": [
                    {"name": p.name, "default": p.default, "unit": p.unit, "allowed": p.allowed, "help": p.help}
                    for p in s.parameters
                ],
            }
            for s in all_steps()
        ]
        say(dumps(listed, indent=2, ensure_ascii=False))
        return
    kind = ""
    for spec in all_steps():
        if spec.kind != kind:
            kind = spec.kind
            say(f"\n{kind.upper()}")
        say(f"  {spec.id:<14} {spec.summary}")
        for p in spec.parameters:
            default = "nothing" if p.default is None else p.default
            unit = f" {p.unit}" if p.unit else ""
            names = f"; known: {', '.join(p.suggestions())}" if p.suggestions is not None else ""
            say(f"      {p.name} = {default}{unit}: {p.help} ({p.allowed}{names})")
