"""Figures beside a reference, and the structure of residuals."""

from __future__ import annotations

from typing import Any

import dask.array
import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.metrics import structural_similarity

from napari_denoise_classify.core.api import denoise
from napari_denoise_classify.core.noise import PoissonNoise, add_gaussian, psnr
from napari_denoise_classify.core.quality import compare, residual, residual_structure


@pytest.fixture
def clean() -> np.ndarray:
    return data.camera()[100:300, 150:350]


def only(table: Any) -> Any:
    assert len(table) == 1
    return table.iloc[0]


def test_figures_of_a_known_error(clean) -> None:
    image = clean.astype(np.float32)
    image[::2] += 10
    image[1::2] -= 10
    found = only(compare(clean, image))
    assert found["rmse"] == pytest.approx(10, rel=1e-6)
    assert found["psnr"] == pytest.approx(20 * np.log10(25.5), rel=1e-6)
    assert found["psnr"] == pytest.approx(psnr(clean, image), rel=1e-6)
    assert found["nrmse"] == pytest.approx(10 / clean.std(), rel=1e-6)
    assert found["range"] == 255
    whole = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert found["ssim"] == pytest.approx(structural_similarity(clean.astype(float), image.astype(float), **whole))


@given(slope=st.floats(0.1, 10), start=st.floats(-100, 100))
def test_matched_psnr_does_not_depend_on_the_stretch(slope: float, start: float) -> None:
    image = data.camera()[:40, :40].astype(float)
    noisy = image + np.random.default_rng(0).normal(0, 5, image.shape)
    plain, stretched = (only(compare(image, x, value_range=255)) for x in (noisy, slope * noisy + start))
    assert stretched["psnr_matched"] == pytest.approx(plain["psnr_matched"], abs=1e-6)
    assert stretched["psnr_matched"] >= stretched["psnr"] - 1e-9
    assert only(compare(image, slope * image + start))["psnr_matched"] > 200


def test_identical_images_are_perfect(clean) -> None:
    found = only(compare(clean, clean))
    assert found["psnr"] == found["psnr_matched"] == np.inf
    assert found["ssim"] == pytest.approx(1)
    assert found["rmse"] == found["nrmse"] == 0


def test_several_images_and_planes_with_their_mean(clean) -> None:
    stack = np.stack([clean, clean[::-1], clean.T])
    images = {"weak": add_gaussian(stack, 5, 0), "strong": add_gaussian(stack, 20, 0)}
    table = compare(stack, images, axes="ZYX")
    assert table["image"].tolist() == ["weak"] * 4 + ["strong"] * 4
    assert table["plane"].tolist() == ["z=0", "z=1", "z=2", "mean"] * 2
    for name, part in table.groupby("image"):
        planes, mean = part.iloc[:3], part.iloc[3]
        for column in ("psnr", "ssim", "psnr_matched", "rmse", "nrmse"):
            assert mean[column] == pytest.approx(planes[column].mean())
        assert mean["rmse"] == pytest.approx({"weak": 5, "strong": 20}[str(name)], rel=0.01)
    lazy = compare(dask.array.from_array(stack), {k: dask.array.from_array(v) for k, v in images.items()}, axes="ZYX")
    assert lazy.equals(table)


def test_range_is_the_references_and_channels_have_their_own() -> None:
    rng = np.random.default_rng(0)
    image = np.stack([rng.integers(0, top, (32, 32)) for top in (1000, 60000)]).astype(np.uint16)
    for c, top in enumerate((1000, 60000)):
        image[c, :8], image[c, 8:16] = 0, top
    assert compare(image, image, axes="CYX")["range"].tolist()[:2] == [1000, 60000]
    assert set(compare(image, image, value_range=65535)["range"]) == {65535}


def test_alpha_is_left_out() -> None:
    image = data.astronaut()[:40, :40]
    alpha = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    other = alpha.copy()
    other[..., 3] = 0
    assert only(compare(alpha, other, rgb=True))["psnr"] == np.inf
    assert residual(alpha, other, rgb=True).shape == image.shape


def test_tiny_and_constant_planes_have_no_ssim_and_no_nrmse() -> None:
    found = only(compare(np.zeros((5, 5)), np.ones((5, 5))))
    assert np.isnan(found["ssim"])
    assert np.isnan(found["nrmse"])
    assert found["psnr_matched"] == np.inf


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.ones((9, 8)), {}, "must be the same"),
        (np.full((8, 8), np.nan), {}, "NaN"),
        (np.ones((8, 8)), {"value_range": 0}, "above 0"),
        (np.ones((8, 8)), {"value_range": float("nan")}, "above 0"),
        ({}, {}, "at least one image"),
    ],
)
def test_bad_input_is_named(image, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare(np.ones((8, 8)), image, **options)


@pytest.mark.parametrize("axes", ["ZYX", "YXZ", "ZYXS", "SYX"])
def test_residual_is_the_difference(axes: str) -> None:
    rng = np.random.default_rng(0)
    shape = tuple({"Z": 4, "Y": 20, "X": 24, "S": 3}[letter] for letter in axes)
    before, after = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    found = residual(before, after, axes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, before.astype(np.float32) - after)


@pytest.mark.parametrize("noise", ["gaussian", "poisson"])
@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (200, 200)])
def test_noise_alone_has_no_structure(clean, noise: str, shape: tuple[int, int]) -> None:
    """Photon noise is stronger where the image is bright, and still is noise."""
    image = clean[: shape[0], : shape[1]]
    for seed in range(5):
        noisy = PoissonNoise(60).apply(image, seed) if noise == "poisson" else add_gaussian(image, 25, seed)
        found = residual_structure(noisy, image)
        assert not found.structured, found
        assert found.sentence == "The residual looks like noise."
    if shape == (200, 200):
        assert max(map(abs, found.autocorrelation)) < found.bound
        assert found.edges == pytest.approx(1, abs=0.25)


def test_blur_removes_detail(shared_data) -> None:
    for i, path in enumerate(sorted((shared_data / "set12").glob("*.png"))[:7]):
        noisy = add_gaussian(iio.imread(path), 15, i)
        found = residual_structure(noisy, gaussian_filter(noisy, 3))
        assert found.structured, path.name
        assert "removes detail" in found.sentence


@pytest.mark.parametrize("sigma", [15, 50])
def test_a_good_denoiser_removes_noise(clean, sigma: int) -> None:
    noisy = add_gaussian(clean, sigma, 0)
    out = denoise(noisy, "dncnn", intensity_range=(0, 255))
    assert not residual_structure(noisy, out).structured


def test_a_weak_filter_on_strong_noise_removes_noise(clean) -> None:
    noisy = add_gaussian(clean, 60, 0)
    found = residual_structure(noisy, gaussian_filter(noisy, 0.4))
    assert not found.structured
    assert found.autocorrelation[0] < -0.1  # what is left is noise of high frequency


def test_nothing_removed_and_a_constant_removed(clean) -> None:
    assert "nothing was removed" in residual_structure(clean, clean).sentence
    assert not residual_structure(clean.astype(float), clean + 5.0).structured


def test_structure_in_stacks_and_colour(clean) -> None:
    stack = np.stack([clean] * 3)
    noisy = add_gaussian(stack, 15, 0)
    assert residual_structure(noisy, gaussian_filter(noisy, (0, 3, 3))).structured
    assert not residual_structure(noisy, stack).structured
    colour = np.moveaxis(stack, 0, -1)
    noisy = add_gaussian(colour, 15, 0)
    assert residual_structure(noisy, gaussian_filter(noisy, (3, 3, 0)), rgb=True).structured
    assert not residual_structure(noisy, colour, rgb=True).structured
    with pytest.raises(ValueError, match="16 × 16"):
        residual_structure(clean[:9, :9], clean[:9, :9])
