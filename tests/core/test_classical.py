"""Denoising without networks: known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage as ndi

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.classical import gaussian, median

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
