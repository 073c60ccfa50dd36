"""Noise models, and noise estimated from one image."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from napari_denoise_classify.core.estimation import (
    estimate_noise,
    estimate_poisson_gaussian,
    estimate_sigma,
    isolated_extremes,
)
from napari_denoise_classify.core.noise import (
    NOISE_MODELS,
    GaussianNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    SaltAndPepperNoise,
    add_gaussian,
    noise_model,
    parse_noise,
)
from napari_denoise_classify.core.steps import get_step

levels = st.floats(0.001, 1).flatmap(lambda low: st.one_of(st.just(low), st.tuples(st.just(low), st.floats(low, 1))))
models = st.one_of(
    st.builds(GaussianNoise, levels),
    st.builds(PoissonNoise, levels),
    st.builds(PoissonGaussianNoise, levels, st.floats(-1e-5, 50), levels),
    st.builds(SaltAndPepperNoise, levels),
)


def waves(side: int = 512) -> np.ndarray:
    """A smooth scene that covers most intensities."""
    y, x = np.mgrid[:side, :side] / side
    return (30 + 90 * (1 + np.sin(4 * x + 2 * y)))[..., None].astype(np.float32)


@given(models)
def test_text_of_a_model_makes_the_same_model(model: NoiseModel) -> None:
    assert parse_noise(str(model)) == model


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("gaussian:0-55", GaussianNoise((0, 55))),
        ("gaussian:25", GaussianNoise(25)),
        (" poisson : 30 - 300 ", PoissonNoise((30, 300))),
        ("poisson_gaussian:gain=2,offset=-5--1,read_noise=1e-1-5", PoissonGaussianNoise(2, (-5, -1), (0.1, 5))),
        ("poisson_gaussian:2,read_noise=3", PoissonGaussianNoise(2, read_noise=3)),
        ("salt_and_pepper", SaltAndPepperNoise()),
    ],
)
def test_models_from_text(text: str, model: NoiseModel) -> None:
    assert parse_noise(text) == model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no noise model"),
        ("speckle:3", "choose one of gaussian, poisson"),
        ("gaussian:", "cannot be read"),
        ("gaussian:a", "cannot be read"),
        ("gaussian:1,2", "cannot be read"),
        ("gaussian:sigma=1,sigma=2", "cannot be read"),
        ("gaussian:gain=1", "it has sigma"),
        ("gaussian:-1", "number of at least 0"),
        ("gaussian:9-3", "is not allowed"),
        ("gaussian:1e999", "is not allowed"),
        ("poisson:0", "number above 0"),
        ("salt_and_pepper:2", "at most 1"),
    ],
)
def test_bad_text_is_named_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_noise(text)
    assert "\n" not in str(caught.value)


def test_models_by_name() -> None:
    assert noise_model("gaussian", sigma=(1, 2)) == GaussianNoise((1, 2))
    with pytest.raises(ValueError, match="at least 0"):
        noise_model("gaussian", sigma="many")  # type: ignore[arg-type]
    for name, model in NOISE_MODELS.items():
        assert noise_model(name) == model()


@pytest.mark.parametrize("value_range", [1.0, 255.0, 65535.0])
def test_levels_are_of_the_255_levels_of_the_range(value_range: float) -> None:
    """Mean and variance are those of the model, whatever the range."""
    flat = np.full((400, 400), 100 / 255 * value_range, np.float32)
    unit = value_range / 255
    for model, variance in (
        (GaussianNoise(25), 25**2),
        (PoissonNoise(51), 100 * 255 / 51),
        (PoissonGaussianNoise(2, 10, 5), 2 * (100 - 10) + 25),
    ):
        noisy = model.apply(flat, 0, value_range)
        assert noisy.dtype == np.float32
        assert noisy.mean() / unit == pytest.approx(100, rel=5e-3)
        assert noisy.var() / unit**2 == pytest.approx(variance, rel=0.02)


def test_photons_are_whole_and_darkness_has_none() -> None:
    image = np.tile(np.linspace(-20, 255, 100, dtype=np.float32), (100, 1))
    photons = PoissonNoise(51).apply(image, 0) / 5
    dark = image <= 0
    np.testing.assert_allclose(photons[dark] * 5, image[dark], rtol=1e-6)
    np.testing.assert_allclose(photons[~dark], np.rint(photons[~dark]), atol=1e-4)


def test_salt_and_pepper_replaces_its_fraction() -> None:
    image = np.full((500, 500), 0.5, np.float32)
    noisy = SaltAndPepperNoise(0.2).apply(image, 0, 1.0)
    assert set(np.unique(noisy)) == {0, 0.5, 1}
    assert np.mean(noisy == 0) == pytest.approx(0.1, abs=0.005)
    assert np.mean(noisy == 1) == pytest.approx(0.1, abs=0.005)
    assert (image == 0.5).all()


@pytest.mark.parametrize("model", [model() for model in NOISE_MODELS.values()], ids=str)
def test_draws_are_fresh_and_repeatable(model: NoiseModel) -> None:
    image = np.full((64, 64), 90, np.float32)
    rng = np.random.default_rng(3)
    first, second = model.apply(image, rng), model.apply(image, rng)
    assert (first != second).any()
    np.testing.assert_array_equal(first, model.apply(image, 3))
    rng = np.random.default_rng(0)
    spreads = [float(model.apply(image, rng).std()) for _ in range(10)]
    assert max(spreads) > 1.3 * min(spreads)  # the level is drawn anew, too


def test_noise_is_not_clipped() -> None:
    noisy = add_gaussian(np.zeros((64, 64), np.uint8), 25, 0)
    assert noisy.min() < -50
    assert noisy.max() > 50


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("sigma", [1.0, 10.0, 80.0])
def test_sigma_of_a_smooth_scene(samples: int, sigma: float) -> None:
    clean = np.repeat(waves(256), samples, axis=2)
    found = estimate_sigma(add_gaussian(clean, sigma, 0) / np.float32(255))
    assert found == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_sigma_of_real_images_is_within_ten_percent(shared_data, sigma: int) -> None:
    for i, path in enumerate(sorted((shared_data / "set12").glob("*.png"))):
        noisy = add_gaussian(iio.imread(path)[..., None], sigma, np.random.default_rng((1, i)))
        assert estimate_sigma(noisy / np.float32(255)) == pytest.approx(sigma, rel=0.1), path.name


@pytest.mark.parametrize("sigma", [5, 25])
def test_sigma_of_tissue_is_within_ten_percent(shared_data, sigma: int) -> None:
    for i, path in enumerate(sorted((shared_data / "cells_crc" / "images").glob("*.png"))):
        noisy = add_gaussian(iio.imread(path)[..., :3], sigma, i)
        assert estimate_sigma(noisy / np.float32(255)) == pytest.approx(sigma, rel=0.1), path.name


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 50, 3), (2, 2, 1), (5, 400, 1), (20, 20, 3)])
def test_sigma_of_small_planes(shape: tuple[int, ...]) -> None:
    found = estimate_sigma(np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32))
    assert 0 <= found < 100
    if min(shape[:2]) >= 5:
        assert found == pytest.approx(25.5, rel=0.2)
    assert estimate_sigma(np.full(shape, 0.3, np.float32)) == 0


def test_masked_and_clipped_parts_do_not_lower_sigma(shared_data) -> None:
    clean = iio.imread(shared_data / "set12" / "02.png")[..., None]
    noisy = add_gaussian(clean, 25, 0) / np.float32(255)
    masked = noisy.copy()
    masked[:, :100] = 0
    assert estimate_sigma(masked) == pytest.approx(25, rel=0.1)
    assert estimate_sigma(np.clip(noisy, 0, 1)) == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize(("gain", "read_noise"), [(0.5, 1.0), (1.0, 3.0), (4.0, 8.0)])
def test_gain_and_read_noise_of_a_known_camera(gain: float, read_noise: float) -> None:
    noisy = PoissonGaussianNoise(gain, 10, read_noise).apply(waves(), 0) / np.float32(255)
    found = estimate_poisson_gaussian(noisy, offset=10)
    assert found.gain == pytest.approx(gain, rel=0.05)
    assert found.read_noise == pytest.approx(read_noise, rel=0.35)  # small beside the photon noise of the darkest parts
    line = estimate_poisson_gaussian(noisy)  # without the offset: the same variance everywhere
    for x in (50, 200):
        variance = line.gain * (x - line.offset) + line.read_noise**2
        assert variance == pytest.approx(gain * (x - 10) + read_noise**2, rel=0.05)


def test_pedestal_is_found_where_read_noise_is_small() -> None:
    noisy = PoissonGaussianNoise(4, 20, 0).apply(waves(), 0) / np.float32(255)
    assert estimate_poisson_gaussian(noisy).offset == pytest.approx(20, abs=3)


@pytest.mark.parametrize("shape", [(4, 4, 1), (64, 64, 1), (64, 64, 3)])
def test_plain_or_small_planes_have_no_gain(shape: tuple[int, ...]) -> None:
    assert estimate_poisson_gaussian(np.zeros(shape, np.float32)).gain == 0
    assert estimate_poisson_gaussian(np.zeros(shape, np.float32), offset=3).offset == 3


def test_isolated_extremes_are_counted_and_edges_are_not() -> None:
    plane = waves(200) / 255
    plane[:, 100:] = 1
    assert isolated_extremes(plane) == 0
    noisy = SaltAndPepperNoise(0.05).apply(waves(200), 0) / 255
    assert isolated_extremes(noisy) == pytest.approx(0.05, abs=0.008)


@pytest.mark.parametrize(
    ("noise", "model", "step"),
    [
        (None, "none", "none"),
        ("gaussian:20", "gaussian", "dncnn"),
        ("poisson:100", "poisson_gaussian", "anscombe"),
        ("salt_and_pepper:0.05", "salt_and_pepper", "median"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_noise_is_named_and_a_step_that_exists_proposed(noise, model: str, step: str, dtype: str) -> None:
    noisy = waves(256)[..., 0] if noise is None else parse_noise(noise).apply(waves(256)[..., 0], 0)
    scale = {"uint8": 1, "uint16": 16, "float32": 1 / 255}[dtype]
    image = noisy * np.float32(scale)
    if dtype != "float32":
        image = np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)
    found = estimate_noise(image, intensity_range=(0, 255 * scale))
    assert (found.model, found.step) == (model, step)
    get_step(found.step, "denoise").validate(dict(found.parameters))
    assert found.sentence.endswith(".")
    if model == "gaussian":
        assert found.sigma == pytest.approx(20, rel=0.05)
        assert found.parameters["sigma"] == pytest.approx(20, rel=0.05)
        assert found.gain == 0
    if model == "poisson_gaussian":
        assert found.gain == pytest.approx(2.55, rel=0.1)


def test_noise_of_stacks_and_colour() -> None:
    rng = np.random.default_rng(0)
    stack = rng.normal(2000, 100, (20, 64, 64)).astype(np.uint16)
    assert estimate_noise(stack, "ZYX", intensity_range=(0, 4095)).sigma == pytest.approx(100 / 4095 * 255, rel=0.05)
    colour = add_gaussian(np.full((64, 64, 4), 128), 12, 0).astype(np.uint8)
    assert estimate_noise(colour, rgb=True).sigma == pytest.approx(12, rel=0.1)
    with pytest.raises(ValueError, match="NaN"):
        estimate_noise(np.full((32, 32), np.nan))


@pytest.mark.parametrize("sigma", [2, 3, 4])
def test_fine_texture_is_not_taken_for_noise_that_grows_with_the_signal(sigma: float) -> None:
    image = data.camera() + np.random.default_rng(0).normal(0, sigma, (512, 512))
    found = estimate_noise(image, intensity_range=(0, 255))
    assert (found.model, found.sigma) == ("gaussian", pytest.approx(sigma, rel=0.2))


@pytest.mark.parametrize("shape", [(200, 1), (1, 80), (3, 1, 50)])
def test_lines_of_pixels_have_no_noise_to_measure(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 2 × 2 are needed"):
        estimate_noise(np.random.default_rng(0).random(shape))
