"""Denoising without networks: known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage as ndi

import napari_denoise_classify as ndc
from napari_denoise_classify.core import estimation
from napari_denoise_classify.core.denoise import self_supervision
from napari_denoise_classify.core.denoise.classical import from_opponent, gaussian, median, opponent
from napari_denoise_classify.core.noise import add_gaussian, psnr
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.steps import get_step

NOISE_AWARE = ("bilateral", "tv", "wavelet", "nlm")
noise_aware = pytest.mark.parametrize("step", NOISE_AWARE)


def apply(step: str, planes: np.ndarray, **parameters: object) -> np.ndarray:
    spec = get_step(step)
    return run(spec.run_iter(planes, np.array([[0.0, 255.0]] * len(planes)), spec.validate(parameters)))


@pytest.fixture(scope="module")
def camera() -> np.ndarray:
    from skimage.data import camera

    return camera()[130:258, 180:308]  # sky, coat, face and camera


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    from skimage.data import chelsea

    return chelsea()[60:156, 120:216]


planes = st.sampled_from([1, 3]).flatmap(
    lambda samples: npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.just(samples)),
        elements=st.floats(0, 1, width=32),
    )
)
odd = st.integers(0, 5).map(lambda n: 2 * n + 1)


@given(planes, odd)
def test_median_is_scipys(x: np.ndarray, kernel_size: int) -> None:
    expected = ndi.median_filter(x, size=(1, kernel_size, kernel_size, 1), mode="nearest")
    np.testing.assert_array_equal(median(x, kernel_size=kernel_size), expected)


@given(planes, odd)
def test_gaussian_keeps_shape_and_limits(x: np.ndarray, kernel_size: int) -> None:
    out = gaussian(x, kernel_size=kernel_size)
    assert out.shape == x.shape
    assert out.dtype == np.float32
    assert out.min() >= x.min() - 1e-6
    assert out.max() <= x.max() + 1e-6


@pytest.mark.parametrize("blur_sigma", [None, 0.7, 3.0])
def test_gaussian_of_a_point_is_the_kernel(blur_sigma: float | None) -> None:
    x = np.zeros((1, 21, 21, 1), np.float32)
    x[0, 10, 10] = 1
    sigma = blur_sigma or 0.3 * ((7 - 1) / 2 - 1) + 0.8
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    out = gaussian(x, kernel_size=7, blur_sigma=blur_sigma)[0, ..., 0]
    if blur_sigma is not None:  # without one OpenCV takes a table of its own for small kernels
        np.testing.assert_allclose(out[7:14, 7:14], np.outer(kernel, kernel), atol=1e-6)
    assert out.sum() == pytest.approx(1)
    assert np.count_nonzero(out) <= 49
    np.testing.assert_allclose(out, out.T, atol=1e-7)


def test_gaussian_reflects_at_the_border() -> None:
    x = np.random.default_rng(0).random((1, 9, 9, 1), np.float32)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_allclose(gaussian(x, kernel_size=5), gaussian(padded, kernel_size=5)[:, 2:-2, 2:-2], atol=1e-6)


@pytest.mark.parametrize("step", ["gaussian", "median"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_a_constant_image_stays_as_it_is(step: str, dtype: str) -> None:
    image = np.full((3, 12, 12), 77, dtype)
    np.testing.assert_array_equal(ndc.denoise(image, step, kernel_size=9), image)


def test_median_removes_single_bad_pixels_and_keeps_edges() -> None:
    image = np.zeros((20, 20), np.uint16)
    image[:, 10:] = 1000
    bad = image.copy()
    bad[5, 5], bad[12, 15] = 65535, 0
    np.testing.assert_array_equal(ndc.denoise(bad, "median", kernel_size=3), image)


def test_planes_and_samples_do_not_mix() -> None:
    image = np.zeros((3, 16, 16, 3), np.uint8)
    image[1, ..., 2] = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    for step in ("gaussian", "median"):
        out = ndc.denoise(image, step, "ZYXS")
        np.testing.assert_array_equal(out[1, ..., 2], ndc.denoise(image[1, ..., 2], step))
        out[1, ..., 2] = 0
        assert not out.any()


@pytest.mark.parametrize("kernel_size", [0, -1, 4, 3.5, "big", None, 999])
@pytest.mark.parametrize("step", ["gaussian", "median"])
def test_bad_kernels(step: str, kernel_size: object) -> None:
    with pytest.raises(ValueError, match=f"{step}: kernel_size=.*odd whole number from 1 to"):
        ndc.denoise(np.ones((8, 8)), step, kernel_size=kernel_size)


@pytest.mark.parametrize("blur_sigma", [0, -1, np.nan, np.inf])
def test_bad_blur_widths(blur_sigma: float) -> None:
    with pytest.raises(ValueError, match="gaussian: blur_sigma="):
        ndc.denoise(np.ones((8, 8)), "gaussian", blur_sigma=blur_sigma)


@pytest.mark.parametrize(("step", "gain"), [("bilateral", 5.5), ("tv", 6.0), ("wavelet", 5.5), ("nlm", 6.5)])
def test_noise_goes_away(camera: np.ndarray, step: str, gain: float) -> None:
    noisy = add_gaussian(camera, 25, 0)
    before = psnr(camera, noisy)
    known = ndc.denoise(noisy, step, sigma=25, intensity_range=(0, 255))
    assert psnr(camera, known) > before + gain
    estimated = ndc.denoise(noisy, step, intensity_range=(0, 255))
    assert psnr(camera, estimated) > before + gain - 1


@noise_aware
def test_noise_goes_away_from_colour_images(cat: np.ndarray, step: str) -> None:
    noisy = add_gaussian(cat, 25, 0)
    together = psnr(cat, ndc.denoise(noisy, step, rgb=True, sigma=25, intensity_range=(0, 255)))
    apart = psnr(
        cat, np.stack([ndc.denoise(noisy[..., s], step, sigma=25, intensity_range=(0, 255)) for s in range(3)], -1)
    )
    assert together > psnr(cat, noisy) + 6
    assert together > apart


@pytest.mark.parametrize("step", ["bilateral", "tv", "nlm"])
def test_more_strength_is_smoother(camera: np.ndarray, step: str) -> None:
    noisy = add_gaussian(camera, 25, 0)
    rough = [np.abs(np.diff(ndc.denoise(noisy, step, sigma=25, strength=s))).mean() for s in (0.3, 1, 3)]
    assert rough == sorted(rough, reverse=True)


@noise_aware
@pytest.mark.parametrize("sigma", [None, 20.0])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 5, 1), (1, 3, 5, 3), (1, 1, 40, 3), (3, 24, 17, 1), (2, 20, 30, 3)]
)
def test_every_shape_is_kept(step: str, sigma: float | None, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    before = x.copy()
    out = apply(step, x, sigma=sigma)
    assert out.shape == shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(out, apply(step, x, sigma=sigma))
    for i in range(len(x)):  # planes do not mix
        np.testing.assert_array_equal(out[i], apply(step, x[i : i + 1], sigma=sigma)[0])


@noise_aware
@pytest.mark.parametrize("sigma", [None, 0.1, 25.0, 255.0])
@pytest.mark.parametrize("shape", [(12, 12), (1, 1), (30, 25, 3)])
def test_nothing_happens_to_constant_images(step: str, sigma: float | None, shape: tuple[int, ...]) -> None:
    for value in (0, 77, 255):
        image = np.full(shape, value, np.uint8)
        out = ndc.denoise(image, step, rgb=len(shape) == 3, sigma=sigma)
        np.testing.assert_array_equal(out, image)


@noise_aware
def test_the_scale_of_the_image_does_not_count(camera: np.ndarray, step: str) -> None:
    image = add_gaussian(camera[:48, :48], 15, 0)
    out = ndc.denoise(image, step, sigma=15, intensity_range=(0, 255))
    other = ndc.denoise(image * 40 - 1000, step, sigma=15, intensity_range=(-1000, 255 * 40 - 1000))
    np.testing.assert_allclose((other + 1000) / 40, out, atol=0.05)


@given(planes)
def test_colour_differences_come_back_and_keep_noise_as_it_is(x: np.ndarray) -> None:
    y = opponent(x)
    np.testing.assert_allclose(from_opponent(y), x, atol=1e-6)
    np.testing.assert_allclose((y**2).sum(-1), (x**2).sum(-1), atol=1e-5)
    if x.shape[-1] == 3:
        grey = np.repeat(x[..., :1], 3, axis=-1)
        np.testing.assert_allclose(opponent(grey)[..., 1:], 0, atol=1e-6)


def test_the_wavelets_shifts_leave_no_seam(camera: np.ndarray) -> None:
    """Without noise to speak of nothing moves, whatever the shifts and however small the image."""
    for side in (5, 31, 32, 50):
        x = camera[None, :side, :side, None].astype(np.float32) / 255
        for shifts in (1, 3, 8):
            np.testing.assert_allclose(apply("wavelet", x, sigma=0.1, shifts=shifts), x, atol=0.01)


@pytest.mark.parametrize("step", ["nlm", "tv"])
def test_parts_show_no_borders(camera: np.ndarray, step: str) -> None:
    """Images larger than a part look as if they had been done at once."""
    side = {"nlm": 512, "tv": 1024}[step]
    tall = np.tile(add_gaussian(camera[:, :32], 25, 0) / 255, (side // 128 + 1, 1))[None, ..., None]
    out = apply(step, tall, sigma=25)
    middle = tall.shape[1] // 2  # where the two parts meet
    window = apply(step, tall[:, middle - 150 : middle + 150], sigma=25)
    np.testing.assert_allclose(out[0, middle - 50 : middle + 50], window[0, 100:200], atol=2e-3)


@noise_aware
def test_work_can_be_watched_and_left(step: str) -> None:
    spec = get_step(step)
    x = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    work = spec.run_iter(x, np.array([[0.0, 1.0]] * 4), spec.validate({"sigma": 10}))
    fractions = [next(work).fraction for _ in range(4)]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    work.close()


@pytest.mark.parametrize("step", ["bilateral", "tv", "wavelet", "nlm", "bm3d", "self_supervised"])
def test_measuring_the_noise_can_be_left_after_each_plane(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    for name in ("estimate_sigma", "estimate_poisson_gaussian"):
        measure = getattr(estimation, name)

        def counted(*given: object, measure: Any = measure) -> object:
            measured.append(1)
            return measure(*given)

        for module in (estimation, self_supervision):
            monkeypatch.setattr(module, name, counted, raising=False)
    planes = np.random.default_rng(0).random((6, 40, 40, 1), np.float32)
    spec = get_step(step)
    work = spec.run_iter(planes, np.array([[0.0, 1.0]] * 6), spec.validate({}))
    seen = [(next(work), len(measured)) for _ in range(6)]
    work.close()
    counts = [count for _, count in seen]
    assert counts == [counts[1] * k for k in range(6)]
    assert counts[1] > 0
    assert "measuring the noise of plane 6 of 6" in seen[-1][0].message


@noise_aware
@pytest.mark.parametrize("sigma", [0, -1, 256, np.nan, "much"])
def test_bad_noise_levels(step: str, sigma: object) -> None:
    with pytest.raises(ValueError, match=f"{step}: sigma=.* is not allowed; give a number from 0.1 to 255, or nothing"):
        ndc.denoise(np.ones((8, 8)), step, sigma=sigma)
