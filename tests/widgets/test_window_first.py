"""A process of its own that opens its window before anything else has loaded a compiled library."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The order in which people do it, and which a whole test run hides: there, something has loaded PyTorch long before.
_PROGRAM = """
import napari
import numpy as np

viewer = napari.Viewer()
viewer.add_image(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), name="noisy")
viewer.screenshot(canvas_only=False, flash=False)  # draws, and so loads the graphics driver
viewer.window.add_plugin_dock_widget("napari-denoise-classify", "Denoise")

import napari_denoise_classify as ndc

image = viewer.layers[0].data
viewer.add_image(ndc.denoise(image, "dncnn"), name="clean")
crops = ndc.Crops([image[:24, :24]] * 8, np.array(["a", "b"] * 4), None, [str(i) for i in range(8)])
network = ndc.train_classifier(crops, "cnn", input_size=16, epochs=1, width=4, batch_size=4)
ndc.train_denoiser(
    OUT, targets={"a": image, "b": image[::-1]}, noise="gaussian:25", network="dncnn", depth=3, features=4,
    epochs=1, steps_per_epoch=2, batch_size=2, patch=16,
)
viewer.screenshot(canvas_only=False, flash=False)
print([layer.name for layer in viewer.layers])
viewer.close()
"""


@pytest.mark.slow
def test_networks_run_and_learn_after_a_window_was_opened(tmp_path) -> None:
    program = f"OUT = {str(tmp_path / 'w.safetensors')!r}\n{_PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['noisy', 'clean']"), done.stderr[-2000:]
