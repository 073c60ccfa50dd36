"""Jobs on many machines: the workers of a dask.distributed cluster do them, one each at a time.

What travels is the description of a job and a line of text. The worker reads the images and writes the results
itself, each file whole or not at all, into folders that all machines share. So a worker that is lost loses nothing
but the job that it was at, which another one does again from its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from .._version import __version__
from .blocks import Part, Ranges, Target, parts_of, write_part_iter
from .device import MEMORY_VARIABLE
from .files import remove_temporaries, user_path
from .images import PlaneImage
from .progress import USER_ERRORS, Progress, Steps, run, sentence, within
from .recipe import Recipe
from .storing import Fill

CONNECT = 5.0
"""Seconds in which a scheduler must answer."""
WORKERS = 60.0
"""Seconds in which it must have a worker."""
WAITING = "waiting for a worker"
"""The message of a progress while there is none."""
_ATTEMPTS = 3  # of a job whose workers die, where the cluster is started here
_PAUSE = 0.5


class Job(Protocol):
    """What one worker does at a time: a frozen dataclass of paths, recipes and plain values."""

    @property
    def path(self) -> Path:
        """The file that is read."""

    @property
    def targets(self) -> list[Path]:
        """The files that are written."""

    def run_iter(self) -> Steps[Any]:
        """Do it; returns what is to be said after the name of the first target. May be done again from the start."""


@runtime_checkable
class LargeJob(Job, Protocol):
    """A job that may be too large for one worker."""

    @property
    def large(self) -> bool:
        """Whether its blocks are to be shared out."""

    def run_with_iter(self, fill: Fill) -> Steps[Any]:
        """As `run_iter`, but have ``fill`` process the blocks."""


@dataclass(frozen=True)
class Block:
    """A block of a large image, as a job of its own: read, processed and written into its place.

    Attributes
    ----------
    path : Path
        Of the image.
    recipe, source, part, ranges, target, mask
        As for `write_part_iter`.
    """

    path: Path
    recipe: Recipe
    source: PlaneImage
    part: Part
    ranges: list[tuple[float, float]]
    target: Target
    mask: Target | None

    @property
    def targets(self) -> list[Path]:
        """None of its own: the result is there already, and is filled."""
        return []

    def run_iter(self) -> Steps[tuple[int, int]]:
        """Process the block; returns how many pixels masks keep, out of how many."""
        return write_part_iter(self.recipe, self.source, self.part, self.ranges, self.target, self.mask)


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Finished:
    """How a job ended; the ``data`` of a progress.

    Attributes
    ----------
    number : int
        Of the job.
    result : object
        What `Job.run_iter` returned.
    error : str
        What went wrong, in one sentence, or empty.
    """

    number: int
    result: Any = ""
    error: str = ""


def run_jobs_iter(jobs: Sequence[Job], address: str | None = None, workers: int = 0) -> Steps[list[Finished]]:
    """Run jobs on a cluster.

    Parameters
    ----------
    jobs : sequence of Job
    address : str, optional
        Of the scheduler, ``"tcp://host:8786"``, or the path of its scheduler file (.json).
    workers : int
        Without an address: so many processes are started here, and ended afterwards.

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
    with _quiet(), _cluster(address, workers) as where, _client(where) as client:
        try:
            _check_versions(client)
            return (yield from _all_iter(client, jobs))
        except (OSError, CancelledError) as error:  # those of jobs are among the results
            raise ConnectionError(
                f"The scheduler {where} was lost: what is finished is kept; start a scheduler again for the rest."
            ) from error


def _lost() -> tuple[type[BaseException], ...]:
    """Return the errors of a connection that is gone."""
    from distributed.comm.core import CommClosedError

    return CommClosedError, CancelledError


def _all_iter(client: Any, jobs: Sequence[Job]) -> Steps[list[Finished]]:
    """Do the jobs of one worker each, then those whose blocks are shared out, one after the other."""
    large = [i for i, job in enumerate(jobs) if isinstance(job, LargeJob) and job.large]
    small = [i for i in range(len(jobs)) if i not in large]
    done: dict[int, Finished] = {}
    with contextlib.closing(_told_iter(client, [jobs[i] for i in small])) as work:
        for progress in work:
            one = progress.data
            if isinstance(one, Finished):
                one = done[small[one.number]] = dataclasses.replace(one, number=small[one.number])
            yield Progress(progress.fraction * len(small) / len(jobs), progress.message, one)
    for k, i in enumerate(large, len(small)):
        job = absolute(jobs[i])
        assert isinstance(job, LargeJob)
        try:
            filled = job.run_with_iter(partial(_fill_iter, client, job.path))
            text = yield from within(filled, k / len(jobs), (k + 1) / len(jobs), job.path.name)
            done[i] = Finished(i, text)
        except _lost():
            raise
        except USER_ERRORS as error:
            done[i] = Finished(i, error=_relative(sentence(error), jobs[i]))
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
    with contextlib.closing(_told_iter(client, blocks)) as work:
        for progress in work:
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
            slots = len(client.nthreads())
            while waiting and len(running) < slots:  # a worker takes one at a time: the others wait here
                number, job = waiting.popleft()
                running[client.submit(_work, absolute(job), __version__, pure=False)] = number
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
                client.run(_idle, on_error="ignore")  # what is written meanwhile must not come after what follows


def _outcome(future: Any, number: int, job: Job) -> Finished:
    """Read what a job's task returned; a defect of this program is raised."""
    from distributed import KilledWorker

    if future.status == "finished":
        result, error = future.result()
        return Finished(number, result, _relative(error, job))
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Finished(
            number,
            error=f"{job.path}: the workers that were at it died again and again, of too little memory probably: give "
            "them more, or crop the image.",
        )
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(_PACKAGE):
        return Finished(number, error=_NOT_INSTALLED.format("A worker"))
    raise error


def _relative(error: str, job: Job) -> str:
    """Name the files in an error as they were given."""
    whole = absolute(job)
    for mine, theirs in zip([job.path, *job.targets], [whole.path, *whole.targets], strict=True):
        error = error.replace(str(theirs), str(mine))
    return error


def absolute(job: J) -> J:
    """Return a job with absolute paths: workers have other working directories."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(job):  # type: ignore[arg-type]  # a protocol cannot ask for a dataclass
        value = getattr(job, field.name)
        if isinstance(value, Path):
            changes[field.name] = value.absolute()
        elif isinstance(value, Recipe):
            changes[field.name] = _absolute_recipe(value)
    return dataclasses.replace(job, **changes)  # type: ignore[type-var]


def _absolute_recipe(recipe: Recipe) -> Recipe:
    steps = []
    for s in recipe.steps:
        files = {p.name: user_path(str(s.parameters[p.name])) for p in s.spec.parameters if p.file}
        own = {name: str(path.absolute()) for name, path in files.items() if path.is_file()}
        steps.append((s.id, {**s.parameters, **own}))
    return Recipe(steps, recipe.intensity_range)


# --- on the worker --------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()


class _CancelledJobError(Exception):
    """The job is wanted no more."""


async def _idle() -> None:
    """Wait on a worker until it is at no job."""
    for _ in range(100):
        if not _one_at_a_time.locked():
            return
        await asyncio.sleep(0.1)


def _work(job: Job, version: str) -> tuple[Any, str]:
    """Do a job on a worker; returns its result and an error, in one sentence."""
    from distributed import get_worker

    worker = get_worker()
    host, key = socket.gethostname(), worker.get_current_task()

    def check(_: Progress | None = None) -> None:
        state = worker.state.tasks.get(key)
        if state is None or state.state == "cancelled":
            raise _CancelledJobError

    if version != __version__:
        return "", _OTHER_VERSION.format(f"The worker on {host}", __version__, "napari-denoise-classify", version)
    while not _one_at_a_time.acquire(timeout=_PAUSE):
        check()
    try:
        if not job.path.exists():
            return "", f"{job.path} is not there for the worker on {host}: use a folder that all machines share."
        for target in job.targets:
            if not target.parent.is_dir():
                return "", f"{target.parent} is not there for the worker on {host}: use an --output that all share."
        with _bounded(worker):
            return run(job.run_iter(), check), ""
    except USER_ERRORS as error:
        return "", sentence(error)
    finally:
        _one_at_a_time.release()


@contextlib.contextmanager
def _bounded(worker: Any) -> Iterator[None]:
    """Take the threads and the memory of a worker, and no more."""
    import dask
    import psutil

    from .opencv import cv2

    threads = worker.state.nthreads
    cv2.setNumThreads(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    else:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    limit = worker.memory_manager.memory_limit
    if limit and MEMORY_VARIABLE not in os.environ:
        spare = 0.9 * limit - psutil.Process().memory_info().rss  # beyond 0.95 the worker is killed
        os.environ[MEMORY_VARIABLE] = str(max(spare, 1e6) / 1e9)
    else:
        limit = 0
    try:
        with dask.config.set(scheduler="threads" if threads > 1 else "synchronous", num_workers=threads):
            yield
    finally:
        if limit:
            del os.environ[MEMORY_VARIABLE]


# --- the cluster ----------------------------------------------------------------------------------------------------

_PACKAGE = "napari_denoise_classify"
_NOT_INSTALLED = f"{{}} lacks napari-denoise-classify: install version {__version__} of it there."
_OTHER_VERSION = "{} has version {} of {}, and this program {}: install the same everywhere."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the logs of the connection to itself: what matters is said in a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[str]:
    """Return the address of a scheduler; one of this machine's own where none is given."""
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "Work on several processes needs dask.distributed: pip install 'napari-denoise-classify[cluster]'."
        ) from None
    if address:
        yield address
        return
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": _ATTEMPTS - 1}),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, (os.cpu_count() or 1) // workers),
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster.scheduler_address


@contextlib.contextmanager
def _client(address: str) -> Iterator[Any]:
    import distributed
    from distributed.comm.addressing import get_address_host_port

    file = address if address.endswith(".json") else None
    if file and not Path(file).is_file():
        raise ConnectionError(f"{file}: there is no such file; give the scheduler's address, or the file it writes.")
    try:
        if not file:
            get_address_host_port(address, strict=True)
    except ValueError as error:
        raise ValueError(f"{address} is no address of a scheduler ({error}): give one as tcp://host:8786.") from None
    try:
        client = distributed.Client(
            None if file else address, scheduler_file=file, timeout=CONNECT, set_as_default=False
        )
    except (OSError, ImportError) as error:
        raise ConnectionError(
            f"No scheduler answers at {address}: start one with 'dask scheduler', or look up its address there."
        ) from error
    with client, client.as_current():
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise ConnectionError(f"The scheduler {address} has no workers: start some with 'dask worker'.") from None
        yield client


def _check_versions(client: Any) -> None:
    """Compare the versions of what decides whether jobs can travel, and what comes out of them."""
    found = client.get_versions(packages=[_PACKAGE])
    mine = found["client"]["packages"]
    others = {f"The worker {name}": about for name, about in found["workers"].items()}
    for name, about in {"The scheduler": found["scheduler"], **others}.items():
        theirs = about["packages"]
        for package in ("python", "distributed", _PACKAGE):
            if package == _PACKAGE and name == "The scheduler":
                continue  # it only hands on what it does not read
            if theirs[package] is None:
                raise ValueError(_NOT_INSTALLED.format(name))
            digits = 2 if package == "python" else 99
            one, other = (".".join(found[package].split(".")[:digits]) for found in (theirs, mine))
            if one != other:
                raise ValueError(_OTHER_VERSION.format(name, one, package, other))
