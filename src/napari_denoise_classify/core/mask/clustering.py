"""Clusters of pixels: features, a fit on a sample of the pixels, and the assignment of all of them.

However a clustering was found, what is kept of it are points of known cluster: a pixel gets the cluster of the
nearest one, unless that is too far away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..images import FloatArray

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int32]
FeatureSet: TypeAlias = Literal["intensity", "intensity_position", "intensity_local"]

SCORED = 2000
"""Silhouette, Davies-Bouldin index and sum of squares are computed on at most this many pixels of the sample."""

_NEIGHBOURS = 0.01  # min_samples, as a part of the sample
_CORE = 0.9  # the part of the sample that DBSCAN's eps makes dense


class Model(NamedTuple):
    """A clustering.

    Attributes
    ----------
    points : (M, F) array
    labels : (M,) array of int
        Their clusters, from 0 on; -1 for noise.
    reach : float
        Pixels further away than this from the nearest point are noise.
    """

    points: Floats
    labels: npt.NDArray[Any]
    reach: float


Fit: TypeAlias = Callable[[Floats], Model]


@dataclass(frozen=True)
class Sampling:
    """What is clustered.

    Attributes
    ----------
    features : {"intensity", "intensity_position", "intensity_local"}
    weight : float
        Of position or local statistics beside the intensity.
    window : int
        Side of the neighbourhood of the local statistics, in pixels.
    sample : int
        Pixels that the clusters are fitted to.
    seed : int
        Of everything random.
    """

    features: FeatureSet = "intensity"
    weight: float = 0.5
    window: int = 7
    sample: int = 5000
    seed: int = 0

    def describe(self, plane: FloatArray) -> FloatArray:
        """Return the features of each pixel of a plane (Y, X, S), (Y · X, F) float32.

        The unit is the standard deviation of the intensity (of all samples together), the position, the local mean,
        or the local standard deviation.
        """
        height, width, samples = plane.shape
        blocks = [_unit(plane.reshape(-1, samples))]
        if self.features == "intensity_position":
            y, x = np.indices((height, width), np.float32)
            blocks.append(self.weight * _unit(np.stack([y.ravel(), x.ravel()], axis=1)))
        elif self.features == "intensity_local":
            from ..opencv import cv2

            gray = np.ascontiguousarray(blocks[0].mean(axis=1).reshape(height, width))
            mean, square = (
                cv2.blur(a, (self.window, self.window), borderType=cv2.BORDER_REFLECT) for a in (gray, gray**2)
            )
            spread = np.sqrt(np.maximum(square - mean**2, 0))
            blocks += [self.weight * _unit(a.reshape(-1, 1)) for a in (mean, spread)]
        return np.concatenate(blocks, axis=1)

    def draw(self, features: FloatArray) -> Floats:
        """Choose the pixels that are clustered, in random order."""
        rng = np.random.default_rng(self.seed)
        n = len(features)
        chosen = rng.choice(n, min(n, self.sample), replace=False)
        return features[chosen].astype(np.float64)


def _unit(block: FloatArray) -> FloatArray:
    """Centre a block of features and divide it by its overall standard deviation."""
    centred = block - block.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.sqrt(np.mean(centred**2, axis=0, dtype=np.float64).sum())
    # What rounding leaves of a constant is no spread.
    return centred / np.float32(spread) if spread > 1e-6 * max(1e-6, np.abs(block).max()) else np.zeros_like(block)


def smoothed(points: Floats, samples: int, seed: int) -> Floats:
    """Spread grey levels out over the gaps between them; else density would find each level to be a cluster.

    Only where there are many levels at a common distance, as in images of integers.
    """
    points = points.copy()
    rng = np.random.default_rng(seed)
    for k in range(samples):
        gaps = np.diff(np.unique(points[:, k]))
        gaps = gaps[gaps > 1e-5]  # float32 knows the levels no better
        if len(gaps) >= 10 and np.median(gaps) < 2 * gaps.min():
            points[:, k] += rng.uniform(-0.5, 0.5, len(points)) * gaps.min()
    return points


def fit_kmeans(points: Floats, clusters: int, seed: int) -> Model:
    """Find K-means clusters: at most as many as there are distinct points."""
    from sklearn.cluster import KMeans

    found = KMeans(min(clusters, distinct(points)), n_init=4, random_state=seed).fit(points)
    return Model(found.cluster_centers_, np.arange(found.n_clusters), np.inf)


def fit_dbscan(points: Floats, eps: float | None, min_samples: int | None) -> Model:
    """Find DBSCAN's clusters; both parameters have defaults from the data, see the step."""
    from sklearn.cluster import DBSCAN

    neighbours = _neighbours(points, min_samples)
    if eps is None:
        eps = max(float(np.quantile(_distances(points, points, neighbours), _CORE)), 1e-6)
    found = DBSCAN(eps=eps, min_samples=neighbours).fit(points)
    core = found.core_sample_indices_
    return Model(points[core], found.labels_[core], eps)


def fit_hdbscan(points: Floats, min_cluster_size: float, min_samples: int | None) -> Model:
    """Find HDBSCAN's clusters of at least a part of the points."""
    from sklearn.cluster import HDBSCAN

    neighbours = _neighbours(points, min_samples)
    size = max(2, round(min_cluster_size * len(points)))
    labels = HDBSCAN(size, min_samples=neighbours, copy=True).fit(points).labels_
    inside = points[labels >= 0]
    reach = max(float(_distances(points, inside, neighbours).max(initial=0)), 1e-6)
    return Model(points, labels, reach)


def _neighbours(points: Floats, min_samples: int | None) -> int:
    return min(len(points), min_samples or max(5, round(_NEIGHBOURS * len(points))))


def _distances(points: Floats, some: Floats, neighbours: int) -> Floats:
    """Return how far the neighbour of this rank is from each of some points."""
    from scipy.spatial import KDTree

    return np.asarray(KDTree(points).query(some, [neighbours])[0].ravel() if len(some) else np.empty(0))


def distinct(points: Floats) -> int:
    """Count the distinct points."""
    return len(np.unique(points, axis=0))


def single(points: Floats) -> Model:
    """Return one cluster of all."""
    return Model(points[:1], np.zeros(1, np.int64), np.inf)


def assign(model: Model, features: Floats) -> IntArray:
    """Return the cluster of each pixel, -1 for noise."""
    if not len(model.points):
        return np.full(len(features), -1, np.int32)
    if features.shape[1] == 1:
        order = np.argsort(model.points[:, 0], kind="stable")
        points, values = model.points[order, 0], features[:, 0]
        nearest = np.searchsorted((points[1:] + points[:-1]) / 2, values)
        labels = model.labels[order].astype(np.int32)[nearest]
        if np.isfinite(model.reach):
            labels[np.abs(values - points[nearest]) > model.reach] = -1
        return labels
    from scipy.spatial import KDTree

    limit = model.reach * (1 + 1e-9) if np.isfinite(model.reach) else np.inf
    _, found = KDTree(model.points).query(features, distance_upper_bound=limit)
    # What is too far away has the index behind the last.
    return np.asarray(np.append(model.labels, -1)[found], np.int32)


def by_brightness(labels: IntArray, brightness: Floats) -> IntArray:
    """Give clusters numbers from 1, the darkest, on; noise gets 0."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels + 1, minlength=count + 1)[1:]
    sums = np.bincount(labels + 1, weights=brightness, minlength=count + 1)[1:]
    order = np.argsort(np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf), kind="stable")
    number = np.zeros(count + 1, np.int32)
    number[order + 1] = np.arange(1, count + 1)
    return np.asarray(number[labels + 1])


def distances(points: Floats) -> Floats:
    """Return the distances between the scored points, which every silhouette needs."""
    from sklearn.metrics import pairwise_distances

    matrix: Floats = pairwise_distances(points[:SCORED])
    return matrix


def silhouette(matrix: Floats, labels: npt.NDArray[Any]) -> float:
    """Return the mean silhouette of points that are not noise; NaN where there are fewer than two clusters."""
    from sklearn.metrics import silhouette_score

    inside = labels[: len(matrix)] >= 0
    labels = labels[: len(matrix)][inside]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(matrix[np.ix_(inside, inside)], labels, metric="precomputed"))


def scores(points: Floats, matrix: Floats, model: Model) -> dict[str, Any]:
    """Score a clustering on its sample.

    Returns
    -------
    dict
        ``K``, ``silhouette``, ``davies_bouldin``, ``wcss`` and ``noise``, the part of the sample that is in no cluster.
        Noise counts in no other figure.
    """
    from sklearn.metrics import davies_bouldin_score

    labels = assign(model, points)
    count = len(np.unique(labels[labels >= 0]))
    scored = points[:SCORED]
    inside = labels[: len(scored)] >= 0
    some, of = scored[inside], labels[: len(scored)][inside]
    groups = np.unique(of)
    wcss = sum(float(((some[of == k] - some[of == k].mean(axis=0)) ** 2).sum()) for k in groups)
    enough = 2 <= len(groups) < len(some)
    return {
        "K": count,
        "silhouette": silhouette(matrix, labels),
        "davies_bouldin": float(davies_bouldin_score(some, of)) if enough else float("nan"),
        "wcss": wcss if len(groups) else float("nan"),
        "noise": float((labels < 0).mean()),
    }
