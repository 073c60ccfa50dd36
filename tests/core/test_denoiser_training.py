"""Training a denoiser: what comes out, resuming, cancelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import ndimage as ndi

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.training import (
    DenoiserTraining,
    load_clean,
    split_files,
    train_denoiser_iter,
)
from napari_denoise_classify.core.denoise.weights import sha256_of
from napari_denoise_classify.core.progress import Progress, run

TINY = {"depth": 3, "features": 4, "epochs": 3, "steps_per_epoch": 3, "batch_size": 4, "patch": 16}


def smooth(seed: int, shape: tuple[int, ...] = (40, 50)) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape)
    out = ndi.gaussian_filter(noise, (4, 4) if len(shape) == 2 else (4, 4, 0))
    out = (out - out.min()) / np.ptp(out)
    return np.rint(255 * out).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "clean"
    images.mkdir()
    for i in range(3):
        iio.imwrite(images / f"gray {i}.png", smooth(i))
        iio.imwrite(images / f"rgb {i}.png", smooth(10 + i, (40, 50, 3)))
    return images


def train(folder: Path, output: Path, **config: Any) -> Any:
    training = DenoiserTraining(**{**TINY, **config})
    clean, validation = split_files(load_clean([folder], training.samples), 0.34, training.seed)
    return train_denoiser_iter(clean, validation, output, training, command="train it")


@pytest.mark.parametrize("samples", [1, 3])
def test_what_comes_out_works_and_says_how_it_was_made(folder: Path, tmp_path: Path, samples: int) -> None:
    output = tmp_path / "out" / "net.safetensors"
    record = run(train(folder, output, samples=samples))
    written = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(record))
    assert (record["name"], record["samples"], record["sigma"]) == ("net", samples, [0.0, 55.0])
    assert record["sha256"] == sha256_of(output)
    assert record["size"] == output.stat().st_size
    made = record["training"]
    assert (made["command"], made["epochs_done"]) == ("train it", 3)
    assert made["config"]["depth"] == 3
    assert made["files"] + made["validation_files"] == (6 if samples == 1 else 3)
    assert set(made["figures"]) == {"psnr_15", "psnr_25", "psnr_50"}
    image = smooth(5, (30, 30) if samples == 1 else (30, 30, 3))
    assert ndc.denoise(image, "dncnn", rgb=samples == 3, weights=str(output)).shape == image.shape


def test_training_lowers_the_noise(folder: Path, tmp_path: Path) -> None:
    history: list[dict[str, float]] = []

    def note(progress: Progress) -> None:
        if isinstance(progress.data, dict):
            history.append(progress.data)

    config = {"features": 16, "depth": 4, "epochs": 8, "steps_per_epoch": 15, "sigma": (25, 25), "learning_rate": 5e-3}
    record = run(train(folder, tmp_path / "net.safetensors", **config), note)
    figures = record["training"]["figures"]
    assert list(figures) == ["psnr_25"]
    assert figures["psnr_25"] > 20.17 + 4  # of the noisy images: 20 log10(255 / 25)
    assert figures["psnr_25"] == pytest.approx(max(entry["score"] for entry in history), abs=1e-3)


def test_the_same_seed_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(train(folder, tmp_path / f"{name}.safetensors", seed=seed))
        made.append(load_file(tmp_path / f"{name}.safetensors")["model.0.weight"])
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


@pytest.mark.parametrize("stop_after", [6, 8])  # just after an epoch, and amid the next
def test_resuming_gives_what_an_uninterrupted_training_gives(folder: Path, tmp_path: Path, stop_after: int) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    expected = run(train(folder, whole))
    interrupted = train(folder, parts)
    for _ in range(stop_after):
        next(interrupted)
    interrupted.close()
    assert [p.name for p in tmp_path.glob("parts*")] == ["parts.checkpoint"]
    found = run(train(folder, parts))
    assert found["sha256"] == expected["sha256"]
    assert found["training"]["figures"] == expected["training"]["figures"]


def test_cancelling_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "net.safetensors"
    work = train(folder, output)
    for _ in range(3):
        next(work)
    work.close()
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


def test_not_resuming_starts_anew(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    run(train(folder, output))
    clean, validation = split_files(load_clean([folder], 1), 0.34, 0)
    seen: list[Progress] = []
    run(train_denoiser_iter(clean, validation, output, DenoiserTraining(**TINY), resume=False), seen.append)
    assert len([p for p in seen if p.data is not None]) == 3


def test_mixed_precision_trains(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    run(train(folder, output, mixed_precision=True, epochs=1))
    assert {array.dtype for array in load_file(output).values()} == {np.dtype("float32")}


# --- images ---------------------------------------------------------------------------------------------------------


def test_gray_networks_see_the_luminance_of_colour_files(folder: Path) -> None:
    clean = load_clean([folder], 1)
    assert len(clean) == 6
    image = iio.imread(folder / "rgb 0.png") / 255
    (plane,) = clean[str(folder / "rgb 0.png")]
    np.testing.assert_allclose(plane[..., 0], image @ [0.299, 0.587, 0.114], atol=1e-5)


def test_colour_networks_leave_gray_files_out(folder: Path) -> None:
    assert all("rgb" in name for name in load_clean([folder], 3))
    with pytest.raises(ValueError, match="no RGB images among the files"):
        load_clean([folder / "gray *.png"], 3)


def test_whole_files_are_held_out(folder: Path) -> None:
    clean = load_clean([folder], 1)
    train, validation = split_files(clean, 0.3, 0)
    assert set(train) | set(validation) == set(clean)
    assert not set(train) & set(validation)
    assert len(validation) == 2


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_both_sides_get_a_file(folder: Path, fraction: float) -> None:
    assert all(split_files(load_clean([folder], 1), fraction, 0))


def test_one_file_cannot_be_split(folder: Path) -> None:
    with pytest.raises(ValueError, match="One file cannot be split"):
        split_files(load_clean([folder / "gray 0.png"], 1), 0.5, 0)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", 2),
        ("sigma", (50, 10)),
        ("sigma", (-1, 10)),
        ("sigma", (0, 300)),
        ("sigma", (0, float("nan"))),
        ("epochs", 0),
        ("steps_per_epoch", 0),
        ("batch_size", 0),
        ("patch", 0),
        ("depth", 2),
        ("features", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
    ],
)
def test_bad_settings(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=.* is not allowed"):
        DenoiserTraining(**{name: value})


def test_patches_larger_than_the_images(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patch=41 is not allowed"):
        run(train(folder, tmp_path / "net.safetensors", patch=41))


def test_damaged_images_are_named(folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "gray 0.png").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"broken\.png"):
        load_clean([folder], 1)
