"""Cluster masks: known answers, the same for a seed, ordered by brightness, scored as scikit-learn does."""

from __future__ import annotations

import dask.array
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import davies_bouldin_score, silhouette_score

import napari_denoise_classify as ndc
from napari_denoise_classify.core.images import PlaneImage
from napari_denoise_classify.core.mask import clustering
from napari_denoise_classify.core.mask.cluster import METHODS, cluster, cluster_iter, cluster_scores
from napari_denoise_classify.core.mask.clustering import Sampling
from napari_denoise_classify.core.progress import run

LEVELS = (40, 110, 200)
ALL = pytest.mark.parametrize("method", METHODS)


def truth(side: int = 96) -> np.ndarray:
    """Three regions, 0 the darkest: 65 %, 25 % and 10 % of the pixels."""
    found = np.zeros((side, side), int)
    found[:, : side // 4] = 1
    found[side // 8 : side // 2, side // 2 : side * 3 // 4] = 2
    return found


def three_levels(noise: float = 6, seed: int = 0, side: int = 96) -> np.ndarray:
    image = np.array(LEVELS)[truth(side)] + np.random.default_rng(seed).normal(0, noise, (side, side))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


# --- known answers --------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("noise", [0, 6])
def test_three_levels_are_found(method: str, noise: float) -> None:
    labels = cluster(three_levels(noise), method).labels
    assert labels.dtype == np.int32
    assert labels.max() == 3
    assert (labels == truth() + 1).mean() > (0.88 if method == "dbscan" else 0.99)  # DBSCAN leaves the outer tenth
    assert ((labels == truth() + 1) | (labels == 0)).mean() > 0.998  # what is not right is noise


@pytest.mark.parametrize(
    ("keep", "which"), [("brightest", 2), ("darkest", 0), ("largest", 0), ("smallest", 2), ("number", 1)]
)
@ALL
def test_the_cluster_that_is_asked_for_becomes_the_mask(method: str, keep: str, which: int) -> None:
    image = three_levels()
    out = ndc.mask(image, method, keep=keep, number=2, return_mask=True)
    right = truth() == which
    assert (out.mask & ~right).mean() < 0.01
    assert (out.mask & right).sum() > (0.5 if method == "dbscan" else 0.95) * right.sum()
    np.testing.assert_array_equal(out.image, np.where(out.mask, image, 0))
    np.testing.assert_array_equal(out.mask, cluster(image, method, keep=keep, number=2).mask)


@pytest.mark.parametrize(("levels", "clusters"), [((60, 180), 2), (LEVELS, 3), ((10, 70, 130, 190, 250), 5)])
def test_silhouette_chooses_the_right_number(levels: tuple[int, ...], clusters: int) -> None:
    rng = np.random.default_rng(1)
    image = np.repeat(levels, 600).reshape(-1, 50) + rng.normal(0, 5, (12 * len(levels), 50))
    found = cluster(image, "kmeans")
    assert found.labels.max() == clusters
    assert found.scores["K"].tolist() == list(range(2, 9))
    assert found.scores["K"][found.scores["silhouette"].idxmax()] == clusters


def test_k_means_has_as_many_clusters_as_asked_for() -> None:
    image = three_levels(20)
    for clusters in (1, 2, 5):
        labels = cluster(image, "kmeans", clusters=clusters).labels
        assert np.unique(labels).tolist() == list(range(1, clusters + 1))
    assert cluster(image, "kmeans", max_clusters=2).labels.max() == 2


@ALL
def test_clusters_are_numbered_by_brightness(method: str) -> None:
    image = three_levels(12)
    labels = cluster(image, method).labels
    means = [image[labels == k].mean() for k in range(1, labels.max() + 1)]
    assert means == sorted(means)
    inverted = cluster(255 - image, method).labels
    assert inverted.max() == labels.max()
    assert (np.where(labels == 0, 0, labels.max() + 1 - labels) == inverted).mean() > 0.97


def test_position_separates_what_intensity_cannot() -> None:
    image = np.full((60, 60), 20, np.uint8)
    image[5:20, 5:20] = image[40:55, 40:55] = 200
    assert cluster(image, "dbscan").labels.max() == 2
    found = cluster(image, "dbscan", features="intensity_position", weight=2).labels
    assert found.max() == 3
    assert found[10, 10] != found[50, 50]
    assert min(found[10, 10], found[50, 50]) > 1


def test_local_statistics_separate_texture() -> None:
    rng = np.random.default_rng(0)
    image = np.full((80, 80), 100.0)
    image[:, 40:] += rng.normal(0, 30, (80, 40))
    image[:, :40] += rng.normal(0, 3, (80, 40))
    found = cluster(image, "kmeans", clusters=2, features="intensity_local", weight=10, window=21).labels
    right = np.arange(80) >= 40
    far = np.r_[0:30, 50:80]
    agreement = (found == found[40, 60])[:, far] == right[far]
    assert agreement.mean() > 0.95


# --- sample, seed, order --------------------------------------------------------------------------------------------


@ALL
def test_the_same_seed_gives_the_same_clusters(method: str) -> None:
    image = three_levels(25)
    first, again = (cluster(image, method, sample=300, seed=3).labels for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (cluster(image, method, sample=300, seed=4).labels != first).any()


@pytest.mark.parametrize(("method", "agreement"), [("kmeans", 0.99), ("dbscan", 0.88), ("hdbscan", 0.97)])
def test_a_sample_finds_what_all_pixels_find(method: str, agreement: float) -> None:
    image = three_levels()
    sample = cluster(image, method, sample=1500).labels
    whole = cluster(image, method, sample=10_000).labels  # there are 9216
    assert (sample == whole).mean() > agreement


@ALL
def test_pixels_may_come_in_any_order(method: str) -> None:
    image = three_levels()
    order = np.random.default_rng(5).permutation(image.size)
    labels = cluster(image, method).labels.ravel()
    shuffled = cluster(image.ravel()[order].reshape(image.shape), method).labels.ravel()
    assert (shuffled == labels[order]).mean() > (0.9 if method == "dbscan" else 0.97)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 99), st.sampled_from(METHODS))
def test_small_images_have_sensible_clusters(height: int, width: int, levels: int, seed: int, method: str) -> None:
    image = np.random.default_rng(seed).integers(0, levels, (height, width)).astype(np.uint8) * 40
    found = cluster(image, method)
    assert found.labels.shape == found.mask.shape == image.shape
    present = np.unique(found.labels[found.labels > 0])
    assert present.tolist() == list(range(1, len(present) + 1))
    assert found.mask.any() == bool(len(present))
    if method == "kmeans":
        assert len(present) <= max(1, len(np.unique(image)))
        assert (found.labels > 0).all()
    scores = found.scores[["silhouette", "davies_bouldin"]]
    assert ((found.scores["K"] > 1) | scores.isna().all(axis=1)).all()


@ALL
@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_is_one_cluster(method: str, value: int) -> None:
    image = np.full((2, 30, 40), value, np.uint8)
    found = cluster(image, method)
    assert (found.labels == 1).all()
    assert found.mask.all()
    assert found.scores["K"].tolist() == [1, 1]
    assert ndc.mask(image, method, return_mask=True).kept == 1
    assert ndc.mask(image, method, keep="number", number=2, return_mask=True).kept == 0


def test_fewer_values_than_clusters() -> None:
    image = np.repeat(np.array([3, 200], np.uint8), 50).reshape(10, 10)
    assert np.unique(cluster(image, "kmeans", clusters=6).labels).tolist() == [1, 2]


# --- scores ---------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("features", ["intensity", "intensity_position", "intensity_local"])
def test_scores_are_those_of_scikit_learn(method: str, features: str) -> None:
    image = three_levels(15)[:40, :40]  # 1600 pixels: the whole sample is scored
    found = cluster(image, method, features=features)
    count = int(found.labels.max())
    assert count > 1
    row = found.scores[found.scores["K"] == count].iloc[0]
    source = PlaneImage.wrap(image)
    points = Sampling(features=features).describe(source.planes([()], source.ranges("image"))[0])
    labels = found.labels.ravel()
    inside = labels > 0
    points, labels = points[inside].astype(float), labels[inside]
    assert row["silhouette"] == pytest.approx(silhouette_score(points, labels), abs=1e-4)
    assert row["davies_bouldin"] == pytest.approx(davies_bouldin_score(points, labels), rel=1e-4)
    wcss = sum(((points[labels == k] - points[labels == k].mean(axis=0)) ** 2).sum() for k in np.unique(labels))
    assert row["wcss"] == pytest.approx(wcss, rel=1e-3)
    assert row["noise"] == pytest.approx(1 - inside.mean())


def test_no_cluster_has_no_scores() -> None:
    row = cluster(three_levels(), "hdbscan", min_cluster_size=0.5).scores.iloc[0]
    assert (row["K"], row["noise"]) == (0, 1)
    assert row[["silhouette", "davies_bouldin", "wcss"]].isna().all()


def test_table_of_all_methods() -> None:
    table = cluster_scores(three_levels(), max_clusters=6)
    assert table.columns.tolist() == ["method", "K", "silhouette", "davies_bouldin", "wcss", "noise"]
    assert table["method"].tolist() == ["kmeans"] * 5 + ["dbscan", "hdbscan"]
    assert table["K"].tolist() == [2, 3, 4, 5, 6, 3, 3]
    wcss = table["wcss"][:5].to_numpy()
    assert (np.diff(wcss) < 0).all()
    assert table["silhouette"].between(-1, 1).all()
    assert table["K"][table["davies_bouldin"][:5].idxmin()] == 3
    own = {"kmeans": {"max_clusters": 6}}
    alone = pd.concat([cluster(three_levels(), method, **own.get(method, {})).scores for method in METHODS])
    pd.testing.assert_frame_equal(alone.reset_index(drop=True), table)


def test_every_plane_has_its_own_scores() -> None:
    stack = np.stack([three_levels(), three_levels(25)])
    table = cluster_scores(stack, ["kmeans"], "ZYX", max_clusters=3)
    assert table[["z", "K"]].to_numpy().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert table["silhouette"][1] > table["silhouette"][3]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda image: cluster(image, "centre"), "method='centre' is not allowed: give one of kmeans, dbscan, hdbscan"),
        (lambda image: cluster(image, "kmeans", clusters=0), "kmeans: clusters=0 is not allowed"),
        (lambda image: cluster(image, "dbscan", clusters=3), "dbscan has no parameter 'clusters'"),
        (lambda image: cluster_scores(image, ["mean"]), "method='mean' is not allowed"),
        (lambda image: cluster_scores(image, []), "There is no method"),
        (lambda image: cluster_scores(image, size=3), "None of kmeans, dbscan, hdbscan has a parameter 'size'"),
        (lambda image: cluster_scores(image, eps=-1), "dbscan: eps=-1 is not allowed"),
        (lambda image: cluster(image * np.nan, "kmeans"), "NaN"),
        (lambda image: ndc.mask(image, "kmeans", window=4), "window=4 is not allowed; give an odd whole number"),
    ],
)
def test_bad_input_is_one_sentence(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(three_levels(side=16))  # type: ignore[operator]


# --- images of every kind -------------------------------------------------------------------------------------------


@ALL
def test_brighter_and_deeper_images_have_the_same_clusters(method: str) -> None:
    image = three_levels()
    labels = cluster(image, method).labels
    for other in (image.astype(np.uint16) * 16 + 100, image.astype(np.float32) / 255 - 3, image.astype(np.int32)):
        assert (cluster(other, method).labels == labels).mean() > 0.99


@ALL
def test_colours_are_told_apart_where_brightness_is_not(method: str) -> None:
    rng = np.random.default_rng(0)
    colours = np.array([[150, 60, 60], [60, 150, 60], [60, 60, 210]])
    image = np.clip(colours[truth()] + rng.normal(0, 5, (96, 96, 3)), 0, 255).astype(np.uint8)
    labels = cluster(image, method, rgb=True).labels
    assert labels.shape == image.shape[:2]
    for k in range(3):
        values, counts = np.unique(labels[truth() == k], return_counts=True)
        assert counts.max() > 0.85 * counts.sum()
        assert values[counts.argmax()] > 0
    assert len({int(np.median(labels[truth() == k])) for k in range(3)}) == 3
    assert (labels[truth() == 2] == labels.max()).mean() > 0.85  # blue is the brightest
    samples_first = cluster(image.transpose(2, 1, 0), method, "SXY").labels
    np.testing.assert_array_equal(samples_first.T, labels)


@ALL
def test_planes_are_clustered_alone_and_lazily(method: str) -> None:
    stack = np.stack([three_levels(4), 255 - three_levels(9), three_levels(15)]).astype(np.uint16) * 200
    step = ndc.Recipe([(method, {"features": "intensity_local", "fill": "mean"})])
    eager = run(step.apply_iter(stack, "ZYX", intensity_range=(0, 51_000)))
    for plane, whole in zip(stack, eager.mask, strict=True):
        np.testing.assert_array_equal(run(step.apply_iter(plane, intensity_range=(0, 51_000))).mask, whole)
    lazy = step.apply(dask.array.from_array(stack, chunks=(2, 50, 50)), "ZYX", intensity_range=(0, 51_000))
    np.testing.assert_array_equal(lazy.compute(), eager.image)
    assert cluster(dask.array.from_array(stack), method, "ZYX").labels.shape == stack.shape


def test_progress_and_cancelling() -> None:
    seen: list[float] = []
    source = PlaneImage.wrap(np.stack([three_levels()] * 3), "TYX")
    run(cluster_iter(source, "kmeans", {}), lambda p: seen.append(p.fraction))
    assert seen == sorted(seen)
    assert len(seen) >= 4
    work = cluster_iter(source, "kmeans", {})
    next(work)
    work.close()
    with pytest.raises(StopIteration):
        next(work)


def test_assignment_is_to_the_nearest_point_within_reach() -> None:
    rng = np.random.default_rng(0)
    for features in (1, 3):
        points, pixels = rng.normal(size=(40, features)), rng.normal(size=(500, features)).astype(np.float32)
        labels = rng.integers(-1, 4, 40)
        distances = np.linalg.norm(pixels[:, None] - points[None], axis=-1)
        expected = np.where(distances.min(axis=1) <= 0.3, labels[distances.argmin(axis=1)], -1)
        np.testing.assert_array_equal(clustering.assign(clustering.Model(points, labels, 0.3), pixels), expected)
        nowhere = clustering.Model(points[:0], labels[:0], 1.0)
        assert (clustering.assign(nowhere, pixels) == -1).all()


# --- command line ---------------------------------------------------------------------------------------------------


def command(name: str, *arguments: object, code: int = 0) -> str:
    import typer
    from typer.testing import CliRunner

    from napari_denoise_classify.cli.clusters import cluster_scores as scores_command
    from napari_denoise_classify.cli.images import mask as mask_command

    app = typer.Typer()
    app.command()(scores_command)
    app.command()(mask_command)
    result = CliRunner().invoke(app, [name, *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_mask_command_writes_image_and_mask(tmp_path) -> None:
    image = three_levels()
    np.save(tmp_path / "a.npy", image)
    options = ("-m", "kmeans", "--clusters", 3, "--keep", "number", "--number", 2, "--fill", "mean", "--save-mask")
    output = command("mask", tmp_path / "a.npy", *options, "-o", tmp_path)
    expected = ndc.mask(image, "kmeans", clusters=3, keep="number", number=2, fill="mean", return_mask=True)
    assert f"{expected.kept:.1%}" in output
    np.testing.assert_array_equal(np.load(tmp_path / "a_kmeans.npy"), expected.image)
    np.testing.assert_array_equal(np.load(tmp_path / "a_kmeans_mask.npy") > 0, expected.mask)


def test_scores_command_prints_and_writes_the_table(tmp_path) -> None:
    for name, noise in (("a", 6), ("b", 15)):
        np.save(tmp_path / f"{name}.npy", three_levels(noise))
    table = tmp_path / "scores.csv"
    output = command("cluster-scores", tmp_path, "--max-clusters", 4, "-o", table)
    assert "davies_bouldin" in output
    written = pd.read_csv(table)
    assert written["image"].nunique() == 2
    expected = pd.concat([cluster_scores(three_levels(noise), max_clusters=4) for noise in (6, 15)], ignore_index=True)
    pd.testing.assert_frame_equal(written.drop(columns="image"), expected)
    figure = tmp_path / "curve.png"
    command("cluster-scores", tmp_path / "a.npy", "-m", "kmeans", "-m", "hdbscan", "--figure", figure)
    assert figure.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "scores.txt"), "tables are written as .csv"),
        (("--figure", "scores.pdf"), "figures are written as .png"),
        (("-m", "centre"), "method='centre' is not allowed"),
        (("--radius", "5"), "None of kmeans, dbscan, hdbscan has a parameter 'radius'"),
    ],
)
def test_bad_options_of_the_scores_command(tmp_path, arguments: tuple[str, ...], words: str) -> None:
    np.save(tmp_path / "a.npy", three_levels(side=16))
    assert words in " ".join(command("cluster-scores", tmp_path / "a.npy", *arguments, code=1).split())
