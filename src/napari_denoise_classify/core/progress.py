"""How long work reports and is cancelled.

Long work is a generator: it yields `Progress` and returns its result. Whoever drives it (a napari worker, the
command line, a plain call) decides what to show. Closing the generator cancels it at the next yield; nothing
half-done is left because results are only handed over by the return.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a piece of work has come.

    Parameters
    ----------
    fraction : float
        Part done, 0 to 1.
    message : str
        What is being done, for people.
    data : object, optional
        What the step has to show along the way (a training curve's point, say).
    note : str, optional
        A sentence that people should still see when the work is done.
    """

    fraction: float
    message: str = ""
    data: object = None
    note: str = ""


Steps = Generator[Progress, None, T]
"""A generator of `Progress` that returns a ``T``."""

USER_ERRORS = (ValueError, OSError, MemoryError, ImportError)
"""Errors that say in one sentence what to do; anything else is a defect of this program."""


def sentence(error: object) -> str:
    """Say an error of the operating system in words: what, and with which file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def run(work: Steps[T], report: Callable[[Progress], None] | None = None) -> T:
    """Drive ``work`` to its end and return its result.

    Parameters
    ----------
    work : generator of Progress
    report : callable, optional
        Called with every `Progress`.
    """
    try:
        while True:
            progress = next(work)
            if report is not None:
                report(progress)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


def within(work: Steps[T], start: float, stop: float, message: str = "") -> Steps[T]:
    """Run ``work`` as the part from ``start`` to ``stop`` of a larger piece of work.

    Parameters
    ----------
    work : generator of Progress
    start, stop : float
        The part of the whole, 0 to 1.
    message : str, optional
        Put before the message of ``work``.
    """
    try:
        while True:
            inner = next(work)
            text = ": ".join(part for part in (message, inner.message) if part)
            yield Progress(start + (stop - start) * inner.fraction, text, inner.data, inner.note)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
