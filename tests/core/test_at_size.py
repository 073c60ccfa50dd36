"""Kernels and neighbours by blocked products: what scikit-learn finds, whatever the blocks and the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from napari_denoise_classify.core.classify import kernels
from napari_denoise_classify.core.classify.estimators import BalancedKNN, ExactKNN, StandardSVC
from napari_denoise_classify.core.device import MEMORY_VARIABLE


def table(n: int, d: int, levels: int = 256, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Whole numbers up to the largest; few levels make many ties."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, (n, d)) * (np.iinfo(dtype).max // (levels - 1))).astype(dtype)


def classes(X: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Classes that have something to do with the table."""
    noise = np.random.default_rng(seed).normal(0, 0.3, len(X))
    score = X[:, : (X.shape[1] + 1) // 2].mean(axis=1).argsort().argsort() / len(X) + noise
    return np.array(list("cabde"))[np.digitize(score, np.quantile(score, np.arange(1, count) / count))]


@pytest.fixture(params=["numpy", "bytes", "floats"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to multiply, whatever the size; processors that do not multiply bytes have two."""
    if request.param == "bytes" and not kernels._multiplies_bytes():
        pytest.skip("this processor does not multiply bytes")
    monkeypatch.setattr(kernels, "_SMALL", 2**60 if request.param == "numpy" else 0)
    monkeypatch.setattr(kernels, "_multiplies_bytes", lambda: request.param == "bytes")
    return str(request.param)


# --- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_products_of_whole_numbers_are_exact(dtype: str, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_EXACT_INTEGERS", 700)
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    a = rng.integers(limits.min, limits.max, (37, 2500), dtype=dtype, endpoint=True)
    b = rng.integers(limits.min, limits.max, (5, 2500), dtype=dtype, endpoint=True)
    a[0], b[0] = limits.min, limits.min  # the largest sum that there can be
    expected = a.astype(np.int64) @ b.astype(np.int64).T
    np.testing.assert_array_equal(kernels.exact_product(a, b), expected)


def test_products_of_doubles(processor: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 300)), rng.normal(size=(30, 300))
    np.testing.assert_allclose(kernels.product(a, b), a @ b.T, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 3000), st.integers(1, 10**6), st.integers(1, 4000))
def test_blocks_cover_all_rows_once(count: int, width: int, most: int) -> None:
    parts = list(kernels.blocks(count, width, most))
    assert np.concatenate([np.arange(part.start, part.stop) for part in parts]).tolist() == list(range(count))
    assert all(part.stop - part.start == 1 or (part.stop - part.start) * width <= 2**25 for part in parts)


# --- neighbours -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(2, 256), st.sampled_from(["uint8", "uint16"]), st.data())
def test_the_nearest_come_first_and_of_equal_ones_the_first(
    n: int, d: int, levels: int, dtype: str, data: st.DataObject
) -> None:
    known, queries = table(n, d, levels, dtype), table(7, d, levels, dtype, seed=1)
    k = data.draw(st.integers(1, n))
    distances, indices = kernels.nearest(known, queries, k)
    squared = ((queries[:, None].astype(np.int64) - known[None]) ** 2).sum(axis=-1)
    expected = np.argsort(squared, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(distances, np.sqrt(np.take_along_axis(squared, expected, 1)))


@pytest.mark.parametrize("levels", [2, 256])
def test_neighbours_in_many_blocks(levels: int, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, queries = table(300, 40, levels), table(50, 40, levels, seed=1)
    expected = kernels.nearest(known, queries, 9)
    monkeypatch.setattr(kernels, "_KNOWN", 8)  # fewer than neighbours
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 400)
    for found, wanted in zip(kernels.nearest(known, queries, 9), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [2, 4])
def test_neighbours_vote_as_in_scikit_learn(dtype: str, count: int) -> None:
    X = table(1500, 60, dtype=dtype)
    X[:20] = X[-20:]  # and some are at no distance at all
    y = classes(X, count)
    ours = ExactKNN(5, weights="distance", algorithm="brute").fit(X[:1200], y[:1200])
    theirs = KNeighborsClassifier(5, weights="distance", algorithm="brute").fit(X[:1200].astype(float), y[:1200])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X.astype(float)), atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X.astype(float)))
    assert ours._fit_X.dtype == dtype


def test_neighbours_of_tied_data_vote_as_in_scikit_learn_where_ties_do_not_decide() -> None:
    X = table(600, 6, 3)
    y = classes(X, 3)
    ours = ExactKNN(5, weights="distance", algorithm="brute").fit(X[:500], y[:500])
    theirs = KNeighborsClassifier(5, weights="distance", algorithm="brute").fit(X[:500].astype(float), y[:500])
    distances, _ = ours.kneighbors(X[500:], 6)
    clear = distances[:, 4] < distances[:, 5]  # else scikit-learn chooses among equally near ones as it happens
    assert 5 < clear.sum() < 95
    new = X[500:][clear]
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new.astype(float)), atol=1e-9)
    np.testing.assert_allclose(distances[:, :5], theirs.kneighbors(X[500:].astype(float))[0], atol=1e-9)


def test_floats_and_other_questions_go_to_scikit_learn() -> None:
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    y = classes(X, 2)
    ours, theirs = ExactKNN(3).fit(X, y), KNeighborsClassifier(3).fit(X, y)
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    whole = table(60, 5)
    ours, theirs = ExactKNN(3).fit(whole, y), KNeighborsClassifier(3).fit(whole, y)
    np.testing.assert_array_equal(ours.kneighbors(return_distance=False), theirs.kneighbors(return_distance=False))
    with pytest.raises(ValueError, match="n_neighbors"):
        ours.kneighbors(whole, 61)


# --- support vector machines ------------------------------------------------------------------------------------------


def scikit_learns(kernel: str, weight: str | None = "balanced") -> Any:
    return make_pipeline(StandardScaler(), SVC(kernel=kernel, class_weight=weight))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("levels", [3, 256])
def test_margins_are_those_of_scikit_learn(kernel: str, count: int, levels: int) -> None:
    X = table(260, 30, levels)
    X[:, 4] = 9  # a figure that says nothing
    X[:30] = X[30:60]  # copies
    y = classes(X, count)
    ours = StandardSVC(kernel=kernel, class_weight="balanced").fit(X[:200], y[:200])
    theirs = scikit_learns(kernel).fit(X[:200].astype(float), y[:200])
    expected = theirs.decision_function(X.astype(float))
    np.testing.assert_allclose(ours.decision_function(X), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X.astype(float)))
    assert ours.support_vectors_.dtype == np.uint8


@settings(deadline=None, max_examples=25)
@given(st.integers(10, 60), st.integers(1, 20), st.integers(2, 3), st.floats(0.01, 100), st.integers(0, 1000))
def test_margins_of_any_floats(n: int, d: int, count: int, C: float, seed: int) -> None:
    X = np.random.default_rng(seed).normal(3, 100, (n, d)).astype(np.float32)
    y = classes(X, count, seed)
    ours = StandardSVC(C=C).fit(X, y)
    theirs = make_pipeline(StandardScaler(), SVC(C=C)).fit(X.astype(float), y)
    np.testing.assert_allclose(
        ours.decision_function(X), theirs.decision_function(X.astype(float)), rtol=1e-4, atol=1e-4
    )


def test_pairs_of_classes() -> None:
    X = table(120, 10)
    y = classes(X, 3)
    ours = StandardSVC(decision_function_shape="ovo").fit(X, y)
    theirs = make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")).fit(X.astype(float), y)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X.astype(float)), atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_margins_in_many_blocks(kernel: str, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X = table(150, 30)
    y = classes(X, 3)
    expected = StandardSVC(kernel=kernel).fit(X, y).decision_function(X)
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 1000)
    found = StandardSVC(kernel=kernel).fit(X, y).decision_function(X)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_without_memory_for_the_kernel_it_is_computed_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    X = table(300, 20)
    y = classes(X, 2)
    expected = StandardSVC().fit(X, y).decision_function(X)
    monkeypatch.setenv(MEMORY_VARIABLE, "0.0005")  # the kernel has 0.7 MB
    assert not StandardSVC._precomputes(*X.shape)
    np.testing.assert_allclose(StandardSVC().fit(X, y).decision_function(X), expected, atol=1e-8)


def test_bad_machines() -> None:
    X = table(20, 3)
    y = classes(X, 2)
    with pytest.raises(ValueError, match="give rbf or linear"):
        StandardSVC(kernel="poly").fit(X, y)
    with pytest.raises(ValueError, match="give 3 columns"):
        StandardSVC().fit(X, y).predict(X[:, :2])


# --- they are scikit-learn's ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [StandardSVC, lambda: ExactKNN(3, algorithm="brute"), lambda: BalancedKNN(3, algorithm="brute")]
)
def test_they_are_estimators_of_scikit_learn(make: Any) -> None:
    X = table(150, 12)
    y = classes(X, 2)
    copy = clone(make())
    assert type(copy) is type(make())
    assert copy.get_params() == make().get_params()
    assert cross_val_score(make_pipeline("passthrough", copy), X, y, cv=3).mean() > 0.5
    fitted = copy.fit(X, y)
    strange = skops.io.get_untrusted_types(data=skops.io.dumps(fitted))
    assert strange == [f"napari_denoise_classify.core.classify.estimators.{type(fitted).__name__}"]
    read = skops.io.loads(skops.io.dumps(fitted), trusted=strange)
    np.testing.assert_array_equal(read.predict(X), fitted.predict(X))
