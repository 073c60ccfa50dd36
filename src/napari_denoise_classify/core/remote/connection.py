"""The connection to a scheduler, on this machine or elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

CONNECT = 5.0
"""Seconds in which a scheduler must answer."""
WORKERS = 60.0
"""Seconds in which it must have a worker."""
_END = 3.0  # seconds in which workers that are told to end must have done so
_ENVIRONMENT = {
    # A worker that is paused for its memory would wait for ever; beyond 95 % it is started anew.
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    # dask has workers give back at once what they free, and take it anew from the system each time (glibc): BM3D then
    # dask has workers give back at once what they free (glibc), and BM3D then takes twice as long. These are the
    # allocator's own limits.
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
_ATTEMPTS = 3  # of a job whose workers die, where the cluster is started here


@contextlib.contextmanager
def connected(address: str | None, workers: int) -> Iterator[Any]:
    """Connect to a scheduler.

    Parameters
    ----------
    address : str, optional
        ``"tcp://host:8786"``, or the path of its scheduler file (.json).
    workers : int
        Without an address: so many processes are started here, and ended afterwards.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ImportError
        If dask.distributed is not installed.
    ConnectionError
        If the scheduler does not answer, has no workers, or is lost.
    ValueError
        If the address is none.
    """
    with _quiet(), _cluster(address, workers) as where, _client(where) as client:
        try:
            yield client
        except (OSError, CancelledError) as error:  # those of jobs are among the results
            raise ConnectionError(
                f"The scheduler {where} was lost: what is finished is kept; start a scheduler again for the rest."
            ) from error


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
        distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=logging.CRITICAL) as cluster,
        _workers(cluster.scheduler_address, workers),
    ):
        yield cluster.scheduler_address


@contextlib.contextmanager
def _workers(scheduler: str, count: int) -> Iterator[None]:
    """Start workers on this machine, and end them.

    As a program of their own: those that distributed starts itself run the script of this process once more, which need
    not be made for that, and get its Ctrl-C.
    """
    threads = max(1, (os.cpu_count() or 1) // count)
    options = [
        scheduler,
        "--nworkers",
        str(count),
        "--nthreads",
        str(threads),
        "--no-dashboard",
        "--death-timeout",
        "60",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**_ENVIRONMENT, **os.environ},
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _client(address: str) -> Iterator[Any]:
    """Return a client whose scheduler answers and has a worker."""
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


def connection_errors() -> tuple[type[BaseException], ...]:
    """Return the errors of a connection that is gone."""
    from distributed.comm.core import CommClosedError

    return CommClosedError, CancelledError
