"""Tiles: every pixel once, the same result, and what happens when memory is full."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_denoise_classify.core.denoise.networks.dncnn import DnCNN
from napari_denoise_classify.core.inference import plan_tiles, predict_iter
from napari_denoise_classify.core.progress import run

sides = st.integers(1, 90)


def network(depth: int, samples: int, seed: int = 0) -> DnCNN:
    """A DnCNN that does something: a new one is the identity."""
    torch.manual_seed(seed)
    made = DnCNN(samples, depth, features=6).eval()
    torch.nn.init.normal_(made.model[-1].weight, std=0.1)
    return made


def whole(net: DnCNN, planes: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.from_numpy(planes).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()


@given(sides, sides, st.integers(1, 40), st.integers(0, 20))
def test_tiles_cover_every_pixel_once(height: int, width: int, tile: int, halo: int) -> None:
    seen = np.zeros((height, width), int)
    for t in plan_tiles(height, width, tile, halo):
        seen[t.inner] += 1
        rows, columns = t.inner
        assert rows.stop - rows.start <= tile
        assert columns.stop - columns.start <= tile
    assert (seen == 1).all()


@given(sides, sides, st.integers(1, 40), st.integers(0, 20))
def test_outer_parts_are_inner_ones_and_the_halo(height: int, width: int, tile: int, halo: int) -> None:
    image = np.arange(height * width).reshape(height, width)
    for t in plan_tiles(height, width, tile, halo):
        assert image[t.outer].shape == t.shape
        np.testing.assert_array_equal(image[t.outer][t.crop], image[t.inner])
        for inner, outer, length in zip(t.inner, t.outer, (height, width), strict=True):
            assert outer.start == max(0, inner.start - halo)
            assert outer.stop == min(length, inner.stop + halo)


@given(cells=st.tuples(*[st.integers(1, 20)] * 2), tile=st.integers(1, 90), halo=st.integers(0, 4), m=st.integers(1, 8))
def test_edges_of_tiles_are_multiples(cells: tuple[int, int], tile: int, halo: int, m: int) -> None:
    height, width = (n * m for n in cells)
    seen = np.zeros((height, width), int)
    for t in plan_tiles(height, width, tile, halo * m, m):
        seen[t.inner] += 1
        assert not any(edge % m for part in (*t.inner, *t.outer) for edge in (part.start, part.stop))
        assert max(s.stop - s.start for s in t.inner) <= max(tile, m)
    assert (seen == 1).all()


@pytest.mark.parametrize("sizes", [(9, 8, 4), (8, 9, 4), (8, 8, 3)])
def test_sizes_that_are_no_multiples_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be multiples of 4"):
        plan_tiles(sizes[0], sizes[1], 8, sizes[2], 4)


@given(sides, st.integers(1, 40))
def test_tiles_are_even(length: int, tile: int) -> None:
    heights = {t.inner[0].stop - t.inner[0].start for t in plan_tiles(length, 1, tile, 0)}
    assert max(heights) - min(heights) <= 1


@pytest.mark.parametrize(("tile", "halo"), [(0, 0), (-1, 0), (4, -1)])
def test_bad_tiles(tile: int, halo: int) -> None:
    with pytest.raises(ValueError, match=f"tile={tile}, halo={halo} is not allowed"):
        plan_tiles(10, 10, tile, halo)


@settings(max_examples=20)
@given(
    n=st.integers(1, 3),
    height=sides,
    width=sides,
    samples=st.sampled_from([1, 3]),
    depth=st.integers(3, 6),
    tile=st.integers(8, 40),
    extra=st.integers(0, 5),
)
def test_tiles_change_nothing(n: int, height: int, width: int, samples: int, depth: int, tile: int, extra: int) -> None:
    net = network(depth, samples)
    planes = np.random.default_rng(0).random((n, height, width, samples), np.float32)
    out = run(predict_iter(net, planes, net.halo + extra, tile=tile))
    np.testing.assert_allclose(out, whole(net, planes), atol=1e-5)


def test_a_halo_below_the_receptive_radius_would_show() -> None:
    net = network(6, 1)
    planes = np.random.default_rng(0).random((1, 60, 60, 1), np.float32)
    out = run(predict_iter(net, planes, 0, tile=20))
    assert np.abs(out - whole(net, planes)).max() > 1e-3


def twice(x: torch.Tensor) -> torch.Tensor:
    """Enlarge; refuse sides that are no multiples of 8."""
    assert not any(n % 8 for n in x.shape[2:])
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + 1


@pytest.mark.parametrize("tile", [8, 24, 512])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 40, 41, 3), (3, 17, 64, 1)])
def test_enlarged_planes_are_put_together(tile: int, shape: tuple[int, ...]) -> None:
    planes = np.random.default_rng(0).random(shape, np.float32)
    out = run(predict_iter(network(3, 1), planes, 3, multiple=8, upscale=2, tile=tile, forward=twice))
    np.testing.assert_array_equal(out, planes.repeat(2, 1).repeat(2, 2) + 1)


@pytest.mark.parametrize("limit", [5000, 9000])
def test_enlarging_survives_full_memory(limit: int) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        if x.numel() > limit:
            raise torch.OutOfMemoryError("out of memory")
        return twice(x)

    planes = np.random.default_rng(0).random((2, 70, 90, 1), np.float32)
    work = predict_iter(network(3, 1), planes, 0, multiple=8, upscale=2, tile=128, forward=forward)
    np.testing.assert_array_equal(run(work), planes.repeat(2, 1).repeat(2, 2) + 1)


@settings(max_examples=40)
@given(
    height=sides,
    width=sides,
    tile=st.integers(8, 40),
    cells=st.integers(0, 3),
    multiple=st.sampled_from([1, 4, 8]),
    upscale=st.sampled_from([1, 2]),
)
def test_blended_tiles_add_up(height: int, width: int, tile: int, cells: int, multiple: int, upscale: int) -> None:
    planes = np.random.default_rng(0).random((2, height, width, 1), np.float32)

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(upscale, 2).repeat_interleave(upscale, 3)

    work = predict_iter(
        network(3, 1),
        planes,
        cells * multiple,
        multiple=multiple,
        upscale=upscale,
        blend=True,
        tile=max(tile, multiple),
        forward=enlarge,
    )
    np.testing.assert_allclose(run(work), planes.repeat(upscale, 1).repeat(upscale, 2), atol=1e-6)


@settings(max_examples=20)
@given(
    height=sides,
    width=sides,
    tile=st.integers(8, 40),
    multiple=st.sampled_from([1, 4]),
    upscale=st.sampled_from([1, 2]),
    blend=st.booleans(),
)
def test_a_self_ensemble_is_the_mean_over_the_eight_orientations(
    height: int, width: int, tile: int, multiple: int, upscale: int, blend: bool
) -> None:
    net = network(4, 1)
    planes = np.random.default_rng(0).random((2, height, width, 1), np.float32)
    # The network sees what is extended to multiples, in each orientation.
    seen = np.pad(planes, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="symmetric")

    def forward(x: torch.Tensor) -> torch.Tensor:
        return net(x).repeat_interleave(upscale, 2).repeat_interleave(upscale, 3)

    results = []
    for k in range(4):
        for flip in (1, -1):
            turned = np.rot90(seen, k, (1, 2))[:, :, ::flip].copy()
            result = whole(net, turned).repeat(upscale, 1).repeat(upscale, 2)
            results.append(np.rot90(result[:, :, ::flip], -k, (1, 2)))
    expected = np.mean(results, axis=0)[:, : upscale * height, : upscale * width]
    if min(height, width) > 2:
        assert len({result.tobytes() for result in results}) == 8
    work = predict_iter(
        net,
        planes,
        -(-net.halo // multiple) * multiple,
        multiple=multiple,
        upscale=upscale,
        blend=blend,
        self_ensemble=True,
        tile=tile,
        forward=forward,
    )
    out = run(work)
    if blend:  # then halos count, too, which do not see all that the whole plane does
        assert np.abs(out - expected).mean() < 0.03
    else:
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_self_ensemble_starts_anew_where_memory_is_full() -> None:
    net, planes = network(4, 1), np.random.default_rng(0).random((1, 60, 50, 1), np.float32)
    expected = run(predict_iter(net, planes, net.halo, self_ensemble=True))
    left = 3

    def forward(x: torch.Tensor) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left == 0:
            raise torch.OutOfMemoryError("out of memory")
        return net(x)

    out = run(predict_iter(net, planes, net.halo, self_ensemble=True, tile=512, forward=forward))
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert left == -8  # two orientations for nothing, the one that failed, and all eight


def test_blending_hides_the_seams_of_tiles_that_disagree() -> None:
    """Each tile answers with its own mean, as attention may: no step between pixels is as large as between tiles."""

    def mean(x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3), keepdim=True).expand_as(x)

    ramp = np.broadcast_to(np.linspace(0, 1, 120, dtype=np.float32)[:, None], (1, 120, 120))[..., None]
    steps = {}
    for blend in (False, True):
        work = predict_iter(network(3, 1), ramp.copy(), 16, blend=blend, tile=40, forward=mean)
        steps[blend] = np.abs(np.diff(run(work)[0, :, :, 0], axis=0)).max()
    assert steps[True] < steps[False] / 20


def test_the_shipped_restormer_has_no_seams() -> None:
    from napari_denoise_classify.core.denoise.neural import open_network

    net = open_network("restormer", "auto", 1)[0].network
    y, x = np.mgrid[:192, :192] / 12
    noise = np.random.default_rng(0).normal(0, 0.1, (192, 192))
    planes = (0.5 + 0.3 * np.sin(x) * np.cos(y) + noise).astype(np.float32)[None, ..., None]
    untiled = run(predict_iter(net, planes, net.halo, multiple=8, tile=192))
    tiled = run(predict_iter(net, planes, net.halo, multiple=8, tile=96, blend=True))
    # Bounded: attention over another field answers a little differently.
    assert np.abs(tiled - untiled).max() < 0.05
    steps = [np.abs(np.diff(result[0, :, :, 0], axis=0))[95].mean() for result in (tiled, untiled)]
    assert steps[0] == pytest.approx(steps[1], rel=0.2)  # across the seam


def test_strided_planes_give_the_same() -> None:
    net = network(4, 3)
    planes = np.random.default_rng(0).random((3, 2, 30, 41), np.float32).transpose(1, 3, 2, 0)
    out = run(predict_iter(net, planes, net.halo, tile=16))
    np.testing.assert_allclose(out, whole(net, np.ascontiguousarray(planes)), atol=1e-5)


def test_progress_counts_tiles() -> None:
    seen: list[float] = []
    planes = np.zeros((2, 40, 40, 1), np.float32)
    run(predict_iter(network(3, 1), planes, 3, tile=20), lambda p: seen.append(p.fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("limit", [900, 8000])
def test_smaller_batches_and_tiles_where_memory_is_full(limit: int) -> None:
    net = network(4, 1)
    planes = np.random.default_rng(0).random((5, 100, 90, 1), np.float32)
    largest = 0

    def forward(x: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        if x.numel() > limit * 10:
            raise torch.OutOfMemoryError("out of memory")
        largest = max(largest, x.numel())
        return net(x)

    out = run(predict_iter(net, planes, net.halo, tile=128, forward=forward))
    np.testing.assert_allclose(out, whole(net, planes), atol=1e-5)
    assert 0 < largest <= limit * 10


def test_memory_that_never_suffices_is_reported() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    planes = np.zeros((1, 100, 100, 1), np.float32)
    with pytest.raises(MemoryError, match="not enough memory"):
        run(predict_iter(network(3, 1), planes, 3, forward=forward))


def test_a_gpu_whose_memory_is_full_is_left_for_the_cpu_and_that_is_said() -> None:
    """The device is a CPU that calls itself a GPU: whatever is computed there runs out of memory."""
    net = network(4, 1)
    planes = np.random.default_rng(0).random((2, 100, 90, 1), np.float32)
    calls: list[str] = []

    class Full(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.device.type)
            if x.device.type == "meta":
                raise torch.OutOfMemoryError("out of memory")
            return net(x)

    notes: list[str] = []
    work = predict_iter(Full(), planes, net.halo, device=torch.device("meta"), tile=128)
    out = run(work, lambda p: notes.append(p.note))
    np.testing.assert_allclose(out, whole(net, planes), atol=1e-5)
    assert calls[0] == "meta"
    assert calls[-1] == "cpu"
    assert notes[-1] == "The GPU's memory was full: computed on the CPU."


def test_other_errors_are_not_swallowed() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(predict_iter(network(3, 1), np.zeros((1, 9, 9, 1), np.float32), 3, forward=forward))
