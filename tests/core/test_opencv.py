"""OpenCV: importing it leaves the environment as it was, in which PyQt finds its own plugins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os
names = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")
before = {name: os.environ.get(name) for name in names}
from napari_denoise_classify.core.opencv import cv2
assert cv2.medianBlur
assert {name: os.environ.get(name) for name in names} == before, os.environ
"""


@pytest.mark.parametrize("value", [None, "/opt/qt/plugins"])
def test_importing_opencv_leaves_qt_alone(value: str | None) -> None:
    env = {name: text for name, text in os.environ.items() if not name.startswith("QT_QPA")}
    if value is not None:
        env |= {"QT_QPA_PLATFORM_PLUGIN_PATH": value, "QT_QPA_FONTDIR": value}
    subprocess.run([sys.executable, "-c", CODE], env=env, check=True)


def test_nothing_else_in_core_imports_opencv() -> None:
    import napari_denoise_classify.core as core

    (folder,) = core.__path__
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".py") and name != "opencv.py":
                with open(os.path.join(root, name), encoding="utf-8") as file:
                    found += [name for line in file if line.strip().startswith(("import cv2", "from cv2"))]
    assert found == []
