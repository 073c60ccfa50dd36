"""The four classifiers: trained, asked, saved and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops, Recipe
from napari_denoise_classify.core.classify.resize import resize
from napari_denoise_classify.core.classify.training import train_classifier_iter
from napari_denoise_classify.core.explain.maps import explain_map
from napari_denoise_classify.core.progress import Progress, run
from napari_denoise_classify.core.steps import StepSpec

SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"input_size": 16, "epochs": 3, "batch_size": 8, "learning_rate": 0.01},
    "svm": {},
    "random_forest": {"trees": 20},
    "knn": {},
}
METHODS = pytest.mark.parametrize("method", SMALL)


def train(data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0) -> Classifier:
    return ndc.train_classifier(data, method, recipe, seed, **SMALL[method])


@METHODS
@pytest.mark.parametrize("samples", [1, 3])
def test_what_is_learnt_holds_for_new_crops(make_crops: Callable[..., Crops], method: str, samples: int) -> None:
    data = make_crops(samples)
    learnt, held_out = data.split(0.3)
    classifier = train(learnt, method)
    found = classifier.evaluate(held_out)
    assert found.n == len(held_out)
    assert found.accuracy > 0.8
    assert classifier.classes == ("empty", "spot")
    assert (classifier.samples, classifier.crop_size, classifier.dtype) == (samples, 16, "uint8")


@pytest.fixture(scope="module")
def trained(crops: Crops) -> Callable[[str], Classifier]:
    """The classifiers without a recipe, each trained once."""
    return cache(lambda method: train(crops, method))


@METHODS
def test_probabilities(method: str, crops: Crops, trained: Callable[[str], Classifier]) -> None:
    classifier = trained(method)
    proba = classifier.predict_proba(crops.images)
    assert proba.shape == (len(crops), 2)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert proba.min() >= 0
    np.testing.assert_array_equal(classifier.predict(crops.images), np.array(classifier.classes)[proba.argmax(1)])
    # a stack, and one image alone, give the same
    np.testing.assert_allclose(classifier.predict_proba(np.stack(crops.images)), proba, atol=1e-6)
    np.testing.assert_allclose(classifier.predict_proba(crops.images[0]), proba[:1], atol=1e-6)


@METHODS
def test_a_saved_classifier_says_the_same(method: str, crops: Crops, tmp_path: Path) -> None:
    classifier = train(crops, method, Recipe([("gaussian", {"kernel_size": 3}), "centre"]))
    path = tmp_path / "new folder" / "it.ndc"
    classifier.save(path)
    read = ndc.load_classifier(path)
    np.testing.assert_array_equal(read.predict_proba(crops.images), classifier.predict_proba(crops.images))
    for name in ("method", "classes", "recipe", "samples", "crop_size", "dtype", "intensity_range", "sha256"):
        assert getattr(read, name) == getattr(classifier, name), name
    assert read.training["samples_per_class"] == {"empty": 24, "spot": 24}
    assert read.training["seed"] == 0
    read.save(tmp_path / "again.ndc")
    assert ndc.load_classifier(tmp_path / "again.ndc").sha256 == classifier.sha256
    assert [p.name for p in path.parent.iterdir()] == ["it.ndc"]


@METHODS
def test_the_same_seed_gives_the_same(method: str, crops: Crops, trained: Callable[[str], Classifier]) -> None:
    again = train(crops, method).predict_proba(crops.images)
    np.testing.assert_array_equal(again, trained(method).predict_proba(crops.images))


@METHODS
def test_crops_of_several_sizes(make_crops: Callable[..., Crops], method: str) -> None:
    small, large = make_crops(side=12, n=8), make_crops(side=20, n=8, seed=1)
    assert small.groups is not None
    assert large.groups is not None
    data = Crops(
        small.images + large.images,
        np.concatenate([small.labels, large.labels]),
        np.concatenate([small.groups, large.groups]),
        small.names + large.names,
    )
    classifier = train(data, method)
    assert classifier.predict_proba(data.images).shape == (32, 2)
    assert classifier.crop_size == 16


@pytest.mark.parametrize("input_size", [2, 3, 8])
@pytest.mark.parametrize("method", ["svm", "random_forest", "knn"])
def test_small_inputs_are_saved_too(method: str, input_size: int, crops: Crops, tmp_path: Path) -> None:
    classifier = ndc.train_classifier(crops, method, input_size=input_size)
    classifier.save(tmp_path / "it.ndc")
    read = ndc.load_classifier(tmp_path / "it.ndc")
    np.testing.assert_array_equal(read.predict_proba(crops.images), classifier.predict_proba(crops.images))


def test_the_nearest_neighbour_of_a_training_crop_is_itself(crops: Crops) -> None:
    classifier = ndc.train_classifier(crops, "knn", neighbours=3)
    np.testing.assert_array_equal(classifier.predict(crops.images), crops.labels)
    assert classifier.predict_proba(crops.images).max(axis=1).min() == 1  # at distance 0 it alone counts


def test_rare_classes_count_as_much_in_nearest_neighbours() -> None:
    # one and the same crop everywhere: only the weights of the classes decide
    images = [np.full((8, 8), 9, np.uint8)] * 20
    labels = np.array(["common"] * 16 + ["rare"] * 4)
    classifier = ndc.train_classifier(Crops(images, labels, None, list(map(str, range(20)))), "knn", neighbours=20)
    np.testing.assert_allclose(classifier.predict_proba(images[0]), [[0.5, 0.5]])


def test_training_leaves_the_random_numbers_of_others_alone(make_crops: Callable[..., Crops]) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(make_crops(n=4), "cnn")
    assert torch.equal(torch.rand(3), expected)


# --- the recipe -----------------------------------------------------------------------------------------------------


def test_the_recipe_is_applied_whenever_the_classifier_looks(crops: Crops) -> None:
    recipe = Recipe([("median", {"kernel_size": 3}), "centre"])
    with_recipe = train(crops, "random_forest", recipe)
    prepared = dataclasses.replace(crops, images=[recipe.apply(image) for image in crops.images])
    without = train(prepared, "random_forest")
    np.testing.assert_array_equal(with_recipe.predict_proba(crops.images), without.predict_proba(prepared.images))
    # a deliberate mismatch
    raw = with_recipe.predict_proba(crops.images, Recipe())
    np.testing.assert_array_equal(raw, without.predict_proba(crops.images))
    processed, scaled = run(with_recipe.prepare_iter(crops.images[:1], Recipe(["centre"])))
    np.testing.assert_array_equal(processed[0], Recipe(["centre"]).apply(crops.images[0]))
    np.testing.assert_allclose(scaled[0][..., 0], processed[0] / 255, atol=1e-6)


def test_brightness_means_what_it_meant_in_training(make_crops: Callable[..., Crops]) -> None:
    data = make_crops(dtype="uint16")
    classifier = train(data, "knn")
    low, high = classifier.intensity_range
    assert 0 < low < high < 65535
    dimmed = data.images[0] // 2
    (scaled,) = run(classifier.prepare_iter([dimmed]))[1]
    np.testing.assert_allclose(scaled[..., 0], (dimmed - low) / (high - low), atol=1e-5)


def test_another_dtype_is_scaled_by_its_own_range(crops: Crops) -> None:
    classifier = train(crops, "svm")
    as_float = [image.astype(np.float32) / 255 * 1000 for image in crops.images]
    assert np.mean(classifier.predict(as_float) == crops.labels) > 0.95


def test_resizing_averages_and_keeps_what_fits() -> None:
    image = np.random.default_rng(0).random((8, 8, 3), np.float32)
    np.testing.assert_array_equal(resize([image], 8)[0], image)
    np.testing.assert_allclose(resize([image], 4)[0], image.reshape(4, 2, 4, 2, 3).mean((1, 3)), atol=1e-6)
    assert resize([image[..., :1], image[:5, :3, :1]], 6).shape == (2, 6, 6, 1)


# --- reporting, cancelling ------------------------------------------------------------------------------------------


@METHODS
def test_progress_never_goes_back(make_crops: Callable[..., Crops], method: str) -> None:
    seen: list[Progress] = []
    run(train_classifier_iter(make_crops(n=8), method, **SMALL[method]), seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert all(p.message for p in seen)


def test_the_record_of_a_cnn_holds_its_history(cnn: Classifier) -> None:
    history = cnn.training["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert 1 <= cnn.training["best_epoch"] <= 3
    assert cnn.training["groups"] == 6
    assert cnn.record()["sha256"] == cnn.sha256


def test_the_shipped_example_works() -> None:
    from napari_denoise_classify.core.samples import CROP_SIZE, ihc_nuclei

    classifier = ndc.load_classifier(ndc.example_classifier())
    nuclei = ihc_nuclei()
    assert classifier.crop_size == CROP_SIZE
    data = nuclei.crops()
    assert classifier.classes == data.classes
    assert classifier.evaluate(data).accuracy > 0.8


# --- bad input ------------------------------------------------------------------------------------------------------


def labelled(*labels: str) -> Crops:
    images = [np.full((8, 8), i, np.uint8) for i in range(len(labels))]
    return Crops(images, np.array(labels), None, list(labels))


@pytest.mark.parametrize(
    ("data", "method", "parameters", "words"),
    [
        (labelled(*"aaaaaa"), "knn", {}, "only the class 'a'"),
        (labelled(*"aaaaabb"), "knn", {}, r"Too few samples of b \(2\)"),
        (labelled(*"aaaaabbbb"), "tree", {}, "'tree' is not a classifier step"),
        (labelled(*"aaaaabbbb"), "median", {}, "'median' is not a classifier step"),
        (labelled(*"aaaaabbbb"), "knn", {"neighbours": 0}, "knn: neighbours=0"),
        (labelled(*"aaaaabbbb"), "knn", {"neighbours": 10}, "neighbours=10"),
        (labelled(*"aaaaabbbb"), "knn", {"k": 3}, "knn has no parameter 'k'"),
        (labelled(*"aaaaabbbb"), "svm", {"kernel": "sigmoid"}, "svm: kernel='sigmoid' is not allowed"),
        (labelled(*"aaaaabbbb"), "cnn", {"input_size": 8}, "cnn: input_size=8"),
    ],
)
def test_bad_trainings(data: Crops, method: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ndc.train_classifier(data, method, **parameters)


@METHODS
def test_not_finite_crops_are_refused(make_crops: Callable[..., Crops], method: str) -> None:
    data = make_crops(n=4)
    images = [image.astype(np.float32) for image in data.images]
    images[3][2, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        train(dataclasses.replace(data, images=images), method)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no images"),
        (np.empty((0, 16, 16), np.uint8), "no images"),
        ([np.zeros((16, 16, 3), np.uint8)], "trained on gray images, and these are RGB: give gray images"),
        (np.zeros((2, 16, 16, 3), np.uint8), "knows gray images"),
        (np.zeros((16, 16, 3), np.uint8), "gray"),
        (np.zeros(16, np.uint8), "knows gray images"),
        ([np.full((16, 16), np.nan)], "NaN or infinite pixels"),
    ],
)
def test_bad_images(forest: Classifier, images: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        forest.predict(images)


def test_classes_that_the_classifier_does_not_know(forest: Classifier) -> None:
    data = labelled("empty", "middle")
    with pytest.raises(ValueError, match="does not know the class 'middle'; it knows empty, spot"):
        forest.evaluate(data)


# --- the order of bytes ---------------------------------------------------------------------------------------------


def test_pixels_in_another_order_of_bytes_are_the_same_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    little = [rng.integers(0, 1000 if k % 2 else 3000, (16, 16)).astype("<u2") for k in range(24)]
    big = [image.astype(">u2") for image in little]
    labels = ["dark" if k % 2 else "bright" for k in range(24)]
    native, swapped = (
        ndc.train_classifier(ndc.Crops(images, np.array(labels), None, None), "knn") for images in (little, big)
    )
    swapped.save(tmp_path / "m.ndc")
    loaded = ndc.load_classifier(tmp_path / "m.ndc")
    assert loaded.dtype == native.dtype == "uint16"
    for images in (little, big):
        np.testing.assert_array_equal(loaded.predict_proba(images), native.predict_proba(little))
    field = np.block([little[:4], little[4:8]])
    centres = [(8, 8), (8, 24), (24, 40)]
    tables = [ndc.classify(image, loaded, axes="YX", centres=centres).table for image in (field, field.astype(">u2"))]
    pd.testing.assert_frame_equal(*tables)


def test_floats_of_any_precision_have_one_scale(make_crops: Callable[..., Crops]) -> None:
    made = make_crops()
    data = dataclasses.replace(made, images=[(image / 255).astype(np.float32) for image in made.images])
    clf = ndc.train_classifier(data, "random_forest", trees=10)
    some = [image.astype(np.float64) for image in data.images[:6]]
    expected = clf.predict_proba(data.images[:6])
    np.testing.assert_array_equal(clf.predict_proba(some), expected)
    np.testing.assert_array_equal(np.concatenate([clf.predict_proba([image]) for image in some]), expected)
    dim = 0.5 * data.images[1]  # of its own range it would look as in training
    for how in (
        lambda image: ndc.classify(image, clf).table[["p_empty", "p_spot"]],
        lambda image: ndc.class_map(image, clf, tile=8, lazy=False).probabilities,
        lambda image: explain_map(clf, image, "spot", method=("occlusion", {"patch_size": 4})),
    ):
        np.testing.assert_array_equal(how(dim.astype(np.float64)), how(dim))


def test_testing_tells_how_far_it_is(forest: Classifier, crops: Crops) -> None:
    told: list[float] = []
    found = run(forest.evaluate_iter(crops), lambda progress: told.append(progress.fraction))
    assert len(told) > 1
    assert found.to_dict() == forest.evaluate(crops).to_dict()


@pytest.mark.parametrize("spec", ndc.steps("classifier"), ids=lambda spec: spec.id)
def test_an_estimator_alone_has_the_defaults_of_its_method(spec: StepSpec) -> None:
    estimator = spec.function(0, **spec.defaults())
    assert estimator.get_params(deep=False) == type(estimator)().get_params(deep=False)
