"""Hand jobs to workers, and gather what they say."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

from ..._version import __version__
from ..blocks.parts import Ranges, Target
from ..blocks.plan import parts_of
from ..images import PlaneImage
from ..progress import USER_ERRORS, Progress, Steps, sentence, within
from ..recipe import Recipe
from ..whole import remove_temporaries
from .connection import connected, connection_errors
from .jobs import Block, Finished, Job, LargeJob, absolute, relative
from .versions import NOT_INSTALLED, PACKAGE, check_versions
from .worker import idle, work

WAITING = "waiting for a worker"
"""The message of a progress while there is none."""
_PAUSE = 0.5  # seconds between two looks at the workers


def run_jobs_iter(
    jobs: Sequence[Job],
    address: str | None = None,
    workers: int = 0,
    first: int = 0,
    before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
) -> Steps[list[Finished]]:
    """Run jobs on a cluster.

    Parameters
    ----------
    jobs : sequence of Job
    address : str, optional
        Of the scheduler, ``"tcp://host:8786"``, or the path of its scheduler file (.json).
    workers : int
        Without an address: so many processes are started here, and ended afterwards.
    first : int
        So many of the jobs are done before the others begin.
    before : callable, optional
        Called here, once it is known that there are workers.
    after : callable, optional
        Called by every worker when all is over, however it ended.

    Yields
    ------
    Progress
        Whose ``data`` is a `Finished` after each job. Closing the generator cancels what is not finished; running
        jobs stop at their next step.

    Returns
    -------
    list of Finished
        In the order of the jobs.

    Raises
    ------
    ImportError
        If dask.distributed is not installed.
    ConnectionError
        If the scheduler does not answer, has no workers, or is lost.
    ValueError
        If client, scheduler and workers have different versions.
    """
    yield Progress(0.0, "connecting")
    with connected(address, workers) as client:
        check_versions(client)
        if before is not None:
            before()
        try:
            return (yield from _all_iter(client, jobs, first))
        finally:
            if after is not None:
                with contextlib.suppress(OSError, CancelledError):
                    client.run(after, on_error="ignore")


def _all_iter(client: Any, jobs: Sequence[Job], first: int) -> Steps[list[Finished]]:
    """Do the jobs of one worker each, then those whose blocks are shared out, one after the other."""
    large = [i for i, job in enumerate(jobs) if isinstance(job, LargeJob) and job.large]
    small = [i for i in range(len(jobs)) if i not in large]
    done: dict[int, Finished] = {}
    for part in ([i for i in small if i < first], [i for i in small if i >= first]):
        before = len(done)
        with contextlib.closing(_told_iter(client, [jobs[i] for i in part])) as told:
            for progress in told:
                one = progress.data
                if isinstance(one, Finished):
                    number = part[one.number]
                    one = done[number] = dataclasses.replace(one, number=number)
                yield Progress((before + progress.fraction * len(part)) / len(jobs), progress.message, one)
    for k, i in enumerate(large, len(small)):
        job = absolute(jobs[i])
        assert isinstance(job, LargeJob)
        try:
            filled = job.run_with_iter(partial(_fill_iter, client, job.path))
            text = yield from within(filled, k / len(jobs), (k + 1) / len(jobs), job.path.name)
            done[i] = Finished(i, text)
        except connection_errors():
            raise
        except USER_ERRORS as error:
            done[i] = Finished(i, error=relative(sentence(error), jobs[i]))
        yield Progress((k + 1) / len(jobs), job.path.name, done[i])
    return [done[i] for i in range(len(jobs))]


def _fill_iter(
    client: Any,
    path: Path,
    recipe: Recipe,
    source: PlaneImage,
    ranges: Ranges,
    target: Target,
    mask: Target | None = None,
) -> Steps[float]:
    """As `write_iter`, by the workers of a cluster."""
    parts = parts_of(source, recipe)
    blocks = [Block(path, recipe, source, part, [ranges[i] for i in part.indices], target, mask) for part in parts]
    kept = total = 0
    with contextlib.closing(_told_iter(client, blocks)) as told:
        for progress in told:
            if isinstance(progress.data, Finished):
                if progress.data.error:
                    raise ValueError(progress.data.error)
                kept, total = kept + progress.data.result[0], total + progress.data.result[1]
            yield Progress(progress.fraction, progress.message)
    return kept / total


def _told_iter(client: Any, jobs: Sequence[Job]) -> Steps[None]:
    """Have jobs done, each by one worker; the progress has a `Finished` for each."""
    from distributed import wait

    waiting = deque(enumerate(jobs))
    running: dict[Any, int] = {}
    done = 0
    try:
        while waiting or running:
            slots = _free(client)
            while waiting and len(running) < slots:  # a worker takes one at a time: the others wait here
                number, job = waiting.popleft()
                running[client.submit(work, absolute(job), __version__, pure=False)] = number
            some = "1 worker" if slots == 1 else f"{slots} workers"
            note = f"{done} of {len(jobs)} done, {some}" if slots else WAITING
            yield Progress(done / len(jobs), note)
            if not running:
                time.sleep(_PAUSE)
                continue
            with contextlib.suppress(TimeoutError):
                wait(list(running), timeout=_PAUSE, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.status != "pending"]:
                number = running.pop(future)
                done += 1
                yield Progress(done / len(jobs), note, _outcome(future, number, jobs[number]))
        for target in (target for job in jobs for target in job.targets):
            remove_temporaries(target)  # of workers that were killed
    finally:
        if running:
            with contextlib.suppress(OSError, CancelledError):
                client.cancel(list(running), force=True)
                client.run(idle, on_error="ignore")  # what is written meanwhile must not come after what follows


def _free(client: Any) -> int:
    """Return how many workers take jobs: one that is short of memory is paused by dask."""
    there = client.nthreads()  # fails where the scheduler is lost
    known = client.scheduler_info()["workers"]
    return sum(known.get(address, {}).get("status") != "paused" for address in there)


def _outcome(future: Any, number: int, job: Job) -> Finished:
    """Read what a job's task returned; a defect of this program is raised."""
    from distributed import KilledWorker

    if future.status == "finished":
        result, error = future.result()
        return Finished(number, result, relative(error, job))
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Finished(
            number,
            error=f"{job.path}: the workers that were at it died again and again, of too little memory probably: give "
            "them more, or smaller images.",
        )
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(PACKAGE):
        return Finished(number, error=NOT_INSTALLED.format("A worker"))
    raise error
