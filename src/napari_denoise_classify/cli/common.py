"""What the commands share: progress bar, errors in one sentence, batches that go on after a failure."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Annotated, NoReturn, TypeAlias, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from ..core.files import IMAGE_SUFFIXES, stem_of
from ..core.ome_zarr.reading import SUFFIX, is_zarr
from ..core.progress import USER_ERRORS, Progress, Steps, run, sentence

T = TypeVar("T")

Inputs: TypeAlias = Annotated[
    list[str],
    typer.Argument(help="Image files, folders or globs: TIFF, SVS, PNG, JPEG, BMP, NPY, OME-Zarr.", show_default=False),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]

_FILES = (*IMAGE_SUFFIXES, SUFFIX, ".csv", ".html", ".json")

console = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print a line of results."""
    typer.echo(text)


def fail(message: object) -> NoReturn:
    """Print one sentence and end with exit code 1."""
    console.print(f"[bold red]Error:[/] {_plain(sentence(message))}")
    raise typer.Exit(1)


def _closed(folder: Path) -> str:
    return f"Nothing can be written into {folder}: choose another --output."


def results_folder(path: Path) -> Path:
    """Refuse the name of a file where a folder is asked for: a folder ``out.tif`` would puzzle people."""
    try:
        is_file = is_zarr(path) or (path.suffix.lower() in _FILES and not path.is_dir())
    except OSError:  # a folder above it that may not be entered
        fail(_closed(path))
    if is_file:
        fail(f"{path} is a file's name, but --output is a folder, where results get names of their own: give a folder.")
    return path


Output: TypeAlias = Annotated[
    Path, typer.Option("--output", "-o", callback=results_folder, help="Folder for the results.")
]


def _plain(message: object) -> str:
    from rich.markup import escape

    return escape(str(message) or type(message).__name__)


def with_bar(work: Steps[T], title: str, tell: Callable[[Progress], None] | None = None) -> T:
    """Run long work under a progress bar with the time left; ``tell`` may print something on each progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    notes: list[str] = []
    quiet, shown = not sys.stderr.isatty(), sys.stdout.isatty()
    with RichProgress(*columns, console=console, transient=True, disable=quiet, redirect_stdout=shown) as bar:
        task = bar.add_task(title, total=1.0, note="")

        def report(progress: Progress) -> None:
            if tell is not None:
                tell(progress)
            if progress.note and progress.note not in notes:
                notes.append(progress.note)
            bar.update(task, completed=progress.fraction, note=progress.message)

        result = run(work, report)
    for note in notes:
        console.print(f"{_plain(title)}: {_plain(note)}")
    return result


def guarded(action: Callable[[], T]) -> T:
    """Run an action; its errors become one sentence and exit code 1."""
    try:
        return action()
    except USER_ERRORS as error:
        fail(error)


def for_each(paths: Iterable[Path], action: Callable[[Path], None]) -> None:
    """Run an action on each file; failures are reported at the end and do not stop the others."""
    failures: list[tuple[Path, Exception]] = []
    count = 0
    for path in paths:
        count += 1
        try:
            action(path)
        except USER_ERRORS as error:
            failures.append((path, error))
    report_failures([(path, sentence(failure)) for path, failure in failures], count)


def report_failures(failures: list[tuple[Path, str]], count: int) -> None:
    """List the files of ``count`` that failed, and why; then end with exit code 1."""
    if failures:
        console.print(f"[bold red]{len(failures)} of {count} files failed:[/]")
        for path, text in failures:
            console.print(f"  {_plain(text if str(path) in text else f'{path}: {text}')}")
        raise typer.Exit(1)


def check_suffix(path: Path, suffixes: list[str], what: str) -> None:
    """Refuse a name of another kind of file.

    Raises
    ------
    ValueError
        If the path ends with none of the suffixes.
    """
    if path.suffix.lower() not in suffixes:
        *others, last = suffixes
        listed = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{path}: {what} are written as {listed}; give such a name.")


def check_new(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to replace results.

    Raises
    ------
    ValueError
        If one of the files exists and ``overwrite`` is off.
    """
    for path in paths:
        if path.is_dir() and not is_zarr(path):
            raise ValueError(f"{path} is a folder: choose another --output.")
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists already: add --overwrite to replace it, or choose another --output.")
        try:  # better now than after hours of work
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"The folder {path.parent} cannot be made: {error.strerror}. Choose another --output."
            ) from None
        if not os.access(path.parent, os.W_OK):
            raise ValueError(_closed(path.parent))


def _folder(path: Path) -> Path:
    return Path(os.path.realpath(path)).parent  # Path.resolve stumbles over links that go in a circle


def parts_shared(folders: Sequence[PurePath]) -> int:
    """Return how many parts of their paths folders share."""
    levels = zip(*(folder.parts for folder in folders), strict=False)
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))


def parts_below(folder: PurePath, shared: int) -> list[str]:
    """Return the parts of a folder's path below what all folders share: a drive, too, where they lie on several."""
    below = list(folder.parts[shared:])
    if shared == 0:
        below[0] = folder.anchor.strip(":\\/").replace("\\", "-")
    return below


def output_names(paths: list[Path], folder: Path, suffix: Callable[[Path], str]) -> dict[Path, Path]:
    """Name the output of each input: its stem and a suffix; inputs of equal stem get their folders' names, too.

    Raises
    ------
    ValueError
        If two inputs would still be written to one file.
    """
    stems = [stem_of(path) for path in paths]
    folders = [_folder(path) for path in paths]
    count, shared = Counter(stems), parts_shared(folders)
    names: dict[Path, Path] = {}
    for path, stem, home in zip(paths, stems, folders, strict=True):
        parts = [stem]
        if count[stem] > 1:
            parts = [*parts_below(home, shared), stem, path.suffix[1:]]
        names[path] = folder / f"{'_'.join(parts)}{suffix(path)}"
    twice = [str(name) for name, times in Counter(names.values()).items() if times > 1]
    if twice:
        raise ValueError(f"Two of the images would be written to {twice[0]}: process them in two runs.")
    return names
