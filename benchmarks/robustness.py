"""A hundred runs in a row, and ten cancelled ones: what memory, threads, open files, files and layers are left.

    python benchmarks/robustness.py
    xvfb-run python benchmarks/robustness.py --panel

Memory is what the operating system counts as resident; ``slope`` is that of a line through it over the runs after the
first fifth, in kB for each run. ``threads`` and ``open`` (files) are those that came after the first fifth and stayed.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.cli.images import ProcessFile

ROW = "| {:34} | {:>4} | {:>9} | {:>8} | {:>12} | {:>7} | {:>4} | {} |"


def resident() -> float:
    """MB of memory that this process takes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Files and connections that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def repeat(name: str, one: Callable[[], object], runs: int, left: Callable[[], str]) -> None:
    """Repeat a piece of work and print a row of the table."""
    memory, threads, opened = [], 0, 0
    start = time.perf_counter()
    for number in range(runs):
        one()
        memory.append(resident())
        if number == runs // 5:
            threads, opened = threading.active_count(), open_files()
    after = memory[runs // 5 :]
    slope = np.polyfit(np.arange(len(after)), after, 1)[0] * 1024
    new = threading.active_count() - threads
    cells = (f"{after[0]:.0f} MB", f"{after[-1]:.0f} MB", f"{slope:+.1f} kB/run", f"{new:+d}")
    cells += (f"{open_files() - opened:+d}", left())
    print(ROW.format(name, runs, *cells), flush=True)
    print(f"  {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def cancelled(work: Any, at: float) -> None:
    """Drive work up to a fraction, and close it."""
    for progress in work:
        if progress.fraction >= at:
            break
    work.close()


def in_core(runs: int, cancels: int) -> None:
    rng = np.random.default_rng(0)
    large, small = (rng.normal(100, 20, (side, side)).astype(np.float32) for side in (1024, 128))
    stack = rng.normal(100, 20, (16, 128, 128)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        np.save(files / "stack.npy", stack)

        def left() -> str:
            return f"{len(list(files.iterdir())) - 1} files"

        for method, image in (("gaussian", large), ("dncnn", small)):
            repeat(f"{method} {image.shape[0]}², core", lambda m=method, i=image: ndc.denoise(i, m), runs, left)
        for method, suffix in (("tv", ".tif"), ("dncnn", ".tif"), ("dncnn", ".zarr")):
            recipe = ndc.Recipe([method])

            def one(recipe: ndc.Recipe = recipe, target: Path = files / f"out{suffix}") -> None:
                job = ProcessFile(files / "stack.npy", target, recipe, "ZYX", False)
                cancelled(job.run_iter(), 0.3)

            repeat(f"{method} 16 × 128² to {suffix}, cancelled", one, cancels, left)


def in_panel(runs: int, cancels: int) -> None:
    import napari
    from qtpy.QtTest import QTest

    viewer = napari.Viewer(show=False)
    dock = viewer.window.add_plugin_dock_widget("napari-denoise-classify", "Denoise")[1]
    rng = np.random.default_rng(0)

    def wait(over: Callable[[], bool]) -> None:
        QTest.qWait(2)  # a loop of its own, in which Qt also deletes what is to be deleted
        while not over():
            QTest.qWait(2)

    def left() -> str:
        return f"{len(viewer.layers) - 1} layers"

    def whole() -> None:
        dock.run_button.native.click()
        wait(lambda: dock.job is None)
        viewer.layers.remove(viewer.layers[-1])
        wait(lambda: True)

    def stopped() -> None:
        dock.run_button.native.click()
        wait(lambda: "part" in dock.status.value)
        dock.cancel_button.native.click()
        wait(lambda: dock.job is None)

    for method, side in (("gaussian", 1024), ("dncnn", 128)):
        viewer.add_image(rng.normal(100, 20, (side, side)).astype(np.float32))
        dock.method.choice.value = method
        repeat(f"{method} {side}², panel, layers removed", whole, runs, left)
        viewer.layers.clear()
    viewer.add_image(rng.normal(100, 20, (60, 100, 100)).astype(np.float32))
    dock.method.choice.value = "tv"
    repeat("tv 60 × 100², panel, cancelled", stopped, cancels, left)
    viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--cancels", type=int, default=10)
    parser.add_argument("--panel", action="store_true", help="Through napari's panel as well.")
    options = parser.parse_args()
    print(ROW.format("work", "runs", "memory", "at end", "slope", "threads", "open", "left"))
    print("|---|---|---|---|---|---|---|---|")
    in_core(options.runs, options.cancels)
    if options.panel:
        in_panel(options.runs, options.cancels)


if __name__ == "__main__":
    main()
