"""Crops around points and objects."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_denoise_classify.core.classify import cutting
from napari_denoise_classify.core.classify.sampling import crop_around, default_size, object_centres
from napari_denoise_classify.core.images import PlaneImage


@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 25), st.data())
def test_crops_are_cut_from_the_reflected_image(height: int, width: int, size: int, data: st.DataObject) -> None:
    image = np.random.default_rng(0).integers(0, 1000, (height, width), np.uint16)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    (crop,) = crop_around(PlaneImage.wrap(image), np.array([[y, x]]), size)
    rows, columns = (np.pad(np.arange(n), size, "reflect") for n in (height, width))
    top, left = y - size // 2 + size, x - size // 2 + size
    np.testing.assert_array_equal(crop, image[np.ix_(rows[top : top + size], columns[left : left + size])])
    assert crop[size // 2, size // 2] == image[y, x]


def test_positions_are_rounded_and_keep_their_order() -> None:
    image = np.arange(3 * 5 * 6).reshape(3, 5, 6)
    positions = np.array([[2.2, 3.4, 1.0], [0.4, 0.0, 5.4], [2.0, 2.6, 0.6]])
    crops = crop_around(PlaneImage.wrap(image, "ZYX"), positions, 1)
    assert [int(c[0, 0]) for c in crops] == [image[2, 3, 1], image[0, 0, 5], image[2, 3, 1]]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("axes", "samples"), [("YXS", 3), ("YXS", 4), ("SYX", 3)])
def test_colour_crops_have_three_samples_last(lazy: bool, axes: str, samples: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, samples), np.uint8)
    given_image = image if axes == "YXS" else np.moveaxis(image, -1, 0)
    source = PlaneImage.wrap(dask.array.from_array(given_image) if lazy else given_image, axes)
    (crop,) = crop_around(source, np.array([[4, 5]]), 4)
    np.testing.assert_array_equal(crop, image[2:6, 3:7, :3])


def test_crops_do_not_share_memory_with_the_image() -> None:
    image = np.zeros((9, 9), np.uint8)
    first, second = crop_around(PlaneImage.wrap(image), np.array([[4, 4], [4, 5]]), 5)
    first[:] = 1
    assert not image.any()
    assert not second.any()


@given(st.integers(3, 40), st.integers(3, 40), st.integers(1, 50), st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_lazy_images_are_cut_alike(height: int, width: int, size: int, chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 1000, (2, height, width), np.uint16)
    centres = np.column_stack([rng.integers(0, n, 20) for n in image.shape])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_REGION", 16)
        lazy = PlaneImage.wrap(dask.array.from_array(image, chunks=(1, chunk, chunk)), "ZYX")
        found = crop_around(lazy, centres, size)
    np.testing.assert_array_equal(found, crop_around(PlaneImage.wrap(image, "ZYX"), centres, size))


def test_of_a_lazy_image_only_the_parts_with_crops_are_read() -> None:
    read: list[tuple[int, int]] = []

    def block(block_info: dict) -> np.ndarray:
        read.append(block_info[None]["chunk-location"])
        return np.full((256, 256), 7, np.uint8)

    huge = dask.array.map_blocks(block, chunks=((256,) * 400, (256,) * 400), dtype=np.uint8, meta=np.empty((0, 0)))
    centres = np.array([[5, 5], [50000, 60000], [50030, 60010], [102399, 102399]])
    for crop in crop_around(PlaneImage.wrap(huge), centres, 32):
        np.testing.assert_array_equal(crop, 7)
    assert sorted(set(read)) == [(0, 0), (195, 234), (399, 399)]
    assert len(read) <= 4


def test_no_positions_give_no_crops() -> None:
    assert crop_around(PlaneImage.wrap(np.ones((9, 9))), np.empty((0, 2)), 5) == []


@pytest.mark.parametrize("position", [[-1, 3], [3, -0.6], [9, 3], [3, 8.6], [1e9, 0], [np.inf, 3], [np.nan, 3]])
def test_positions_outside(position: list[float]) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 positions lie outside the image, the first at .*: move them into it"):
        crop_around(PlaneImage.wrap(np.ones((9, 9))), np.array([[1, 1], position]), 5)


@pytest.mark.parametrize("positions", [np.ones((2, 3)), np.ones(2), np.ones((2, 1))])
def test_positions_of_other_dimensions(positions: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Positions need 2 coordinates each"):
        crop_around(PlaneImage.wrap(np.ones((9, 9))), positions, 5)


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="size=0 is not allowed"):
        crop_around(PlaneImage.wrap(np.ones((9, 9))), np.ones((1, 2)), 0)


def test_not_finite_pixels_are_refused() -> None:
    image = np.ones((9, 9))
    image[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        crop_around(PlaneImage.wrap(image), np.array([[4, 4]]), 3)


# --- objects --------------------------------------------------------------------------------------------------------


def test_objects_are_found_where_they_are() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:5, 10:15] = 7
    labels[10:12, 20:22] = 3
    ids, centres = object_centres(labels)
    assert ids.tolist() == [3, 7]
    np.testing.assert_allclose(centres, [[10.5, 20.5], [3, 12]])


def test_an_object_is_taken_where_it_is_largest() -> None:
    labels = np.zeros((2, 3, 20, 20), np.uint16)
    labels[1, 0, 5:7, 5:7] = 1
    labels[1, 1, 4:9, 4:9] = 1
    labels[0, 2, 15, 15] = 2
    ids, centres = object_centres(labels)
    assert ids.tolist() == [1, 2]
    np.testing.assert_allclose(centres, [[1, 1, 6, 6], [0, 2, 15, 15]])


def test_no_objects() -> None:
    with pytest.raises(ValueError, match="holds no objects"):
        object_centres(np.zeros((5, 5), int))


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_label_images_are_of_integers(dtype: str) -> None:
    with pytest.raises(ValueError, match="label"):
        object_centres(np.ones((5, 5), dtype))


def test_default_size() -> None:
    assert default_size(PlaneImage.wrap(np.ones((100, 200)))) == 32
    assert default_size(PlaneImage.wrap(np.ones((3, 20, 200)))) == 20
