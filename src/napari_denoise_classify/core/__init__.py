"""The work itself, on arrays: never imports napari, Qt or magicgui.

Importing any part of this package registers every step, so that a recipe read from a file finds its steps. The
modules of steps import torch, scikit-learn and OpenCV only when they run.
"""

from .classify import methods
from .denoise import classical, neural
from .explain import attribution
from .mask import geometric

__all__ = ["attribution", "classical", "geometric", "methods", "neural"]
