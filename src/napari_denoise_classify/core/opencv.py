"""The one place that imports OpenCV.

``opencv-python`` brings its own Qt and points ``QT_QPA_PLATFORM_PLUGIN_PATH`` at it when it is imported, which makes
PyQt abort when it starts later: the variables are put back as they were.
"""

from __future__ import annotations

import os
import threading
from typing import Any

_lock = threading.Lock()


def _import() -> Any:
    names = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")
    with _lock:
        before = {name: os.environ.get(name) for name in names}
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                f"OpenCV cannot be loaded ({error}). On Debian or Ubuntu install its system libraries: "
                "sudo apt-get install libgl1 libglib2.0-0"
            ) from error
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
    return cv2


cv2 = _import()
