"""The step that is trained on the image that it denoises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.core.denoise.weights import registry
from napari_denoise_classify.core.noise import psnr


def clean(samples: int = 1, height: int = 64, width: int = 70) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / 9
    image = 0.5 + 0.35 * np.sin(rows)[..., None] * np.cos(columns + np.zeros(1))[..., None]
    return image.repeat(samples, -1)[..., 0] if samples == 1 else image.repeat(samples, -1)


def noisy(samples: int = 1, dtype: Any = np.uint8, **size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = 255 * (clean(samples, **size) + rng.normal(0, 0.15, clean(samples, **size).shape))
    return np.clip(np.rint(image), 0, 255).astype(dtype)


def denoise(image: np.ndarray, steps: int = 3, **parameters: Any) -> np.ndarray:
    rgb = image.ndim > 2 and image.shape[-1] == 3
    return ndc.denoise(image, "self_supervised", rgb=rgb, training_steps=steps, **parameters)


@pytest.mark.parametrize("loss", ["auto", "neighbour2neighbour", "blind_spot", "r2r", "sure"])
@pytest.mark.parametrize("samples", [1, 3])
def test_shape_and_dtype_stay(loss: str, samples: int) -> None:
    image = noisy(samples, height=40, width=45)
    out = denoise(image, loss=loss)
    assert (out.shape, out.dtype) == (image.shape, image.dtype)


@pytest.mark.parametrize(
    ("noise", "dtype"), [("other", "uint8"), ("auto", "uint8"), ("gaussian", "float32"), ("poisson_gaussian", "uint16")]
)
def test_noise_is_removed(noise: str, dtype: str) -> None:
    image = noisy(dtype=dtype)
    out = denoise(image, 100, noise=noise)
    assert out.dtype == dtype
    assert psnr(255 * clean(), out) > psnr(255 * clean(), image) + 2


@pytest.mark.parametrize("samples", [1, 3])
def test_it_starts_with_what_the_shipped_network_knows(samples: int) -> None:
    image = noisy(samples, np.float32)
    assert psnr(255 * clean(samples), denoise(image, 1)) > psnr(255 * clean(samples), image) + 6


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_unit_of_intensities_changes_nothing(factor: float) -> None:
    image = noisy(dtype=np.float64, height=40, width=40)
    expected = denoise(image.astype(np.float32), 1)
    np.testing.assert_allclose(denoise((image * factor).astype(np.float32), 1) / factor, expected, atol=0.5)


@pytest.mark.parametrize(("samples", "name"), [(1, "dncnn_gray_blind"), (3, "dncnn_rgb_blind")])
def test_the_record_tells_what_it_started_from(samples: int, name: str) -> None:
    (step,) = ndc.Recipe(["self_supervised"]).record(samples)["details"]
    assert step == {"weights": name, "sha256": registry()[name].sha256}


def test_the_seed_decides() -> None:
    image = noisy(height=40, width=40).astype(np.float32)
    first, again, other = (denoise(image, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(32, 32), (33, 100), (63, 40), (64, 64), (71, 71), (95, 96), (97, 99)])
def test_sizes(shape: tuple[int, int]) -> None:
    image = noisy(height=shape[0], width=shape[1]).astype(np.float32)
    out = denoise(image, 1)
    assert out.shape == shape
    assert (out != image).any()  # something was learnt, and kept


def test_stacks_train_on_all_planes() -> None:
    stack = np.stack([noisy(height=40, width=40)] * 3)
    assert denoise(stack).shape == stack.shape


@pytest.mark.parametrize("shape", [(31, 200), (200, 31), (1, 1)])
def test_too_small_images_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 32 × 32 pixels"):
        denoise(np.zeros(shape, np.uint8))


def test_bad_parameters() -> None:
    for bad in ({"loss": "mae"}, {"noise": "salt"}, {"steps": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="is not allowed"):
            denoise(noisy(), **bad)


def test_constant_images_stay() -> None:
    image = np.full((40, 40), 7, np.uint16)
    np.testing.assert_array_equal(denoise(image), image)


def test_photon_noise_is_made_even_first() -> None:
    truth = 20 + 200 * clean(height=64, width=64)
    photons = np.random.default_rng(1).poisson(truth / 8).astype(np.float32) * 8
    out = ndc.denoise(photons, "self_supervised", training_steps=100, noise="poisson_gaussian")
    assert abs(out.mean() - truth.mean()) < 0.03 * truth.mean()  # the way back has no bias
    assert psnr(truth, out) > psnr(truth, photons) + 3
