"""Where networks run: CUDA, Apple's MPS or the CPU."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

N = TypeVar("N", bound="torch.nn.Module")

DEVICE_VARIABLE = "NAPARI_DENOISE_CLASSIFY_DEVICE"
"""Environment variable that names the device to use instead of the best one: ``cpu``, ``cuda:1``, ``mps``."""


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


def load_triton() -> None:
    """Load Triton, where PyTorch has it, with its own LLVM.

    Creating an optimiser imports Triton. Where a viewer's software OpenGL has loaded another LLVM before, the two
    clash and the process dies, unless Triton's library looks for its symbols in itself first.
    """
    if not hasattr(os, "RTLD_DEEPBIND"):
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):
            import_module("triton._C.libtriton")
    finally:
        sys.setdlopenflags(flags)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device's memory is full."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory"))
    )


def prefers_bfloat16(device: torch.device) -> bool:
    """Tell whether convolutions in bfloat16 are faster there than in float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # torch has no public question for it; emulated bfloat16 is several times slower than float32.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
