"""The generalised Anscombe transform: known answers, and denoising photon noise with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.anscombe import Anscombe
from napari_denoise_classify.core.noise import psnr
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.steps import get_step


def photon_image(photons: np.ndarray, camera: Anscombe, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    read = rng.normal(0, camera.read_noise, photons.shape) if camera.read_noise else 0
    return camera.gain * rng.poisson(photons) + camera.offset + read


CAMERAS = [Anscombe(1.0), Anscombe(2.5, offset=100, read_noise=3.0), Anscombe(0.5, offset=-20, read_noise=1.0)]
cameras = pytest.mark.parametrize("camera", CAMERAS, ids=str)


@cameras
@pytest.mark.parametrize("photons", [5, 10, 20, 50, 100, 200])
def test_the_noise_becomes_one(camera: Anscombe, photons: int) -> None:
    image = photon_image(np.full(200_000, photons), camera, seed=photons)
    assert camera.forward(image).std() == pytest.approx(1, rel=0.05)


@cameras
@pytest.mark.parametrize("photons", [2, 5, 10, 20, 50, 200])
def test_the_inverse_has_no_bias(camera: Anscombe, photons: int) -> None:
    image = photon_image(np.full(400_000, photons), camera, seed=photons)
    mean = camera.forward(image).mean()  # what a perfect denoiser returns
    assert (camera.inverse(mean) - camera.offset) / camera.gain == pytest.approx(photons, rel=0.01)
    algebraic = (mean / 2) ** 2 - 3 / 8 - (camera.read_noise / camera.gain) ** 2
    assert algebraic < photons - 0.2  # the plain inverse would be too dark


def test_gaussian_noise_alone_is_only_rescaled() -> None:
    camera = Anscombe(0.0, offset=50, read_noise=4.0)
    values = np.linspace(-10, 200, 50)
    np.testing.assert_allclose(camera.forward(values), (values - 50) / 4)
    np.testing.assert_allclose(camera.inverse(camera.forward(values)), values)


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.floats(0, 100))
def test_the_transform_rises_and_comes_back(gain: float, offset: float, read_noise: float) -> None:
    camera = Anscombe(gain, offset, read_noise)
    values = offset + gain * np.linspace(20, 2000, 200)
    stabilised = camera.forward(values)
    assert (np.diff(stabilised) > 0).all()
    # Off by the quarter of a photon that makes the inverse unbiased.
    np.testing.assert_allclose((camera.inverse(stabilised) - values) / gain, 0.25, atol=0.06)


@given(st.floats(-50, 50))
def test_only_the_line_of_variance_counts(shift: float) -> None:
    """One image does not tell offset from read noise, and need not."""
    camera = Anscombe(2.0, offset=10, read_noise=20.0)
    other = Anscombe(2.0, offset=10 + shift, read_noise=float(np.sqrt(400 + 2 * shift)))
    values = np.linspace(50, 500, 20)
    np.testing.assert_allclose(camera.forward(values), other.forward(values))
    back = camera.forward(np.linspace(300, 500, 20))  # nearer to the offset the two stop at different values
    np.testing.assert_allclose(camera.inverse(back), other.inverse(back))


@pytest.mark.parametrize(("gain", "read_noise"), [(0, 0), (-1, 1), (1, -1), (float("nan"), 1)])
def test_cameras_that_cannot_be(gain: float, read_noise: float) -> None:
    with pytest.raises(ValueError, match="is not allowed: give numbers of at least 0, one of them above 0"):
        Anscombe(gain, 0, read_noise)


def scene(side: int = 96) -> np.ndarray:
    """Dim to bright disks on a ramp, 2 to 100 photons."""
    y, x = np.mgrid[:side, :side] / side
    image = 2 + 8 * x
    for cy, cx, radius, photons in ((0.3, 0.3, 0.15, 100), (0.7, 0.6, 0.2, 50), (0.2, 0.75, 0.12, 25)):
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = photons
    return image


@pytest.mark.parametrize("method", ["nlm", "wavelet", "tv", "bilateral", "bm3d"])
def test_photon_noise_goes_away_better_than_without(method: str) -> None:
    clean = scene()
    noisy = photon_image(clean, Anscombe(1.0)).astype(np.float32)
    plain = ndc.denoise(noisy, method, intensity_range=(0, 128))
    better = ndc.denoise(noisy, "anscombe", denoiser=method, gain=1, offset=0, read_noise=0, intensity_range=(0, 128))
    gain = psnr(clean, better, 100) - psnr(clean, noisy, 100)
    assert gain > {"bilateral": 3, "wavelet": 4}.get(method, 5)
    assert psnr(clean, better, 100) > psnr(clean, plain, 100)
    assert better.mean() == pytest.approx(clean.mean(), rel=0.03)


def test_the_camera_is_estimated() -> None:
    clean = scene(192)
    camera = Anscombe(3.0, offset=50, read_noise=4.0)
    noisy = photon_image(clean, camera)
    truth = clean * camera.gain + camera.offset
    known = ndc.denoise(
        noisy, "anscombe", denoiser="wavelet", gain=camera.gain, offset=camera.offset, read_noise=camera.read_noise
    )
    estimated = ndc.denoise(noisy, "anscombe", denoiser="wavelet")
    partly = ndc.denoise(noisy, "anscombe", denoiser="wavelet", read_noise=camera.read_noise)
    assert psnr(truth, known, 300) > psnr(truth, noisy, 300) + 5
    for image in (estimated, partly):
        assert psnr(truth, image, 300) > psnr(truth, known, 300) - 0.7


@pytest.mark.parametrize("intensity_range", [None, (0, 100), (-50, 1000)])
def test_the_camera_is_in_the_image_s_own_units(intensity_range: tuple[float, float] | None) -> None:
    noisy = photon_image(scene(48), Anscombe(1.0))
    camera = {"gain": 1.0, "offset": 0.0, "read_noise": 0.0}
    expected = ndc.denoise(noisy, "anscombe", denoiser="wavelet", **camera, intensity_range=(0, 255))
    out = ndc.denoise(noisy, "anscombe", denoiser="wavelet", **camera, intensity_range=intensity_range)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
    scaled = {name: 10 * value for name, value in camera.items()}
    tenfold = ndc.denoise(noisy * 10, "anscombe", denoiser="wavelet", **scaled, intensity_range=intensity_range)
    np.testing.assert_allclose(tenfold, 10 * expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(20, 24), (1, 1), (3, 5), (2, 20, 24)])
@pytest.mark.parametrize("gain", [None, 2.0])
def test_a_constant_image_stays_as_it_is(dtype: str, shape: tuple[int, ...], gain: float | None) -> None:
    image = np.full(shape, 77, dtype)
    np.testing.assert_array_equal(ndc.denoise(image, "anscombe", denoiser="nlm", gain=gain), image)


@pytest.mark.parametrize("method", ["nlm", "dncnn"])
def test_shapes_and_planes(method: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.poisson(30, (2, 24, 28, 3)).astype(np.uint8)
    out = ndc.denoise(image, "anscombe", "TYXS", denoiser=method, gain=1, offset=0, read_noise=0)
    assert out.shape == image.shape
    assert out.dtype == image.dtype
    assert out.std() < image.std() / 2
    np.testing.assert_array_equal(
        out[1], ndc.denoise(image[1], "anscombe", "YXS", denoiser=method, gain=1, offset=0, read_noise=0)
    )


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (1, 40)])
def test_tiny_images(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).poisson(30, shape).astype(np.float32)
    out = ndc.denoise(image, "anscombe", denoiser="wavelet")
    assert out.shape == shape
    assert np.isfinite(out).all()


def test_a_camera_with_a_single_bright_pixel() -> None:
    """A span far beyond what a noise level of 0.1 to 255 can say."""
    image = np.full((1, 32, 32, 1), 0.0, np.float32)
    image[0, 5, 5] = 1
    spec = get_step("anscombe")
    parameters = spec.validate({"denoiser": "tv", "gain": 1e-4, "offset": 0, "read_noise": 0})
    out = run(spec.run_iter(image, np.array([[0.0, 1e6]]), parameters))
    np.testing.assert_allclose(out, image, atol=0.02)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"gain": 0}, "anscombe: gain=0 is not allowed; give a number from 1e-06 to 1000000, or nothing."),
        ({"gain": -1}, "anscombe: gain=-1 is not allowed"),
        ({"read_noise": -1}, "anscombe: read_noise=-1 is not allowed"),
        ({"offset": np.inf}, "anscombe: offset=inf is not allowed"),
        ({"denoiser": "median"}, "anscombe: denoiser='median' is not allowed; give one of 'bm3d'"),
    ],
)
def test_bad_parameters(parameters: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ndc.denoise(np.ones((8, 8)), "anscombe", **parameters)


@pytest.mark.parametrize(("denoiser", "weights"), [("dncnn", ["dncnn_gray_blind"]), ("bm3d", [])])
def test_the_record_names_the_weights_of_the_denoiser_within(denoiser: str, weights: list[str]) -> None:
    (details,) = ndc.Recipe([("anscombe", {"denoiser": denoiser})]).record()["details"]
    assert [details[key] for key in details if key == "weights"] == weights
    assert ("sha256" in details) == bool(weights)
