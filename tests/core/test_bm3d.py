"""BM3D: what it removes, and that parts, shapes and flat areas do no harm."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.core.deepinverse import import_deepinv
from napari_denoise_classify.core.denoise import bm3d as module
from napari_denoise_classify.core.noise import add_gaussian, psnr
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.steps import get_step

FAST = {"search_distance": 8, "stride": 4}


def bm3d(planes: np.ndarray, **parameters: object) -> np.ndarray:
    spec = get_step("bm3d")
    return run(spec.run_iter(planes, np.array([[0.0, 255.0]] * len(planes)), spec.validate(parameters)))


@pytest.fixture(scope="module")
def camera() -> np.ndarray:
    from skimage.data import camera

    return camera()[140:212, 200:272]


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    from skimage.data import chelsea

    return chelsea()[60:124, 130:194]


def test_noise_goes_away(camera: np.ndarray) -> None:
    noisy = add_gaussian(camera, 25, 0)
    before = psnr(camera, noisy)
    known = psnr(camera, ndc.denoise(noisy, "bm3d", sigma=25, intensity_range=(0, 255)))
    assert known > before + 7.5
    others = [ndc.denoise(noisy, step, sigma=25, intensity_range=(0, 255)) for step in ("nlm", "tv", "wavelet")]
    assert known > max(psnr(camera, image) for image in others)
    assert psnr(camera, ndc.denoise(noisy, "bm3d", intensity_range=(0, 255))) > known - 1


def test_colour_is_used(cat: np.ndarray) -> None:
    noisy = add_gaussian(cat, 25, 0)
    together = ndc.denoise(noisy, "bm3d", rgb=True, sigma=25, intensity_range=(0, 255))
    apart = np.stack([ndc.denoise(noisy[..., s], "bm3d", sigma=25, intensity_range=(0, 255)) for s in range(3)], -1)
    assert psnr(cat, together) > psnr(cat, noisy) + 9
    assert psnr(cat, together) > psnr(cat, apart) + 0.5


def test_parts_show_no_borders(camera: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    x = add_gaussian(camera, 25, 0)[None, ..., None] / 255
    whole = bm3d(x, sigma=25, search_distance=8)
    monkeypatch.setitem(module._TILE, "cpu", 35)
    parts = bm3d(x, sigma=25, search_distance=8)
    assert not np.array_equal(parts, whole)
    # The grid of groups starts anew in each part: pixels move by a fraction of the noise, the quality by nothing.
    difference = np.abs(parts - whole) * 255
    assert np.sqrt((difference**2).mean()) < 25 / 15
    assert difference.max() < 25
    clean = camera[None, ..., None] / 255
    assert psnr(clean, parts, 1) == pytest.approx(psnr(clean, whole, 1), abs=0.05)


@pytest.mark.parametrize("sigma", [None, 20.0])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 5, 1), (1, 3, 5, 3), (1, 1, 40, 3), (2, 24, 17, 1), (2, 20, 30, 3)]
)
def test_every_shape_is_kept(sigma: float | None, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    before = x.copy()
    out = bm3d(x, sigma=sigma, **FAST)
    assert out.shape == shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(out, bm3d(x, sigma=sigma, **FAST))
    for i in range(len(x)):  # planes do not mix
        np.testing.assert_array_equal(out[i], bm3d(x[i : i + 1], sigma=sigma, **FAST)[0])


@pytest.mark.parametrize("sigma", [None, 0.1, 25.0, 255.0])
@pytest.mark.parametrize("shape", [(12, 12), (1, 1), (40, 33), (30, 25, 3)])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_nothing_happens_to_constant_images(sigma: float | None, shape: tuple[int, ...], value: int) -> None:
    image = np.full(shape, value, np.uint8)
    out = ndc.denoise(image, "bm3d", rgb=len(shape) == 3, sigma=sigma, **FAST)
    np.testing.assert_array_equal(out, image)


@pytest.mark.parametrize("value", [60, 255])
def test_flat_areas_get_no_holes(value: int) -> None:
    """Saturated and masked areas: all candidates are equal, and the patch itself need not be among the chosen."""
    image = add_gaussian(np.full((64, 64), 128.0), 10, 0)
    image[:40, :40] = value
    out = ndc.denoise(image, "bm3d", sigma=10, intensity_range=(0, 255))
    np.testing.assert_allclose(out[:36, :36], value, atol=1.0)


def test_the_scale_of_the_image_does_not_count(camera: np.ndarray) -> None:
    image = add_gaussian(camera[:32, :32], 15, 0)
    out = ndc.denoise(image, "bm3d", sigma=15, intensity_range=(0, 255), **FAST)
    other = ndc.denoise(image * 40, "bm3d", sigma=15, intensity_range=(0, 255 * 40), **FAST)
    assert np.sqrt(np.mean((other / 40 - out) ** 2)) < 0.1


def test_work_can_be_left_between_planes() -> None:
    spec = get_step("bm3d")
    x = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    work = spec.run_iter(x, np.array([[0.0, 1.0]] * 3), spec.validate({"sigma": 10, **FAST}))
    fractions = [next(work).fraction for _ in range(4)]
    assert fractions == pytest.approx([0, 0, 1 / 3, 2 / 3])
    work.close()


@pytest.mark.parametrize(
    "parameters", [{"sigma": 0}, {"sigma": np.nan}, {"search_distance": 4}, {"search_distance": 41}, {"stride": 0}]
)
def test_bad_parameters(parameters: dict[str, float]) -> None:
    (name,) = parameters
    with pytest.raises(ValueError, match=f"bm3d: {name}=.* is not allowed; give a"):
        ndc.denoise(np.ones((8, 8)), "bm3d", **parameters)


def test_deepinverse_is_there() -> None:
    assert hasattr(import_deepinv().models, "BM3D")


def test_without_deepinverse_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepinv", None)  # what Python itself does for modules that must not be imported
    with pytest.raises(
        ImportError, match=r"DeepInverse cannot be loaded \(.*\): install it .* pip install --upgrade deepinv"
    ):
        import_deepinv()


def test_a_torchvision_that_does_not_fit_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deepinv.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    for name in [name for name in sys.modules if name.split(".")[0] == "deepinv"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"operator torchvision::nms does not exist.*torchvision that fit each other"):
        import_deepinv()
