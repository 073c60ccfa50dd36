"""Heat maps: Grad-CAM against captum, and what they say about known images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops, Recipe, explain
from napari_denoise_classify.core.classify.resize import resize
from napari_denoise_classify.core.explain.attribution import explain_iter, explain_scaled_iter
from napari_denoise_classify.core.explain.gradcam import gradcam, layers_of
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.steps import get_step


@pytest.fixture(scope="module", params=[(1, 16), (3, 32), (1, 64), (3, 128)], ids=str)
def trained(make_crops: Callable[..., Crops], request: pytest.FixtureRequest) -> tuple[Classifier, Crops]:
    samples, input_size = request.param
    data = make_crops(samples, n=8)
    return ndc.train_classifier(data, "cnn", input_size=input_size, epochs=1, batch_size=8), data


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("layer", ["last", "stage3", "stage2", "stage1", "stem"])
def test_gradcam_is_captums(trained: tuple[Classifier, Crops], target: int, layer: Any) -> None:
    classifier, data = trained
    _, scaled = run(classifier.prepare_iter(data.images))
    targets = np.full(len(scaled), target)
    ours = np.stack(run(gradcam(classifier, scaled, targets, layer=layer)))
    estimator = classifier.estimator
    network = estimator.network_.cpu().eval()
    x = torch.from_numpy(resize(scaled, estimator.input_size)).permute(0, 3, 1, 2)
    stages = {"stem": network.stem, "last": network.stages}
    module = stages.get(layer) or network.stages[int(layer[-1]) - 1]
    theirs = LayerGradCam(network, module).attribute(x, target=target, relu_attributions=True)
    np.testing.assert_allclose(ours, theirs[:, 0].detach().numpy(), atol=1e-5)
    assert ours.shape[1] > 1
    assert ours.max() > 0


def test_every_layer_can_be_chosen_and_none_is_left_over(trained: tuple[Classifier, Crops]) -> None:
    (layer,) = get_step("gradcam").parameters
    assert set(layer.choices) == set(layers_of(trained[0].estimator.network_))


def test_gradcam_leaves_the_network_as_it_was(trained: tuple[Classifier, Crops]) -> None:
    classifier, data = trained
    before = classifier.predict_proba(data.images)
    network = classifier.estimator.network_
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    explain(classifier, data.images[0], layer="stage1")
    np.testing.assert_array_equal(classifier.predict_proba(data.images), before)
    assert all(not module._forward_hooks for module in network.modules())
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        assert gradient is parameter.grad is None or torch.equal(gradient, parameter.grad)


def test_a_map_of_one_pixel_is_refused(trained: tuple[Classifier, Crops]) -> None:
    classifier, data = trained
    if classifier.estimator.input_size > 32:
        pytest.skip("only the small networks take such small images")
    small = copy.copy(classifier)
    small.estimator = copy.copy(classifier.estimator)
    small.estimator.input_size = 4
    assert explain(small, data.images[0], layer="stage2").shape == (16, 16)
    with pytest.raises(ValueError, match=r"layer='last' has a map of one pixel only.* choose an earlier layer"):
        explain(small, data.images[0])


def test_heat_maps_have_the_size_of_the_image_and_end_at_one(trained: tuple[Classifier, Crops]) -> None:
    classifier, data = trained
    heat = explain(classifier, data.images[0])
    assert heat.shape == (16, 16)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() in (0, 1)


def test_the_predicted_class_is_explained_by_default(cnn: Classifier, crops: Crops) -> None:
    for image in crops.images[:4]:
        (label,) = cnn.predict(image)
        np.testing.assert_array_equal(explain(cnn, image), explain(cnn, image, target=str(label)))


def test_many_images_give_what_each_gives_alone(cnn: Classifier, crops: Crops) -> None:
    for image, heat in zip(crops.images[:5], run(explain_iter(cnn, crops.images[:5])), strict=True):
        np.testing.assert_allclose(explain(cnn, image), heat, atol=1e-5)


def test_the_recipe_comes_before(crops: Crops) -> None:
    recipe = Recipe([("median", {"kernel_size": 3})])
    classifier = ndc.train_classifier(crops, "cnn", recipe, input_size=16, epochs=1, batch_size=8)
    image = crops.images[0]
    expected = run(explain_iter(classifier, [recipe.apply(image)], recipe=Recipe()))[0]
    np.testing.assert_allclose(explain(classifier, image), expected, atol=1e-6)


def test_images_of_other_shapes(cnn: Classifier) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 45), np.uint8)
    assert explain(cnn, image).shape == (30, 45)


def test_nothing_speaks_for_it_is_all_zero(cnn: Classifier) -> None:
    against = copy.copy(cnn)
    against.estimator = copy.deepcopy(cnn.estimator)
    with torch.no_grad():
        against.estimator.network_.head.weight.fill_(-1)
    scaled = [np.random.default_rng(0).random((16, 16, 1), np.float32)]
    (heat,) = run(explain_scaled_iter(against, scaled, "gradcam", "empty"))
    assert not heat.any()
    assert ndc.critical_area(heat) == []


def test_the_heat_lies_where_the_classes_differ(make_crops: Callable[..., Crops]) -> None:
    data = make_crops(n=24, side=32)
    how = {"input_size": 32, "epochs": 4, "batch_size": 8, "learning_rate": 0.01}
    classifier = ndc.train_classifier(data, "cnn", **how)
    spots = data.subset(data.labels == "spot")
    assert classifier.evaluate(data).accuracy > 0.9
    inside = []
    for image in spots.images[:8]:
        heat = explain(classifier, image, target="spot")
        inside.append(heat[image > 255 * 0.5].sum() / heat.sum())
    assert np.median(inside) > 0.4  # on a quarter of the image


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.zeros((16, 16), np.uint8), {"target": "middle"}, "target='middle' is not allowed; the classes are empty"),
        (np.zeros((16, 16), np.uint8), {"layer": "first"}, "gradcam: layer='first' is not allowed; give one of 'last'"),
        (np.zeros((16, 16), np.uint8), {"depth": 1}, "gradcam has no parameter 'depth'; it has layer"),
        (np.zeros((16, 16), np.uint8), {"method": "guess"}, "'guess' is not an explain step|'guess' is not an explain"),
        (np.zeros((16, 16, 3), np.uint8), {}, "trained on gray images, and these are RGB"),
        (np.zeros((2, 16, 16), np.uint8), {}, "must be gray"),
        (np.zeros((0, 16), np.uint8), {}, "not empty"),
        (np.full((16, 16), np.inf), {}, "NaN or infinite pixels"),
    ],
)
def test_bad_input(cnn: Classifier, image: np.ndarray, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explain(cnn, image, **options)


def test_classifiers_without_gradients_are_refused(forest: Classifier, crops: Crops) -> None:
    with pytest.raises(
        ValueError, match=r"Grad-CAM needs a network with gradients.* random_forest: take method 'occlusion'"
    ):
        explain(forest, crops.images[0])
