"""Run after run, cancelled or not: memory stays flat, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.core.progress import Steps

MEGABYTE = 2**20


@pytest.mark.parametrize(("method", "runs", "side"), [("gaussian", 40, 512), ("dncnn", 15, 64)])
def test_runs_in_a_row_leave_memory_flat(
    method: str, runs: int, side: int, growth: Callable[[Callable[[], object], int], int]
) -> None:
    image = np.random.default_rng(0).normal(100, 20, (side, side)).astype(np.float32)
    # An image that is kept by each run of the first would be 40 in each of the three rounds.
    assert growth(lambda: ndc.denoise(image, method), runs) < 8 * MEGABYTE


def test_classifying_leaves_memory_flat(
    forest: ndc.Classifier, growth: Callable[[Callable[[], object], int], int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    centres = np.random.default_rng(0).uniform(0, 255, (20, 2))
    assert growth(lambda: ndc.classify(image, forest, centres=centres), 8) < 8 * MEGABYTE


def advance(work: Steps[object], to: float) -> int:
    """Drive work up to a fraction; returns how often it reported."""
    for count, progress in enumerate(work, 1):
        if progress.fraction >= to:
            return count
    raise AssertionError("It was over before.")


@pytest.mark.parametrize("method", ["gaussian", "dncnn"])
def test_cancelled_runs_leave_nothing(method: str, resident: Callable[[], int]) -> None:
    """Ten runs on a stack, cancelled in the middle."""
    stack = np.random.default_rng(0).normal(100, 20, (64, 512, 512) if method == "gaussian" else (4, 128, 128))
    stack = stack.astype(np.float32)
    recipe = ndc.Recipe([method])

    def cancelled() -> None:
        work = recipe.apply_iter(stack, "ZYX")
        advance(work, 0.5)
        work.close()

    cancelled()  # threads of the libraries start, and stay
    before, threads = resident(), threading.active_count()
    system_threads = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(10):
        cancelled()
    assert resident() - before < 0.1 * max(before, stack.nbytes)
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/task").iterdir())) <= system_threads


def test_a_cancel_waits_for_one_batch_of_tiles_at_most() -> None:
    """Between two reports, at which a cancel takes effect, no more than half a megapixel goes through a network."""
    import torch

    from napari_denoise_classify.core.denoise.networks.dncnn import DnCNN

    seen: list[int] = []

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, DnCNN) and seen:
            seen[-1] += inputs[0].shape[0] * inputs[0].shape[-2] * inputs[0].shape[-1]

    image = np.random.default_rng(0).normal(100, 20, (800, 800)).astype(np.float32)
    handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        for _ in ndc.Recipe([("dncnn", {"sigma": 25})]).apply_iter(image):
            seen.append(0)
    finally:
        handle.remove()
    assert sum(seen) >= image.size  # all of it was seen
    assert max(seen) <= 2**19
