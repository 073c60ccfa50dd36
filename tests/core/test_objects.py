"""Objects of label images: where they are, and which class was painted, clicked or listed for them."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops

from napari_denoise_classify.core.classify.objects import (
    clicked_classes,
    listed_classes,
    measure_objects,
    painted_classes,
)

NAMES = {1: "tumour", 2: "stroma", 3: "  "}


@given(
    arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 0, 1, 5, 7000]))
)
def test_objects_are_where_scikit_image_finds_them(labels: np.ndarray) -> None:
    regions = regionprops(labels)
    if not regions:
        with pytest.raises(ValueError, match="holds no objects"):
            measure_objects(labels)
        return
    found = measure_objects(labels)
    assert found.ids.tolist() == [r.label for r in regions]
    np.testing.assert_allclose(found.centres, [r.centroid for r in regions])
    for side, region in zip(found.sides, regions, strict=True):
        # The smallest square around the centroid that holds every pixel whole.
        assert side == pytest.approx(2 * (np.abs(region.coords - region.centroid).max() + 0.5))


def test_an_object_of_several_planes_is_measured_where_it_is_largest() -> None:
    labels = np.zeros((2, 20, 20), np.uint16)
    labels[0, 2:4, 2:4] = labels[1, 5:10, 5:14] = 3
    found = measure_objects(labels)
    np.testing.assert_allclose(found.centres, [[1, 7, 9]])
    np.testing.assert_allclose(found.sides, [9])


def test_rows_of_objects() -> None:
    found = measure_objects(np.array([[1, 0, 9, 0, 4]]))
    assert found.rows([9, 1]).tolist() == [2, 0]
    with pytest.raises(ValueError, match="2 of 3 objects are not in the label image; the first is 5"):
        found.rows([5, 9, 10])


@pytest.fixture
def series() -> np.ndarray:
    """Four objects in each of three times, numbered anew each time; in the second they are larger."""
    labels = np.zeros((3, 40, 40), np.uint16)
    for t in range(3):
        for k in range(4):
            labels[t, 5 + 8 * k : 9 + 8 * k + (t == 1), 10 + t : 16 + t] = k + 1
    return labels


def test_objects_of_other_times_are_others(series: np.ndarray) -> None:
    found = measure_objects(series, "TYX")
    assert found.ids.tolist() == list(range(1, 13))
    assert found.numbers.tolist() == [1, 2, 3, 4] * 3
    assert found.centres[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.note == ""
    apart = found.renumbered(series, "TYX")
    again = measure_objects(apart, "TYX")
    assert again.ids.tolist() == again.numbers.tolist() == found.ids.tolist()
    np.testing.assert_array_equal(again.centres, found.centres)
    np.testing.assert_array_equal(apart > 0, series > 0)
    lazy = found.renumbered(dask.array.from_array(series, chunks=(2, 16, 16)), "TYX")
    np.testing.assert_array_equal(lazy, apart)
    swapped = measure_objects(series.transpose(1, 0, 2), "YTX")
    np.testing.assert_array_equal(swapped.centres, found.centres)
    np.testing.assert_array_equal(swapped.renumbered(series.transpose(1, 0, 2), "YTX"), apart.transpose(1, 0, 2))


def test_objects_in_several_planes_count_once(series: np.ndarray) -> None:
    for axes in (None, "ZYX"):
        found = measure_objects(series, axes)
        assert found.ids.tolist() == found.numbers.tolist() == [1, 2, 3, 4]
        assert set(found.centres[:, 0]) == {1}
        assert found.renumbered(series, axes) is series
        assert ("4 objects lie in several planes" in found.note) == (axes is None)
    both = np.stack([series, 5 * (series > 0) + series])
    found = measure_objects(both, "TZYX")
    assert found.ids.tolist() == found.numbers.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]  # nothing is to be told apart
    assert measure_objects(both, "?ZYX").note == ""


# --- classes --------------------------------------------------------------------------------------------------------


def test_the_class_painted_most_wins() -> None:
    labels = np.repeat([[1, 1, 1, 2, 2, 2, 0, 3, 3, 4]], 2, axis=0)
    painted = np.array([[1, 1, 2, 2, 2, 0, 1, 1, 2, 3], [0, 0, 0, 2, 0, 0, 1, 0, 0, 3]])
    marks = painted_classes(labels, painted, NAMES)
    # 3 is painted half and half, 4 with a number that has no name.
    assert marks.ids.tolist() == [1, 2]
    assert marks.classes.tolist() == ["tumour", "stroma"]
    assert marks.tied == 1
    assert "1 objects with two classes" in marks.note


@given(st.integers(0, 2**32 - 1))
def test_painting_agrees_with_a_count_for_each_object(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, painted = rng.integers(0, 5, (2, 6, 7))
    names = {n: f"class {n}" for n in (1, 2, 3, 4)}
    expected = {}
    for i in range(1, 5):
        counts = np.bincount(painted[(labels == i) & (painted > 0)], minlength=5)
        if counts.max() and (counts == counts.max()).sum() == 1:
            expected[i] = names[int(counts.argmax())]
    if not expected:
        with pytest.raises(ValueError, match="No object has a class"):
            painted_classes(labels, painted, names)
        return
    marks = painted_classes(labels, painted, names)
    assert dict(zip(marks.ids.tolist(), marks.classes.tolist(), strict=True)) == expected


def test_nothing_painted_and_other_shapes_are_sentences() -> None:
    labels = np.ones((4, 4), int)
    with pytest.raises(ValueError, match="No object has a class: paint over some objects"):
        painted_classes(labels, np.zeros((4, 4), int), NAMES)
    with pytest.raises(ValueError, match="not equal"):
        painted_classes(labels, np.zeros((4, 5), int), NAMES)


def test_points_name_the_objects_they_lie_in() -> None:
    labels = np.zeros((10, 10), int)
    labels[2:5, 2:5], labels[6:9, 6:9] = 7, 3
    positions = [[3.4, 3.4], [2, 2], [7, 7], [0, 0], [-0.6, 3], [3, np.nan], [50, 3]]
    marks = clicked_classes(labels, positions, ["a", "a", "b", "b", "a", "a", "a"])
    assert marks.ids.tolist() == [3, 7]
    assert marks.classes.tolist() == ["b", "a"]
    assert marks.outside == 4
    assert marks.note == "4 points lie in no object and were ignored."
    with pytest.raises(ValueError, match="None of the 1 points lies in an object"):
        clicked_classes(labels, [[0, 0]], ["a"])


def test_listed_classes_pass_over_empty_ones() -> None:
    marks = listed_classes([4, 2, 9, 5], ["b", None, np.nan, "a"])
    assert marks.ids.tolist() == [4, 5]
    assert marks.classes.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("ids", "classes", "words"),
    [
        ([1, 1], ["a", "b"], "Object 1 has its class listed twice"),
        ([1.5], ["a"], "whole numbers"),
        (["x"], ["a"], "whole numbers"),
        ([1, 2], ["", None], "No object has a class"),
        ([], [], "No object has a class"),
    ],
)
def test_bad_lists(ids: list, classes: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        listed_classes(ids, classes)


@pytest.mark.parametrize(("positions", "n"), [([[0, 1, 1]] * 4, 4), ([[1, 1]] * 4, 3)])
def test_clicks_need_as_many_coordinates_and_classes(positions: list[list[int]], n: int) -> None:
    with pytest.raises(ValueError, match="Points need 2 coordinates and a class each"):
        clicked_classes(np.ones((5, 5), int), positions, ["a"] * n)
