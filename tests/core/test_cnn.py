"""The CNN: how training images are varied, what it averages over, what it is saved with."""

from __future__ import annotations

import copy
import gc
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops
from napari_denoise_classify.core import compiled as compiling
from napari_denoise_classify.core.classify.cnn import CNNClassifier, _graph
from napari_denoise_classify.core.classify.residual import SmallResNet
from napari_denoise_classify.core.classify.scaled import ScaledCrops
from napari_denoise_classify.core.classify.variation import vary, views
from napari_denoise_classify.core.compiled import compiled
from napari_denoise_classify.core.device import place
from napari_denoise_classify.core.progress import run

SMALL: dict[str, Any] = {"input_size": 16, "epochs": 2, "batch_size": 8, "width": 4, "learning_rate": 0.01}


def images(n: int = 6, samples: int = 3, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, samples, side, side), np.float32))


def floats(data: Crops) -> list[Any]:
    return [np.atleast_3d(image).astype(np.float32) / 255 for image in data.images]


@pytest.fixture(scope="module")
def fitted(crops: Crops) -> CNNClassifier:
    return CNNClassifier(**SMALL, views=8).fit(floats(crops), crops.labels, crops.groups)


# --- varying --------------------------------------------------------------------------------------------------------


def test_there_are_eight_views() -> None:
    x = images(1)
    seen = [view.numpy() for view in views(x)]
    assert len({view.tobytes() for view in map(np.ascontiguousarray, seen)}) == 8
    np.testing.assert_array_equal(seen[0], x)
    np.testing.assert_array_equal(list(views(x, 2))[1], x.flip((-2, -1)))
    # a group: the views of a view are the same eight
    again = {np.ascontiguousarray(view).tobytes() for view in views(torch.from_numpy(seen[5].copy()))}
    assert again == {np.ascontiguousarray(view).tobytes() for view in seen}


@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.booleans())
def test_varied_images_stay_images(seed: int, samples: int, strong: bool) -> None:
    x = images(5, samples, seed=seed)
    before = x.clone()
    varied = vary(x, np.random.default_rng(seed), strong)
    assert torch.equal(x, before)
    assert varied.shape == x.shape
    assert varied.dtype == torch.float32
    assert float(varied.min()) >= -0.051
    assert float(varied.max()) <= 1.151
    assert torch.equal(varied, vary(x, np.random.default_rng(seed), strong))
    assert not torch.equal(varied, vary(x, np.random.default_rng(seed + 1), strong))


def test_light_variation_is_a_view_with_another_brightness() -> None:
    x = images(20, 1)
    for image, varied in zip(x, vary(x, np.random.default_rng(0), strong=False), strict=True):
        fits = [np.polyfit(view.ravel(), varied.ravel(), 1, full=True) for view in views(image)]
        (gain, offset), residual = min(((fit[0], fit[1][0]) for fit in fits), key=lambda found: found[1])
        assert residual < 1e-6
        assert 0.899 < gain < 1.101
        assert -0.051 < offset < 0.051


def test_strong_variation_leaves_half_of_the_images_sharp() -> None:
    x = images(200, 1)
    varied = vary(x, np.random.default_rng(0), strong=True)
    sharpness = varied.diff(dim=-1).std((1, 2, 3)) / x.diff(dim=-1).std((1, 2, 3))
    assert 70 < int((sharpness > 0.85).sum()) < 130


def test_flat_images_stay_flat_and_white_stays_bright() -> None:
    x = torch.full((50, 3, 16, 16), 0.98)
    varied = vary(x, np.random.default_rng(0), strong=True)
    assert float(varied.std((2, 3)).max()) < 1e-5
    assert float(varied.min()) > 0.75


def test_strong_variation_stains_colour_images_differently() -> None:
    purple = torch.tensor([0.45, 0.2, 0.5]).view(1, 3, 1, 1).expand(200, 3, 8, 8)
    light, strong = (vary(purple, np.random.default_rng(0), kind).mean((2, 3)).std(0) for kind in (False, True))
    assert float(strong.sum()) > 1.1 * float(light.sum())
    gray = purple[:, :1]
    light, strong = (vary(gray, np.random.default_rng(0), kind).mean((2, 3)).std(0) for kind in (False, True))
    assert float(strong) < 1.1 * float(light)


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side"), [(32, 8), (64, 8), (128, 8), (224, 14)])
def test_width_and_the_size_of_the_last_map(size: int, side: int) -> None:
    network = SmallResNet(3, 4, size, width=8).eval()
    x = images(2, side=size)
    with torch.inference_mode():
        features = network.features(x)
        assert features.shape == (2, 32, side, side)
        # scores are linear in the mean of the maps: so Grad-CAM is exact
        torch.testing.assert_close(network.head(features.mean((2, 3))), network(x))
    assert network.head.in_features == 32


def test_eight_views_see_no_difference_between_an_image_and_its_mirror_image(fitted: CNNClassifier) -> None:
    x = [np.random.default_rng(0).random((16, 16, 1), np.float32)]
    mirrored, turned = [x[0][:, ::-1].copy()], [np.rot90(x[0]).copy()]
    scores = run(fitted.scores_iter(x))
    for other in (mirrored, turned):
        np.testing.assert_allclose(run(fitted.scores_iter(other)), scores, atol=1e-5)
    fitted.views = 1
    try:
        assert np.abs(run(fitted.scores_iter(mirrored)) - run(fitted.scores_iter(x))).max() > 1e-4
    finally:
        fitted.views = 8


def test_scores_are_those_of_the_mean_embedding(fitted: CNNClassifier, crops: Crops) -> None:
    X = floats(crops)[:5]
    head = fitted.network_.head
    weight, bias = (tensor.detach().double().numpy() for tensor in (head.weight, head.bias))
    embedded = run(fitted.embed_iter(X))
    assert embedded.shape == (5, 16)
    np.testing.assert_allclose(embedded @ weight.T + bias, run(fitted.scores_iter(X)), atol=1e-5)


def test_small_images_are_seen_from_all_sides_by_default(fitted: CNNClassifier, crops: Crops) -> None:
    X = floats(crops)[:5]
    expected = run(fitted.scores_iter(X))
    fitted.views = None
    try:
        np.testing.assert_array_equal(run(fitted.scores_iter(X)), expected)
    finally:
        fitted.views = 8


# --- compiling ------------------------------------------------------------------------------------------------------


def normed(network: SmallResNet) -> SmallResNet:
    """Give a network norms that do something, as after training."""
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(part.weight, 0.5, 2)
            torch.nn.init.uniform_(part.bias, -1, 1)
    return network.eval()


@pytest.mark.parametrize(("side", "samples"), [(16, 1), (64, 3), (128, 3)])
def test_the_graph_computes_what_the_network_does(side: int, samples: int) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = place(normed(SmallResNet(samples, 2, side, 8)), torch.device("cpu"))
    quick = compiled(network, (torch.zeros(1, samples, 1, 1),), convert=_graph)
    assert quick is not None
    for n in (3, 1):
        x = images(n, samples, side)
        with torch.inference_mode():
            torch.testing.assert_close(quick(x), network.embed(x), atol=1e-5, rtol=1e-5)
    quick.close()


def test_networks_with_other_parts_have_no_graph() -> None:
    pytest.importorskip("openvino")

    class Another(SmallResNet):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            return super().features(1 - x)

    network = Another(1, 2, 16, 4).eval()
    assert compiled(network, (torch.zeros(1, 1, 1, 1),), convert=_graph) is None


def test_many_images_are_classified_by_a_compiled_network(
    crops: Crops, fitted: CNNClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    X = floats(crops) * 3
    classifier = copy.deepcopy(fitted)
    network = normed(classifier.network_)
    expected = classifier.predict_proba(X)
    assert network not in compiling._models
    monkeypatch.setattr("napari_denoise_classify.core.classify.cnn._WORTH_COMPILING", 8 * len(X) * 16**2)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, atol=1e-6)
    first = compiling._models[network][False].model
    assert first is not None
    np.testing.assert_allclose(classifier.predict_proba(X), expected, atol=1e-6)
    assert compiling._models[network][False].model is first  # compiled once
    assert compiling._models[network][False].users == 0

    with torch.no_grad():
        network.stages[2].residual[3].weight.mul_(0.5)
    monkeypatch.undo()
    other = classifier.predict_proba(X)
    assert np.abs(other - expected).max() > 1e-4
    monkeypatch.setattr("napari_denoise_classify.core.classify.cnn._WORTH_COMPILING", 1)
    np.testing.assert_allclose(classifier.predict_proba(X), other, atol=1e-6)  # and again where weights change
    count = len(compiling._models)
    del network, classifier
    gc.collect()
    assert len(compiling._models) == count - 1


def test_many_images_are_classified_in_bfloat16_only_where_it_was_asked_for(
    crops: Crops, fitted: CNNClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    X, classifier = floats(crops), copy.deepcopy(fitted)
    expected = classifier.predict_proba(X)
    monkeypatch.setattr("napari_denoise_classify.core.classify.cnn._WORTH_COMPILING", 1)
    monkeypatch.setattr("napari_denoise_classify.core.classify.cnn.prefers_bfloat16", lambda device: True)
    for word in ("auto", "exact"):
        monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_PRECISION", word)
        np.testing.assert_allclose(classifier.predict_proba(X), expected, atol=1e-6)
    monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_PRECISION", "fast")
    fast = classifier.predict_proba(X)
    assert compiling._models[classifier.network_][True].model is not None
    np.testing.assert_allclose(fast, expected, atol=0.05)


@pytest.mark.parametrize(("word", "mixed"), [("auto", True), ("fast", True), ("exact", False)])
def test_training_uses_bfloat16_unless_all_is_to_be_exact(
    crops: Crops, monkeypatch: pytest.MonkeyPatch, word: str, mixed: bool
) -> None:
    monkeypatch.setattr("napari_denoise_classify.core.device.prefers_bfloat16", lambda device: True)
    monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_PRECISION", "exact")
    exact = ndc.train_classifier(crops, "cnn", None, **SMALL)
    monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_PRECISION", word)
    classifier = ndc.train_classifier(crops, "cnn", None, **SMALL)
    assert classifier.training["mixed_precision"] is mixed
    assert {p.dtype for p in classifier.estimator.network_.parameters()} == {torch.float32}
    own, others = (one.predict_proba(crops.images) for one in (classifier, exact))
    assert np.array_equal(own, others) is not mixed
    np.testing.assert_allclose(own, others, atol=0.2)


def test_without_openvino_many_images_are_classified_as_well(
    crops: Crops, fitted: CNNClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = floats(crops)
    classifier = copy.deepcopy(fitted)
    expected = classifier.predict_proba(X)
    monkeypatch.setattr("napari_denoise_classify.core.classify.cnn._WORTH_COMPILING", 1)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "napari_denoise_classify.core.classify.graph", raising=False)
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)
    assert compiling._models[classifier.network_][False].model is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
@pytest.mark.parametrize("worth", [1, 2**60])
def test_classifying_more_images_takes_no_more_memory(worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def held() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    monkeypatch.setattr("napari_denoise_classify.core.classify.cnn._WORTH_COMPILING", worth)
    classifier = CNNClassifier(input_size=128, width=4, views=1)
    classifier.network_ = place(classifier.build(3, 2).eval(), torch.device("cpu"))
    X = ScaledCrops([np.full((128, 128, 3), 7, np.uint8)] * 960, (0, 255))
    seen = [held() for _ in classifier.embed_iter(X)]
    assert len(seen) == 60
    assert max(seen[30:]) - max(seen[:5]) < 30


# --- training -------------------------------------------------------------------------------------------------------


def test_without_validation_all_images_are_learnt_from(crops: Crops) -> None:
    seen: list[int] = []

    class Watched(CNNClassifier):
        def epoch_order(self, train: Any, rng: np.random.Generator) -> Any:
            seen.extend(train)
            return super().epoch_order(train, rng)

    classifier = Watched(**SMALL, validation=0, patience=1)
    classifier.fit(floats(crops), crops.labels, crops.groups)
    assert sorted(seen) == sorted(2 * list(range(len(crops))))
    losses = [entry["loss"] for entry in classifier.fit_.history]
    assert len(losses) == 2
    assert classifier.fit_.best_epoch == 1 + int(np.argmin(losses))
    assert classifier.fit_.best_score == pytest.approx(-min(losses))


def test_what_early_stopping_watches_is_not_learnt_from(crops: Crops) -> None:
    assert crops.groups is not None
    classifier = CNNClassifier(validation=0.3)
    train, watched = classifier._hold_out_watched(crops.labels, crops.groups)
    assert not set(crops.groups[train]) & set(crops.groups[watched])
    assert sorted([*train, *watched]) == list(range(len(crops)))


def test_strong_variation_is_learnt_through(make_crops: Callable[..., Crops]) -> None:
    data = make_crops(3, n=32)
    learnt, held_out = data.split(0.3)
    classifier = ndc.train_classifier(learnt, "cnn", **{**SMALL, "epochs": 6, "width": 8})
    assert classifier.evaluate(held_out).accuracy > 0.8


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators cannot be told")
def test_training_does_not_take_its_memory_anew_in_each_step() -> None:
    import resource

    X = list(np.random.default_rng(0).random((160, 32, 32, 3), np.float32))
    # Four layers of the first stage, 10 MB each, are freed in each step: 10,000 pages of 4 kB.
    classifier = CNNClassifier(input_size=32, epochs=4, batch_size=160, width=16, validation=0)
    faults = []
    for progress in classifier.fit_iter(X, list("ab") * 80):
        if progress.data:
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    assert np.diff(faults)[1:].min() < 1500


def test_unknown_augmentation() -> None:
    with pytest.raises(ValueError, match="augmentation='wild' is not allowed: give one of light, strong"):
        CNNClassifier(augmentation="wild").fit([np.zeros((8, 8, 1), np.float32)] * 4, list("aabb"))


def test_a_saved_classifier_keeps_its_width(crops: Crops, tmp_path: Path) -> None:
    classifier = ndc.train_classifier(crops, "cnn", **SMALL, validation=0.0)
    classifier.save(tmp_path / "it.ndc")
    read = ndc.load_classifier(tmp_path / "it.ndc")
    assert read.estimator.get_params() == classifier.estimator.get_params()
    assert read.estimator.width == 4
    np.testing.assert_array_equal(read.predict_proba(crops.images), classifier.predict_proba(crops.images))


def test_files_from_before_widths_could_be_chosen_load() -> None:
    classifier = ndc.load_classifier(ndc.example_classifier())
    assert classifier.estimator.network_.head.in_features == 128


@pytest.mark.parametrize(("side", "expected"), [(12, 32), (33, 32), (44, 48), (100, 96), (300, 224)])
def test_a_cnn_sees_crops_at_about_their_own_size(side: int, expected: int, make_crops) -> None:
    crops = make_crops(n=4, side=side)
    quick = {"epochs": 1, "width": 4, "views": 1, "batch_size": 2, "validation": 0.0}
    classifier = ndc.train_classifier(crops, "cnn", **quick)
    assert classifier.estimator.input_size == classifier.training["parameters"]["input_size"] == expected
    assert ndc.train_classifier(crops, "cnn", **quick, input_size=16).training["parameters"]["input_size"] == 16
