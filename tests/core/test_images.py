"""Any axes and dtype to float32 planes and back."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from napari_denoise_classify.core.images import PlaneImage, check_intensity_range, from_float, resolve_axes
from napari_denoise_classify.core.recipe import Recipe

NONE = Recipe(["none"])
AXES = ["YX", "XY", "ZYX", "YXZ", "?YX", "??YX", "TCZYX", "CYX", "SYX", "YXS", "TYXS", "ZSYX", "CXY"]
SMALL = ["bool", "uint8", "int8", "uint16", "int16", ">u2"]
WIDE = ["uint32", "int32", ">i4"]


@st.composite
def images(draw: st.DrawFn, dtypes: list[str]) -> tuple[np.ndarray, str]:
    axes = draw(st.sampled_from(AXES))
    samples = draw(st.sampled_from([3, 4]))
    shape = tuple(samples if letter == "S" else draw(st.integers(1, 5)) for letter in axes)
    return draw(npst.arrays(draw(st.sampled_from(dtypes)), shape)), axes


@pytest.mark.parametrize("dtypes", [SMALL, WIDE], ids=["up to 16 bit", "32 bit"])
@given(st.data(), st.sampled_from(["image", "stack", "plane"]))
def test_doing_nothing_is_the_identity_for_every_integer(dtypes: list[str], data: st.DataObject, how: str) -> None:
    image, axes = data.draw(images(dtypes))
    out = NONE.apply(image, axes, intensity_range=how)
    assert out.shape == image.shape
    assert out.dtype == image.dtype
    np.testing.assert_array_equal(out, image)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32"])
def test_doing_nothing_keeps_the_limits_of_the_dtype(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = [limits.min, limits.min + 1, limits.max // 2, limits.max // 2 + 1, limits.max - 1, limits.max]
    image = np.array(values, dtype).reshape(2, 3)
    np.testing.assert_array_equal(NONE.apply(image), image)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_constant_planes_of_large_numbers_stay_finite(dtype: str) -> None:
    image = np.full((4, 4), 2**60, dtype)
    np.testing.assert_allclose(NONE.apply(image).astype(float), 2.0**60, rtol=1e-6)


@given(
    npst.arrays("float32", (2, 5, 4), elements=st.floats(-1000, 1000, width=32)),
    st.sampled_from(["float16", "float32", "float64"]),
)
def test_doing_nothing_to_floats_stays_within_rounding(image: np.ndarray, dtype: str) -> None:
    image = image.astype(dtype)
    out = NONE.apply(image, "ZYX", intensity_range="plane")
    assert out.dtype == image.dtype
    np.testing.assert_allclose(out, image, rtol=2e-3 if dtype == "float16" else 1e-6, atol=1e-3)


@given(images(["uint16"]))
def test_unwrap_undoes_wrap(given: tuple[np.ndarray, str]) -> None:
    image, axes = given
    source = PlaneImage.wrap(image, axes)
    assert source.data.shape[-1 if not source.rgb else -2] == image.shape[axes.index("X")]
    np.testing.assert_array_equal(source.unwrap(source.data), image)


def test_planes_have_their_samples_last_and_map_the_range_to_one() -> None:
    image = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
    source = PlaneImage.wrap(image, "SYX")
    planes = source.planes([()], source.ranges("image"))
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[0], np.moveaxis(image, 0, -1) / 255, rtol=1e-6)


def test_alpha_is_carried_along_unprocessed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    out = Recipe(["median"]).apply(image, rgb=True)
    np.testing.assert_array_equal(out[..., 3], image[..., 3])
    np.testing.assert_array_equal(out[..., :3], Recipe(["median"]).apply(image[..., :3], rgb=True))


# --- ranges ---------------------------------------------------------------------------------------------------------


def test_a_hot_pixel_does_not_move_the_range() -> None:
    image = np.tile(np.arange(100, 116, dtype=np.uint16), (16, 1))
    image[8, 8] = 65535
    assert PlaneImage.wrap(image).ranges("image")[()] == (100.0, 115.0)


def test_ranges_are_pooled_as_asked() -> None:
    # every plane is constant, so that its range begins at its value
    image = np.arange(2 * 2 * 3, dtype=np.uint16).reshape(2, 2, 3, 1, 1) * 10 * np.ones((4, 4), np.uint16)
    source = PlaneImage.wrap(image, "TCZYX")
    whole, stack, plane = (source.ranges(how) for how in ("image", "stack", "plane"))
    assert whole[0, 0, 0] == whole[1, 0, 2] == (0.0, 80.0)  # over T and Z, each channel by itself
    assert whole[0, 1, 0] == (30.0, 110.0)
    assert stack[0, 0, 1] == (0.0, 20.0)
    assert stack[1, 1, 0] == (90.0, 110.0)
    assert plane[1, 1, 0] == (90.0, 91.0)
    # Without a Z axis a stack is one plane, and no two channels share a range; axes without a name are one.
    for axes, first in (("TCYX", (0.0, 1.0)), ("T?YX", (0.0, 20.0))):
        assert PlaneImage.wrap(image[:, 0], axes).ranges("stack")[0, 0] == first


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", (0.0, 255.0)), ("bool", (0.0, 1.0))])
def test_eight_bit_and_boolean_ranges_are_fixed(dtype: str, expected: tuple[float, float]) -> None:
    assert PlaneImage.wrap(np.ones((4, 4), dtype)).ranges("image") == {(): expected}


@pytest.mark.parametrize("value", ["all", (5, 5), (9, 1), (0, np.nan), (0, np.inf), (1, 2, 3), 7, ("a", "b")])
def test_bad_intensity_ranges(value: object) -> None:
    with pytest.raises(ValueError, match="intensity_range="):
        check_intensity_range(value)


def test_intensity_range_may_be_an_array_wherever_it_is_given() -> None:
    image = np.full((4, 4), 7, np.uint16)
    np.testing.assert_array_equal(Recipe(["none"], np.array([0, 255])).apply(image), image)
    np.testing.assert_array_equal(NONE.apply(image, intensity_range=np.array([0, 255])), image)


@pytest.mark.parametrize("value", ["", ()])
def test_an_empty_intensity_range_is_refused_wherever_it_is_given(value: object) -> None:
    with pytest.raises(ValueError, match="intensity_range="):
        NONE.apply(np.ones((4, 4)), intensity_range=value)


# --- integers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "uint64"])
def test_integers_are_rounded_and_clipped(dtype: str) -> None:
    limits = np.iinfo(dtype)
    out = from_float(np.array([-1e30, 1.4, 1.6, 1e30]), dtype)
    assert out.dtype == dtype
    assert out[:3].tolist() == [limits.min, 1, 2]
    assert limits.max - int(out[3]) <= limits.max * 2**-52


# --- axes and bad input ---------------------------------------------------------------------------------------------


def test_default_axes() -> None:
    assert resolve_axes((5, 4, 3, 3)) == "??YX"
    assert resolve_axes((5, 4, 3, 3), rgb=True) == "?YXS"
    assert resolve_axes((5, 4), "xy") == "XY"


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [
        ((4, 4), "YQ", "Q is unknown"),
        ((4, 4), "YY", "stands in it twice"),
        ((4, 4), "ZYX", "names 3 axes"),
        ((4, 4, 4), "TZY", "both Y and X"),
        ((4, 4, 2), "YXS", "Use C for channels"),
        ((0, 4), "YX", "empty"),
        ((4,), None, "at least 2 axes"),
    ],
)
def test_bad_axes(shape: tuple[int, ...], axes: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resolve_axes(shape, axes)


def test_rgb_needs_three_axes() -> None:
    with pytest.raises(ValueError, match="RGB image needs at least 3 axes"):
        resolve_axes((4, 4), rgb=True)


@pytest.mark.parametrize("image", [np.ones((4, 4), complex), np.full((4, 4), "a"), [[None, 1], [2, 3]]])
def test_images_must_be_of_real_numbers(image: object) -> None:
    with pytest.raises(ValueError, match=r"image|Images"):
        PlaneImage.wrap(image)


def test_images_of_several_shapes_are_no_image() -> None:
    with pytest.raises(ValueError, match="process a list one by one"):
        PlaneImage.wrap([np.zeros((8, 9)), np.zeros((7, 9))])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("how", ["image", "plane", (0, 1)])
def test_not_finite_pixels_are_refused(bad: float, how: object) -> None:
    image = np.zeros((2, 8, 8), np.float32)
    image[1, 3, 4] = bad
    with pytest.raises(ValueError, match=r"NaN or infinite pixels in plane \(1,\)"):
        NONE.apply(image, intensity_range=how)


# --- lazy arrays ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "shape"), [("TZYX", (2, 3, 20, 17)), ("YX", (20, 17)), ("SZYX", (3, 2, 20, 17))])
@pytest.mark.parametrize("how", ["image", "stack", "plane"])
def test_lazy_arrays_stay_lazy_and_give_the_same(axes: str, shape: tuple[int, ...], how: str) -> None:
    image = np.random.default_rng(0).integers(0, 4000, shape, np.uint16)
    recipe = Recipe(["gaussian", "centre"], how)
    lazy = recipe.apply(dask.array.from_array(image, chunks=7), axes)
    assert isinstance(lazy, dask.array.Array)
    assert lazy.dtype == image.dtype
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), recipe.apply(image, axes))


def test_many_planes_are_read_in_groups() -> None:
    source = PlaneImage.wrap(np.broadcast_to(np.uint8(1), (9, 1024, 1024)))
    groups = list(source.chunks())
    assert [len(group) for group in groups] == [4, 4, 1]
    assert [index for group in groups for index in group] == [(i,) for i in range(9)]
