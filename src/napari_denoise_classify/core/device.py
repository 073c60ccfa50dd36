"""Where networks run: CUDA, Apple's MPS or the CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, get_args

from .progress import Progress, Steps

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
N = TypeVar("N", bound="torch.nn.Module")

DEVICE_VARIABLE = "NAPARI_DENOISE_CLASSIFY_DEVICE"
"""Environment variable that names the device to use instead of the best one: ``cpu``, ``cuda:1``, ``mps``."""

MEMORY_VARIABLE = "NAPARI_DENOISE_CLASSIFY_MEMORY"
"""Environment variable that says how much memory may still be taken, in GB, instead of what the machine has left."""

Precision: TypeAlias = Literal["auto", "exact", "fast"]
PRECISION_VARIABLE = "NAPARI_DENOISE_CLASSIFY_PRECISION"
"""Environment variable that says how networks compute: ``exact``, ``fast``, or ``auto`` (the default)."""


def best_device() -> torch.device:
    """Return the device to compute on: the one the environment names, else CUDA, MPS, CPU in this order.

    Raises
    ------
    ValueError
        If the environment variable names a device that is not there.
    """
    import torch

    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    wanted = os.environ.get(DEVICE_VARIABLE)
    if not wanted:
        return torch.device(available[0])
    if wanted.split(":")[0] not in available:
        raise ValueError(f"{DEVICE_VARIABLE}={wanted!r} is not available; this machine has {', '.join(available)}.")
    return torch.device(wanted)


def place(network: N, device: torch.device) -> N:
    """Move a network to a device, its weights in the layout in which convolutions are fastest."""
    import torch

    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    return network


_LARGEST_KEPT = 2**25  # bytes: the most that glibc allows, and what it comes to by itself where much is freed
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


ON_CPU = "The GPU's memory was full: computed on the CPU."
"""What people are told after that."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device's memory is full."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
    )


def with_room_iter(device: torch.device, work: Callable[[torch.device], Steps[T]]) -> Steps[T]:
    """Do work on a device, and once more on the CPU if the device's memory turns out to be full.

    Raises
    ------
    MemoryError
        If the CPU's is full, too.
    """
    import torch

    try:
        return (yield from work(device))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if device.type == "cpu":
            raise MemoryError(
                "There is not enough memory: close other programs, or give fewer or smaller images at a time."
            ) from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    yield Progress(0.0, note=ON_CPU)
    return (yield from with_room_iter(torch.device("cpu"), work))


def prefers_bfloat16(device: torch.device) -> bool:
    """Tell whether convolutions in bfloat16 are faster there than in float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # torch has no public question for it; emulated bfloat16 is several times slower than float32.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def precision() -> Precision:
    """Return how networks are to compute, as the environment says.

    ``"exact"`` is float32. ``"fast"`` is bfloat16 where the device has it and the result loses at most 0.02 dB.
    ``"auto"`` is fast where that is also measurably faster.

    Raises
    ------
    ValueError
        If the environment variable is something else.
    """
    wanted = os.environ.get(PRECISION_VARIABLE) or "auto"
    if wanted not in get_args(Precision):
        raise ValueError(f"{PRECISION_VARIABLE}={wanted!r} is not allowed: give exact, fast or auto.")
    return cast(Precision, wanted)


def trains_in_bfloat16(device: torch.device) -> bool:
    """Tell whether networks are trained in mixed precision there: where it is faster, unless all is to be exact."""
    return precision() != "exact" and prefers_bfloat16(device)


def available_memory() -> int:
    """Return how many bytes of main memory may still be taken, without any being swapped out.

    It is the least of what the machine has left, what the groups of this process (cgroups of a container or of a
    batch job) have left, and what is left of the process's own address space. The environment variable
    ``NAPARI_DENOISE_CLASSIFY_MEMORY``, in GB, takes the place of all of these. Where nothing is known it is
    ``sys.maxsize``.

    Raises
    ------
    ValueError
        If the environment variable is no number above 0.
    """
    wanted = os.environ.get(MEMORY_VARIABLE)
    if wanted:
        with suppress(ValueError, OverflowError):
            if (limit := int(float(wanted) * 1e9)) > 0:
                return limit
        raise ValueError(f"{MEMORY_VARIABLE}={wanted!r} is not allowed: give a number of GB above 0.")
    return max(0, min(_machine_memory(), _group_memory(), _address_space()))


def _machine_memory() -> int:
    with suppress(OSError, KeyError):
        return _fields(Path("/proc/meminfo"))["MemAvailable:"] * 1024
    with suppress(ImportError):
        return int(import_module("psutil").virtual_memory().available)
    with suppress(AttributeError, OSError, ValueError):
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)  # how much is in use is not known
    return sys.maxsize


def _group_memory(
    root: Path = Path("/sys/fs/cgroup"),
    groups: Path = Path("/proc/self/cgroup"),
) -> int:
    """Return what is left to the cgroups that a process is in, of version 2 or 1: the least of them and those above."""
    least = sys.maxsize
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            names = ("memory.max", "memory.current", "inactive_file")
            top = root
            if controllers:
                names, top = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), root / "memory"
            parts = Path(path.lstrip("/")).parts
            for depth in range(len(parts) + 1):  # within a container, its own group is often shown as the topmost
                folder = top.joinpath(*parts[:depth])
                with suppress(OSError, ValueError):
                    limit, used = (int((folder / name).read_text()) for name in names[:2])
                    # Cached files give way where memory is needed.
                    least = min(least, limit - used + _fields(folder / "memory.stat").get(names[2], 0))
    return least


def _address_space() -> int:
    with suppress(ImportError, OSError, ValueError, KeyError):
        resource = import_module("resource")
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return int(limit) - _fields(Path("/proc/self/status"))["VmSize:"] * 1024
    return sys.maxsize


def _fields(path: Path) -> dict[str, int]:
    """Return the whole numbers of a file of lines such as ``name 123 kB``."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def processors() -> int:
    """Return how many processors this process may use: those it is bound to, and no more than its group's share.

    ``OMP_NUM_THREADS`` lowers it, and so does ``torch.set_num_threads``; PyTorch counts a core with two threads once.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = [bound]
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        counts.append(-(-int(quota) // int(period)))  # "max" is no number: no limit
    with suppress(ValueError):
        counts.append(int(os.environ.get("OMP_NUM_THREADS", "")))
    if (torch := sys.modules.get("torch")) is not None:
        counts.append(torch.get_num_threads())
    return max(1, min(counts))


def trim() -> None:
    """Give memory that is free within this process back to the system, where its allocator keeps it (glibc)."""
    with suppress(OSError, AttributeError, TypeError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep memory that is freed for what is computed next, where the process's allocator (glibc) can be told to.

    Each step of a training frees what the next one takes again; else the system would clear all of it each time,
    which takes a tenth of the training.
    """
    trim_threshold, mmap_threshold = -1, -3  # the numbers that <malloc.h> has for them
    tell: Any = None
    with suppress(OSError, AttributeError, TypeError):
        import ctypes

        tell = ctypes.CDLL(None).mallopt
    if tell is None:
        yield
        return
    tell(mmap_threshold, _LARGEST_KEPT)
    tell(trim_threshold, 2**31 - 1)
    try:
        yield
    finally:
        tell(trim_threshold, 2 * _LARGEST_KEPT)
        trim()
