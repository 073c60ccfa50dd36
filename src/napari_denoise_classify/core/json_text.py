"""Descriptions as JSON text, in files or by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .whole import write_whole


def read_json(source: str | Path, what: str) -> Any:
    """Read JSON from a file, or from the text itself.

    Parameters
    ----------
    source : str or Path
        A path, or text that begins with ``{``.
    what : str
        What it should be, for the errors: ``"recipe"``.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    text, name = str(source), "This text"
    if isinstance(source, Path) or not text.lstrip().startswith("{"):
        name = text
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"The {what} {name} cannot be read: {error}") from None
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name} is not a {what}: it is not valid JSON ({error}).") from None


def as_json(value: Any, path: str | Path | None = None) -> str:
    """Return a value as JSON, and write it to ``path`` if one is given."""
    text = json.dumps(value, indent=2)
    if path is not None:
        write_whole(Path(path), lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
    return text
