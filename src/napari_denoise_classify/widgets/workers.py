"""The only place that drives core's generators in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error

from ..core.progress import USER_ERRORS, Progress, Steps, sentence


class Job:
    """A piece of work under way in a thread.

    Every callback is called in the main thread: ``ended`` once, unless the work is abandoned, and ``done`` after it if
    there is a result. Of work that failed, a notification tells, and `error`.

    Parameters
    ----------
    work : generator of Progress
    report : callable
        Called with each `Progress` and the seconds left, which are None while nobody can tell.
    done : callable
        Called with the result.
    ended : callable
        Called at the end whatever happened, with ``"done"``, ``"failed"`` or ``"cancelled"``; before ``done``.
    """

    def __init__(
        self,
        work: Steps[Any],
        report: Callable[[Progress, float | None], None],
        done: Callable[[Any], None],
        ended: Callable[[str], None],
    ) -> None:
        self._work = work
        self._report = report
        self._done = done
        self._ended = ended
        self._started = time.monotonic()
        self._over = False
        self.error = ""  # of work that failed, in one sentence for people

        def generate() -> Steps[Any]:
            # Errors travel as results: the worker would turn a RuntimeError into a mere warning.
            try:
                return (yield from work)
            except Exception as error:
                return _Failure(error)

        self._worker = create_worker(generate, _start_thread=False)
        self._worker.yielded.connect(self._on_progress)
        self._worker.returned.connect(self._on_result)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def cancel(self) -> None:
        """Stop at the next yield."""
        self._worker.quit()

    def abandon(self) -> None:
        """Stop, and call nobody any more: the panel is gone."""
        self._over = True
        self._worker.quit()

    def _on_progress(self, progress: Progress) -> None:
        if not self._over:
            if progress.fraction == 0:  # what came before, such as reading a classifier, tells nothing of the speed
                self._started = time.monotonic()
            elapsed = time.monotonic() - self._started
            known = progress.fraction > 0.02 and elapsed > 1
            self._report(progress, elapsed * (1 / progress.fraction - 1) if known else None)

    def _on_result(self, result: Any) -> None:
        if self._over:
            return
        self._over = True
        if not isinstance(result, _Failure):
            self._ended("done")
            self._done(result)
            return
        if not isinstance(result.error, USER_ERRORS):
            self._ended("failed")
            raise result.error
        self.error = sentence(result.error)
        self._ended("failed")
        show_error(self.error)

    def _on_finished(self) -> None:
        """Tell of a cancel: a worker that was asked to quit gives no result."""
        self._work.close()  # what it holds is given back at once
        if not self._over:
            self._over = True
            self._ended("cancelled")


@dataclass(frozen=True)
class _Failure:
    error: Exception
