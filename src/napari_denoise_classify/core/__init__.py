"""The work itself, on arrays: never imports napari, Qt or magicgui.

Importing any part of this package registers every step, so that a recipe read from a file finds its steps. The
modules of steps import torch, scikit-learn and OpenCV only when they run.
"""

from .classify import methods
from .denoise import anscombe, bm3d, classical, neural, self_supervision
from .explain import attribution, contours, gradcam, occlusion
from .mask import cluster, geometric

__all__ = [
    "anscombe",
    "attribution",
    "bm3d",
    "classical",
    "cluster",
    "contours",
    "geometric",
    "gradcam",
    "methods",
    "neural",
    "occlusion",
    "self_supervision",
]
