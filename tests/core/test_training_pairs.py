"""Training images: matched, scaled, cut and held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_denoise_classify.core.denoise.pairs import Example, load_examples, split_examples
from napari_denoise_classify.core.denoise.task import masked, matched

RNG = np.random.default_rng(0)


def image(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Noisy PNG and clean TIFF files of equal stems."""
    for what in ("noisy", "clean"):
        (tmp_path / what).mkdir()
    for stem in "cab":
        iio.imwrite(tmp_path / "noisy" / f"{stem}.png", image(12, 16))
        tifffile.imwrite(tmp_path / "clean" / f"{stem}.tif", image(12, 16))
    return tmp_path / "noisy", tmp_path / "clean"


def test_files_are_matched_by_their_stems(folders: tuple[Path, Path]) -> None:
    noisy, clean = folders
    examples = load_examples([noisy], [clean], None, samples=1)
    assert sorted(e.name for e in examples) == ["a", "b", "c"]
    for e in examples:
        np.testing.assert_allclose(e.input[..., 0] * 255, iio.imread(noisy / f"{e.name}.png"), atol=1e-4)
        np.testing.assert_allclose(e.target[..., 0] * 255, tifffile.imread(clean / f"{e.name}.tif"), atol=1e-4)


def test_all_images_without_a_partner_are_listed(folders: tuple[Path, Path]) -> None:
    noisy, clean = folders
    (noisy / "a.png").rename(noisy / "x.png")
    (noisy / "b.png").rename(noisy / "y.png")
    words = (
        r"some have no partner \(without a clean image: x, y; clean images without a partner: a, b\): rename or remove "
        r"them\.$"
    )
    with pytest.raises(ValueError, match=words):
        load_examples([noisy], [clean], None, samples=1)


def test_long_lists_are_cut_short() -> None:
    arrays = {f"image {i}": image(8, 8) for i in range(9)}
    with pytest.raises(ValueError, match=r"image 1, image 2, image 3, image 4, image 5 and 3 more\)"):
        load_examples(arrays, {"image 0": image(8, 8)}, None, samples=1)


@pytest.mark.parametrize(
    ("noisy", "clean", "mask", "upscale", "words"),
    [
        ((8, 9), (8, 10), None, 1, r"a: the clean image has 10 × 8 pixels, and should have 9 × 8\."),
        ((8, 9), (8, 9), None, 2, r"a: the clean image has 9 × 8 pixels, and should have 18 × 16\."),
        ((8, 9), (16, 18), None, 1, r"should have 9 × 8"),
        ((8, 9), (8, 9), (9, 8), 1, r"a: the mask has 8 × 9 pixels"),
        ((8, 9), (16, 18), (8, 9), 2, r"a: the mask has 9 × 8 pixels, and should have 18 × 16"),
        ((2, 8, 9), (3, 8, 9), None, 1, r"a: the numbers of planes differ \(2 of its inputs, 3 of its targets\)"),
        ((2, 8, 9), (2, 8, 9), (8, 9), 1, r"the numbers of planes differ .*1 of its masks"),
    ],
)
def test_sizes_that_do_not_fit(noisy: Any, clean: Any, mask: Any, upscale: int, words: str) -> None:
    masks = None if mask is None else {"a": image(*mask)}
    with pytest.raises(ValueError, match=words):
        load_examples({"a": image(*noisy)}, {"a": image(*clean)}, masks, samples=1, upscale=upscale)


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        load_examples(None, None, None, samples=1)


def test_gray_networks_see_the_luminance_of_colour(tmp_path: Path) -> None:
    data = image(9, 10, 3)
    iio.imwrite(tmp_path / "a.png", data)
    for source in ([tmp_path], {"a": data}):
        (e,) = load_examples(None, source, None, samples=1)
        np.testing.assert_allclose(e.target[..., 0], data / 255 @ [0.299, 0.587, 0.114], atol=1e-5)


def test_colour_networks_leave_gray_files_out(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "rgb.png", image(9, 10, 3))
    iio.imwrite(tmp_path / "gray.png", image(9, 10))
    (e,) = load_examples(None, [tmp_path], None, samples=3)
    assert (e.name, e.target.shape) == ("rgb", (9, 10, 3))
    with pytest.raises(ValueError, match="no RGB images among the files"):
        load_examples(None, [tmp_path / "gray.png"], None, samples=3)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        load_examples(None, [tmp_path], None, samples=1)


def test_arrays_give_their_planes() -> None:
    stack = image(3, 8, 9)
    examples = load_examples({"s": stack, "t": image(5, 6)}, None, None, samples=1)
    assert [e.name for e in examples] == ["s", "s", "s", "t"]
    assert all(e.target is None for e in examples)
    np.testing.assert_allclose(examples[1].seen[..., 0], stack[1] / 255, atol=1e-6)


@pytest.mark.parametrize("raw", [True, False])
def test_raw_keeps_the_intensities(raw: bool) -> None:
    data = np.float32([[0, 100, 100, 0], [0, 100, 100, 0], [0, 100, 300, 0], [0, 100, 100, 0]])
    (e,) = load_examples({"a": data}, None, None, samples=1, raw=raw)
    np.testing.assert_allclose(e.seen[..., 0], data if raw else data / 100)  # one hot pixel is not the range


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", [bool, "uint8", "float32"])
def test_masks_are_zero_or_not(tmp_path: Path, samples: int, dtype: Any) -> None:
    shape = (8, 9) if samples == 1 else (8, 9, 3)
    mask = np.zeros((8, 9), dtype)
    mask[2:5, 3:6] = 1
    (e,) = load_examples({"a": image(*shape)}, {"a": image(*shape)}, {"a": mask}, samples=samples)
    np.testing.assert_array_equal(e.weight, mask > 0)
    iio.imwrite(tmp_path / "a.png", mask.astype(np.uint8) * 255)
    (e,) = load_examples(None, {"a": image(*shape)}, [tmp_path], samples=samples)
    np.testing.assert_array_equal(e.weight, mask > 0)


def test_masks_need_their_partners() -> None:
    with pytest.raises(ValueError, match="without a mask image: a"):
        load_examples({"a": image(8, 8)}, None, {"b": image(8, 8)}, samples=1)


@given(y=st.integers(0, 5), x=st.integers(0, 7), side=st.integers(1, 4), k=st.sampled_from([1, 2]))
def test_crops_are_of_the_same_place(y: int, x: int, side: int, k: int) -> None:
    rows = np.arange(10)[:, None] * 100 + np.arange(12)[None]
    target = rows.repeat(k, 0).repeat(k, 1).astype(np.float32)
    cut = Example("a", rows[..., None].astype(np.float32), target[..., None], target).crop(y, x, side)
    assert cut.input.shape == (side, side, 1)
    np.testing.assert_array_equal(cut.target[..., 0], cut.input[..., 0].repeat(k, 0).repeat(k, 1))
    np.testing.assert_array_equal(cut.weight, cut.target[..., 0])


# --- held out -------------------------------------------------------------------------------------------------------


def planes(name: str, n: int, side: int = 40) -> list[Example]:
    return [Example(name, target=RNG.random((side, side, 1), np.float32)) for _ in range(n)]


@given(counts=st.lists(st.integers(1, 4), min_size=2, max_size=8), fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_training_and_validation_never_share_a_file(counts: list[int], fraction: float, seed: int) -> None:
    examples = [e for i, n in enumerate(counts) for e in planes(f"image {i}", n, 4)]
    train, held = split_examples(examples, fraction, seed)
    assert {e.name for e in train}.isdisjoint(e.name for e in held)
    assert {id(e) for e in train} | {id(e) for e in held} == {id(e) for e in examples}
    assert train
    assert held
    again = split_examples(examples, fraction, seed)
    assert [id(e) for e in again[1]] == [id(e) for e in held]


def test_of_one_file_the_last_planes_are_held_out() -> None:
    examples = planes("a", 10)
    train, held = split_examples(examples, 0.2, 0)
    assert [id(e) for e in train + held] == [id(e) for e in examples]
    assert len(held) == 2


@pytest.mark.parametrize("height", [2, 17, 31, 32, 64, 400])
@pytest.mark.parametrize("k", [1, 2])
def test_of_one_plane_a_strip_is_held_out(height: int, k: int) -> None:
    plane = RNG.random((height, 20, 1), np.float32)
    target = plane.repeat(k, 0).repeat(k, 1)
    (train,), (held,) = split_examples([Example("a", plane, target, target[..., 0])], 0.1, 0)
    np.testing.assert_array_equal(np.concatenate([train.input, held.input]), plane)
    np.testing.assert_array_equal(np.concatenate([train.target, held.target]), target)
    np.testing.assert_array_equal(np.concatenate([train.weight, held.weight]), target[..., 0])
    assert held.input.shape[0] == min(max(16, round(0.1 * height)), height // 2)


def test_one_line_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="too small to hold out a part"):
        split_examples([Example("a", target=np.zeros((1, 9, 1), np.float32))], 0.1, 0)


# --- intensities and masks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
def test_targets_are_fitted_to_their_inputs(k: int) -> None:
    clean = RNG.random((30, 40, 1), np.float32)
    noisy = 3 * clean - 7 + RNG.normal(0, 0.05, clean.shape).astype(np.float32)
    found = matched(Example("a", noisy, clean.repeat(k, 0).repeat(k, 1)))
    np.testing.assert_allclose(found.target, (3 * clean - 7).repeat(k, 0).repeat(k, 1), atol=0.05)


def test_blank_targets_stay() -> None:
    blank = np.full((6, 6, 1), 4, np.float32)
    np.testing.assert_array_equal(matched(Example("a", blank + 1, blank)).target, blank)


def test_masks_can_be_made() -> None:
    plane = RNG.random((300, 300, 1), np.float32)
    weight = masked(Example("a", target=plane), "centre").weight
    assert weight.shape == (300, 300)
    assert weight[150, 150] == 1
    assert weight[0, 0] == 0
