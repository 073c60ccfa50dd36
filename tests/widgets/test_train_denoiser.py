"""The panel Train denoiser: from images to weights, cancelled, taken up again and used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.settings import DenoiserTraining
from napari_denoise_classify.widgets.layers import METADATA_KEY
from napari_denoise_classify.widgets.train_denoiser import TrainDenoiserDock

TINY = {"steps_per_epoch": 2, "depth": 1, "features": 4, "batch_size": 2, "patch": 16, "learning_rate": 0.003}


def scene(seed: int = 0, side: int = 48) -> np.ndarray:
    """A bright square on a dark ground."""
    image = np.full((side, side), 40, np.uint8)
    y, x = np.random.default_rng(seed).integers(4, side // 2, 2)
    image[y : y + side // 3, x : x + side // 3] = 200
    return image


def add_noise(image: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 30, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Three pairs in the folders ``noisy`` and ``clean``."""
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
    for k in range(3):
        tifffile.imwrite(tmp_path / "clean" / f"{k}.tif", scene(k))
        tifffile.imwrite(tmp_path / "noisy" / f"{k}.tif", add_noise(scene(k), k))
    return tmp_path


@pytest.fixture
def panel(open_dock, errors):
    """The viewer and the panel, set to a very small training."""
    viewer, dock = open_dock("Train denoiser")
    dock.advanced.value = True
    set_fields(dock, epochs=2, **TINY)
    return viewer, dock


def set_fields(dock: TrainDenoiserDock, **values: object) -> None:
    for name, value in values.items():
        dock.fields[name].value = value


def use_folders(dock: TrainDenoiserDock, folders, **roles: str) -> None:
    for role, name in roles.items():
        getattr(dock.data, f"{role}_folder").value = folders / name


def test_pairs_from_folders_become_weights_that_denoise(panel, folders, wait, qapp):
    viewer, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    dock.output.value = folders / "mine"  # the ending is added
    assert dock.curves is None  # matplotlib is only imported once there is something to draw
    dock.run_button.native.click()
    wait(dock)
    output = folders / "mine.safetensors"
    assert dock.status.value.startswith("Trained")
    assert "Denoise ▸ U-Net ▸ weights mine.safetensors" in dock.status.value
    assert [e.number for e in dock.epochs] == [1, 2]
    assert [len(e.example) for e in dock.epochs] == [3, 3]
    assert dock.curves.canvas.isVisibleTo(dock.native)
    record = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["training"]["config"]["learning_rate"] == 0.003
    assert f"PSNR {record['training']['figures']['psnr']:.4g} dB" in dock.status.value
    # the figure tells what it shows
    words = [axes.get_ylabel() for axes in dock.curves.figure.findobj(lambda a: hasattr(a, "get_ylabel"))]
    assert {"training loss", "PSNR (dB)"} <= set(words)
    # used here
    noisy = viewer.add_image(add_noise(scene(7), 7), name="new")
    dock.image.value = noisy
    dock.apply_button.native.click()
    wait(dock)
    result = viewer.layers["new unet"]
    np.testing.assert_array_equal(result.data, ndc.denoise(noisy.data, "unet", weights=str(output)))
    assert result.metadata[METADATA_KEY]["source"] == "new"


def test_copied_code_trains_the_same(panel, folders, wait, qapp, monkeypatch):
    _, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    dock.output.value = folders / "first.safetensors"
    dock.run_button.native.click()
    wait(dock)
    dock.copy_button.native.click()
    code = qapp.clipboard().text()
    exec(code.replace("first.safetensors", "again.safetensors"), {})
    first, again = (json.loads((folders / f"{name}.json").read_text(encoding="utf-8")) for name in ("first", "again"))
    assert first["sha256"] == again["sha256"]
    assert first["training"]["command"] == code


def test_cancelled_training_keeps_its_best_and_goes_on(panel, folders, wait, qtbot, errors):
    _, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    dock.output.value = folders / "mine.safetensors"
    set_fields(dock, epochs=400)
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: len(dock.epochs) >= 2, timeout=60_000)
    dock.cancel_button.native.click()
    wait(dock)
    reached = dock.epochs[-1].number
    assert dock.status.value == (
        f"Cancelled after epoch {reached}. The best weights so far are in mine.safetensors; press Train with the same "
        "settings to go on."
    )
    assert (folders / "mine.checkpoint").exists()
    assert dock.weights == folders / "mine.safetensors"
    # other settings would not fit what is there
    set_fields(dock, seed=5)
    dock.run_button.native.click()
    wait(dock)
    (error,) = errors
    assert "mine.checkpoint was begun with other settings: set seed=0 to go on, or choose another name" in error
    set_fields(dock, seed=0)
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: dock.epochs[-1].number > reached, timeout=60_000)
    assert [e.number for e in dock.epochs] == list(range(1, dock.epochs[-1].number + 1))
    dock.cancel_button.native.click()
    wait(dock)
    assert len(errors) == 1


def test_cancel_before_the_first_epoch_leaves_nothing(panel, folders, wait, qtbot):
    _, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    dock.output.value = folders / "mine.safetensors"
    set_fields(dock, steps_per_epoch=10_000)
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: "epoch 1" in dock.status.value, timeout=60_000)
    dock.cancel_button.native.click()
    wait(dock)
    assert dock.status.value == "Cancelled before the first epoch was over: nothing was written."
    assert not list(folders.glob("mine*"))


def test_clean_layer_with_noise_and_labels(panel, tmp_path, wait):
    viewer, dock = panel
    viewer.add_image(np.stack([scene(k) for k in range(3)]), name="stack")
    viewer.add_labels(np.pad(np.ones((24, 24), np.uint8), 12), name="where")
    dock.data.kind.value, dock.data.place.value = "clean", "layers"
    dock.data.mask_layer.value = viewer.layers["where"]
    set_fields(dock, outside=0.25)
    assert dock.noise.value == "gaussian:0-55"
    dock.noise.model.value = "poisson_gaussian"
    assert dock.noise.value == "poisson_gaussian:gain=0.5-10,offset=0,read_noise=0-10"
    dock.output.value = tmp_path / "mine.safetensors"
    dock.run_button.native.click()
    wait(dock)
    assert dock.status.value.startswith("Trained"), dock.status.value
    config = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["training"]["config"]
    assert config["noise"] == dock.noise.value
    assert config["outside"] == 0.25
    exec(dock.code.replace("mine.safetensors", "again.safetensors"), {"viewer": viewer})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "mine.safetensors").read_bytes()


def test_rgb_layer_is_trained_with_samples_and_its_labels(panel, tmp_path, wait, errors):
    viewer, dock = panel
    viewer.add_image(np.stack([scene(k) for k in range(3)], axis=-1), rgb=True, name="colours")
    viewer.add_labels(np.ones((48, 48), np.uint8), name="where")
    dock.data.kind.value, dock.data.place.value = "clean", "layers"
    dock.data.mask_layer.value = viewer.layers["where"]
    assert dock.data.samples.value == 3
    dock.output.value = tmp_path / "mine.safetensors"
    set_fields(dock, patch=8)
    dock.run_button.native.click()
    wait(dock)
    assert errors == []
    assert json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["samples"] == 3


def test_noisy_layer_alone(panel, tmp_path, wait):
    viewer, dock = panel
    viewer.add_image(np.stack([add_noise(scene(k), k) for k in range(3)]), name="noisy")
    viewer.add_labels(np.ones((48, 48), np.uint8), name="where")
    dock.data.place.value, dock.data.mask_layer.value = "layers", viewer.layers["where"]
    dock.data.kind.value = "noisy"
    assert dock.noise.value == ""
    dock.noise.of_noisy.value = "gaussian"
    dock.noise.levels.value = "30"
    assert dock.noise.value == "gaussian:30"
    dock.output.value = tmp_path / "mine.safetensors"
    dock.run_button.native.click()
    wait(dock)
    assert "loss" in dock.status.value
    assert "PSNR" not in dock.status.value
    assert [len(e.example) for e in dock.epochs] == [2, 2]
    assert json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["training"]["loss"] == "r2r"


def test_enlarging_network_is_used_as_such(panel, tmp_path, wait):
    viewer, dock = panel
    large = np.stack([scene(k, 64) for k in range(2)])
    viewer.add_image(add_noise(large[:, ::2, ::2]), name="small")
    viewer.add_image(large, name="large")
    dock.data.place.value = "layers"
    dock.data.noisy_layer.value, dock.data.clean_layer.value = viewer.layers
    dock.upscale.value = 2
    dock.output.value = tmp_path / "mine.safetensors"
    set_fields(dock, epochs=1)
    dock.run_button.native.click()
    wait(dock)
    dock.image.value = viewer.layers["small"]
    dock.apply_button.native.click()
    wait(dock)
    assert viewer.layers["small unet"].data.shape == (2, 64, 64)


def test_nothing_is_replaced(panel, folders, errors):
    _, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    mine = folders / "mine.safetensors"
    mine.write_bytes(b"precious")
    dock.output.value = mine
    dock.run_button.native.click()
    assert dock.job is None
    assert errors == [f"{mine} exists already: choose another name for the weights."]
    assert mine.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no data", "choose a folder under Noisy images"),
        ("no output", "Choose a file for the weights"),
        ("other ending", ".safetensors"),
        ("no folder", "There is no folder"),
        ("no partner", "no partner"),
        ("too small", "patch=64"),
        ("noise", "cannot be read"),
        ("same layer", "same layer"),
        ("gray for RGB", "choose gray under Colours"),
    ],
)
def test_bad_input_is_one_notification(panel, folders, wait, errors, change, words):
    viewer, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    dock.output.value = folders / "mine.safetensors"
    viewer.add_image(scene(), name="gray")
    if change == "no data":
        dock.data.noisy_folder.value = None
    elif change == "no output":
        dock.output.value = None
    elif change == "other ending":
        dock.output.value = folders / "mine.pth"
    elif change == "no folder":
        dock.output.value = folders / "nowhere" / "mine.safetensors"
    elif change == "no partner":
        (folders / "clean" / "2.tif").unlink()
    elif change == "too small":
        set_fields(dock, patch=64)
    elif change == "noise":
        dock.data.kind.value = "clean"
        dock.noise.levels.value = "loud"
    else:
        dock.data.place.value = "layers"
        if change == "gray for RGB":
            dock.data.kind.value = "clean"
            dock.data.samples.value = 3
    dock.run_button.native.click()
    wait(dock)
    assert len(errors) == 1
    assert words in errors[0]
    assert not (folders / "mine.json").exists()


def test_only_rows_that_apply_are_shown(open_dock):
    viewer, dock = open_dock("Train denoiser")
    viewer.window._qt_window.show()
    usual = DenoiserTraining()
    dock.output.value = "/nowhere/mine.safetensors"
    assert dock.upscale.visible
    assert not dock.loss.visible
    assert not dock.noise.model.visible
    assert dock._config() == usual
    dock.advanced.value = True
    set_fields(dock, batch_size=3, depth=2)
    assert dock._config() == replace(usual, batch_size=3, depth=2)
    dock.advanced.value = False  # hides settings, and changes none
    assert dock._config() == replace(usual, batch_size=3, depth=2)
    dock.advanced.value = True
    dock.network.value = "restormer"
    assert not dock.upscale.visible
    assert not dock.fields["depth"].widget.visible  # its depth cannot be chosen
    assert dock._config() == replace(usual, network="restormer", batch_size=3)
    dock.data.kind.value = "noisy"
    assert dock.loss_of_noisy.visible
    assert not dock.loss.visible
    assert not dock.data.clean_folder.visible


@pytest.mark.parametrize("what", ["panel", "viewer"])
def test_closing_while_training_leaves_no_traceback(panel, folders, qtbot, what):
    viewer, dock = panel
    use_folders(dock, folders, noisy="noisy", clean="clean")
    dock.output.value = folders / "mine.safetensors"
    set_fields(dock, epochs=400)
    dock.run_button.native.click()
    job = dock.job
    qtbot.waitUntil(lambda: len(dock.epochs) >= 1, timeout=60_000)
    with qtbot.captureExceptions() as caught:
        if what == "panel":
            viewer.window.remove_dock_widget("all")
        else:
            viewer.close()
        qtbot.waitUntil(lambda: not job._worker.is_running, timeout=60_000)
        qtbot.wait(300)
    assert caught == []
    assert (folders / "mine.safetensors").exists()
