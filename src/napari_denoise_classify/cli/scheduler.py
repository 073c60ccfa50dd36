"""The options ``--scheduler`` and ``--workers``: where the files of a command are done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..core.progress import Progress
from ..core.remote.jobs import Finished, Job
from ..core.remote.running import WAITING, run_jobs_iter
from .common import check_new, console, fail, for_each, guarded, report_failures, say, with_bar

Scheduler: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Have the files done by the workers of a dask scheduler: tcp://host:8786, or its scheduler file (.json).",
    ),
]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Have the files done by so many processes of this machine.")
]


def run_jobs(jobs: Sequence[Job], overwrite: bool, scheduler: str | None = None, workers: int | None = None) -> None:
    """Do jobs one after the other here, or on a cluster; tell of each, and of failures at the end.

    Parameters
    ----------
    jobs : sequence of Job
        Each of a file of its own.
    overwrite : bool
        Whether results may be replaced.
    scheduler, workers
        From the options of these names.
    """
    if scheduler is not None and workers is not None:
        fail("--scheduler and --workers exclude each other: a cluster has workers of its own.")
    if scheduler is None and workers is None:
        by_path = {job.path: job for job in jobs}

        def one(path: Path) -> None:
            job = by_path[path]
            check_new(job.targets, overwrite)
            say(f"{job.targets[0]}{with_bar(job.run_iter(), path.name)}")

        for_each(by_path, one)
    else:
        _run_on_cluster(jobs, overwrite, scheduler, workers or 0)


def _run_on_cluster(jobs: Sequence[Job], overwrite: bool, scheduler: str | None, workers: int) -> None:
    failures: dict[Path, str] = {}
    allowed: list[Job] = []
    for job in jobs:
        try:  # here and once: a job whose worker was lost may find its own results
            check_new(job.targets, overwrite)
            allowed.append(job)
        except ValueError as error:
            failures[job.path] = str(error)

    waits = False

    def tell(progress: Progress) -> None:
        nonlocal waits
        if WAITING in progress.message and not waits:
            console.print("No worker is left: waiting for one. Ctrl-C stops.")
        waits = WAITING in progress.message
        done = progress.data
        if isinstance(done, Finished):
            job = allowed[done.number]
            if done.error:
                failures[job.path] = done.error
            else:
                say(f"{job.targets[0]}{done.result}")

    def work() -> None:
        if allowed:
            with_bar(run_jobs_iter(allowed, scheduler, workers), f"{len(allowed)} files", tell)

    try:
        guarded(work)
    except KeyboardInterrupt:
        console.print("Stopped. Finished files are kept: give the same command with the others to go on.")
        raise typer.Exit(130) from None
    report_failures([(job.path, failures[job.path]) for job in jobs if job.path in failures], len(jobs))
