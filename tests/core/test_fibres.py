"""Fibre descriptors: what is drawn is what is measured."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi
from scipy.special import ndtri
from skimage.morphology import remove_small_holes

from napari_denoise_classify.core.classify.fibres import (
    DESCRIPTORS,
    axial_statistics,
    fibre_features,
    fibre_map,
)
from napari_denoise_classify.core.classify.skeletons import thinned, trace
from napari_denoise_classify.core.synthetic import collagen, fibres

NAMES = [d.name for d in DESCRIPTORS]


def fibre(angle: float = 0.0, width: float = 4.0, length: float = 60.0, side: int = 96, off: float = 0.3) -> np.ndarray:
    """One straight fibre with round ends from 0 to 1, at its rim as bright as pixels are covered."""
    y, x = np.indices((side, side)) - (side / 2 + off)
    along = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    t = np.clip(y * along[0] + x * along[1], -length / 2, length / 2)
    return np.clip(width / 2 + 0.5 - np.hypot(y - t * along[0], x - t * along[1]), 0, 1)


def axial_error(found: float, truth: float) -> float:
    return abs((found - truth + 90) % 180 - 90)


@pytest.mark.parametrize("angle", range(0, 180, 5))
def test_orientation_of_straight_fibres(angle: int) -> None:
    image = fibre(angle)
    noisy = image + 0.1 * np.random.default_rng(angle).standard_normal(image.shape)
    for plane in (image, noisy):
        found = fibre_map(plane).describe()
        assert axial_error(found["orientation_mean"], angle) < 2
        assert found["alignment"] > 0.95
        assert found["orientation_sd"] < 10


def test_angles_grow_counter_clockwise_from_the_right_as_seen_on_the_screen() -> None:
    image = np.zeros((64, 64))
    rows = np.arange(10, 54)
    image[rows, 64 - rows] = 1  # from the lower left to the upper right: row 0 is at the top
    image = ndi.gaussian_filter(image, 1.2)
    assert fibre_map(image).describe()["orientation_mean"] == pytest.approx(45, abs=1)
    assert fibre_map(image[::-1]).describe()["orientation_mean"] == pytest.approx(135, abs=1)


@pytest.mark.parametrize("width", range(3, 13))
def test_diameter(width: int) -> None:
    for angle in (0, 22.5, 40, 90, 130):
        found = fibre_map(fibre(angle, width)).describe()
        assert found["diameter_mean"] == pytest.approx(width, rel=0.1)
        assert found["diameter_median"] == pytest.approx(width, rel=0.1)


@pytest.mark.parametrize("width", [4, 7, 12])
def test_diameter_of_blurred_noisy_fibres(width: int) -> None:
    image = ndi.gaussian_filter(fibre(30, width), 1.0)
    image += 0.05 * np.random.default_rng(0).standard_normal(image.shape)
    assert fibre_map(image, blur=1.0).describe()["diameter_mean"] == pytest.approx(width, rel=0.1)


def test_a_mix_of_diameters() -> None:
    image = np.zeros((160, 128))
    for top, width in ((15, 4), (60, 8), (110, 12)):
        image[top : top + width, 14:114] = 1
    found = fibre_map(image).describe()
    assert found["diameter_mean"] == pytest.approx(8, rel=0.1)
    assert found["diameter_sd"] == pytest.approx(np.std([4, 8, 12]), rel=0.15)


def test_alignment_falls_as_directions_spread() -> None:
    described = [
        fibre_map(fibres(60, spread, (192, 192), 14, seed=3).image).describe() for spread in (0, 8, 16, 28, 45)
    ]
    alignment = [d["alignment"] for d in described]
    assert all(a > b + 0.02 for a, b in pairwise(alignment))
    sd = [d["orientation_sd"] for d in described]
    entropy = [d["orientation_entropy"] for d in described]
    assert sd == sorted(sd)
    assert entropy == sorted(entropy)


@given(st.floats(0, 180), st.floats(1, 25))
def test_axial_statistics_of_a_known_distribution(mean: float, sd: float) -> None:
    quantiles = (np.arange(2000) + 0.5) / 2000
    found = axial_statistics((mean + sd * ndtri(quantiles)) % 180)
    assert axial_error(found["orientation_mean"], mean) < 1e-6
    assert found["orientation_sd"] == pytest.approx(sd, rel=0.01)
    assert found["alignment"] == pytest.approx(np.exp(-2 * np.radians(sd) ** 2), rel=0.01)


def test_axial_statistics_at_their_ends() -> None:
    same = axial_statistics([179.0, 1.0, 361.0, -1.0])
    assert axial_error(same["orientation_mean"], 0) < 1e-9
    assert same["orientation_entropy"] == 0  # one bin on both sides of 0°
    every = axial_statistics(np.arange(0, 180, 5))
    assert every["alignment"] == pytest.approx(0, abs=1e-9)
    assert every["orientation_entropy"] == pytest.approx(np.log2(36))
    assert np.isfinite(every["orientation_sd"])
    assert axial_statistics([10.0, 100.0], [1, 0])["orientation_mean"] == pytest.approx(10)
    assert all(np.isnan(v) for v in axial_statistics([]).values())


@pytest.mark.parametrize("angle", [0, 20, 45, 70])
@pytest.mark.parametrize("width", [3, 6])
def test_length_and_straightness_of_a_straight_fibre(angle: int, width: int) -> None:
    found = fibre_map(fibre(angle, width, 60)).describe()
    assert found["length_max"] == pytest.approx(60 + width, rel=0.08)
    assert found["length_mean"] == found["length_max"]
    assert found["length_sd"] == 0
    assert found["straightness_mean"] > 0.98


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_length_and_straightness_of_an_arc(share: float) -> None:
    y, x = np.indices((128, 128)) - 63.7
    phi = np.arctan2(y, x) % (2 * np.pi)
    image = np.clip(2.5 - abs(np.hypot(y, x) - 40), 0, 1) * (phi < 2 * np.pi * share)
    found = fibre_map(image).describe()
    half = np.pi * share
    assert found["length_max"] == pytest.approx(2 * half * 40, rel=0.05)
    assert found["straightness_mean"] == pytest.approx(np.sin(half) / half, abs=0.03)


def test_a_ring_is_one_closed_branch() -> None:
    y, x = np.indices((96, 96)) - 47.6
    found = fibre_map(np.clip(2.5 - abs(np.hypot(y, x) - 30), 0, 1))
    assert len(found.branches) == 1
    assert found.branches[0].length == pytest.approx(2 * np.pi * 30, rel=0.05)
    assert found.branches[0].straightness < 0.02
    assert len(found.branch_points) == 0


def test_a_cross_has_one_branch_point_and_four_branches() -> None:
    found = fibre_map(np.maximum(fibre(20, 4, 70), fibre(110, 4, 70)))
    described = found.describe(0.5)
    assert len(found.branches) == 4
    assert len(found.branch_points) == 1
    np.testing.assert_allclose(found.branch_points[0], 48.3, atol=2)
    assert described["branch_point_density"] == pytest.approx(1 / (48 * 48))
    assert described["alignment"] < 0.1


def test_trace_follows_every_pixel() -> None:
    skeleton = np.zeros((20, 30), bool)
    skeleton[10, 3:27] = True
    skeleton[3:10, 15] = True
    skeleton[17, 5] = True
    found = trace(skeleton)
    assert sorted(round(b.length) for b in found.branches) == [0, 7, 11, 12]
    assert found.branch_points.shape == (1, 2)
    pruned = trace(skeleton, 8)
    assert [round(b.length) for b in pruned.branches] == [23]
    assert len(pruned.branch_points) == 0
    assert not trace(np.zeros((5, 5), bool)).branches


@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_a_skeleton_meet_in_branch_points(seed: int) -> None:
    mask = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal((80, 80)), 2) > 0.02
    mask = remove_small_holes(mask, max_size=4)
    found = trace(thinned(mask))
    ends = [end for b in found.branches for end, free in zip((b.path[0], b.path[-1]), b.free, strict=True) if not free]
    for point in found.branch_points:  # three or more pieces end at each
        assert sum(np.allclose(end, point) for end in ends) >= 3
    assert all(b.length > 0.9 for b in found.branches if not all(b.free))
    assert ndi.label(found.skeleton, np.ones((3, 3)))[1] == ndi.label(mask, np.ones((3, 3)))[1]


def test_densities_of_known_coverage() -> None:
    image = np.zeros((120, 120))
    for top in (20, 50, 80):
        image[top : top + 6] = 1
    found = fibre_map(image).describe(0.5)
    assert found["fibre_density"] == pytest.approx(18 / 120, rel=0.05)
    assert found["skeleton_density"] == pytest.approx(3 * 60 / 60**2, rel=0.05)
    assert found["branch_point_density"] == 0


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_image_turns_the_orientation_and_nothing_else(turns: int) -> None:
    image = fibres(25, 12, (128, 128), 8, seed=1).image
    before, after = fibre_map(image).describe(), fibre_map(np.rot90(image, turns)).describe()  # counter-clockwise
    assert axial_error(after["orientation_mean"], before["orientation_mean"] + 90 * turns) < 0.5
    for name in ("alignment", "fibre_density", "diameter_mean"):
        assert after[name] == pytest.approx(before[name], rel=0.05)
    assert after["skeleton_density"] == pytest.approx(before["skeleton_density"], rel=0.1)


def test_pixel_size_scales_lengths_and_densities() -> None:
    image = collagen("TACS-2", (96, 96), seed=2).image
    one, half = (fibre_features(image, pixel_size=size).iloc[0] for size in (1, 0.5))
    power = {"µm": 1, "µm/µm²": -1, "1/µm²": -2}
    for d in DESCRIPTORS:
        assert half[d.name] == pytest.approx(one[d.name] * 0.5 ** power.get(d.unit, 0), rel=1e-6)


def test_brightness_and_contrast_do_not_matter() -> None:
    image = fibres(40, 10, (128, 128), 8, seed=5, noise=None).image
    reference = fibre_features(image)
    for other in (image.astype(np.float32) * 0.001, image.astype(np.uint16) * 200 + 1000, image / 7.0 - 3):
        np.testing.assert_allclose(fibre_features(other), reference, rtol=1e-3, atol=1e-3)


def test_dark_fibres() -> None:
    image = fibres(40, 10, (128, 128), 8, seed=5, noise=None).image
    np.testing.assert_allclose(fibre_features(255 - image, dark=True), fibre_features(image), rtol=1e-3, atol=1e-3)


def test_moderate_noise_changes_little() -> None:
    clean = fibres(120, 10, (160, 160), 7, width=(4, 6), noise=None, seed=8)
    noisy = fibres(120, 10, (160, 160), 7, width=(4, 6), noise="gaussian:15", seed=8)
    a, b = fibre_map(clean.image).describe(), fibre_map(noisy.image).describe()
    assert axial_error(a["orientation_mean"], b["orientation_mean"]) < 2
    assert b["alignment"] == pytest.approx(a["alignment"], abs=0.05)
    assert b["diameter_mean"] == pytest.approx(a["diameter_mean"], rel=0.1)
    assert b["fibre_density"] == pytest.approx(a["fibre_density"], rel=0.1)
    assert b["skeleton_density"] == pytest.approx(a["skeleton_density"], rel=0.15)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 50), np.uint8),
        np.full((40, 50, 3), 255, np.uint8),
        np.full((40, 50), 1e9),
        np.ones((1, 1)),
        np.random.default_rng(0).normal(100, 20, (96, 96)),
    ],
    ids=["black", "white RGB", "large", "one pixel", "noise"],
)
def test_without_fibres(image: np.ndarray) -> None:
    found = fibre_map(image)
    assert not found.skeleton.any()
    assert not found.mask.any()
    assert not found.overlay().any()
    described = found.describe()
    assert list(described) == NAMES
    assert {name for name, value in described.items() if value == 0} == {n for n in NAMES if n.endswith("density")}
    assert all(np.isnan(v) for n, v in described.items() if not n.endswith("density"))


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 10**6))
def test_images_of_any_size(height: int, width: int, seed: int) -> None:
    image = ndi.gaussian_filter(np.random.default_rng(seed).random((height, width)), 1)
    found = fibre_map(image, min_length=3)
    assert found.skeleton.shape == found.mask.shape == found.orientation.shape == image.shape
    assert ((found.orientation >= 0) & (found.orientation <= 180)).all()
    assert (found.width[~found.skeleton] == 0).all()


def test_a_row_for_each_plane() -> None:
    stack = np.stack([fibre(30), np.zeros((96, 96)), fibre(120, 8)])[:, None]
    found = fibre_features((stack * 255).astype(np.uint8), "TCYX", 0.2)
    assert list(found.columns) == ["t", "c", *NAMES]
    assert len(NAMES) == 15
    assert found["t"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["orientation_mean"][[0, 2]], (30, 120), atol=2)
    assert found["diameter_mean"][2] == pytest.approx(1.6, rel=0.1)
    assert np.isnan(found["alignment"][1])
    rgb = np.repeat((stack[0, 0, ..., None] * 255).astype(np.uint8), 3, axis=-1)
    np.testing.assert_allclose(fibre_features(rgb, rgb=True, pixel_size=0.2), found.iloc[:1, 2:], rtol=1e-3)


def test_the_overlay_shows_the_skeleton_by_orientation() -> None:
    found = fibre_map(fibre(0))
    overlay = found.overlay()
    np.testing.assert_array_equal(overlay[..., 3] > 0, found.skeleton)
    colours = overlay[found.skeleton]
    assert (colours[:, 3] == 255).all()
    assert (colours[:, 0] > 200).all()  # 0° is red
    assert (colours[:, 1] < 60).all()
    assert (found.overlay(3)[..., 3] > 0).sum() > 2 * found.skeleton.sum()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pixel_size": 0}, "pixel_size=0 is not allowed"),
        ({"pixel_size": np.nan}, "pixel_size=nan is not allowed"),
        ({"max_width": 1}, "max_width=1 is not allowed"),
        ({"min_length": -1}, "min_length=-1 is not allowed"),
        ({"blur": np.inf}, "blur=inf is not allowed"),
        ({"axes": "YXS"}, "names 3 axes"),
    ],
)
def test_what_is_not_allowed(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fibre_features(np.zeros((20, 20)), **parameters)


def test_the_documentation_lists_them() -> None:
    page = Path(__file__).parents[2] / "docs" / "fibres.md"
    rows = [
        line
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.count("|") == 5
    ]
    assert rows == [f"| `{d.name}` | {d.unit or '–'} | {d.meaning} | {d.method} |" for d in DESCRIPTORS]


def test_real_collagen(shared_data) -> None:
    import tifffile

    image = tifffile.imread(shared_data / "collagen" / "2B_H9_SHG1.tif")[:320, :320]
    found = fibre_features(image, pixel_size=0.5).iloc[0]
    assert np.isfinite(found).all()
    assert axial_error(found["orientation_mean"], 113) < 6  # by eye, from the upper left to the lower right
    assert found["alignment"] > 0.6
