"""Compiled libraries that must not meet in one process, or that nobody needs there."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


class _NoTriton(MetaPathFinder):
    """Tell whoever imports triton that it is not there, where importing it would end the program."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name == "triton" and _has_llvm():
            raise ModuleNotFoundError(
                "triton cannot be used here: the graphics driver of this program's window brings another LLVM.",
                name=name,
            )
        return None


def keep_apart() -> None:
    """Keep triton out of a process whose window is drawn by Mesa.

    PyTorch for CUDA brings triton and imports it for much that has no need of it, a step of an optimiser for one. Its
    LLVM takes the functions of Mesa's for its own, and the process ends with a segmentation fault, unless triton was
    imported before the window was opened. PyTorch goes on without it.
    """
    if sys.platform == "linux" and not any(isinstance(finder, _NoTriton) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoTriton())


def _has_llvm() -> bool:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return any("libLLVM" in line for line in maps)
    except OSError:
        return False


class _NoTorch(MetaPathFinder):
    """Tell the thread that made it, if it imports torch, that torch is not there."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("torch is not wanted here.", name=name)
        return None


@contextmanager
def leaving_torch_alone() -> Iterator[None]:
    """Import something that would import torch for no need: seconds, and a gigabyte where PyTorch is for CUDA.

    What other threads import meanwhile, or what is imported already, stays.
    """
    finder = _NoTorch()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
