"""Classifiers whose answers are written down."""

from __future__ import annotations

from typing import Any

from napari_denoise_classify import Classifier, Recipe


def classifier_of(estimator: Any, crop_size: int = 32) -> Classifier:
    """Make a classifier of 8-bit gray crops, "empty" or "spot", out of an estimator."""
    return Classifier(
        method="known",
        classes=("empty", "spot"),
        recipe=Recipe(),
        samples=1,
        crop_size=crop_size,
        dtype="uint8",
        intensity_range=(0.0, 255.0),
        estimator=estimator,
        training={},
    )
