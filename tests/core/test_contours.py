"""The critical area: how much it encloses, and what is no evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage as ndi
from skimage.draw import polygon2mask

from napari_denoise_classify import critical_area
from napari_denoise_classify.core.explain.contours import critical_mask


def bumps(seed: int, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    heat = ndi.gaussian_filter(np.random.default_rng(seed).random(shape), 6)
    return (heat - heat.min()) / np.ptp(heat)


def area(contour: np.ndarray) -> float:
    y, x = contour.T
    return abs(float(np.dot(y[:-1], x[1:]) - np.dot(y[1:], x[:-1]))) / 2


@given(st.integers(0, 1000), st.floats(0.05, 0.9))
def test_the_area_is_the_fraction(seed: int, fraction: float) -> None:
    heat = bumps(seed)
    mask = critical_mask(heat, fraction=fraction)
    assert mask.mean() <= fraction + 2 / heat.size
    assert mask.mean() >= 0.9 * fraction  # specks are left out
    assert heat[mask].min() >= np.quantile(heat, 1 - fraction)


def test_a_disc_is_outlined_where_it_is() -> None:
    y, x = np.mgrid[:100, :100]
    heat = np.exp(-((y - 30) ** 2 + (x - 60) ** 2) / 800)
    (contour,) = critical_area(heat, 0.05)
    np.testing.assert_array_equal(contour[0], contour[-1])
    radius = np.sqrt(0.05 * 100**2 / np.pi)
    distance = np.hypot(contour[:, 0] - 30, contour[:, 1] - 60)
    np.testing.assert_allclose(distance, radius, atol=1)
    assert area(contour) == pytest.approx(0.05 * 100**2, rel=0.02)


@given(st.integers(0, 1000))
def test_contours_enclose_the_mask(seed: int) -> None:
    heat = bumps(seed)
    filled = np.zeros(heat.shape, bool)
    contours = critical_area(heat)
    for contour in contours:
        filled ^= polygon2mask(heat.shape, contour)  # holes have contours of their own
    np.testing.assert_array_equal(filled, critical_mask(heat))
    areas = [area(c) for c in contours]
    assert areas == sorted(areas, reverse=True)


def test_an_area_at_the_border_is_closed() -> None:
    heat = np.zeros((20, 20))
    heat[:4] = np.linspace(1, 2, 20)
    (contour,) = critical_area(heat, 0.2)
    np.testing.assert_array_equal(contour[0], contour[-1])
    assert contour.min() == -0.5
    assert contour[:, 0].max() == 3.5
    assert contour[:, 1].max() == 19.5


def test_zeros_are_no_evidence() -> None:
    assert critical_area(np.zeros((9, 9))) == []
    assert not critical_mask(np.zeros((9, 9))).any()


def test_pixels_without_influence_are_never_critical() -> None:
    heat = np.zeros((50, 50))
    heat[10:15, 10:15] = 1
    np.testing.assert_array_equal(critical_mask(heat, fraction=0.5), heat > 0)


def test_specks_are_left_out() -> None:
    heat = np.zeros((100, 100))
    heat[20:60, 20:60] = 1
    heat[90, 90] = 2
    assert critical_mask(heat, fraction=0.3).sum() == 1600


@given(npst.arrays(np.float32, (8, 9), elements=st.floats(0, 1, width=32)), st.floats(0.01, 0.99))
def test_any_map_gives_closed_contours_inside_it(heat: np.ndarray, fraction: float) -> None:
    for contour in critical_area(heat, fraction):
        np.testing.assert_array_equal(contour[0], contour[-1])
        assert (contour >= -0.5).all()
        assert (contour <= np.array([7.5, 8.5])).all()


def test_half_maximum_is_all_above_half_of_the_peak() -> None:
    y, x = np.mgrid[:100, :100]
    heat = 7 * np.exp(-((y - 50) ** 2 + (x - 40) ** 2) / (2 * 10**2))
    mask = critical_mask(heat, mode="half-maximum")
    np.testing.assert_array_equal(mask, heat >= 3.5)
    assert mask.sum() == pytest.approx(np.pi * 2 * 10**2 * np.log(2), rel=0.02)


def test_half_mass_is_half_of_a_gaussian() -> None:
    y, x = np.mgrid[:100, :100]
    heat = np.exp(-((y - 50) ** 2 + (x - 50) ** 2) / (2 * 10**2))
    (contour,) = critical_area(heat, mode="half-mass")
    # Half of a Gaussian's mass lies within sigma √(2 ln 2).
    assert area(contour) == pytest.approx(np.pi * 2 * 10**2 * np.log(2), rel=0.03)


@given(st.integers(0, 1000), st.sampled_from(["half-maximum", "half-mass"]), st.floats(0.01, 100))
def test_areas_do_not_depend_on_the_unit_of_the_heat(seed: int, mode: Any, factor: float) -> None:
    heat = bumps(seed)
    np.testing.assert_array_equal(critical_mask(heat, mode=mode), critical_mask(heat * factor, mode=mode, fraction=0.7))


@given(st.integers(0, 1000))
def test_half_mass_is_the_smallest_area_with_half_of_the_influence(seed: int) -> None:
    heat = bumps(seed)
    mask = critical_mask(heat, mode="half-mass")
    inside = np.sort(heat[mask])
    assert heat[mask].sum() >= 0.48 * heat.sum()  # specks are left out
    assert inside[1:].sum() < 0.5 * heat.sum()


def test_bad_modes() -> None:
    with pytest.raises(ValueError, match="mode='best' is not allowed; give one of 'top', 'half-maximum', 'half-mass'"):
        critical_area(np.ones((4, 4)), mode="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("fraction", [0, 1, -1, 1.5, np.nan])
def test_bad_fractions(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction="):
        critical_area(np.ones((4, 4)), fraction)


@pytest.mark.parametrize(
    "heat", [np.ones(4), np.ones((2, 3, 4)), np.ones((0, 4)), [[1, np.nan]], [[1, np.inf]], [[1, -0.1]]]
)
def test_bad_maps(heat: Any) -> None:
    with pytest.raises(ValueError, match="heat"):
        critical_area(heat)
