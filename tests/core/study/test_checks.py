"""What may spoil a study is found before it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_denoise_classify import Crops
from napari_denoise_classify.core.classify.copies import find_duplicates, image_key
from napari_denoise_classify.core.study.checks import check_data, cramers_v, data_sha256
from napari_denoise_classify.core.study.declaration import Design
from napari_denoise_classify.core.study.designs import make_splits


def notes_of(data: Crops, design: str = "cross-validation:folds=3") -> list[str]:
    splits = make_splits(data.labels, data.groups, Design.of(design), 0)
    return check_data(data, splits, [image_key(image) for image in data.images])


def test_good_data_have_no_notes(make_crops: Callable[..., Crops]) -> None:
    assert notes_of(make_crops()) == []


def test_no_groups_are_noted(make_crops: Callable[..., Crops]) -> None:
    (note,) = notes_of(dataclasses.replace(make_crops(), groups=None))
    assert note.startswith("No groups were given")


def test_copies_across_a_split_are_found(make_crops: Callable[..., Crops]) -> None:
    data = make_crops()
    assert data.groups is not None
    far = int(np.flatnonzero((data.groups != data.groups[1]) & (data.labels == data.labels[1]))[0])
    images = list(data.images)
    images[far] = images[1].copy()
    alike = dataclasses.replace(data, images=images)
    notes = notes_of(alike)
    assert notes[0].startswith("2 of 48 images have an exact copy among the others (1 sets")
    assert any("test samples have an exact copy among the training samples" in note for note in notes)
    assert not any("conflicting" in note for note in notes)
    near = np.flatnonzero((data.groups == data.groups[1]) & (data.labels == data.labels[1]))
    images = list(data.images)
    images[near[1]] = images[near[0]].copy()
    (note,) = notes_of(dataclasses.replace(data, images=images))  # of one group: on one side of every split
    assert "exact copy among the others" in note


def test_copies_with_other_labels_are_found(make_crops: Callable[..., Crops]) -> None:
    data = make_crops()
    images = list(data.images)
    images[1] = images[0].copy()
    notes = notes_of(dataclasses.replace(data, images=images))
    assert any(
        "1 sets of exact copies carry conflicting classes" in note and "crop 0, crop 1" in note for note in notes
    )


def test_only_exact_copies_count() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    keys = [image_key(a) for a in (image, image.copy(), image.astype(np.uint16), image.reshape(2, 8), image + 1)]
    assert find_duplicates(keys) == [[0, 1]]
    assert image_key(np.asfortranarray(image)) == keys[0]


def test_confounding_is_found(make_crops: Callable[..., Crops]) -> None:
    data = make_crops()
    groups = np.array([f"{label} {i // 2 % 4}" for i, label in enumerate(data.labels)])
    notes = notes_of(dataclasses.replace(data, groups=groups))
    assert any("confounded with groups (Cramér's V 0.9" in note for note in notes)


def test_a_class_of_one_group_is_found(make_crops: Callable[..., Crops]) -> None:
    data = make_crops()
    groups = np.array(["one" if label == "spot" else f"field {i // 8}" for i, label in enumerate(data.labels)])
    alone = dataclasses.replace(data, groups=groups)
    splits = make_splits(data.labels, data.groups, Design.of("cross-validation:folds=3"), 0)
    notes = check_data(alone, splits, [image_key(image) for image in data.images])
    assert any("The class 'spot' occurs in one group only" in note for note in notes)


@given(st.integers(0, 1000), st.integers(2, 5), st.integers(2, 40))
def test_chance_is_no_confounding(seed: int, n_classes: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(n_classes, size=400), rng.integers(n_groups, size=400)
    assert 0 <= cramers_v(labels, groups) < 0.3
    assert cramers_v(labels, labels) == pytest.approx(1, abs=0.02)
    assert cramers_v(labels, rng.permutation(n_classes)[labels]) == pytest.approx(cramers_v(labels, labels))


def test_groups_of_one_sample_are_no_confounding(make_crops: Callable[..., Crops]) -> None:
    data = make_crops()
    alone = dataclasses.replace(data, groups=np.array([str(i) for i in range(len(data))]))
    assert cramers_v(alone.labels, alone.groups) == 0
    assert notes_of(alone) == []


def test_the_hash_of_the_data_sees_everything(make_crops: Callable[..., Crops]) -> None:
    data = make_crops()
    assert data.groups is not None
    changed = list(data.images)
    changed[3] = changed[3].copy()
    changed[3][0, 0] ^= 1
    labels, groups = data.labels.copy(), data.groups.copy()
    labels[0], groups[5] = "spot", "elsewhere"
    versions = [
        data,
        dataclasses.replace(data, images=changed),
        dataclasses.replace(data, labels=labels),
        dataclasses.replace(data, groups=groups),
        dataclasses.replace(data, groups=None),
        data.subset(np.arange(len(data))[::-1]),
    ]
    assert len({data_sha256(version) for version in versions}) == len(versions)
    assert data_sha256(make_crops()) == data_sha256(data)
