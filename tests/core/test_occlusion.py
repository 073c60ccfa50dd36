"""Occlusion: known answers from classifiers that can be written down, and every real one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops, explain
from napari_denoise_classify.core.classify.scaled import ScaledCrops
from napari_denoise_classify.core.explain import variants
from napari_denoise_classify.core.explain.attribution import explain_iter, influence_iter
from napari_denoise_classify.core.explain.variants import blurred, starts, tent
from napari_denoise_classify.core.progress import run

from .known import classifier_of


class Corner:
    """Says "spot" by the mean of the image's upper left 8 × 8 pixels; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def predict_proba(self, scaled: list[np.ndarray]) -> np.ndarray:
        self.asked += len(scaled)
        p = np.array([image[:8, :8].mean() for image in scaled])
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def corner() -> Classifier:
    return classifier_of(Corner())


@pytest.fixture
def image() -> np.ndarray:
    image = np.zeros((32, 32), np.uint8)
    image[:8, :8] = 255
    return image


def test_only_what_the_classifier_reads_matters(corner: Classifier, image: np.ndarray) -> None:
    for fill in ("blurred", "mean"):
        heat = explain(corner, image, "occlusion", "spot", patch_size=4, stride=2, fill=fill)
        assert heat[:8, :8].min() > 0
        assert heat.max() == 1
        assert heat[12:].max() == 0
        assert heat[:, 12:].max() == 0


def test_the_drop_is_the_probability_that_was_lost(corner: Classifier, image: np.ndarray) -> None:
    scaled = [image[..., None].astype(np.float32) / 255]
    method = ("occlusion", {"patch_size": 8, "stride": 8, "fill": "mean"})
    (lost,) = run(influence_iter(corner, scaled, method, np.array([1])))
    np.testing.assert_allclose(lost[:8, :8], 1 - image.mean() / 255, rtol=1e-5)
    (lost,) = run(influence_iter(corner, scaled, method, np.array([0])))  # the other class only wins
    assert not lost.any()


def test_images_are_asked_about_in_batches_and_each_place_once(corner: Classifier, image: np.ndarray) -> None:
    run(explain_iter(corner, [image] * 3, "occlusion", "spot", patch_size=8, stride=4))
    assert corner.estimator.asked == 3 * (1 + 7 * 7)  # no more


@pytest.mark.parametrize("method", ["svm", "random_forest", "knn", "cnn"])
def test_every_classifier_is_explained(make_crops: Callable[..., Crops], method: str) -> None:
    data = make_crops(n=24, side=32)
    how: dict[str, Any] = {"input_size": 32, "epochs": 4, "batch_size": 8, "learning_rate": 0.01}
    classifier = ndc.train_classifier(data, method, **(how if method == "cnn" else {}))
    fresh = make_crops(n=8, side=32, seed=1)  # the nearest neighbour of a training image is itself
    spots = [image for image, label in zip(fresh.images, fresh.labels, strict=True) if label == "spot"]
    inside = []
    # A blurred spot is still bright, and these classes differ in brightness.
    work = explain_iter(classifier, spots, "occlusion", "spot", patch_size=16, stride=8, fill="mean")
    for image, heat in zip(spots, run(work), strict=True):
        assert heat.shape == image.shape
        assert heat.dtype == np.float32
        inside.append(heat[image > 255 * 0.5].sum() / max(heat.sum(), 1e-9))
    assert np.median(inside) > 0.4  # on a quarter of the image


def test_many_images_of_two_sizes_give_what_each_gives_alone(corner: Classifier) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((32, 32), (20, 41), (32, 32))]
    for image, heat in zip(images, run(explain_iter(corner, images, "occlusion", "spot")), strict=True):
        np.testing.assert_allclose(explain(corner, image, "occlusion", "spot"), heat, atol=1e-6)


def test_the_blur_hides_but_keeps_the_brightness() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((32, 32, 3), np.float32)
    out = blurred(image)
    assert out.std() < 0.1 * image.std()
    np.testing.assert_allclose(out.mean((0, 1)), image.mean((0, 1)), atol=0.02)
    np.testing.assert_allclose(blurred(np.full((9, 9, 1), 0.3, np.float32)), 0.3, atol=1e-6)


@pytest.mark.parametrize(("length", "size", "stride"), [(32, 8, 4), (33, 8, 4), (8, 8, 3), (50, 7, 7), (9, 1, 1)])
def test_patches_cover_the_whole_side(length: int, size: int, stride: int) -> None:
    covered = np.zeros(length)
    for start in starts(length, size, stride):
        assert start + size <= length
        covered[start : start + size] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize("size", [1, 2, 5, 8, 64])
def test_the_weights_of_a_patch_are_symmetric_and_positive(size: int) -> None:
    weight = tent(size)
    assert weight.min() > 0
    assert weight.max() <= 1
    np.testing.assert_allclose(weight, weight[::-1, ::-1], rtol=1e-5)
    np.testing.assert_array_equal(weight, weight.T)
    assert weight[size // 2, size // 2] == weight.max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch_size": 33}, "patch_size=33 is not allowed: give at most the crops' shorter side, 32"),
        ({"patch_size": 0}, "occlusion: patch_size=0 is not allowed; give a whole number of at least 1, or nothing"),
        ({"stride": 9}, "stride=9 is not allowed: give at most the patch size, 8"),
        ({"fill": "black"}, "occlusion: fill='black' is not allowed; give one of 'blurred', 'mean'"),
    ],
)
def test_bad_parameters(corner: Classifier, image: np.ndarray, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explain(corner, image, "occlusion", "spot", **options)


def test_memory_holds_some_crops_as_floats_at_a_time(corner: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 128
    monkeypatch.setattr(variants, "_BLOCK_FLOATS", 4 * side**2)
    monkeypatch.setattr(variants, "_CHUNK_FLOATS", 4 * side**2)
    method = ("occlusion", {"patch_size": 64, "stride": 64})
    crops = list(np.random.default_rng(0).integers(0, 255, (48, side, side), np.uint8))

    def heats_and_peak(n: int) -> tuple[list[np.ndarray], int]:
        tracemalloc.start()
        found = run(influence_iter(corner, ScaledCrops(crops[:n], (0, 255)), method, np.ones(n, int)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, peak

    heats_and_peak(4)
    (few, before), (many, after) = heats_and_peak(8), heats_and_peak(48)
    assert (after - before) / 40 < 1.3 * many[0].nbytes  # the maps alone; floats and their blur would be twice as much
    monkeypatch.undo()
    whole, _ = heats_and_peak(48)
    for one, other in zip(many, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(few, whole[:8])
