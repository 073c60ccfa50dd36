"""Augmented training crops: copies keep class and group, and stay on their side of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_denoise_classify import Crops
from napari_denoise_classify.core.classify.augmentation import augment


@given(st.booleans(), st.booleans(), st.sampled_from([None, "gaussian:5"]), st.integers(0, 5))
def test_labels_and_groups_follow(rotations: bool, flips: bool, noise: str | None, n: int) -> None:
    images = [np.full((4, 6), 40 * i, np.uint8) for i in range(n)]
    labels, groups = np.array([f"class {i % 2}" for i in range(n)]), np.array([f"field {i}" for i in range(n)])
    found = augment(images, labels, groups, 0, rotations, flips, noise)
    copies = (4 if rotations else 1) * (2 if flips else 1) - 1 or (1 if noise else 0)
    assert len(found.images) == n * (1 + copies)
    for image, label, group, source in zip(found.images, found.labels, found.groups, found.sources, strict=True):
        assert abs(image.mean() - images[source].mean()) < 15
        assert (label, group) == (labels[source], groups[source])
        assert image.dtype == np.uint8
    for image, original in zip(found.images, images, strict=False):
        np.testing.assert_array_equal(image, original)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_eight_copies_are_the_symmetries_of_a_square(samples: int) -> None:
    image = np.random.default_rng(0).integers(0, 65535, (5, 7, samples), dtype=np.uint16)
    image = image if samples == 3 else image[..., 0]
    found = augment([image], ["a"])
    assert found.groups is None
    assert len({copy.tobytes() + bytes(copy.shape) for copy in found.images}) == 8
    for copy in found.images:
        np.testing.assert_array_equal(np.sort(copy, axis=None), np.sort(image, axis=None))
    only_turned = augment([image], ["a"], flips=False).images
    np.testing.assert_array_equal(only_turned[1], np.rot90(image))
    only_flipped = augment([image], ["a"], rotations=False).images
    np.testing.assert_array_equal(only_flipped[1], image[:, ::-1])


def test_noise_is_fresh_and_seeded() -> None:
    image = np.linspace(1000, 3000, 400).reshape(20, 20).astype(np.uint16)
    found, again, other = (augment([image], [0], None, seed, noise="gaussian:10").images for seed in (1, 1, 2))
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[3], again[3])
    assert (found[3] != other[3]).any()
    residuals = [np.rot90(found[k], -k).astype(float) - image for k in (1, 2, 3)]
    for residual in residuals:  # ten grey levels of 255, over a range of about 2000
        assert residual.std() == pytest.approx(10 / 255 * 2000, rel=0.15)
    assert abs(np.corrcoef(residuals[0].ravel(), residuals[1].ravel())[0, 1]) < 0.2


def test_no_copy_crosses_a_split_by_group(make_crops: Callable[..., Crops]) -> None:
    training, test = make_crops().split(0.3)
    found = augment(training.images, training.labels, training.groups, 0)
    assert set(found.groups) == set(training.groups)
    assert not set(found.groups) & set(test.groups)
    again, _ = Crops(found.images, found.labels, found.groups, [str(s) for s in found.sources]).split(0.3)
    for group in np.unique(again.groups):  # whole groups: every copy of a crop is on one side
        assert (again.groups == group).sum() == (found.groups == group).sum()


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 images but 2 labels"):
        augment([np.zeros((2, 2))], [0, 1])
    with pytest.raises(ValueError, match="1 images but 3 groups"):
        augment([np.zeros((2, 2))], [0], [1, 2, 3])
