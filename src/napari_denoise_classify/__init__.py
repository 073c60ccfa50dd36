"""Denoise, mask, classify and explain microscopy images.

Does cleaning up my images change what my classifier says, and why? Everything here works on plain arrays; nothing
heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._native import keep_apart as _keep_apart
from ._version import __version__

_keep_apart()

if TYPE_CHECKING:
    from .core.api import denoise, mask, release_memory
    from .core.class_maps import ClassMap, class_map
    from .core.classify.augmentation import augment
    from .core.classify.bundle import Classifier
    from .core.classify.datasets import Crops, load_crops
    from .core.classify.fibres import FibreMap, fibre_features, fibre_map
    from .core.classify.fields import CropField
    from .core.classify.objects import Objects, clicked_classes, listed_classes, measure_objects, painted_classes
    from .core.classify.sampling import crops_from_objects, crops_from_points, join_crops
    from .core.classify.storage import example_classifier, load_classifier
    from .core.classify.training import train_classifier
    from .core.denoise.training import train_denoiser
    from .core.denoise.zoo import export_zoo
    from .core.denoise.zoo_import import import_zoo
    from .core.estimation import estimate_noise
    from .core.explain.attribution import explain
    from .core.explain.contours import critical_area
    from .core.explain.drift import explanation_drift
    from .core.explain.importance import feature_importance
    from .core.explain.maps import explain_map
    from .core.explain.trust import ExplanationCheck, check_explanation
    from .core.mask.cluster import cluster, cluster_scores
    from .core.mask.given import apply_mask
    from .core.noise import parse_noise
    from .core.quality import compare, residual, residual_structure
    from .core.recipe import Recipe
    from .core.steps import steps
    from .core.study.declaration import Study
    from .core.study.result import StudyResult, load_study
    from .core.study.run import study
    from .core.workflow import Classified, classify

_WHERE = {
    "ClassMap": "core.class_maps",
    "Classified": "core.workflow",
    "Classifier": "core.classify.bundle",
    "CropField": "core.classify.fields",
    "Crops": "core.classify.datasets",
    "ExplanationCheck": "core.explain.trust",
    "FibreMap": "core.classify.fibres",
    "Objects": "core.classify.objects",
    "Recipe": "core.recipe",
    "Study": "core.study.declaration",
    "StudyResult": "core.study.result",
    "apply_mask": "core.mask.given",
    "augment": "core.classify.augmentation",
    "check_explanation": "core.explain.trust",
    "class_map": "core.class_maps",
    "classify": "core.workflow",
    "clicked_classes": "core.classify.objects",
    "cluster": "core.mask.cluster",
    "cluster_scores": "core.mask.cluster",
    "compare": "core.quality",
    "critical_area": "core.explain.contours",
    "crops_from_objects": "core.classify.sampling",
    "crops_from_points": "core.classify.sampling",
    "denoise": "core.api",
    "estimate_noise": "core.estimation",
    "example_classifier": "core.classify.storage",
    "explain": "core.explain.attribution",
    "explain_map": "core.explain.maps",
    "explanation_drift": "core.explain.drift",
    "export_zoo": "core.denoise.zoo",
    "feature_importance": "core.explain.importance",
    "fibre_features": "core.classify.fibres",
    "fibre_map": "core.classify.fibres",
    "import_zoo": "core.denoise.zoo_import",
    "join_crops": "core.classify.sampling",
    "listed_classes": "core.classify.objects",
    "load_classifier": "core.classify.storage",
    "load_crops": "core.classify.datasets",
    "load_study": "core.study.result",
    "mask": "core.api",
    "measure_objects": "core.classify.objects",
    "painted_classes": "core.classify.objects",
    "parse_noise": "core.noise",
    "release_memory": "core.api",
    "residual": "core.quality",
    "residual_structure": "core.quality",
    "steps": "core.steps",
    "study": "core.study.run",
    "train_classifier": "core.classify.training",
    "train_denoiser": "core.denoise.training",
}

__all__ = [
    "ClassMap",
    "Classified",
    "Classifier",
    "CropField",
    "Crops",
    "ExplanationCheck",
    "FibreMap",
    "Objects",
    "Recipe",
    "Study",
    "StudyResult",
    "__version__",
    "apply_mask",
    "augment",
    "check_explanation",
    "class_map",
    "classify",
    "clicked_classes",
    "cluster",
    "cluster_scores",
    "compare",
    "critical_area",
    "crops_from_objects",
    "crops_from_points",
    "denoise",
    "estimate_noise",
    "example_classifier",
    "explain",
    "explain_map",
    "explanation_drift",
    "export_zoo",
    "feature_importance",
    "fibre_features",
    "fibre_map",
    "import_zoo",
    "join_crops",
    "listed_classes",
    "load_classifier",
    "load_crops",
    "load_study",
    "mask",
    "measure_objects",
    "painted_classes",
    "parse_noise",
    "release_memory",
    "residual",
    "residual_structure",
    "steps",
    "study",
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
