"""Training a denoiser: what comes out, resuming, cancelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy import ndimage as ndi

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise import losses
from napari_denoise_classify.core.denoise.pairs import Example, load_examples
from napari_denoise_classify.core.denoise.settings import DenoiserTraining
from napari_denoise_classify.core.denoise.task import Task
from napari_denoise_classify.core.denoise.training import Epoch, train_denoiser_iter
from napari_denoise_classify.core.denoise.weights import read_about, sha256_of
from napari_denoise_classify.core.noise import psnr
from napari_denoise_classify.core.progress import Progress, run

TINY: dict[str, Any] = {"features": 4, "epochs": 3, "steps_per_epoch": 3, "batch_size": 4, "patch": 16}
UNET: dict[str, Any] = {**TINY, "network": "unet", "depth": 1}
DNCNN: dict[str, Any] = {**TINY, "network": "dncnn", "depth": 3}


def smooth(seed: int, shape: tuple[int, ...] = (48, 56), width: float = 4) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape)
    out = ndi.gaussian_filter(noise, (width, width, 0)[: len(shape)])
    return ((out - out.min()) / np.ptp(out)).astype(np.float32)


def grey(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)


def pairs(sigma: float = 0.15, gain: float = 1.0, n: int = 4, **options: Any) -> dict[str, dict[str, np.ndarray]]:
    """Noisy and clean images by name, in intensities of up to 1000."""
    rng = np.random.default_rng(0)
    clean = {f"image {i}": smooth(i, **options) for i in range(n)}
    noisy = {name: gain * (c + rng.normal(0, sigma, c.shape)) * 1000 for name, c in clean.items()}
    return {
        "inputs": {name: image.astype(np.float32) for name, image in noisy.items()},
        "targets": {name: 1000 * c for name, c in clean.items()},
    }


def train(output: Path, **options: Any) -> Any:
    """Start a training; settings and data are told apart by their names."""
    data = {k: options.pop(k) for k in list(options) if k not in DenoiserTraining.__dataclass_fields__}
    return train_denoiser_iter(output, config=DenoiserTraining(**{**UNET, **options}), command="train it", **data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "clean"
    images.mkdir()
    for i in range(3):
        iio.imwrite(images / f"gray {i}.png", grey(smooth(i)))
        iio.imwrite(images / f"rgb {i}.png", grey(smooth(10 + i, (48, 56, 3))))
    return images


# --- what comes out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("network", "size"),
    [
        ("dncnn", {"depth": 3, "features": 4}),
        ("unet", {"depth": 2, "features": 4}),
        ("irunet", {"features": 4}),
        ("restormer", {"features": 4}),
    ],
)
def test_what_comes_out_works_and_says_how_it_was_made(
    folder: Path, tmp_path: Path, network: str, size: dict[str, int], samples: int
) -> None:
    output = tmp_path / "out" / "net.safetensors"
    settings: dict[str, Any] = {"depth": None, "epochs": 1, "steps_per_epoch": 2, **size}
    record = run(train(output, targets=[folder], noise="gaussian:0-55", network=network, samples=samples, **settings))
    assert sorted(p.name for p in output.parent.iterdir()) == ["net.json", "net.safetensors"]
    written = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(record))
    assert (record["name"], record["step"], record["samples"]) == ("net", network, samples)
    assert record["sigma"] == [0.0, 55.0]
    assert record["normalisation"] is None
    assert record["sha256"] == sha256_of(output)
    assert record["size"] == output.stat().st_size
    assert output.stat().st_mode == output.with_suffix(".json").stat().st_mode  # others may read it as any file
    made = record["training"]
    assert (made["command"], made["epochs_done"], made["data"], made["loss"]) == ("train it", 1, "clean", "mae")
    assert made["files"] + made["validation_files"] == (6 if samples == 1 else 3)
    assert set(made["figures"]) == {"psnr_15", "psnr_25", "psnr_50"}
    image = grey(smooth(5, (30, 31) if samples == 1 else (30, 31, 3)))
    assert ndc.denoise(image, network, rgb=samples == 3, weights=str(output)).shape == image.shape


@pytest.mark.parametrize("how", ["pairs", "clean", "noisy"])
def test_training_improves_on_the_start(tmp_path: Path, how: str) -> None:
    data, output = pairs(), tmp_path / "net.safetensors"
    held = {name: np.stack([image.pop("image 3")]) for name, image in data.items()}
    options: dict[str, Any] = {"epochs": 4, "steps_per_epoch": 20, "features": 6, "learning_rate": 5e-3}
    if how == "clean":
        data, options["noise"] = {"targets": data["targets"]}, "gaussian:38"
    elif how == "noisy":
        data = {"inputs": data["inputs"]}
    seen: list[Any] = []
    record = run(train(output, **data, **options), lambda p: seen.append(p.data))
    epochs = [e for e in seen if e is not None]
    assert all(isinstance(e, Epoch) for e in epochs)
    assert record["training"]["data"] == how
    assert epochs[-1].score > epochs[0].score
    (figure,) = record["training"]["figures"].values()
    assert abs(figure) == pytest.approx(abs(max(e.score for e in epochs)), abs=1e-3)
    assert [len(e.example) for e in epochs] == [2 if how == "noisy" else 3] * 4
    assert all(0 <= plane.min() <= plane.max() <= 1 for e in epochs for plane in e.example)
    noisy, clean = held["inputs"][0], held["targets"][0]
    out = ndc.denoise(noisy, "unet", intensity_range=(0, 1000), weights=str(output))
    assert psnr(clean, out, 1000) > psnr(clean, noisy, 1000) + 3


@pytest.mark.parametrize("loss", losses.SELF_SUPERVISED)
@pytest.mark.parametrize("noise", ["", "gaussian:30", "poisson_gaussian"])
def test_noisy_images_train_with_every_loss(tmp_path: Path, loss: str, noise: str) -> None:
    data = {"inputs": pairs(n=2)["inputs"]}
    record = run(train(tmp_path / "net.safetensors", **data, loss=loss, noise=noise, epochs=1))
    assert record["training"]["loss"] == loss
    assert record["training"]["best_epoch"] == 1
    assert np.isfinite(record["training"]["figures"]["loss"])


def test_the_loss_is_told_the_noise_on_the_scale_of_the_network(tmp_path: Path) -> None:
    """Of standardised images of known noise: the width of the Gaussian part at 0, and the gain."""
    rng = np.random.default_rng(0)
    clean = 200 + 2000 * smooth(0, (256, 256), 12)
    gain, read_noise = 20.0, 40.0
    noisy = gain * rng.poisson(clean / gain) + rng.normal(0, read_noise, clean.shape)
    noisy = noisy.astype(np.float32)[..., None]
    mean, std = noisy.mean(), noisy.std()
    found = []
    for noise in ("poisson_gaussian", "gaussian"):
        config = DenoiserTraining(noise=noise, loss="sure", patch=16)
        task = Task([Example("a", input=noisy)], [Example("b", input=noisy)], config, "noisy")
        found.append(task._noise_level("sure"))
    (sigma, poisson), (width, none) = found
    assert poisson == pytest.approx(gain / std, rel=0.2)
    assert sigma**2 == pytest.approx((gain * mean + read_noise**2) / std**2, rel=0.2)
    assert none == 0
    assert 0.5 * sigma < width < 1.5 * sigma


def test_the_scale_is_kept_with_the_weights(tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    record = run(train(output, **pairs(gain=5, n=2), epochs=1))
    found = read_about(output)["normalisation"]
    assert record["normalisation"] == found
    assert found["mean"] == pytest.approx(5 * found["target_mean"], rel=0.05)
    image = next(iter(pairs(gain=5, n=1)["inputs"].values()))
    a, b = (ndc.denoise(image, "unet", intensity_range=h, weights=str(output)) for h in ("image", (0, 9000)))
    np.testing.assert_allclose(a, b, atol=1)
    assert a.mean() == pytest.approx(image.mean() / 5, rel=0.1)  # of the targets' intensities


def test_intensities_can_be_matched(tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    run(train(output, **pairs(gain=5, n=2), epochs=1, match_intensities=True))
    image = next(iter(pairs(gain=5, n=1)["inputs"].values()))
    assert ndc.denoise(image, "unet", weights=str(output)).mean() == pytest.approx(image.mean(), rel=0.1)


def test_pairs_may_be_of_twice_the_size(tmp_path: Path) -> None:
    output, data = tmp_path / "net.safetensors", pairs(n=3)
    data["inputs"] = {name: image[::2, ::2] for name, image in data["inputs"].items()}
    run(train(output, **data, upscale=2, epochs=2))
    image = data["inputs"]["image 0"][:, :27]
    out = ndc.denoise(image, "unet", upscale=2, weights=str(output))
    assert out.shape == (48, 54)
    with pytest.raises(ValueError, match=r"are for upscale=2"):
        ndc.denoise(image, "unet", weights=str(output))


def test_pixels_outside_of_the_masks_have_no_influence(tmp_path: Path) -> None:
    # 8-bit images: their range is always 0..255, so that a changed pixel changes nothing else
    data: dict[str, Any] = {key: {n: grey(i / 1000) for n, i in images.items()} for key, images in pairs(n=3).items()}
    made = []
    masks = {name: smooth(20 + i) > 0.5 for i, name in enumerate(data["inputs"])}
    held = {"validation": pairs(n=1)["inputs"], "validation_targets": pairs(n=1)["targets"]}
    held = {key: {"held out": grey(image["image 0"] / 1000)} for key, image in held.items()}
    for i, change in enumerate([False, True, True]):
        targets = {name: np.where(masks[name], t, t[::-1]) if change else t for name, t in data["targets"].items()}
        path = tmp_path / f"{i}.safetensors"
        options = {"outside": 0.5} if i == 2 else {}
        run(train(path, **{**data, "targets": targets}, masks=masks, **held, normalisation="range", **options))
        made.append(load_file(path)["tail.weight"])
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_a_masking_step_makes_the_masks(tmp_path: Path) -> None:
    data = {"targets": {f"{i}": smooth(i, (64, 64)) for i in range(2)}, "noise": "gaussian:25"}
    made = []
    for mask in ("", "centre"):
        run(train(tmp_path / f"mask {mask}.safetensors", **data, mask=mask, epochs=1))
        made.append(load_file(tmp_path / f"mask {mask}.safetensors")["tail.weight"])
    assert (made[0] != made[1]).any()


def test_mixed_precision_trains(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    run(train(output, targets=[folder], noise="gaussian", mixed_precision=True, epochs=1))
    assert {array.dtype for array in load_file(output).values()} == {np.dtype("float32")}


# --- seeds, resuming, cancelling ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(train(tmp_path / f"{name}.safetensors", targets=[folder], noise="gaussian", seed=seed, epochs=1))
        made.append(load_file(tmp_path / f"{name}.safetensors")["down.0.0.weight"])
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


RUNS: dict[str, dict[str, Any]] = {
    "dncnn": {**DNCNN, "noise": "gaussian:25"},
    "unet": {**UNET, "noise": "gaussian:25"},
    "self": {**UNET, "loss": "blind_spot"},
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("stop_after", [6, 8])  # just after an epoch, and amid the next
def test_resuming_gives_what_an_uninterrupted_training_gives(tmp_path: Path, kind: str, stop_after: int) -> None:
    data = {"inputs" if kind == "self" else "targets": {f"{i}": smooth(i) for i in range(3)}}
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    expected = run(train(whole, **data, **RUNS[kind]))
    interrupted = train(parts, **data, **RUNS[kind])
    for _ in range(stop_after):
        next(interrupted)
    interrupted.close()
    assert sorted(p.name for p in tmp_path.glob("parts*")) == ["parts.checkpoint", "parts.json", "parts.safetensors"]
    image = grey(smooth(9))
    half = ndc.denoise(image, RUNS[kind]["network"], weights=str(parts))  # the best so far is of use
    assert half.shape == image.shape
    assert json.loads(parts.with_suffix(".json").read_text())["sha256"] == sha256_of(parts)
    torch.manual_seed(99)  # what happens in between does not matter
    found = run(train(parts, **data, **RUNS[kind]))
    assert found["sha256"] == expected["sha256"]
    assert found["training"]["figures"] == expected["training"]["figures"]
    assert not parts.with_suffix(".checkpoint").exists()


def test_cancelling_before_an_epoch_ends_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "net.safetensors"
    work = train(output, targets=[folder], noise="gaussian")
    for _ in range(4):
        next(work)
    work.close()
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


def test_not_resuming_starts_anew(folder: Path, tmp_path: Path) -> None:
    output, data = tmp_path / "net.safetensors", {"targets": [folder], "noise": "gaussian"}
    work = train(output, **data)
    for _ in range(7):
        next(work)
    work.close()
    seen: list[Progress] = []
    run(train(output, **data, resume=False), seen.append)
    assert len([p for p in seen if p.data is not None]) == 3


def test_training_goes_on_from_given_weights(folder: Path, tmp_path: Path) -> None:
    first, second, data = tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"targets": [folder]}
    run(train(first, **data, noise="gaussian:25", epochs=1))
    record = run(train(second, **data, noise="gaussian:25", epochs=1, start_from=first, learning_rate=1e-6))
    assert record["training"]["started_from"] == sha256_of(first)
    for key, tensor in load_file(first).items():
        np.testing.assert_allclose(load_file(second)[key], tensor, atol=1e-4)
    with pytest.raises(ValueError, match=r"start_from=.* it holds a unet with 1 samples and upscale 1"):
        run(train(second, **data, noise="gaussian", samples=3, start_from=first))
    with pytest.raises(ValueError, match="leave depth and features out"):
        run(train(second, **data, noise="gaussian:25", features=5, start_from=first))


@pytest.mark.parametrize("other", [{"seed": 3}, {"learning_rate": 0.5}, {"noise": "gaussian:30"}, {"loss": "mse"}])
def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path: Path, other: dict[str, Any]) -> None:
    given = {"targets": {f"{i}": smooth(i) for i in range(3)}, "noise": "gaussian:25", "epochs": 2}
    work = train(tmp_path / "a.safetensors", **given)
    for progress in work:
        if progress.data is not None:
            break
    work.close()
    with pytest.raises(ValueError, match=f"begun with other settings: set {next(iter(other))}="):
        run(train(tmp_path / "a.safetensors", **{**given, **other}))
    changed = {**given, "targets": {f"{i}": smooth(i + 9) for i in range(3)}}
    with pytest.raises(ValueError, match="begun with other settings: set images="):
        run(train(tmp_path / "a.safetensors", **changed))


@pytest.mark.parametrize("changed", ["targets", "masks"])
def test_a_checkpoint_that_learnt_from_other_targets_or_masks_is_not_taken_up(tmp_path: Path, changed: str) -> None:
    given = {**pairs(n=3), "epochs": 2}
    work = train(tmp_path / "a.safetensors", **given)
    for progress in work:
        if progress.data is not None:
            break
    work.close()
    other = {
        "targets": {name: image[::-1].copy() for name, image in given["targets"].items()},
        "masks": {name: np.ones(image.shape, np.uint8) for name, image in given["inputs"].items()},
    }
    with pytest.raises(ValueError, match="begun with other settings: set images="):
        run(train(tmp_path / "a.safetensors", **{**given, changed: other[changed]}))
    assert run(train(tmp_path / "a.safetensors", **given))["training"]["epochs_done"] == 2


def test_noise_levels_refer_to_the_intensity_range_of_the_images(tmp_path: Path) -> None:
    dim = {f"{i}": (60 * smooth(i)).astype(np.uint8) for i in range(3)}  # uses a quarter of its 8 bits
    planes = load_examples(None, dim, None, samples=1, raw=True)
    task = Task(
        planes[:2], planes[2:], DenoiserTraining(noise="gaussian:25", normalisation="dataset", patch=16), "clean"
    )
    noisy, clean, _ = next(task.batches(0))
    assert task.normalisation is not None
    assert np.std(noisy - clean) * task.normalisation.std == pytest.approx(25, rel=0.05)


def test_self_supervision_looks_where_the_mask_is(tmp_path: Path) -> None:
    image = np.zeros((96, 96), np.float32)
    image[:32, :32] = 1
    (example,) = load_examples({"a": image}, None, {"a": image}, samples=1, raw=True)
    config = DenoiserTraining(patch=16, normalisation="range")
    inputs, _, _ = next(Task([example], [example], config, "noisy").batches(0))
    assert (inputs.reshape(len(inputs), -1).mean(axis=1) > 0.2).all()  # each patch is centred in the square


def test_memory_that_is_full_only_splits_the_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, messages = losses.supervised, []
    data = {"targets": {f"{i}": smooth(i) for i in range(2)}, "noise": "gaussian:25", "epochs": 1}
    data["mixed_precision"] = False  # sums of parts are not those of the whole to eight bits
    run(train(tmp_path / "whole.safetensors", **data))

    def scarce(name: str, output: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(output) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return plain(name, output, *rest)

    monkeypatch.setattr(losses, "supervised", scarce)
    run(train(tmp_path / "parts.safetensors", **data), lambda p: messages.append(p.message))
    assert any("batches in 2 parts: the memory does not hold a whole one" in m for m in messages)
    whole, parts = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    for key in whole:
        np.testing.assert_allclose(parts[key], whole[key], atol=1e-5)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"network": "cnn"},
        {"network": "drunet"},
        {"samples": 2},
        {"upscale": 3},
        {"upscale": 2, "network": "dncnn"},
        {"loss": "psnr"},
        {"normalisation": "image"},
        {"epochs": 0},
        {"epochs": 2.5},
        {"epochs": float("nan")},
        {"steps_per_epoch": 0},
        {"batch_size": "4"},
        {"patch": 7},
        {"patch": None},
        {"depth": 2, "network": "dncnn"},
        {"depth": 0},
        {"depth": 2, "network": "irunet"},
        {"features": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"outside": -0.1},
        {"outside": 1.1},
        {"seed": -1},
    ],
)
def test_bad_settings(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(bad))}=[^\n]* is not allowed: [^\n]+\.$"):
        DenoiserTraining(**bad)


def test_unknown_settings_masks_and_noise() -> None:
    for words, bad in (
        ("unexpected keyword argument 'depht'", {"depht": 3}),
        ("'median' is not a mask step", {"mask": "median"}),
        ("no noise model 'gauss'", {"noise": "gauss"}),
    ):
        with pytest.raises(ValueError, match=words):
            ndc.train_denoiser("net.safetensors", targets={}, **bad)


ONE = {"a": smooth(0), "b": smooth(1)}


@pytest.mark.parametrize(
    ("words", "bad"),
    [
        ("nothing to train on", {}),
        (
            "patch=56 is not allowed: no training image is that large",
            {"targets": ONE, "noise": "gaussian", "patch": 56},
        ),
        (
            "patch=18 is not allowed: give a multiple of 4",
            {"targets": ONE, "noise": "gaussian", "patch": 18, "depth": 2},
        ),
        ("patch=18 is not allowed: give a multiple of 4", {"inputs": ONE, "patch": 18}),
        ("need noise to be added", {"targets": ONE}),
        ("loss='mae' needs clean images", {"inputs": ONE, "loss": "mae"}),
        ("loss='r2r' is for noisy images alone", {"inputs": ONE, "targets": ONE, "loss": "r2r"}),
        ("upscale=2 needs pairs", {"inputs": ONE, "upscale": 2}),
        ("must be of the same kind", {"inputs": ONE, "targets": ONE, "validation": ONE}),
        ("must be of the same kind", {"inputs": ONE, "validation_targets": ONE}),
        ("nothing is left to train on", {"inputs": ONE, "validation": ONE}),
        (
            "held-out images are too small: give some of at least 16 × 16",
            {"inputs": ONE, "depth": 3, "validation": {"c": smooth(3, (9, 60))}},
        ),
    ],
)
def test_data_and_settings_that_do_not_fit(tmp_path: Path, words: str, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=words):
        run(train(tmp_path / "net.safetensors", **bad))
    assert list(tmp_path.iterdir()) == []


def test_other_kinds_of_files_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give such a name"):
        run(train(tmp_path / "net.pth", inputs=ONE))


def test_held_out_images_of_equal_names_are_told_apart(tmp_path: Path) -> None:
    """Folders of training and validation images often use the same names; the same image is never in both."""
    held = {"a": smooth(7), "b": smooth(1)}
    record = run(train(tmp_path / "net.safetensors", targets=ONE, noise="gaussian", epochs=1, validation_targets=held))
    assert (record["training"]["files"], record["training"]["validation_files"]) == (1, 2)
