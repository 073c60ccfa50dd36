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
    """

    fraction: float
    message: str = ""
    data: object = None


Steps = Generator[Progress, None, T]
"""A generator of `Progress` that returns a ``T``."""


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
            yield Progress(start + (stop - start) * inner.fraction, text, inner.data)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
