"""What runs on a worker: one job at a time, within the worker's threads and memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ..._version import __version__
from ..device import MEMORY_VARIABLE
from ..progress import USER_ERRORS, Progress, run, sentence
from .jobs import Job
from .versions import OTHER_VERSION

_PAUSE = 0.5  # seconds between two looks whether a waiting job is still wanted
_one_at_a_time = threading.Lock()


class _CancelledJobError(Exception):
    """The job is wanted no more."""


async def idle() -> None:
    """Wait on a worker until it is at no job."""
    for _ in range(100):
        if not _one_at_a_time.locked():
            return
        await asyncio.sleep(0.1)


def work(job: Job, version: str) -> tuple[Any, str]:
    """Do a job on a worker; returns its result and an error, in one sentence."""
    from distributed import get_worker

    worker = get_worker()
    host, key = socket.gethostname(), worker.get_current_task()

    def check(_: Progress | None = None) -> None:
        state = worker.state.tasks.get(key)
        if state is None or state.state == "cancelled":
            raise _CancelledJobError

    if version != __version__:
        return "", OTHER_VERSION.format(f"The worker on {host}", __version__, "napari-denoise-classify", version)
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

    from ..opencv import cv2

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
