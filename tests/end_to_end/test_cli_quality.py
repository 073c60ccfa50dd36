"""The commands ``compare`` and ``estimate-noise`` on real files."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage import data

from napari_denoise_classify.core.noise import add_gaussian
from napari_denoise_classify.core.quality import compare, residual

from .command_line import run, said


@pytest.fixture
def files(tmp_path):
    """A clean image and two noisy ones."""
    clean = data.camera()[100:228, 150:278]
    iio.imwrite(tmp_path / "clean.png", clean)
    for sigma in (10, 30):
        noisy = np.clip(np.rint(add_gaussian(clean, sigma, 0)), 0, 255).astype(np.uint8)
        iio.imwrite(tmp_path / f"noisy_{sigma}.png", noisy)
    return tmp_path


def test_compare_prints_and_writes_the_table(files):
    table = files / "table.csv"
    output = run("compare", files / "clean.png", files / "noisy_*.png", "-o", table)
    assert output.count("psnr_matched") == 1
    assert "noisy_10.png" in output
    found = pd.read_csv(table, keep_default_na=False)
    assert len(found) == 2
    want = compare(iio.imread(files / "clean.png"), iio.imread(files / "noisy_30.png"))
    assert float(found["psnr"].iloc[1]) == pytest.approx(want["psnr"].iloc[0])
    assert "exists already" in run("compare", files / "clean.png", files / "noisy_10.png", "-o", table, code=1)
    run("compare", files / "clean.png", files / "noisy_10.png", "-o", table, "--overwrite")
    assert len(pd.read_csv(table)) == 1


def test_compare_writes_residuals_and_says_what_they_show(files):
    arguments = ("compare", files / "noisy_30.png", files / "clean.png", "--residual", "--residuals", files / "out")
    assert "The residual looks like noise." in run(*arguments)
    written = tifffile.imread(files / "out" / "clean_residual.tif")
    np.testing.assert_array_equal(
        written, residual(iio.imread(files / "noisy_30.png"), iio.imread(files / "clean.png"))
    )
    assert "exists already" in run(*arguments, code=1)


def test_compare_goes_on_after_a_file_that_does_not_fit(files):
    iio.imwrite(files / "noisy_20.png", np.zeros((9, 9), np.uint8))
    output = run("compare", files / "clean.png", files / "noisy_*.png", "-o", files / "t.csv", code=1)
    assert "1 of 3 files failed" in output
    assert "must be the same" in " ".join(output.split())
    assert len(pd.read_csv(files / "t.csv")) == 2


def test_compare_takes_stacks_plane_by_plane(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4096, (3, 32, 32), dtype=np.uint16)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    output = run("compare", tmp_path / "a.tif", tmp_path / "b.tif", "--value-range", 4095)
    assert all(word in output for word in ("z=0", "z=2", "mean", "4095", "inf"))


def test_estimate_noise_prints_and_writes(files):
    output = run("estimate-noise", files / "noisy_*.png", "-o", files / "noise.csv")
    assert "white and Gaussian" in output
    found = pd.read_csv(files / "noise.csv")
    assert found["model"].tolist() == ["gaussian", "gaussian"]
    np.testing.assert_allclose(found["sigma"], [10, 30], rtol=0.12)
    assert "exists already" in run("estimate-noise", files / "noisy_10.png", "-o", files / "noise.csv", code=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("estimate-noise", "missing.png"), "no such file"),
        (("estimate-noise", "noisy_10.png", "--intensity-range", "some"), "intensity_range='some' is not allowed"),
        (("estimate-noise", "noisy_10.png", "-o", "table.txt"), "written as .csv"),
        (("compare", "missing.png", "noisy_10.png"), "missing.png"),
        (("compare", "clean.png", "noisy_10.png", "--residuals", "out"), "--residuals goes with --residual"),
        (("compare", "clean.png", "missing.png"), "no such file"),
        (("compare", "clean.png", "noisy_10.png", "--value-range", "-1"), "above 0"),
    ],
)
def test_errors_are_one_sentence(files, monkeypatch, arguments, words):
    monkeypatch.chdir(files)
    output = said(*arguments, code=1)
    assert words in output
    assert "Traceback" not in output
