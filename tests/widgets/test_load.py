"""A panel that is used again and again, and cancelled again and again."""

from __future__ import annotations

import threading

import numpy as np
from qtpy.QtCore import QThreadPool

MEGABYTE = 2**20


def test_runs_whose_layers_are_removed_leave_memory_flat(open_dock, wait, growth):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).normal(100, 20, (700, 700)).astype(np.float32), name="image")
    dock.method.choice.value = "gaussian"

    def one() -> None:
        dock.run_button.native.click()
        wait(dock)
        assert len(viewer.layers) == 2
        viewer.layers.remove(viewer.layers[-1])

    one()
    threads = threading.active_count()
    # Layers that are kept would make each of three rounds grow by 39 MB.
    assert growth(one, 20) < 16 * MEGABYTE
    assert threading.active_count() <= threads
    assert [layer.name for layer in viewer.layers] == ["image"]


def test_ten_cancelled_runs_leave_no_thread_and_no_layer(open_dock, wait, qtbot, resident):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).integers(0, 256, (60, 100, 100), dtype=np.uint8), name="stack")
    dock.method.choice.value = "tv"
    threads = memory = 0
    for number in range(11):
        dock.run_button.native.click()
        qtbot.waitUntil(lambda: "part" in dock.status.value, timeout=60_000)
        dock.cancel_button.native.click()
        wait(dock, 20_000)
        assert dock.status.value == "Cancelled."
        if number == 0:  # threads of the libraries have started, and stay
            qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=10_000)
            threads = threading.active_count()
            memory = resident()
    assert [layer.name for layer in viewer.layers] == ["stack"]
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=10_000)
    assert threading.active_count() <= threads
    assert resident() < 1.1 * memory
    dock.method.choice.value = "none"  # and the panel works on
    dock.run_button.native.click()
    wait(dock)
    assert len(viewer.layers) == 2
