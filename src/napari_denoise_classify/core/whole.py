"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

_MARK = ".lock"
_kept_back: ContextVar[Mapping[Path, list[Path]]] = ContextVar("kept_back", default=MappingProxyType({}))


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write a file so that it appears whole or not at all.

    Parameters
    ----------
    path : Path
        Folders are made as needed.
    write : callable
        Called with a temporary path of the same suffix in the same folder.

    Raises
    ------
    OSError
        If the folder cannot be written to, or the disk is full.
    """
    with whole_file(path) as temporary, told_if_full(path):
        write(temporary)
    return path


@contextmanager
def told_if_full(path: Path) -> Iterator[None]:
    """Say it in a sentence if a disk gets full while something is written in the ``with`` block."""
    try:
        yield
    except OSError as error:
        unnamed = error.errno is None and "written" in str(error)  # numpy's and OpenCV's give no number
        if not unnamed and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            f"{path} could not be written: there is no space left, or no more is allowed. Free some, or choose "
            "another folder."
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Make a file that appears whole at the end of the ``with`` block, or not at all if an error leaves it.

    Parameters
    ----------
    path : Path
        Folders are made as needed.

    Yields
    ------
    Path
        A temporary file of the same suffix in the same folder, to be written.
    """
    temporary = temporary_beside(path)
    kept_back = _kept_back.get()
    with told_by_name(temporary, path):
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            if path in kept_back:
                kept_back[path].append(temporary)
                return
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def told_by_name(temporary: Path, path: Path) -> Iterator[None]:
    """Name the file that people know in errors about the temporary one."""
    try:
        yield
    except OSError as error:
        if str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise


def temporary_beside(path: Path, suffix: str | None = None) -> Path:
    """Name a file or folder that is not there yet, beside a path, for `clear_leftovers` to know.

    Unlike those of `tempfile`, what is made under it has the permissions of any other new file.

    Parameters
    ----------
    path : Path
        Folders are made as needed.
    suffix : str, optional
        Default: the path's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix if suffix is None else suffix}")


@contextmanager
def all_or_none(paths: Iterable[Path]) -> Iterator[None]:
    """Let files that belong together appear at the end of the ``with`` block, or none if an error leaves it.

    Parameters
    ----------
    paths : iterable of Path
        Written within the block, by `write_whole`.
    """
    kept_back: dict[Path, list[Path]] = {path: [] for path in paths}
    token = _kept_back.set(kept_back)
    try:
        yield
        for path, written in kept_back.items():
            for temporary in written:
                os.replace(temporary, path)
    finally:
        _kept_back.reset(token)
        for temporary in (temporary for written in kept_back.values() for temporary in written):
            temporary.unlink(missing_ok=True)


@contextmanager
def claimed(temporary: Path) -> Iterator[None]:
    """Mark a temporary file or folder as being written, for as long as this process lives; see `clear_leftovers`.

    The mark is a locked file beside it that names this computer. The operating system unlocks it when the process
    ends, however it does.
    """
    mark = _mark_of(temporary)
    with ExitStack() as stack:
        with suppress(OSError):  # where files cannot be locked, nobody can tell, and nothing is cleared
            file = stack.enter_context(open(mark, "w", encoding="utf-8"))
            if _lock(file):
                file.write(platform.node())
                file.flush()
        try:
            yield
        finally:
            stack.close()
            with suppress(OSError):
                mark.unlink(missing_ok=True)


def clear_leftovers(path: Path) -> bool:
    """Remove what writers of a file that were killed on this computer have left beside it.

    Parameters
    ----------
    path : Path
        What they wrote, inside of `claimed`.

    Returns
    -------
    bool
        False if some other process is writing it, or may be.
    """
    free = True
    for mark in path.parent.glob(f"{_pattern(path)}{_MARK}"):
        try:
            with open(mark, "r+", encoding="utf-8") as file:
                if file.read() != platform.node() or not _lock(file):
                    free = False
                    continue
                _remove(mark.with_name(mark.name.removesuffix(_MARK)))
            mark.unlink(missing_ok=True)
        except OSError:
            free = False
    return free


def remove_temporaries(path: Path) -> None:
    """Remove what writers of a file that were killed have left beside it, on any computer; but not what lives here."""
    clear_leftovers(path)
    for left in path.parent.glob(_pattern(path)):
        mark = _mark_of(left)
        if mark.exists() and _alive(mark):
            continue
        _remove(left)
        mark.unlink(missing_ok=True)


def _alive(mark: Path) -> bool:
    with suppress(OSError), open(mark, "r+", encoding="utf-8") as file:
        return not _lock(file)
    return False


def _pattern(path: Path) -> str:
    return f".{glob.escape(path.stem[:40])}-????????{glob.escape(path.suffix)}"


def _mark_of(temporary: Path) -> Path:
    return temporary.with_name(f"{temporary.name}{_MARK}")


def _remove(left: Path) -> None:
    if left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _lock(file: IO[Any]) -> bool:
    """Lock a file, if no other process has; it is unlocked when it is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1024)  # beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
