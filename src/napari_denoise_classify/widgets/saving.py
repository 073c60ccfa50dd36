"""Where to write a file: the one way in which panels ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def ask_path(parent: Any, title: str, suggestion: str, kind: str, suffix: str) -> Path | None:
    """Ask for the file that is to be written; the dialog asks before it names one that exists.

    Parameters
    ----------
    parent : QWidget
    title, suggestion : str
        Of the dialog, and the name that stands in it.
    kind : str
        What such files are called.
    suffix : str
        Added to names without it.

    Returns
    -------
    Path or None
        None if the dialog was cancelled.

    Raises
    ------
    ValueError
        If the name exists only with its suffix: the dialog could not ask.
    """
    from qtpy.QtWidgets import QFileDialog

    name, _ = QFileDialog.getSaveFileName(parent, title, suggestion, f"{kind} (*{suffix})")
    if not name:
        return None
    if name.lower().endswith(suffix):
        return Path(name)
    return new_path(Path(f"{name}{suffix}"))


def new_path(path: Path) -> Path:
    """Return a path at which nothing is.

    Raises
    ------
    ValueError
        If something is.
    """
    if path.exists():
        raise ValueError(f"{path} exists already: choose another name.")
    return path
