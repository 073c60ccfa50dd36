"""BM3D: what it removes, and that parts, shapes and flat areas do no harm."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import napari_denoise_classify as ndc
from napari_denoise_classify.core.deepinverse import import_deepinv
from napari_denoise_classify.core.denoise import bm3d as module
from napari_denoise_classify.core.noise import add_gaussian, psnr
from napari_denoise_classify.core.progress import Steps, run
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


@pytest.mark.parametrize(("height", "width", "radius", "stride"), [(38, 44, 7, 3), (16, 48, 5, 4), (33, 33, 19, 5)])
def test_groups_hold_the_nearest_patches(height: int, width: int, radius: int, stride: int) -> None:
    image = np.random.default_rng(0).random((height, width), np.float32)
    found = torch.cat([corners for _, corners in module._matches(torch.from_numpy(image), radius, stride, 8)]).numpy()
    patches = np.lib.stride_tricks.sliding_window_view(image, (8, 8)).astype(float)
    corners = {(y, x): row for row in found for y, x in [divmod(int(row[0]), width)]}
    grid = {(y, x) for y in range(0, height - 7, stride) for x in range(0, width - 7, stride)}
    assert set(corners) == grid
    for (y, x), row in corners.items():
        near = {
            (v, u): ((patches[v, u] - patches[y, x]) ** 2).sum()
            for v in range(max(0, y - radius), min(height - 7, y + radius + 1))
            for u in range(max(0, x - radius), min(width - 7, x + radius + 1))
        }
        assert {divmod(int(i), width) for i in row} == set(sorted(near, key=lambda at: near[at])[:8])


def test_blocks_are_cut_anyhow_to_the_same_pixels(camera: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    x = add_gaussian(camera, 25, 0)[None, ..., None] / 255
    whole = bm3d(x, sigma=25, search_distance=8)
    monkeypatch.setitem(module._BLOCKS, "cpu", 1)
    np.testing.assert_allclose(bm3d(x, sigma=25, search_distance=8), whole, atol=1e-5)


def test_transforms_keep_what_they_should() -> None:
    for matrix in (module._cosine(), module._haar(16), module._haar(32)):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)
    wavelet = module._wavelet()
    np.testing.assert_allclose(np.linalg.norm(wavelet, axis=1), 1)
    np.testing.assert_allclose(wavelet[0], np.full(8, 8**-0.5))  # the mean
    np.testing.assert_allclose(wavelet[1:] @ np.ones(8), 0, atol=1e-12)  # the rest does not see it


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
    seen = [progress for progress, _ in zip(work, range(5), strict=False)]
    assert [p.message for p in seen] == ["plane 1 of 3"] + [""] * 2 + ["plane 2 of 3", ""]
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
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


def test_full_memory_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Steps[torch.Tensor]:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        yield

    monkeypatch.setattr(module, "_stage", full)
    with pytest.raises(MemoryError, match="There is not enough memory: close other programs"):
        bm3d(np.zeros((1, 32, 32, 1), np.float32), sigma=25)
