"""Crops that stay in their own dtype until a classifier asks for them."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.classify.augmentation import augment
from napari_denoise_classify.core.classify.classical import ForestClassifier, NeighboursClassifier, SVMClassifier
from napari_denoise_classify.core.classify.cnn import CNNClassifier
from napari_denoise_classify.core.classify.estimators import ExactKNN, PixelFeatures
from napari_denoise_classify.core.classify.integrated import _statistics
from napari_denoise_classify.core.classify.residual import activations, fused
from napari_denoise_classify.core.classify.scaled import ScaledCrops, shapes_of, take
from napari_denoise_classify.core.progress import run

KINDS = pytest.mark.parametrize("kind", [SVMClassifier, NeighboursClassifier, ForestClassifier])


@pytest.fixture(scope="module")
def colours() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (12, 12, 3), np.uint8) for _ in range(20)]


@given(
    st.sampled_from(["uint8", "uint16", "int32", "float32", "float64", "bool"]),
    st.floats(-100, 100),
    st.floats(1, 60000),
    st.booleans(),
)
def test_values_run_from_0_to_1(dtype: str, low: float, width: float, colour: bool) -> None:
    values = np.random.default_rng(0).integers(0, 200, (3, 5, 4, 4) if colour else (3, 5, 4)).astype(dtype)
    crops = ScaledCrops(list(values), (low, low + width))
    assert len(crops) == 3
    assert crops[1].dtype == np.float32
    wanted = values[1, ..., :3] if colour else values[1][..., None]
    np.testing.assert_allclose(crops[1], (wanted.astype(float) - low) / width, atol=1e-4)
    np.testing.assert_array_equal(crops.stack([2, 0]), np.stack([crops[2], crops[0]]))
    np.testing.assert_array_equal(crops[1:][0], crops[1])
    np.testing.assert_array_equal(take(crops, np.array([2, 0]))[0], crops[2])
    assert shapes_of(crops) == [image.shape for image in crops] == [(5, 4, 3 if colour else 1)] * 3
    with pytest.raises(IndexError):
        crops[3]


def test_they_are_the_crops_themselves(colours: list[np.ndarray]) -> None:
    crops = ScaledCrops(colours, (0, 255))
    assert all(np.shares_memory(crops.raw(i), image) for i, image in enumerate(colours))
    assert take(crops, [3]).raw(0) is not None
    assert take(list(crops), [3])[0].dtype == np.float32


def test_copies_stay_in_the_dtype_too(colours: list[np.ndarray]) -> None:
    crops, labels = ScaledCrops(colours, (0, 255)), np.arange(20)
    made = augment(crops, labels).images
    assert isinstance(made, ScaledCrops)
    assert made.dtype == np.uint8
    for one, other in zip(made, augment(list(crops), labels).images, strict=True):
        np.testing.assert_array_equal(one, other)
    noisy = augment(crops, labels, noise="gaussian:10", intensity_range=(0.0, 1.0)).images
    assert isinstance(noisy, ScaledCrops)
    differences = noisy[20] - np.rot90(crops[0])
    assert 0.02 < differences.std() < 0.05  # 10 of 255, less what is cut off at 0 and 255


# --- pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "limits"), [("uint8", (0, 255)), ("uint16", (300, 5300))])
def test_pixels_stay_whole_numbers(dtype: str, limits: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(*limits, (9, 6, 6)).astype(dtype)
    crops = ScaledCrops(list(values), limits)
    features = PixelFeatures()
    table = features.fit_transform(crops)
    assert table.dtype == dtype
    np.testing.assert_array_equal(table, values.reshape(9, -1))
    # Others are rounded to these grey levels.
    np.testing.assert_array_equal(features.transform(list(crops)), table)
    np.testing.assert_array_equal(
        features.transform(ScaledCrops(list(values * 2.0), (2 * limits[0], 2 * limits[1]))), table
    )
    assert features.transform([np.full((6, 6, 1), 99.0, np.float32)]).max() == min(
        np.iinfo(dtype).max, limits[0] + 99 * (limits[1] - limits[0])
    )
    assert PixelFeatures().fit_transform(list(crops)).dtype == np.float32  # as in files of before


def test_pixels_are_averaged_in_their_dtype(colours: list[np.ndarray]) -> None:
    table = PixelFeatures(6).fit_transform(ScaledCrops(colours, (0, 255)))
    expected = colours[0].reshape(6, 2, 6, 2, 3).mean((1, 3))
    assert np.abs(table[0].reshape(6, 6, 3) - expected).max() <= 0.5


@KINDS
def test_whole_numbers_and_floats_are_classified_alike(kind: Any, make_crops: Callable[..., Crops]) -> None:
    data = make_crops(3)
    crops = ScaledCrops(data.images, (0, 255))
    whole = kind(calibration="none").fit(crops, data.labels)
    floats = kind(calibration="none").fit(list(crops), data.labels)
    assert np.mean(whole.predict(crops) == floats.predict(list(crops))) > 0.97
    np.testing.assert_allclose(whole.predict_proba(crops), floats.predict_proba(list(crops)), atol=0.02)


def test_what_is_kept_takes_a_quarter_of_the_memory(make_crops: Callable[..., Crops], tmp_path: Path) -> None:
    data = make_crops(3)
    classifier = ndc.train_classifier(data, "knn")
    knn = classifier.estimator.model_[-1]
    assert knn._fit_X.nbytes == sum(image.nbytes for image in data.images)
    classifier.save(tmp_path / "it.ndc")
    read = ndc.load_classifier(tmp_path / "it.ndc")
    assert read.estimator.model_[-1]._fit_X.dtype == np.uint8
    svm = ndc.train_classifier(data, "svm").estimator.model_[-1]
    assert svm.support_vectors_.dtype == np.uint8


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_tell_their_version(crops: Crops, tmp_path: Path) -> None:
    ndc.train_classifier(crops, "knn", balance="none").save(tmp_path / "it.ndc")
    assert '"version": 1' in zipfile.ZipFile(tmp_path / "it.ndc").read("model.json").decode()
    assert type(ndc.load_classifier(tmp_path / "it.ndc").estimator.model_[-1]) is ExactKNN


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dtype_", "float64", "grey levels"),
        ("limits_", (5.0, 5.0), "grey levels"),
        ("limits_", (0.0, np.inf), "grey levels"),
    ],
)
def test_forged_grey_levels(name: str, value: Any, words: str, crops: Crops, tmp_path: Path) -> None:
    classifier = ndc.train_classifier(crops, "knn")
    setattr(classifier.estimator.features_, name, value)
    classifier.save(tmp_path / "it.ndc")
    with pytest.raises(ValueError, match=words):
        ndc.load_classifier(tmp_path / "it.ndc")


def test_forged_machines(crops: Crops, tmp_path: Path) -> None:
    classifier = ndc.train_classifier(crops, "svm")
    svm = classifier.estimator.model_[-1]
    svm.mean_ = svm.mean_[:-1]
    classifier.save(tmp_path / "it.ndc")
    with pytest.raises(ValueError, match="support vectors are malformed"):
        ndc.load_classifier(tmp_path / "it.ndc")


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 12])
def test_networks_see_the_same_pixels(size: int, colours: list[np.ndarray]) -> None:
    import torch

    crops, chosen = ScaledCrops(colours, (0, 255)), np.arange(20)
    cnn = CNNClassifier(input_size=size)
    device = torch.device("cpu")
    whole, floats = (torch.cat([x for x, _ in cnn.batches(X, chosen, device)]) for X in (crops, list(crops)))
    assert torch.equal(whole, floats)


def test_a_fused_network_says_the_same(colours: list[np.ndarray]) -> None:
    import torch

    y = np.array(["a", "b"] * 10)
    cnn = CNNClassifier(input_size=16, epochs=3, batch_size=8, width=8).fit(ScaledCrops(colours, (0, 255)), y)
    network = cnn.network_.eval()
    joined = fused(network)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in joined.modules())
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    x = torch.rand(9, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(joined(x), network(x), atol=1e-5, rtol=1e-5)
    one_by_one = np.concatenate([cnn.predict_proba([image]) for image in ScaledCrops(colours, (0, 255))])
    np.testing.assert_allclose(cnn.predict_proba(ScaledCrops(colours, (0, 255))), one_by_one, atol=1e-5)
    pickle.dumps(cnn)


def test_values_of_a_network_are_counted() -> None:
    import torch

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(128, 2)
    )
    assert activations(network, 3, 8) == 128 + 128 + 128 + 2


def test_statistics_of_many_crops_are_those_of_all_pixels() -> None:
    rng = np.random.default_rng(0)
    crops = [rng.normal(k, 1 + k, (4 + k, 5, 1)).astype(np.float32) for k in range(6)]
    pixels = np.concatenate([crop.ravel() for crop in crops])
    np.testing.assert_allclose(_statistics(crops), (pixels.mean(), pixels.std()), rtol=1e-5)
    assert _statistics([np.ones((3, 3, 1), np.float32)]) == (1.0, 1.0)


# --- preparing ------------------------------------------------------------------------------------------------------


def test_nothing_is_copied_without_a_recipe(crops: Crops) -> None:
    classifier = ndc.train_classifier(crops, "knn")
    processed, scaled = run(classifier.prepare_iter(crops.images))
    assert isinstance(scaled, ScaledCrops)
    assert all(np.shares_memory(one, image) for one, image in zip(processed, crops.images, strict=True))


def test_every_image_may_have_a_scale_of_its_own(crops: Crops) -> None:
    data = dataclasses.replace(crops, images=[image.astype(np.uint16) + 7 * i for i, image in enumerate(crops.images)])
    classifier = ndc.train_classifier(data, "knn")
    _, scaled = run(classifier.prepare_iter(data.images, None, "plane"))
    assert not isinstance(scaled, ScaledCrops)
    assert all(image.min() <= 0 for image in scaled)  # of one scale, later ones would be brighter


@pytest.mark.parametrize("own", [(0.0, 65535.0), "plane", "stack"])
def test_the_range_of_a_recipe_is_for_its_steps(make_crops: Callable[..., Crops], own: Any) -> None:
    data = make_crops(dtype="uint16")
    data = dataclasses.replace(data, images=[1000 + image // 64 for image in data.images])
    recipe = Recipe([("tv", {"sigma": 25.0})], own)
    classifier = ndc.train_classifier(data, "random_forest", recipe, trees=10)
    assert classifier.intensity_range[1] < 3000
    expected = [recipe.apply(image) for image in data.images[:4]]
    processed, scaled = run(classifier.prepare_iter(data.images[:4]))
    np.testing.assert_array_equal(processed, expected)
    assert isinstance(scaled, ScaledCrops)
    assert scaled.limits == classifier.intensity_range
    # Tiles, planes and crops of an image are prepared alike.
    wall = np.block([data.images[:2], data.images[2:4]])
    proba = classifier.predict_proba(data.images[:4])
    found = ndc.class_map(wall, classifier, tile=16, lazy=False)
    np.testing.assert_allclose(found.probabilities.reshape(2, 4).T, proba, atol=1e-6)
    centres = [[8, 8], [8, 24], [24, 8], [24, 24]]
    for how in (wall, dask.array.from_array(wall)):
        result = ndc.classify(how, classifier, centres=centres)
        np.testing.assert_array_equal(np.asarray(result.image), np.block([expected[:2], expected[2:]]))
        np.testing.assert_allclose(result.table[["p_empty", "p_spot"]], proba, atol=1e-6)


def test_a_recipe_without_a_range_sees_crops_as_they_are_scaled(make_crops: Callable[..., Crops]) -> None:
    data = make_crops(dtype="uint16")
    recipe = Recipe([("tv", {"sigma": 25.0})])
    classifier = ndc.train_classifier(data, "knn", recipe)
    processed, _ = run(classifier.prepare_iter(data.images[:2]))
    expected = [recipe.apply(image, intensity_range=classifier.intensity_range) for image in data.images[:2]]
    np.testing.assert_array_equal(processed, expected)
