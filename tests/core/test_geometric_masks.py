"""Masks: known fractions, complements, and what becomes 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify.core.images import PlaneImage
from napari_denoise_classify.core.mask.given import apply_mask, apply_mask_iter
from napari_denoise_classify.core.progress import run

sides = st.integers(1, 60)


def test_known_fraction_of_the_centre() -> None:
    image = np.ones((224, 224), np.uint8)
    centre = ndc.mask(image, "centre", return_mask=True)
    assert centre.kept == pytest.approx(0.401, abs=5e-4)
    assert centre.kept == pytest.approx(np.pi * 80**2 / 224**2, abs=1e-3)
    assert ndc.mask(image, "non_centre", return_mask=True).kept == pytest.approx(1 - centre.kept)


@given(sides, sides, st.floats(1, 160), st.booleans())
def test_centre_and_non_centre_are_complements(height: int, width: int, radius: float, equal_area: bool) -> None:
    image = np.ones((height, width), np.uint8)
    how = {"radius": radius, "equal_area": equal_area, "return_mask": True}
    inside, outside = (ndc.mask(image, step, **how) for step in ("centre", "non_centre"))
    assert (inside.mask ^ outside.mask).all()
    np.testing.assert_array_equal(inside.mask, inside.mask[::-1, ::-1])


@pytest.mark.parametrize("shape", [(224, 224), (100, 300), (97, 64)])
def test_equal_area_keeps_half(shape: tuple[int, int]) -> None:
    kept = ndc.mask(np.ones(shape), "centre", equal_area=True, return_mask=True).kept
    assert kept == pytest.approx(0.5, abs=0.005)


def test_the_radius_scales_with_the_shorter_side() -> None:
    small = ndc.mask(np.ones((56, 56)), "centre", return_mask=True)
    wide = ndc.mask(np.ones((56, 80)), "centre", return_mask=True)
    np.testing.assert_array_equal(wide.mask[:, 12:-12], small.mask)
    assert not wide.mask[:, :12].any()
    assert small.mask[:, 27].sum() == 40  # 2 · 80 · 56 / 224


def test_random_keeps_exactly_half_of_the_cells() -> None:
    mask = ndc.mask(np.ones((100, 200)), "random", return_mask=True).mask
    cells = mask.reshape(10, 10, 10, 20).transpose(0, 2, 1, 3).reshape(100, -1)
    assert (cells == cells[:, :1]).all()
    assert cells[:, 0].sum() == 50


@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**31 - 1), st.integers(12, 40), st.integers(12, 40))
def test_random_keeps_the_fraction_of_cells(grid: int, fraction: float, seed: int, height: int, width: int) -> None:
    how = {"grid": grid, "fraction": fraction, "seed": seed, "return_mask": True}
    mask = ndc.mask(np.ones((2, height, width)), "random", **how).mask
    np.testing.assert_array_equal(mask[0], mask[1])
    # one pixel of every cell
    rows, columns = (-(-np.arange(grid) * side // grid) for side in (height, width))
    assert mask[0][np.ix_(rows, columns)].sum() == round(fraction * grid * grid)


def test_random_depends_on_its_seed_alone() -> None:
    image = np.ones((50, 50))
    first, again, other = (ndc.mask(image, "random", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_random_needs_a_pixel_for_each_cell() -> None:
    with pytest.raises(ValueError, match=r"random: grid=11 is not allowed .* at most 10"):
        ndc.mask(np.ones((10, 20)), "random", grid=11)


@pytest.mark.parametrize("step", ["centre", "non_centre", "random"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32"])
def test_masked_pixels_become_0_and_the_others_stay(step: str, dtype: str) -> None:
    image = np.random.default_rng(0).integers(1, 120, (2, 30, 40)).astype(dtype)
    out = ndc.mask(image, step, return_mask=True)
    assert out.image.dtype == image.dtype
    assert out.mask.dtype == bool
    assert 0 < out.kept < 1
    assert not out.image[~out.mask].any()
    np.testing.assert_array_equal(out.image[out.mask], image[out.mask])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.floats(-1000, 1000), st.floats(0.01, 1000))
def test_masked_floats_become_exactly_0(dtype: str, low: float, width: float) -> None:
    image = np.linspace(low, low + width, 900).reshape(30, 30).astype(dtype)
    out = ndc.mask(image, "centre", return_mask=True)
    np.testing.assert_array_equal(out.image[~out.mask], 0)
    np.testing.assert_allclose(out.image[out.mask], image[out.mask], rtol=1e-6, atol=1e-6 * width)


def test_masks_have_the_axes_of_the_image_without_samples() -> None:
    image = np.ones((3, 20, 5, 24), np.uint8)
    out = ndc.mask(image, "centre", "SYZX", return_mask=True)
    assert out.image.shape == image.shape
    assert out.mask.shape == (20, 5, 24)
    np.testing.assert_array_equal(out.image, np.broadcast_to(out.mask, image.shape))


@pytest.mark.parametrize(
    ("step", "parameters"),
    [
        ("centre", {"radius": 0}),
        ("centre", {"radius": np.nan}),
        ("non_centre", {"radius": 161}),
        ("random", {"grid": 0}),
        ("random", {"fraction": 1.1}),
        ("random", {"seed": -1}),
    ],
)
def test_bad_parameters(step: str, parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{step}: {next(iter(parameters))}="):
        ndc.mask(np.ones((20, 20)), step, **parameters)


# --- fill -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["centre", "non_centre", "random"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_the_mean_of_the_plane_fills(step: str, dtype: str) -> None:
    image = np.random.default_rng(0).integers(5, 120, (2, 30, 40)).astype(dtype)
    out = ndc.mask(image, step, fill="mean", return_mask=True)
    assert out.image.dtype == image.dtype
    np.testing.assert_array_equal(out.image[out.mask], image[out.mask])
    for plane, filled, kept in zip(image, out.image, out.mask, strict=True):
        mean = plane.mean(dtype=float) if dtype == "float32" else np.rint(plane.mean(dtype=float))
        np.testing.assert_allclose(filled[~kept], mean, rtol=1e-6)


def test_colours_are_filled_with_their_own_means_and_alpha_stays() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    out = ndc.mask(image, "centre", rgb=True, fill="mean", return_mask=True)
    np.testing.assert_array_equal(out.image[..., 3], image[..., 3])
    means = np.rint(image[..., :3].mean(axis=(0, 1), dtype=float))
    np.testing.assert_array_equal(out.image[~out.mask][:, :3], np.tile(means, ((~out.mask).sum(), 1)))


def test_a_blur_fills() -> None:
    from scipy.ndimage import gaussian_filter

    image = np.random.default_rng(0).integers(0, 60_000, (40, 60)).astype(np.uint16)
    image[:, 30:] //= 4
    out = ndc.mask(image, "centre", fill="blur", return_mask=True)
    np.testing.assert_array_equal(out.image[out.mask], image[out.mask])
    blurred = gaussian_filter(image.astype(float), 4.0, mode="reflect", truncate=6)
    np.testing.assert_allclose(out.image[~out.mask], blurred[~out.mask], atol=1.0)


def test_the_last_fill_wins_and_zeros_stay_exact() -> None:
    image = np.random.default_rng(0).uniform(100, 200, (40, 40)).astype(np.float32)
    steps = [("random", {"fill": "mean", "seed": 1}), ("centre", {"fill": "zero"})]
    both = run(ndc.Recipe(steps).apply_iter(image))
    circle = ndc.mask(image, "centre", return_mask=True).mask
    cells = ndc.mask(image, "random", seed=1, return_mask=True).mask
    np.testing.assert_array_equal(both.mask, circle & cells)
    np.testing.assert_array_equal(both.image[~circle], 0)
    np.testing.assert_allclose(both.image[circle & ~cells], image.mean(), rtol=1e-5)
    other = run(ndc.Recipe(steps[::-1]).apply_iter(image))
    np.testing.assert_array_equal(other.image[cells & ~circle], 0)
    np.testing.assert_allclose(other.image[~cells], np.where(circle, image, 0).mean(), rtol=1e-5)


@pytest.mark.parametrize("fill", ["zero", "mean", "blur"])
def test_lazy_images_are_filled_alike(fill: str) -> None:
    import dask.array

    image = np.random.default_rng(0).integers(0, 4000, (2, 24, 36)).astype(np.uint16)
    recipe = ndc.Recipe([("gaussian", {"kernel_size": 3}), ("centre", {"fill": fill})])
    lazy = recipe.apply(dask.array.from_array(image, chunks=10), "ZYX").compute()
    np.testing.assert_array_equal(lazy, recipe.apply(image, "ZYX"))


def test_recipes_without_fill_mean_zero() -> None:
    """Recipes were saved before there was a choice."""
    saved = ndc.Recipe(["centre"]).to_dict()
    del saved["steps"][0]["parameters"]["fill"]
    assert ndc.Recipe.from_dict(saved) == ndc.Recipe([("centre", {"fill": "zero"})]) == ndc.Recipe(["centre"])


def test_unknown_fills() -> None:
    with pytest.raises(ValueError, match="centre: fill='noise' is not allowed; give one of 'zero', 'mean', 'blur'"):
        ndc.mask(np.ones((9, 9)), "centre", fill="noise")
    with pytest.raises(ValueError, match="fill='noise' is not allowed: give 'zero', 'mean' or 'blur'"):
        apply_mask(np.ones((9, 9)), np.ones((9, 9)), fill="noise")  # type: ignore[arg-type]


# --- masks that are given -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["zero", "mean", "blur"])
@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (24, 36)), ("TYX", (2, 24, 36)), ("XYZ", (36, 24, 2)), ("SYX", (3, 24, 36))]
)
def test_a_given_mask_does_what_the_step_does(fill: str, axes: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 60_000, shape).astype(np.uint16)
    step = ndc.mask(image, "random", axes, fill=fill, seed=2, return_mask=True)
    given = run(apply_mask_iter(PlaneImage.wrap(image, axes), step.mask.astype(np.uint8) * 7, fill))
    np.testing.assert_array_equal(given.image, step.image)
    np.testing.assert_array_equal(given.mask, step.mask)
    assert given.kept == step.kept
    plane = step.mask[0] if axes == "TYX" else step.mask[..., 0] if axes == "XYZ" else step.mask
    np.testing.assert_array_equal(apply_mask(image, plane, axes, fill=fill), step.image)


@pytest.mark.parametrize("shape", [(24, 37), (36, 24), (3, 24, 36), (24,), (0, 0)])
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"The mask has shape .*: give one of the image's shape"):
        apply_mask(np.ones((2, 24, 36)), np.ones(shape))
