"""The splits: every sample once, groups whole, classes and sizes alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_denoise_classify.core.study.declaration import Design
from napari_denoise_classify.core.study.designs import Split, make_splits, minimum_per_class

LAYOUTS = ["partitions:partitions=4", "holdout:test_fraction=0.3,repeats=2", "cross-validation:folds=3,repeats=2"]


def draw(seed: int, n: int, n_groups: int, n_classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    groups = rng.integers(n_groups, size=n).astype(str)
    return rng.integers(n_classes, size=n).astype(str), groups


@given(st.integers(0, 10_000), st.integers(60, 150), st.integers(6, 30), st.integers(2, 4), st.sampled_from(LAYOUTS))
def test_groups_never_split(seed: int, n: int, n_groups: int, n_classes: int, layout: str) -> None:
    y, groups = draw(seed, n, n_groups, n_classes)
    design = Design.of(layout)
    try:
        splits = make_splits(y, groups, design, seed)
    except ValueError:  # no split of so few has every class everywhere
        assume(False)
    for split in splits:
        sides = [split.train, *(test for _, test in split.tests)]
        for k, one in enumerate(sides):
            assert len(one) > 0
            for other in sides[k + 1 :]:
                assert not set(groups[one]) & set(groups[other])
        assert set(y[split.train]) == set(y)
    for repeat in range(design.repeats):
        mine = [split for split in splits if split.repeat == repeat]
        tested = np.concatenate([test for split in mine for _, test in split.tests])
        assert len(set(tested)) == len(tested)
        if design.layout == "cross-validation":
            assert len(tested) == len(y)
        else:
            (split,) = mine
            assert sorted([*split.train, *tested]) == list(range(len(y)))


def test_the_seed_and_the_repeat_make_other_splits() -> None:
    y, groups = draw(0, 300, 30, 3)

    def first(splits: list[Split]) -> list[int]:
        return splits[0].tests[0][1].tolist()

    design = Design.of("cross-validation:folds=3,repeats=2")
    one, same, other = (make_splits(y, groups, design, seed) for seed in (0, 0, 1))
    assert [s.train.tolist() for s in one] == [s.train.tolist() for s in same]
    assert first(one) != first(other)
    assert first(one) != first(one[3:])
    assert [s.repeat for s in one] == [0, 0, 0, 1, 1, 1]


def test_fewer_groups_than_parts_make_fewer_parts() -> None:
    y = np.tile(["a", "b"], 40)
    groups = np.repeat(["1", "2", "3", "4"], 20)
    assert len(make_splits(y, groups, Design.of("cross-validation:folds=10"), 0)) == 4
    assert len(make_splits(y, groups, Design.of("partitions"), 0)[0].tests) == 2


@pytest.mark.parametrize(
    ("design", "needed"),
    [
        ("partitions", 8),
        ("holdout:test_fraction=0.2", 5),
        ("cross-validation:folds=5", 5),
        ("cross-validation:folds=2", 8),
        ("cross-validation:folds=10", 10),
    ],
)
def test_too_few_samples_are_refused_with_the_minimum(design: str, needed: int) -> None:
    assert minimum_per_class(Design.of(design)) == needed
    y = np.array(["a"] * 50 + ["b"] * (needed - 1))
    with pytest.raises(ValueError, match=rf"Too few samples of b \({needed - 1}\): .* at least {needed}\."):
        make_splits(y, None, Design.of(design), 0)
    make_splits(np.append(y, "b"), None, Design.of(design), 0)


@pytest.mark.parametrize("design", LAYOUTS)
def test_what_no_split_can_hold(design: str) -> None:
    with pytest.raises(ValueError, match="only the class 'a'"):
        make_splits(["a"] * 50, None, Design.of(design), 0)
    y = np.repeat(["a", "b"], 50)
    with pytest.raises(ValueError, match="one group"):
        make_splits(y, ["1"] * 100, Design.of(design), 0)
    with pytest.raises(ValueError, match="occurs in"):
        make_splits(y, [*map(str, range(50)), *["one"] * 50], Design.of(design), 0)


def test_a_training_part_with_too_few_of_a_class_is_refused() -> None:
    # 20 samples of b, but 17 of them in one group: the fold that holds it leaves 3
    y = np.repeat(["a", "b"], [60, 20])
    groups = np.array([*map(str, np.arange(60) % 9), *["big"] * 17, "1", "2", "3"])
    with pytest.raises(ValueError, match="has 3 samples of 'b', and each needs at least 4"):
        make_splits(y, groups, Design.of("cross-validation:folds=3"), 0)
