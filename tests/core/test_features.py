"""Named features of crops: known answers, and scikit-learn's manners."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from napari_denoise_classify.core.classify.features import FibreFeatures, TextureFeatures
from napari_denoise_classify.core.synthetic import fibres, he_cells

BOTH = pytest.mark.parametrize("make", [TextureFeatures, FibreFeatures])


def disk(radius: float, side: int = 48, inside: float = 0.8, outside: float = 0.2) -> np.ndarray:
    y, x = np.indices((side, side)) - (side - 1) / 2
    return np.where(np.hypot(y, x) < radius, inside, outside).astype(np.float32)[..., None]


def named(features: TextureFeatures | FibreFeatures, images: list[np.ndarray]) -> list[dict[str, float]]:
    rows = features.fit_transform(images)
    return [dict(zip(features.get_feature_names_out(), row, strict=True)) for row in rows]


@BOTH
@pytest.mark.parametrize("samples", [1, 3])
def test_numbers_and_names(make: type, samples: int) -> None:
    rng = np.random.default_rng(0)
    images = [rng.random((side, side + 3, samples), np.float32) for side in (3, 16, 24)]
    features = make().fit(images)
    found = features.transform(images)
    names = features.get_feature_names_out()
    assert found.shape == (3, len(names))
    assert len(set(names)) == len(names)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(clone(features).fit(images).transform(images), found)
    same_size = np.stack([images[1]] * 2)
    np.testing.assert_array_equal(features.transform(same_size), found[[1, 1]])


@BOTH
def test_flat_and_tiny_images(make: type) -> None:
    images = [np.full((side, side, 1), value, np.float32) for side in (1, 2, 20) for value in (0, 0.5, 1)]
    assert np.isfinite(make().fit_transform(images)).all()


@BOTH
def test_samples_of_another_kind_are_refused(make: type) -> None:
    features = make().fit([np.zeros((9, 9, 3), np.float32)])
    with pytest.raises(ValueError, match="learnt on RGB images"):
        features.transform([np.zeros((9, 9, 1), np.float32)])


def test_intensity() -> None:
    image = np.zeros((10, 10, 3), np.float32)
    image[:5, :, 0] = 1
    image[..., 2] = 0.25
    (found,) = named(TextureFeatures(("intensity",)), [image])
    assert len(found) == 30
    assert found["red_mean"] == found["red_sd"] == 0.5
    assert found["red_entropy"] == pytest.approx(1)
    assert found["red_kurtosis"] == pytest.approx(-2)
    assert found["red_skewness"] == pytest.approx(0, abs=1e-6)
    assert (found["blue_p5"], found["blue_p50"], found["blue_sd"], found["blue_kurtosis"]) == (0.25, 0.25, 0, 0)
    assert found["green_mean"] == 0


def test_texture_tells_stripes_from_noise_and_flat() -> None:
    stripes = np.tile(np.repeat([0.1, 0.9], 4), (32, 4)).astype(np.float32)[..., None]
    noise = np.random.default_rng(0).random((32, 32, 1), np.float32)
    flat = np.full((32, 32, 1), 0.5, np.float32)
    found = named(TextureFeatures(("texture",)), [stripes, noise, flat])
    assert found[2]["glcm_contrast_1px"] == 0
    assert found[2]["glcm_energy_1px"] == pytest.approx(1)
    assert found[2]["glcm_homogeneity_4px"] == pytest.approx(1)
    assert found[0]["glcm_correlation_1px"] > found[1]["glcm_correlation_1px"] + 0.5
    assert found[0]["glcm_contrast_4px"] > found[0]["glcm_contrast_1px"]
    for row in found:
        for points in (8, 16):
            assert sum(row[f"lbp_{points}_{k}"] for k in range(points + 2)) == pytest.approx(1)
    assert found[2]["lbp_8_8"] == 1  # every neighbour at least as bright
    assert found[1]["lbp_8_9"] > found[0]["lbp_8_9"] + 0.2  # not uniform


@pytest.mark.parametrize("dark", [False, True])
def test_shape_of_a_disk_and_an_ellipse(dark: bool) -> None:
    y, x = np.indices((48, 48)) - 23.5
    ellipse = np.where((y / 7) ** 2 + (x / 14) ** 2 < 1, 0.8, 0.2).astype(np.float32)[..., None]
    images = [disk(10), ellipse]
    if dark:
        images = [1 - image for image in images]
    round_one, long_one = named(TextureFeatures(("shape",)), images)
    assert round_one["shape_area_fraction"] == pytest.approx(np.pi * 100 / 48**2, rel=0.05)
    assert round_one["shape_axis_major_length"] == pytest.approx(20, rel=0.05)
    assert round_one["shape_eccentricity"] < 0.2
    assert round_one["shape_circularity"] > 0.85
    assert round_one["shape_solidity"] > 0.95
    assert round_one["shape_perimeter"] == pytest.approx(2 * np.pi * 10, rel=0.06)
    assert round_one["shape_contrast_with_surroundings"] == pytest.approx(0.6, abs=0.02)
    assert long_one["shape_eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.05)
    assert long_one["shape_axis_minor_length"] == pytest.approx(14, rel=0.1)


def test_the_object_in_the_middle_is_taken() -> None:
    image = disk(5, side=49)
    image[:12] = 0.8
    features = TextureFeatures(("shape",)).fit([disk(5)])
    found = dict(zip(features.get_feature_names_out(), features.transform([image])[0], strict=True))
    assert found["shape_axis_major_length"] == pytest.approx(10, rel=0.12)


def test_unknown_kinds_are_refused() -> None:
    for kinds in (("colour",), ()):
        with pytest.raises(ValueError, match="give some of intensity, texture, shape"):
            TextureFeatures(kinds).fit([disk(3)])


def test_fibres_as_features() -> None:
    images = [fibres(a, 4, (96, 96), 6, seed=i).image[..., None] / np.float32(255) for i, a in enumerate((2, 178, 90))]
    empty = np.zeros((96, 96, 1), np.float32)
    rows = named(FibreFeatures(), [*images, empty])
    assert len(rows[0]) == 16
    assert rows[0]["orientation_cos2"] > 0.97
    assert abs(rows[0]["orientation_cos2"] - rows[1]["orientation_cos2"]) < 0.03  # 2° and 178° are near
    assert rows[2]["orientation_cos2"] < -0.97
    assert rows[3]["fibre_density"] == 0
    assert rows[3]["diameter_mean"] == pytest.approx(np.median([row["diameter_mean"] for row in rows[:3]]))


@pytest.mark.slow
def test_synthetic_cells_are_told_apart_across_fields() -> None:
    fields = [he_cells((256, 256), seed=seed).crops(32) for seed in (0, 1)]
    images = [[image / np.float32(255) for image in field.images] for field in fields]
    model = make_pipeline(TextureFeatures(), RandomForestClassifier(50, random_state=0))
    model.fit(images[0], fields[0].labels)
    assert model.score(images[1], fields[1].labels) > 0.8
