"""Compiled libraries that must not meet in one process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
