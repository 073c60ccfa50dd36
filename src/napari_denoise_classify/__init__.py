"""Denoise, mask, classify and explain microscopy images.

Does cleaning up my images change what my classifier says, and why? Everything here works on plain arrays; nothing
heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .core.api import denoise, mask
    from .core.classify.augmentation import augment
    from .core.classify.bundle import Classifier
    from .core.classify.datasets import Crops, load_crops
    from .core.classify.fibres import FibreMap, fibre_features, fibre_map
    from .core.classify.storage import example_classifier, load_classifier
    from .core.classify.training import train_classifier
    from .core.denoise.training import train_denoiser
    from .core.denoise.zoo import export_zoo
    from .core.denoise.zoo_import import import_zoo
    from .core.estimation import estimate_noise
    from .core.explain.attribution import explain
    from .core.explain.contours import critical_area
    from .core.mask.cluster import cluster, cluster_scores
    from .core.mask.given import apply_mask
    from .core.noise import parse_noise
    from .core.quality import compare, residual, residual_structure
    from .core.recipe import Recipe
    from .core.steps import steps
    from .core.workflow import Classified, classify

_WHERE = {
    "Classified": "core.workflow",
    "Classifier": "core.classify.bundle",
    "Crops": "core.classify.datasets",
    "FibreMap": "core.classify.fibres",
    "Recipe": "core.recipe",
    "apply_mask": "core.mask.given",
    "augment": "core.classify.augmentation",
    "classify": "core.workflow",
    "cluster": "core.mask.cluster",
    "cluster_scores": "core.mask.cluster",
    "compare": "core.quality",
    "critical_area": "core.explain.contours",
    "denoise": "core.api",
    "estimate_noise": "core.estimation",
    "example_classifier": "core.classify.storage",
    "explain": "core.explain.attribution",
    "export_zoo": "core.denoise.zoo",
    "fibre_features": "core.classify.fibres",
    "fibre_map": "core.classify.fibres",
    "import_zoo": "core.denoise.zoo_import",
    "load_classifier": "core.classify.storage",
    "load_crops": "core.classify.datasets",
    "mask": "core.api",
    "parse_noise": "core.noise",
    "residual": "core.quality",
    "residual_structure": "core.quality",
    "steps": "core.steps",
    "train_classifier": "core.classify.training",
    "train_denoiser": "core.denoise.training",
}

__all__ = [
    "Classified",
    "Classifier",
    "Crops",
    "FibreMap",
    "Recipe",
    "__version__",
    "apply_mask",
    "augment",
    "classify",
    "cluster",
    "cluster_scores",
    "compare",
    "critical_area",
    "denoise",
    "estimate_noise",
    "example_classifier",
    "explain",
    "export_zoo",
    "fibre_features",
    "fibre_map",
    "import_zoo",
    "load_classifier",
    "load_crops",
    "mask",
    "parse_noise",
    "residual",
    "residual_structure",
    "steps",
    "train_classifier",
    "train_denoiser",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        # Every step is registered by core's own __init__, whichever of its modules comes first.
        value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
