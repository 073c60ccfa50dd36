"""Splits: a group is never on both sides, a class always is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_denoise_classify import Crops
from napari_denoise_classify.core.classify.splits import TooFewGroupsError, balanced_parts, by_groups, folds, holdout

fractions = st.floats(0.05, 0.95)
seeds = st.integers(0, 1000)
labels = st.lists(st.sampled_from("abc"), min_size=4, max_size=60)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    y = draw(labels)
    return y, draw(st.lists(st.integers(0, 6), min_size=len(y), max_size=len(y)))


def check(y: list[str], first: np.ndarray, second: np.ndarray) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(y)))
    assert set(np.array(y)[first]) == set(np.array(y)[second]) == set(y)


@given(labels, fractions, seeds)
def test_both_sides_hold_every_class(y: list[str], fraction: float, seed: int) -> None:
    try:
        first, second = holdout(y, None, fraction, seed)
    except ValueError as error:
        assert min(y.count(name) for name in set(y)) < 2, error  # noqa: PT017
    else:
        check(y, first, second)


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_are_on_both_sides(seed: int) -> None:
    y = ["common"] * 100 + ["rare"] * 3
    check(y, *holdout(y, None, 0.1, seed))


@given(grouped(), fractions, seeds)
def test_a_group_is_never_on_both_sides(given: tuple[list[str], list[int]], fraction: float, seed: int) -> None:
    y, groups = given
    try:
        first, second = holdout(y, groups, fraction, seed)
    except ValueError as error:
        assert any(word in str(error) for word in ("group", "class"))  # noqa: PT017
    else:
        check(y, first, second)
        assert not set(np.array(groups)[first]) & set(np.array(groups)[second])


@pytest.mark.parametrize("seed", range(5))
def test_the_size_and_the_shares_come_close(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(20), 10)
    y = np.where(rng.random(200) < 0.3, "rare", "common")
    for by in (None, groups):
        _, second = holdout(y, by, 0.25, seed)
        assert len(second) / 200 == pytest.approx(0.25, abs=0.06)
        assert np.mean(y[second] == "rare") == pytest.approx(np.mean(y == "rare"), abs=0.06)


def test_the_seed_decides() -> None:
    y = ["a", "b"] * 20
    first, again, other = (holdout(y, None, 0.25, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2, np.nan])
def test_bad_fractions(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction="):
        holdout(["a", "b"] * 5, None, fraction, 0)


@pytest.mark.parametrize(
    ("y", "groups", "words"),
    [
        (["a", "a", "b"], None, "class 'b' has one sample"),
        (["a", "b"] * 4, ["one"] * 8, "one group"),
        (["a"] * 4 + ["b"] * 4, ["p"] * 4 + ["q"] * 4, "No split by group"),
    ],
)
def test_impossible_splits(y: list[str], groups: list[str] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        holdout(y, groups, 0.3, 0)


@given(grouped(), st.integers(2, 5), seeds)
def test_folds_cover_everything_once_and_keep_groups_together(
    given: tuple[list[str], list[int]], n_splits: int, seed: int
) -> None:
    y, groups = given
    try:
        found = folds(y, groups, n_splits, seed)
    except ValueError as error:
        assert "group" in str(error)  # noqa: PT017
        return
    tested = np.concatenate([test for _, test in found])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(y)))
    for train, test in found:
        assert not set(np.array(groups)[train]) & set(np.array(groups)[test])
        assert set(np.array(y)[train]) == set(y)
    assert len(found) == min(n_splits, len(set(groups)))


@given(seeds, st.integers(40, 200), st.integers(2, 5), st.integers(2, 10))
def test_parts_without_groups_differ_by_one_of_each_class(seed: int, n: int, n_classes: int, n_parts: int) -> None:
    y = np.random.default_rng(seed).integers(n_classes, size=n).astype(str)
    parts = balanced_parts(y, None, n_parts, seed)
    assert sorted(np.concatenate(parts)) == list(range(n))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for name in np.unique(y):
        counts = [(y[part] == name).sum() for part in parts]
        assert max(counts) - min(counts) <= 1


def test_parts_by_group_are_alike() -> None:
    rng = np.random.default_rng(0)
    y, groups = rng.integers(4, size=2000).astype(str), rng.integers(60, size=2000)
    parts = balanced_parts(y, groups, 5, 0)
    for name in np.unique(y):
        shares = [(y[part] == name).sum() / (y == name).sum() for part in parts]
        assert max(shares) - min(shares) < 0.03


def test_groups_are_mixed_only_where_there_are_too_few() -> None:
    y = np.array(["a", "b"] * 6)
    with pytest.raises(TooFewGroupsError):
        folds(y, np.zeros(12), 3, 0)
    _, whole = by_groups(lambda those: folds(y, those, 3, 0), np.zeros(12))
    assert not whole
    assert by_groups(lambda those: those is None, None) == (True, False)
    asked = []

    def wrong(those: np.ndarray | None) -> None:
        asked.append(those)
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        by_groups(wrong, y)
    assert len(asked) == 1
    with pytest.raises(ValueError, match="class 'b' has one sample") as error:
        folds(["a", "a", "b"], None, 3, 0)
    assert not isinstance(error.value, TooFewGroupsError)


def test_finer_groups_are_whole_where_the_others_cannot_be() -> None:
    y = np.repeat(["a", "b"], 24)
    samples = np.repeat(np.arange(12), 4)
    for patients, expected in ((samples % 4, True), (samples // 6, False)):
        levels = np.column_stack([patients, samples]).astype(str)
        parts, whole = by_groups(lambda those: folds(y, those, 3, 0), levels)
        assert whole == expected
        for train, test in parts:
            assert not set(samples[train]) & set(samples[test])
            assert whole != bool(set(patients[train]) & set(patients[test]))


def test_folds_without_groups_are_stratified() -> None:
    y = np.array(["a"] * 20 + ["b"] * 10)
    for _, test in folds(y, None, 5, 0):
        assert [np.sum(y[test] == name) for name in "ab"] == [4, 2]


def test_crops_are_split_by_their_groups(crops: Crops) -> None:
    train, test = crops.split(0.3, seed=1)
    assert len(train) + len(test) == len(crops)
    assert train.groups is not None
    assert test.groups is not None
    assert not set(train.groups) & set(test.groups)
    assert not set(train.names) & set(test.names)
    assert train.classes == test.classes == crops.classes
