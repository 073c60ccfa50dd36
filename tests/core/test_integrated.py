"""A denoiser joined before the CNN: what it computes, what is trained, how it is saved."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from safetensors.torch import load, save, save_file

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops, Recipe
from napari_denoise_classify.core.classify.integrated import DenoisingResNet, IntegratedClassifier
from napari_denoise_classify.core.denoise.networks.unet import UNet
from napari_denoise_classify.core.denoise.neural import open_network
from napari_denoise_classify.core.denoise.weights import about_text
from napari_denoise_classify.core.explain.gradcam import cell_maps_iter
from napari_denoise_classify.core.progress import run

SMALL: dict[str, Any] = {"input_size": 16, "epochs": 3, "batch_size": 8, "learning_rate": 0.005}


@pytest.fixture(scope="module")
def classifier(crops: Crops) -> Classifier:
    return ndc.train_classifier(crops, "integrated", calibration="temperature", **SMALL)


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("denoiser", ["irunet", "dncnn"])
@pytest.mark.parametrize("samples", [1, 3])
def test_it_denoises_as_the_step_does(denoiser: str, samples: int) -> None:
    image = np.random.default_rng(0).random((24, 40, samples), np.float32)  # no multiple of 16
    network = IntegratedClassifier(denoiser=denoiser).build(samples, 2).eval()
    with torch.inference_mode():
        found = network.denoise(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    plane = image if samples == 3 else image[..., 0]
    expected = Recipe([denoiser], intensity_range=(0, 1)).apply(plane, rgb=samples == 3).reshape(image.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == image.shape


def test_a_gray_network_sees_colours_one_by_one() -> None:
    network = IntegratedClassifier("unet").build(3, 2).eval()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, alone = network.denoise(x), network.denoise(x[:, [1, 1, 1]])
    torch.testing.assert_close(whole[:, 1], alone[:, 0])


def test_a_denoiser_with_a_scale_of_its_own_sees_mean_0(make_crops: Callable[..., Crops], tmp_path: Path) -> None:
    data = make_crops(n=4)
    X = [image[..., None].astype(np.float32) / 255 for image in data.images]
    how = {**SMALL, "epochs": 1}
    mine = tmp_path / "mine.safetensors"
    scale = {"mean": 1000.0, "std": 50.0, "target_mean": 1000.0, "target_std": 50.0}
    save_file(UNet(1, 4, 1).state_dict(), mine, about_text({"step": "unet", "normalisation": scale}))
    network = IntegratedClassifier("unet", str(mine), **how).fit(X, data.labels).network_
    pixels = np.concatenate([x.ravel() for x in X])
    np.testing.assert_allclose(network.scale.numpy(), [pixels.mean(), pixels.std()], rtol=1e-5)
    network = IntegratedClassifier("irunet", **how).fit(X, data.labels).network_
    np.testing.assert_array_equal(network.scale.numpy(), [0, 1])


@pytest.mark.parametrize("factor", [0.0, 0.1])
def test_the_factor_decides_how_far_the_denoiser_goes(crops: Crops, factor: float) -> None:
    shipped = open_network("irunet", "auto", 1)[0].network
    before = weights(shipped)
    trained = ndc.train_classifier(crops, "integrated", denoiser_learning_rate=factor, **SMALL).estimator.network_
    after = weights(trained.denoiser)
    moved = max(float((after[key] - before[key]).abs().max()) for key in before)
    # a step of Adam is about as long as the learning rate: 3 epochs of 5 steps, each at most 0.005 times the factor
    assert moved == 0 if factor == 0 else 0 < moved < 3 * 5 * 0.005 * factor * 1.5
    assert all(torch.equal(value, before[key]) for key, value in shipped.state_dict().items())  # only its copy changed
    fresh = IntegratedClassifier(**SMALL).build(1, 2)
    assert not torch.equal(fresh.head.weight, trained.head.weight)


def test_parameter_groups() -> None:
    network = IntegratedClassifier(denoiser_learning_rate=0.25).build(1, 2)
    own, denoiser = network.parameter_groups(0.004)
    assert (own["lr"], denoiser["lr"]) == (0.004, 0.001)
    listed = [p for group in (own, denoiser) for p in group["params"]]
    assert len({id(p) for p in listed}) == len(listed) == len(list(network.parameters()))
    assert len(IntegratedClassifier(denoiser_learning_rate=0).build(1, 2).parameter_groups(0.004)) == 1


def test_it_learns_and_tells_what_it_started_from(classifier: Classifier, make_crops: Callable[..., Crops]) -> None:
    new = make_crops(seed=1)
    assert classifier.evaluate(new).accuracy > 0.9
    assert classifier.training["denoiser"] == {
        "weights": "irunet_gray_blind",
        "sha256": open_network("irunet", "auto", 1)[1].sha256,
    }
    assert classifier.training["calibration"]["method"] == "temperature"


def test_grad_cam_is_captums(classifier: Classifier, crops: Crops) -> None:
    estimator = classifier.estimator
    X = run(classifier.prepare_iter(crops.images[:4]))[1]
    targets = np.array([0, 1, 1, 0])
    maps = run(cell_maps_iter(classifier, X, targets, "last"))
    network = estimator.network_
    assert isinstance(network, DenoisingResNet)
    x = torch.from_numpy(np.stack(X)).permute(0, 3, 1, 2)
    oracle = LayerGradCam(network, network.stages).attribute(x, torch.from_numpy(targets), relu_attributions=True)
    np.testing.assert_allclose(np.stack(maps), oracle[:, 0].detach().numpy(), atol=1e-5)
    assert run(estimator.embed_iter(X)).shape == (4, network.head.in_features)
    heat = ndc.explain(classifier, crops.images[1])
    assert heat.shape == crops.images[1].shape


# --- saved form -----------------------------------------------------------------------------------------------------


def test_a_saved_one_says_the_same_without_the_denoisers_file(crops: Crops, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(open_network("irunet", "auto", 1)[1].path.read_bytes())
    trained = ndc.train_classifier(crops, "integrated", denoiser_weights=str(mine), **{**SMALL, "epochs": 1})
    trained.save(tmp_path / "it.ndc")
    mine.unlink()
    read = ndc.load_classifier(tmp_path / "it.ndc")
    np.testing.assert_array_equal(read.predict_proba(crops.images), trained.predict_proba(crops.images))
    assert read.estimator.get_params() == trained.estimator.get_params()


def test_the_temperature_is_saved(classifier: Classifier, crops: Crops, tmp_path: Path) -> None:
    classifier.save(tmp_path / "it.ndc")
    read = ndc.load_classifier(tmp_path / "it.ndc")
    assert read.estimator.temperature_ == classifier.estimator.temperature_ != 1
    np.testing.assert_array_equal(read.predict_proba(crops.images), classifier.predict_proba(crops.images))


def drop(state: dict[str, torch.Tensor]) -> None:
    del state["denoiser.head.weight"]


def empty(state: dict[str, torch.Tensor]) -> None:
    for key in [key for key in state if key.startswith("denoiser.")]:
        del state[key]


def other_size(state: dict[str, torch.Tensor]) -> None:
    state["denoiser.tail.weight"] = torch.zeros(3, 16, 1, 1)


def cold(state: dict[str, torch.Tensor]) -> None:
    state["temperature"] = torch.tensor(0.0)


@pytest.mark.parametrize("damage", [drop, empty, other_size, cold])
def test_forged_weights_are_refused(
    classifier: Classifier, tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    state = load(classifier.payload[1])
    damage(state)
    forge(classifier, tmp_path / "it.ndc", save(state))
    with pytest.raises(ValueError, match=r"it\.ndc is damaged: its parts do not fit together"):
        ndc.load_classifier(tmp_path / "it.ndc")


def test_a_denoiser_of_another_kind_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    forge(classifier, tmp_path / "it.ndc", classifier.payload[1], denoiser="dncnn")
    with pytest.raises(ValueError, match="is not a DnCNN"):
        ndc.load_classifier(tmp_path / "it.ndc")


def forge(classifier: Classifier, path: Path, payload: bytes, **parameters: Any) -> None:
    classifier.save(path)
    with zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("model.json"))
    model["payload"]["sha256"] = hashlib.sha256(payload).hexdigest()
    model["parameters"].update(parameters)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.json", json.dumps(model))
        archive.writestr(model["payload"]["file"], payload)
