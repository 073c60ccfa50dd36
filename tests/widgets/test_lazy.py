"""Opening a panel imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

DOCKS = (
    "workflow:WorkflowDock",
    "denoise:DenoiseDock",
    "mask:MaskDock",
    "classify:ClassifyDock",
    "explain:ExplainDock",
    "quality:QualityDock",
    "train_denoiser:TrainDenoiserDock",
)


@pytest.mark.parametrize("dock", DOCKS)
def test_no_torch_or_sklearn_before_the_first_run(dock):
    module, name = dock.split(":")
    code = (
        "import sys, napari\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        f"from napari_denoise_classify.widgets.{module} import {name}\n"
        f"{name}(napari.components.ViewerModel())\n"
        "print([m for m in ('torch', 'sklearn', 'cv2', 'skops') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
