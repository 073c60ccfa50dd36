"""Explanation drift: what moves, what stays, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_denoise_classify import Classifier, Crops, Recipe, explain, explanation_drift, train_classifier
from napari_denoise_classify.core.explain.contours import critical_mask
from napari_denoise_classify.core.explain.drift import drift_iter, heat_drift
from napari_denoise_classify.core.progress import run


def disc(y: int, x: int, radius: int = 6, side: int = 64) -> np.ndarray:
    yy, xx = np.mgrid[:side, :side]
    return (np.hypot(yy - y, xx - x) <= radius).astype(np.float32)


def test_a_shift_is_the_distance_of_the_centroids() -> None:
    table = heat_drift([disc(20, 20), disc(20, 20), disc(20, 20)], [disc(20, 20), disc(20, 40), disc(23, 24)])
    assert table["iou"].tolist()[:2] == [1, 0]
    np.testing.assert_allclose(table["distance"], [0, 20, 5], atol=1e-9)
    a, b = disc(20, 20) > 0, disc(23, 24) > 0
    assert table["iou"][2] == pytest.approx((a & b).sum() / (a | b).sum())


@given(st.integers(0, 500), st.sampled_from(["top", "half-maximum", "half-mass"]))
def test_drift_is_symmetric_and_none_from_itself(seed: int, mode: str) -> None:
    noise = np.random.default_rng(seed).random((2, 24, 30))
    a, b = (ndi.gaussian_filter(plane, 3) for plane in noise)
    assert run(drift_iter([a], [a], mode=mode)) == [1]  # type: ignore[arg-type]
    there, back = (run(drift_iter([p], [q], mode=mode)) for p, q in ((a, b), (b, a)))  # type: ignore[arg-type]
    assert 0 <= there[0] <= 1
    np.testing.assert_array_equal(there, back)


def test_no_evidence() -> None:
    nothing = np.zeros((64, 64), np.float32)
    iou = run(drift_iter([nothing, disc(9, 9)], [nothing, nothing]))
    assert np.isnan(iou[0])
    assert iou[1] == 0


def test_one_classifier_with_one_recipe_does_not_drift(cnn: Classifier, crops: Crops) -> None:
    table = explanation_drift(cnn, crops.images[:6])
    assert (table["iou"].dropna() == 1).all()
    assert (table["distance"].dropna() == 0).all()
    assert (table["class_a"] == table["class_b"]).all()
    assert (table["class_a"] == table["target"]).all()


def test_two_recipes_are_what_explaining_each_gives(cnn: Classifier, crops: Crops) -> None:
    recipe = Recipe([("gaussian", {"kernel_size": 9})])
    table = explanation_drift(cnn, crops.images[:6], recipe_b=recipe, target="spot", fraction=0.3)
    for image, iou in zip(crops.images[:6], table["iou"], strict=True):
        a = critical_mask(explain(cnn, image, target="spot"), fraction=0.3)
        b = critical_mask(explain(cnn, recipe.apply(image), target="spot"), fraction=0.3)
        expected = (a & b).sum() / (a | b).sum() if (a | b).any() else np.nan
        assert iou == pytest.approx(expected, abs=0.03, nan_ok=True)
    assert table["iou"].min() < 1


def test_both_maps_are_about_one_class(cnn: Classifier, crops: Crops) -> None:
    other = crops.images[0]
    spot = next(image for image, label in zip(crops.images, cnn.predict(crops.images), strict=True) if label == "spot")
    table = explanation_drift(cnn, [spot], images_b=[other])
    assert table["target"].tolist() == table["class_a"].tolist() == ["spot"]
    assert table["class_b"].tolist() == cnn.predict(other).tolist()


def test_two_classifiers_with_their_own_recipes(
    cnn: Classifier, crops: Crops, make_crops: Callable[..., Crops]
) -> None:
    forest = train_classifier(crops, "random_forest", Recipe([("median", {"kernel_size": 3})]), trees=10)
    table = explanation_drift(cnn, crops.images[:3], forest, method="occlusion")
    assert len(table) == 3
    assert table["class_b"].tolist() == forest.predict(crops.images[:3]).tolist()


def test_what_cannot_be_compared(cnn: Classifier, crops: Crops) -> None:
    with pytest.raises(ValueError, match="There are 3 images before and 2 after: give the same crops"):
        explanation_drift(cnn, crops.images[:3], images_b=crops.images[:2])
    with pytest.raises(ValueError, match=r"shapes \(16, 16\) and \(20, 16\): explain crops of equal size"):
        explanation_drift(cnn, crops.images[:1], images_b=[np.zeros((20, 16), np.uint8)])
    with pytest.raises(ValueError, match="target='middle' is not allowed"):
        explanation_drift(cnn, crops.images[:1], target="middle")
    renamed = Crops(crops.images, np.where(crops.labels == "spot", "dot", "empty"), crops.groups, crops.names)
    other = train_classifier(renamed, "random_forest", trees=5)
    with pytest.raises(ValueError, match="target='spot' is not allowed; the classes are dot, empty"):
        explanation_drift(cnn, crops.images, other, method="occlusion")
