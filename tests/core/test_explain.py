"""Heat maps: Grad-CAM against captum, and what they say about known images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from scipy import ndimage as ndi

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops, Recipe, explain
from napari_denoise_classify.core.classify.residual import SmallResNet
from napari_denoise_classify.core.classify.resize import resize
from napari_denoise_classify.core.explain.attribution import explain_iter, explain_scaled_iter
from napari_denoise_classify.core.explain.gradcam import cell_maps_iter, layers_of, placed
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
    ours = np.stack(run(cell_maps_iter(classifier, scaled, targets, layer)))
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


@pytest.mark.parametrize("input_size", [32, 64, 128, 224])
def test_every_cell_is_placed_in_the_middle_of_what_it_looks_at(input_size: int) -> None:
    torch.manual_seed(0)
    network = SmallResNet(1, 2, input_size, width=4).eval()
    for name, module in layers_of(network).items():
        seen: list[torch.Tensor] = []
        handle = module.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
        x = torch.rand(24, 1, input_size, input_size, requires_grad=True)
        network.embed(x)
        handle.remove()
        cells = np.zeros(seen[0].shape[2:], np.float32)
        row, column = cells.shape[0] // 2, cells.shape[1] // 2 + 1
        cells[row, column] = 1
        (gradient,) = torch.autograd.grad((seen[0].sum((0, 1)) * torch.from_numpy(cells)).sum(), x)
        support = np.argwhere(gradient.abs().amax((0, 1)).numpy())
        middle = np.array(ndi.center_of_mass(placed(cells, input_size, (input_size, input_size))))
        np.testing.assert_allclose(middle, (support.min(axis=0) + support.max(axis=0)) / 2, atol=1.0, err_msg=name)


def test_maps_of_cells_are_enlarged_to_any_shape() -> None:
    cells = np.zeros((8, 8), np.float32)
    cells[2, 3] = 1
    same = placed(cells, 32, (32, 32))
    assert np.unravel_index(same.argmax(), same.shape) == (8, 12)
    assert same[8, 12] == 1
    assert (same[6, 12], same[8, 14]) == (0.5, 0.5)
    wide = placed(cells, 32, (64, 16))
    np.testing.assert_allclose(ndi.center_of_mass(wide), (8.5 * 2 - 0.5, 12.5 / 2 - 0.5), atol=1e-6)
    constant = placed(np.full((7, 7), 3, np.float32), 100, (50, 31))
    np.testing.assert_allclose(constant, 3)


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
    words = r"Grad-CAM needs a network .* has none \(random_forest\): take method 'occlusion', or train a CNN\."
    with pytest.raises(ValueError, match=words):
        explain(forest, crops.images[0])
