"""Processed images are found again by content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.classify.copies import image_key
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.study import cache as module
from napari_denoise_classify.core.study.cache import ImageCache, recipe_key, split_recipe

RECIPE = Recipe(["median", "centre"])
RANGE = (0.0, 255.0)


def process(cache: ImageCache, images: list[Any], recipe: Recipe = RECIPE, how: Any = RANGE) -> list[Any]:
    return run(cache.process_iter(images, [image_key(image) for image in images], recipe, how))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_what_comes_out_is_what_the_recipe_makes(
    make_crops: Callable[..., Crops], tmp_path: Path, dtype: str, samples: int
) -> None:
    images = make_crops(samples, dtype=dtype).images + make_crops(samples, 4, 12, 1, dtype).images
    expected = [RECIPE.apply(image, rgb=samples == 3, intensity_range=RANGE) for image in images]
    for _ in range(2):
        made = process(ImageCache(tmp_path), images)
        for one, other in zip(made, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_recipes_that_differ_in_a_mask_share_the_denoising(
    make_crops: Callable[..., Crops], tmp_path: Path, dtype: str
) -> None:
    images = make_crops(3).images
    if dtype != "uint8":
        images = [(image.astype(float) * 12.5 - (dtype == "float32") * 500).astype(dtype) for image in images]
    how = (-500.0, 3000.0) if dtype == "float32" else (0.0, 3187.5) if dtype == "uint16" else RANGE
    cache = ImageCache(tmp_path)
    ends: list[list[Any]] = [[], ["centre"], ["non_centre"], [("random", {"grid": 5}), "centre"]]
    for end in ends:
        recipe = Recipe(["bilateral", *end])
        for one, image in zip(process(cache, images, recipe, how), images, strict=True):
            np.testing.assert_array_equal(one, recipe.apply(image, rgb=True, intensity_range=how))
        assert cache.misses == 48
    other = Recipe(["bilateral", ("centre", {"fill": "mean"})])  # filled by what the float values say
    assert split_recipe(other) == (other, Recipe())
    process(cache, images, Recipe(["centre"]), how)
    assert len(list(tmp_path.iterdir())) == 1


def test_each_image_is_processed_once(crops: Crops, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    process(cache, crops.images)
    assert (cache.hits, cache.misses) == (0, 48)
    assert cache.seconds > 0
    again = ImageCache(tmp_path)
    process(again, crops.images[::-1])
    process(again, crops.images[:5])
    assert (again.hits, again.misses, again.seconds) == (53, 0, 0.0)
    assert again.cost(RECIPE, 1, RANGE) == pytest.approx(cache.seconds)
    same = process(ImageCache(tmp_path / "other"), [crops.images[0]] * 3)
    assert len(same) == 3


def test_equal_images_are_processed_once(crops: Crops, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    first, second = crops.images[:2]
    made = process(cache, [first, second, first.copy(), first])
    assert cache.misses == 2
    np.testing.assert_array_equal(made[0], made[3])


def test_no_recipe_costs_nothing(crops: Crops, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    made = process(cache, crops.images, Recipe())
    assert all(one is other for one, other in zip(made, crops.images, strict=True))
    assert (cache.hits, cache.misses) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_key_holds_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        recipe_key(Recipe(["median"]), 1, RANGE),
        recipe_key(Recipe([("median", {"kernel_size": 3})]), 1, RANGE),
        recipe_key(Recipe(["median"]), 1, (0.0, 254.0)),
        recipe_key(Recipe(["dncnn"]), 1, RANGE),
        recipe_key(Recipe(["dncnn"]), 3, RANGE),  # other weights
        recipe_key(Recipe([("dncnn", {"weights": "kair_dncnn_25"})]), 1, RANGE),
    }
    assert len(keys) == 6
    assert recipe_key(Recipe(["median"]), 1, RANGE) in keys
    monkeypatch.setattr("napari_denoise_classify.core.recipe.__version__", "another")
    assert recipe_key(Recipe(["median"]), 1, RANGE) not in keys


def test_damaged_packs_are_made_again(
    make_crops: Callable[..., Crops], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACK_IMAGES", 10)
    images = make_crops().images
    expected = process(ImageCache(tmp_path), images)
    packs = sorted(tmp_path.glob("*/*.npz"))
    assert len(packs) == 5
    packs[0].write_bytes(packs[0].read_bytes()[:100])
    packs[1].write_bytes(b"")
    os.unlink(packs[2])
    cache = ImageCache(tmp_path)
    for one, other in zip(process(cache, images), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert cache.misses in (30, 28)  # the last pack is smaller
    assert cache.hits + cache.misses == 48
    assert sorted(tmp_path.glob("*/*.npz")) == packs


def test_any_damage_is_mended(crops: Crops, tmp_path: Path) -> None:
    expected = process(ImageCache(tmp_path), crops.images)
    (pack,) = tmp_path.glob("*/*.npz")
    whole = pack.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole), 20)] = rng.integers(0, 256, 20)
        pack.write_bytes(damaged.tobytes())
        np.testing.assert_array_equal(process(ImageCache(tmp_path), crops.images), expected)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(ValueError, match="cannot be written to: give another folder as cache"):
            ImageCache.at(tmp_path / place)


def test_a_cancelled_run_keeps_whole_packs(
    make_crops: Callable[..., Crops], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACK_IMAGES", 10)
    images = make_crops().images
    work = ImageCache(tmp_path).process_iter(images, [image_key(image) for image in images], RECIPE, RANGE)
    while len(list(tmp_path.glob("*/*.npz"))) < 2:
        next(work)
    work.close()
    cache = ImageCache(tmp_path)
    process(cache, images)
    assert (cache.hits, cache.misses) == (20, 28)


def test_the_default_folder_is_beside_the_weights(cache: Path) -> None:
    assert ImageCache.at(None).folder == cache / "processed"
