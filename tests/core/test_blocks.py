"""Planes in blocks: the same result as whole planes, in bounded memory, and no more read than needed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_denoise_classify import Recipe, steps
from napari_denoise_classify.core import steps as steps_module
from napari_denoise_classify.core.blocks.lazy import lazily
from napari_denoise_classify.core.blocks.plan import plan_blocks, with_halo
from napari_denoise_classify.core.blocks.writing import write_iter
from napari_denoise_classify.core.device import MEMORY_VARIABLE
from napari_denoise_classify.core.images import PlaneImage
from napari_denoise_classify.core.progress import Progress, run
from napari_denoise_classify.core.steps import Reach, get_step, step

LOCAL: list[Any] = [
    "none",
    ("gaussian", {"kernel_size": 1}),
    ("gaussian", {"kernel_size": 9, "blur_sigma": 4.0}),
    ("median", {"kernel_size": 3}),
    ("median", {"kernel_size": 7}),
    ("bilateral", {"sigma": 25.0, "strength": 1.0, "width": 0.7}),
    ("nlm", {"sigma": 20.0, "patch_size": 3, "search_distance": 3}),
    ("anscombe", {"denoiser": "bilateral", "gain": 3.0, "offset": 100.0, "read_noise": 5.0}),
]
AXES = {"YX": (), "ZYX": (2,), "TCYX": (2, 1), "YXS": (), "SYX": (), "XYZ": (2,)}


def draw(axes: str, height: int, width: int, dtype: str, seed: int) -> np.ndarray:
    """Noise on waves, with a range that differs from plane to plane."""
    sizes = {"Y": height, "X": width, "S": 3, "Z": 2, "T": 2, "C": 1}
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 120, [sizes[a] for a in axes])
    for name, length in (("Y", 9.0), ("X", 14.0)):
        shape = [-1 if a == name else 1 for a in axes]
        image = image + 60 * np.sin(np.arange(sizes[name]) / length).reshape(shape)
    image = image - image.min()
    if dtype == "float32":
        return (image / image.max()).astype(dtype)
    return (image * (np.iinfo(dtype).max / image.max() / 4)).astype(dtype)


def in_blocks(recipe: Recipe, image: np.ndarray, axes: str, block: int, how: Any = None) -> np.ndarray:
    source = PlaneImage.wrap(image, axes)
    height, width = (n * recipe.upscale for n in source.plane_shape)
    out = np.zeros((*source.lead_shape, height, width, *([3] if source.rgb else [])), image.dtype)
    run(write_iter(recipe, source, source.ranges(how or "image"), out, block=block, chunk=1))
    return source.unwrap(out)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:  # one level, where a value lies on the edge between two
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


# --- equal to whole planes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", LOCAL, ids=str)
@given(
    axes=st.sampled_from(sorted(AXES)),
    height=st.integers(40, 90),
    width=st.integers(40, 90),
    block=st.integers(16, 60),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=6)
def test_blocks_give_what_whole_planes_give(
    step: Any, axes: str, height: int, width: int, block: int, dtype: str, seed: int
) -> None:
    recipe = Recipe([step])
    image = draw(axes, height, width, dtype, seed)
    _check(recipe, image, axes, block)


@pytest.mark.parametrize("step", ["dncnn", "irunet", "unet", ("unet", {"self_ensemble": True})])
@given(
    axes=st.sampled_from(["YX", "ZYX", "SYX"]),
    side=st.integers(50, 90),
    block=st.integers(30, 60),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
@settings(max_examples=3)
def test_blocks_of_networks_give_what_whole_planes_give(
    step: Any, axes: str, side: int, block: int, dtype: str
) -> None:
    _check(Recipe([step]), draw(axes, side, 64, dtype, 0), axes, block)


def _check(recipe: Recipe, image: np.ndarray, axes: str, block: int) -> None:
    expected = recipe.apply(image, axes)
    assert_same(in_blocks(recipe, image, axes, block), expected)
    lazy = dask.array.from_array(image, chunks=31)
    source = PlaneImage.wrap(lazy, axes)
    result = lazily(recipe, source, source.ranges("image"), block, 1)
    assert_same(result.compute(scheduler="synchronous"), expected)


def test_large_blocks_of_a_network_with_many_stages() -> None:
    image = draw("YX", 700, 460, "float32", 0)
    recipe = Recipe(["irunet"])
    reach = recipe.reach()
    assert reach is not None
    assert reach.multiple == 16
    assert 176 + 2 * reach.halo < 700
    assert_same(in_blocks(recipe, image, "YX", 176), recipe.apply(image))


def test_the_reach_of_steps_adds_up() -> None:
    recipe = Recipe([("gaussian", {"kernel_size": 9}), ("median", {"kernel_size": 5}), "unet"])
    alone = Recipe(["unet"]).reach()
    assert alone is not None
    assert recipe.reach() == Reach(4 + 2 + alone.halo, alone.multiple)
    image = draw("YX", 300, 250, "float32", 1)
    assert_same(in_blocks(recipe, image, "YX", 80), recipe.apply(image))


def test_enlarging_in_blocks(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from napari_denoise_classify.core.denoise.networks.unet import UNet

    torch.manual_seed(0)
    network = UNet(1, 2, 2, upscale=2)
    torch.nn.init.normal_(network.tail.weight, std=0.2)
    path = tmp_path / "twice.safetensors"
    save_file(network.state_dict(), path)
    recipe = Recipe([("unet", {"upscale": 2, "weights": str(path)}), "gaussian"])
    image = draw("YX", 150, 130, "float32", 2)
    assert_same(in_blocks(recipe, image, "YX", 48), recipe.apply(image))


def test_bm3d_differs_only_where_patches_are_alike_to_the_last_digit() -> None:
    image = draw("YX", 220, 200, "float32", 3)
    recipe = Recipe([("bm3d", {"sigma": 25.0, "search_distance": 5, "stride": 3})])
    assert recipe.reach() == Reach(34, 3)
    difference = np.abs(in_blocks(recipe, image, "YX", 90) - recipe.apply(image))
    assert difference.mean() < 1e-4  # of a range of 1: far below a grey level
    assert np.quantile(difference, 0.99) < 1e-3


def test_the_reach_of_attention_networks_is_not_exact() -> None:
    reach = Recipe(["restormer"]).reach()
    assert reach is not None
    assert not reach.exact
    image = draw("YX", 256, 256, "float32", 0)
    difference = in_blocks(Recipe(["restormer"]), image, "YX", 128) - Recipe(["restormer"]).apply(image)
    assert np.abs(difference).mean() < 0.005


@pytest.mark.parametrize("axes", ["YX", "ZXY", "SYX"])
def test_blocks_that_are_not_exact_fade_into_each_other(monkeypatch: pytest.MonkeyPatch, axes: str) -> None:
    monkeypatch.setattr(steps_module, "_registry", dict(steps_module._registry))

    @step("centred", kind="denoise", title="Centred", halo=lambda samples: Reach(4, 1, exact=False))
    def centred(planes: np.ndarray) -> np.ndarray:
        return planes - planes.mean(axis=(1, 2), keepdims=True)

    recipe = Recipe(["centred"], (0.0, 1.0))
    shape = [{"Y": 400, "X": 300, "Z": 2, "S": 3}[a] for a in axes]
    image = np.zeros(shape, np.float32)
    y, x = axes.index("Y"), axes.index("X")
    image += np.linspace(0, 1, 400).reshape([-1 if i == y else 1 for i in range(len(axes))]).astype(np.float32)
    image += np.linspace(0, 2, 300).reshape([-1 if i == x else 1 for i in range(len(axes))]).astype(np.float32)
    result = in_blocks(recipe, image, axes, 150)
    hard = in_blocks(Recipe(["none"], (0.0, 1.0)), image, axes, 150)
    for axis in (y, x):
        assert np.abs(np.diff(result, axis=axis)).max() < 0.03  # each block has a mean of its own, 0.4 or more apart
        assert np.abs(np.diff(hard, axis=axis)).max() < 0.03
    assert np.ptp(result) < 0.8 * np.ptp(image)
    source = PlaneImage.wrap(dask.array.from_array(image, chunks=70), axes)
    looked_at = lazily(recipe, source, source.ranges("image"), 150, 1)
    np.testing.assert_allclose(np.asarray(looked_at), result, atol=1e-6)
    corner = tuple(slice(10) if a in "YX" else slice(None) for a in axes)
    np.testing.assert_allclose(np.asarray(looked_at[corner]), result[corner], atol=1e-6)


@pytest.mark.parametrize(
    "step",
    [
        "bilateral",
        "nlm",
        "bm3d",
        "drunet",
        "tv",
        ("wavelet", {"sigma": 25}),
        "anscombe",
        ("anscombe", {"denoiser": "dncnn", "gain": 1.0, "offset": 0.0, "read_noise": 1.0}),
        "centre",
        "random",
        "kmeans",
    ],
    ids=str,
)
def test_what_needs_the_whole_plane(step: Any) -> None:
    """Where a noise level is estimated, it is that of the whole plane; and masks are of the whole plane."""
    recipe = Recipe(["gaussian", step])
    assert recipe.reach() is None
    if recipe.masks:
        return
    image = draw("YX", 60, 50, "float32", 4)
    if step != "drunet":  # its weights are not here
        np.testing.assert_array_equal(in_blocks(recipe, image, "YX", 16), recipe.apply(image))


def test_every_step_that_denoises_is_either_local_or_known_not_to_be() -> None:
    declared = {s.id for s in steps("denoise") if s.halo is not None}
    assert {s.id for s in steps("denoise")} - declared == {"tv", "wavelet", "self_supervised"}
    assert not any(s.halo for s in steps("mask"))


# --- the plan -------------------------------------------------------------------------------------------------------


@given(
    length=st.integers(1, 500),
    multiple=st.sampled_from([1, 2, 3, 8]),
    chunk=st.sampled_from([1, 4, 16]),
    block=st.integers(8, 200),
    halo=st.integers(0, 40),
)
def test_blocks_cover_a_plane_once_and_begin_on_multiples(
    length: int, multiple: int, chunk: int, block: int, halo: int
) -> None:
    reach = Reach(halo, multiple)
    rows, columns = plan_blocks(length, 7, reach, block, chunk)
    assert [i for s in rows for i in range(s.start, s.stop)] == list(range(length))
    assert len(columns) >= 1
    for s in rows:
        assert s.start % multiple == s.start % chunk == 0
        outer = with_halo(s, slice(0, 7), reach, (length, 7)).outer[0]
        assert outer.start % multiple == 0
        assert outer.start <= max(0, s.start - halo)
        assert outer.stop >= min(length, s.stop + halo)
        assert outer.stop % multiple == 0 or outer.stop == length
    assert len(rows) == 1 or rows[-1].stop - rows[-1].start > (rows[0].stop - rows[0].start) // 4


# --- intensity range ------------------------------------------------------------------------------------------------


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 40),
    rows=st.integers(2, 9),
    dtype=st.sampled_from(["uint16", "int32", "float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_the_range_is_found_band_by_band(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int, rows: int, dtype: str, seed: int
) -> None:
    from scipy.ndimage import median_filter

    image = np.random.default_rng(seed).integers(0, 3000, (height, width)).astype(dtype)
    smooth = median_filter(image, 3, mode="nearest") if min(height, width) >= 3 else image
    low, high = float(smooth.min()), float(smooth.max())
    monkeypatch.setattr("napari_denoise_classify.core.images._BAND_ROWS", rows)
    monkeypatch.setattr("napari_denoise_classify.core.images._BAND_PIXELS", 1)
    assert PlaneImage.wrap(image).ranges("image")[()] == (low, high if high > low else low + max(1, low * 1e-6))


def test_pixels_that_are_no_numbers_are_found_in_any_block() -> None:
    image = draw("YX", 90, 90, "float32", 0)
    image[80, 70] = np.nan
    source = PlaneImage.wrap(image)
    with pytest.raises(ValueError, match="NaN or infinite"):
        run(write_iter(Recipe(["gaussian"]), source, {(): (0.0, 1.0)}, np.zeros_like(image), block=32, chunk=1))


# --- lazy -----------------------------------------------------------------------------------------------------------


class Counted:
    """An array that counts which of its chunks are read."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.read: list[tuple[slice, ...]] = []

    def __getitem__(self, region: Any) -> np.ndarray:
        self.read.append(region)
        return self.data[region]


@pytest.mark.parametrize("lead", [(), (3,)])
def test_a_small_region_reads_and_processes_its_blocks_only(lead: tuple[int, ...]) -> None:
    counted = Counted(np.random.default_rng(0).integers(0, 255, (*lead, 4096, 4096), np.uint8))
    lazy = Recipe(["gaussian"]).apply(dask.array.from_array(counted, chunks=(*(1 for _ in lead), 512, 512)))
    assert all(s == slice(0, 0) for region in counted.read for s in region)  # 8-bit images have the range 0..255
    counted.read.clear()
    assert lazy.chunks[-2:] == ((2048, 2048), (2048, 2048))
    region = (*(1 for _ in lead), slice(100, 120), slice(3000, 3010))
    found = lazy[region].compute(scheduler="synchronous")
    assert len(counted.read) == 5 * 5  # a block of 4 × 4 chunks, and the two sides where its halo begins
    np.testing.assert_array_equal(found, Recipe(["gaussian"]).apply(counted.data[region[:-2]])[region[-2:]])


def test_lazy_results_travel_to_other_processes() -> None:
    image = draw("ZYX", 70, 60, "uint16", 0)
    lazy = Recipe(["median"]).apply(dask.array.from_array(image, chunks=20), "ZYX")
    again = pickle.loads(pickle.dumps(lazy))
    np.testing.assert_array_equal(again.compute(scheduler="synchronous"), Recipe(["median"]).apply(image, "ZYX"))
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(lazy[0].compute(), Recipe(["median"]).apply(image, "ZYX")[0])


# --- memory ---------------------------------------------------------------------------------------------------------


def test_a_plane_too_large_for_memory_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "0.3")
    image = dask.array.zeros((3000, 4000), dtype=np.uint16, chunks=1000)
    for id, advice in (
        ("wavelet", "wavelet needs whole planes; crop the image, or choose a method that works on blocks"),
        ("nlm", "give the sigma of nlm, so that it can work on blocks"),
        ("centre", "centre needs whole planes"),
    ):
        with pytest.raises(MemoryError, match=advice):
            run(Recipe([id], (0, 1)).apply_iter(image))
        with pytest.raises(MemoryError, match="3000 × 4000 pixels needs about"):
            Recipe([id], (0, 1)).apply(image)
    assert run(Recipe(["gaussian"], (0, 1)).apply_iter(image)).image.shape == image.shape


def test_a_result_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "0.5")
    image = dask.array.zeros((200, 2048, 2048), dtype=np.uint8, chunks=(1, 1024, 1024))
    with pytest.raises(MemoryError, match=r"write it to a file \(.zarr\)"):
        run(Recipe(["gaussian"]).apply_iter(image))


# --- progress and cancel --------------------------------------------------------------------------------------------


def test_progress_counts_blocks_and_cancelling_stops_before_the_next() -> None:
    image = draw("YX", 100, 100, "float32", 0)
    source, out = PlaneImage.wrap(image), np.full((100, 100), -1, np.float32)
    work = write_iter(Recipe(["gaussian"]), source, {(): (0.0, 1.0)}, out, block=25, chunk=1)
    seen = [next(work) for _ in range(6)]
    assert all(isinstance(progress, Progress) for progress in seen)
    assert "of 16" in seen[-1].message
    work.close()
    assert 0 < (out >= 0).mean() < 0.5


def test_reach_is_declared_beside_the_step() -> None:
    spec = get_step("nlm")
    given_level = spec.validate({"sigma": 10, "search_distance": 7, "patch_size": 3})
    assert spec.reach(1, given_level) == Reach(10, 1)
    assert spec.reach(1, spec.validate({})) is None
    assert get_step("centre").reach(1, get_step("centre").defaults()) is None
