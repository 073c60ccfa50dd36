"""The command ``train-denoiser``, on real files."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import napari_denoise_classify as ndc

from .command_line import finish, run, said, start

TINY = ("--depth", 1, "--features", 3, "--steps-per-epoch", 2, "--batch-size", 2, "--patch", 16)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    made = {name: tmp_path / name for name in ("noisy", "clean", "masks")}
    for folder in made.values():
        folder.mkdir()
        for i in range(3):
            iio.imwrite(folder / f"{i}.png", rng.integers(0, 255, (40, 48), dtype=np.uint8))
    return made


def data(folders: dict[str, Path], mode: str) -> tuple[object, ...]:
    noisy, clean = ("--noisy", folders["noisy"]), ("--clean", folders["clean"])
    return {
        "pairs": (*noisy, *clean, "--masks", folders["masks"]),
        "clean": (*clean, "--noise", "gaussian:0-55"),
        "noisy": noisy,
    }[mode]


@pytest.mark.parametrize("mode", ["pairs", "clean", "noisy"])
def test_what_is_trained_can_be_used(
    folders: dict[str, Path], tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/napari-denoise-classify", "train-denoiser", "--masks", "my masks"])
    weights = tmp_path / "new" / "mine.safetensors"
    output = said("train-denoiser", *data(folders, mode), "-o", weights, *TINY, "--epochs", 2)
    record = json.loads(weights.with_suffix(".json").read_text())
    assert record["training"]["data"] == mode
    assert record["training"]["epochs_done"] == 2
    assert record["training"]["command"] == "napari-denoise-classify train-denoiser --masks 'my masks'"
    assert "epoch 2 of 2" in output
    assert ("dB" in output) == (mode != "noisy")
    run("denoise", folders["noisy"], "-m", "unet", "--weights", weights, "-o", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 3
    again = said("train-denoiser", *data(folders, mode), "-o", weights, *TINY, "--epochs", 1, code=1)
    assert "exists already: add --overwrite" in again
    run("train-denoiser", *data(folders, mode), "-o", weights, *TINY, "--epochs", 1, "--overwrite")
    assert json.loads(weights.with_suffix(".json").read_text())["training"]["epochs_done"] == 1


def test_held_out_images_and_weights_to_start_from(folders: dict[str, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    common = ("--network", "dncnn", *TINY, "--depth", 3, "--epochs", 1, "--noise", "gaussian")
    run("train-denoiser", "--clean", folders["clean"], "-o", first, *common)
    held = ("--validation-clean", folders["masks"])
    run("train-denoiser", "--clean", folders["clean"], *held, "-o", second, *common, "--start-from", first)
    record = json.loads(second.with_suffix(".json").read_text())
    assert record["training"]["started_from"] == json.loads(first.with_suffix(".json").read_text())["sha256"]
    assert (record["training"]["files"], record["training"]["validation_files"]) == (3, 3)
    image = np.zeros((20, 20), np.uint8)
    assert ndc.denoise(image, "dncnn", weights=str(second)).shape == image.shape


def test_images_without_a_partner_are_listed(folders: dict[str, Path], tmp_path: Path) -> None:
    (folders["clean"] / "1.png").rename(folders["clean"] / "one.png")
    output = said("train-denoiser", *data(folders, "pairs"), "-o", tmp_path / "x.safetensors", *TINY, code=1)
    assert "without a clean image: 1; clean images without a partner: one" in output
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to train on"),
        (("--noisy", "nowhere"), "nowhere"),
        (("--clean", "{clean}"), "need noise to be added"),
        (("--noisy", "{clean}", "--network", "resnet"), "network='resnet' is not allowed: give one of 'unet'"),
        (("--noisy", "{clean}", "--loss", "mae"), "needs clean images"),
        (("--noisy", "{clean}", "--patch", "64"), "patch=64 is not allowed"),
        (("--noisy", "{clean}", "--rgb"), "no RGB images"),
        (("--noisy", "{clean}", "--start-from", "none.safetensors"), "none.safetensors"),
        (("--noisy", "{clean}", "-o", "net.pth"), "give such a name"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [a.format(clean=folders["clean"]) for a in arguments]
    output = said("train-denoiser", "-o", "net.safetensors", *TINY, *given, code=1)
    assert words in output
    assert "Traceback" not in output
    assert not list(tmp_path.glob("net.*"))


@pytest.mark.parametrize("option", [("--epochs", 0), ("--upscale", 3), ("--outside", 2), ("--patch", 4)])
def test_numbers_out_of_range_are_a_usage_error(folders: dict[str, Path], tmp_path: Path, option: tuple) -> None:
    run("train-denoiser", "--noisy", folders["noisy"], "-o", tmp_path / "x.safetensors", *option, code=2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process.")
def test_an_interrupted_training_goes_on(folders: dict[str, Path], tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    command = ("train-denoiser", *data(folders, "clean"), *TINY, "-o", weights, "--steps-per-epoch", 20, "--epochs", 30)
    with start(*command) as process:
        until = time.monotonic() + 180
        while not weights.with_suffix(".checkpoint").exists() or not weights.with_suffix(".json").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        words = " ".join(finish(process, 130)[1].split())
    assert "Stopped. The best weights so far are in" in words
    done = json.loads(weights.with_suffix(".json").read_text())["training"]["epochs_done"]
    image = np.zeros((20, 20), np.uint8)
    assert ndc.denoise(image, "unet", weights=str(weights)).shape == image.shape
    output = said(*command)
    assert f"epoch {done} of 30" not in output
    assert "epoch 30 of 30" in output
    assert json.loads(weights.with_suffix(".json").read_text())["training"]["epochs_done"] == 30
    assert not weights.with_suffix(".checkpoint").exists()
