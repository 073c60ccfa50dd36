"""Masks from clusters of pixels: K-means, DBSCAN, HDBSCAN, in each plane on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np

from ..filling import BoolArray, Fill
from ..images import FloatArray, PlaneImage
from ..parameters import ODD, param
from ..progress import Progress, Steps, run, within
from ..steps import get_step, step
from . import clustering
from .clustering import FeatureSet, Floats, IntArray, Model, Sampling

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("kmeans", "dbscan", "hdbscan")

KeepMode: TypeAlias = Literal["brightest", "darkest", "largest", "smallest", "number"]

_MaxClusters = Annotated[int, param("Most clusters that are tried.", ge=2, le=20)]
_MinSamples = Annotated[
    int | None,
    param(
        "Neighbours that make a pixel of the sample dense, itself included; nothing = 1 % of the sample.", ge=1, le=5000
    ),
]
_Features = Annotated[
    FeatureSet, param("Cluster by intensity (colour) alone, or also by position, or by local mean and spread.")
]
_Weight = Annotated[float, param("Weight of position or local statistics beside intensity.", ge=0, le=10, step=0.1)]
_Window = Annotated[int, param("Side of the neighbourhood of local statistics.", unit="px", ge=3, le=101, step=2), ODD]
_Keep = Annotated[KeepMode, param("Which cluster is kept; number: the one that is set below.")]
_Number = Annotated[
    int, param("Cluster to keep if that is by number; 1 is the darkest. Too high a number keeps nothing.", ge=1, le=999)
]
_Sample = Annotated[int, param("Pixels that clusters are found in; all are then assigned.", ge=50, le=10_000, step=500)]
_Seed = Annotated[int, param("Which pixels are drawn, and the start of K-means.", ge=0, le=2**31 - 1)]


@step(
    "kmeans",
    kind="mask",
    title="K-means",
    reference="Arthur & Vassilvitskii, k-means++, SODA 2007; Rousseeuw, Silhouettes, J. Comput. Appl. Math. 20 (1987), "
    "doi:10.1016/0377-0427(87)90125-7; scikit-learn KMeans",
)
def kmeans(
    planes: FloatArray,
    *,
    clusters: Annotated[int | None, param("How many; nothing = the best silhouette.", ge=1, le=20)] = None,
    max_clusters: _MaxClusters = 8,
    keep: _Keep = "brightest",
    number: _Number = 1,
    features: _Features = "intensity",
    weight: _Weight = 0.5,
    window: _Window = 7,
    sample: _Sample = 5000,
    seed: _Seed = 0,
    fill: Fill = "zero",
) -> Steps[BoolArray]:
    """Keep one of K clusters of pixels around means; clusters are numbered by brightness."""
    sampling = Sampling(features, weight, window, sample, seed)
    own = {"clusters": clusters, "max_clusters": max_clusters}
    return (yield from _masks(planes, "kmeans", sampling, own, keep, number))


@step(
    "dbscan",
    kind="mask",
    title="DBSCAN",
    reference="Ester et al., A density-based algorithm for discovering clusters, KDD 1996; scikit-learn DBSCAN",
)
def dbscan(
    planes: FloatArray,
    *,
    eps: Annotated[
        float | None,
        param(
            "Distance of neighbours, in standard deviations; nothing = so that 90 % of the sample are dense.",
            ge=0.001,
            le=10,
            step=0.01,
        ),
    ] = None,
    min_samples: _MinSamples = None,
    keep: _Keep = "brightest",
    number: _Number = 1,
    features: _Features = "intensity",
    weight: _Weight = 0.5,
    window: _Window = 7,
    sample: _Sample = 5000,
    seed: _Seed = 0,
    fill: Fill = "zero",
) -> Steps[BoolArray]:
    """Keep one cluster of pixels with many neighbours that are neighbours of each other; sparse ones are noise."""
    sampling = Sampling(features, weight, window, sample, seed)
    return (yield from _masks(planes, "dbscan", sampling, {"eps": eps, "min_samples": min_samples}, keep, number))


@step(
    "hdbscan",
    kind="mask",
    title="HDBSCAN",
    reference="Campello et al., Density-based clustering based on hierarchical density estimates, PAKDD 2013, "
    "doi:10.1007/978-3-642-37456-2_14; scikit-learn HDBSCAN",
)
def hdbscan(
    planes: FloatArray,
    *,
    min_cluster_size: Annotated[
        float, param("Smallest cluster, as a part of the pixels.", ge=0.001, le=0.5, step=0.01)
    ] = 0.02,
    min_samples: _MinSamples = None,
    keep: _Keep = "brightest",
    number: _Number = 1,
    features: _Features = "intensity",
    weight: _Weight = 0.5,
    window: _Window = 7,
    sample: _Sample = 5000,
    seed: _Seed = 0,
    fill: Fill = "zero",
) -> Steps[BoolArray]:
    """Keep one cluster of pixels that are denser than their surroundings, at any density; the rest is noise."""
    sampling = Sampling(features, weight, window, sample, seed)
    own = {"min_cluster_size": min_cluster_size, "min_samples": min_samples}
    return (yield from _masks(planes, "hdbscan", sampling, own, keep, number))


def _masks(
    planes: FloatArray, method: str, sampling: Sampling, own: Mapping[str, Any], keep: KeepMode, number: int
) -> Steps[BoolArray]:
    masks = np.empty(planes.shape[:3], bool)
    for i, plane in enumerate(planes):
        yield Progress(i / len(planes), "clustering")
        masks[i] = chosen(_Plane(plane, sampling).labels(method, own), keep, number)
    return masks


def chosen(labels: IntArray, keep: KeepMode, number: int = 1) -> BoolArray:
    """Return where a plane's cluster to keep lies; nowhere if there is none."""
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    if not sizes.any():
        return np.zeros(labels.shape, bool)
    if keep == "largest":
        number = int(sizes.argmax()) + 1
    elif keep == "smallest":
        number = int(sizes.argmin()) + 1
    elif keep != "number":
        number = len(sizes) if keep == "brightest" else 1
    return np.asarray(labels == number)


class _Plane:
    """One plane (Y, X, S), its features and the sample of them."""

    def __init__(self, plane: FloatArray, sampling: Sampling) -> None:
        self.sampling = sampling
        self.shape = plane.shape[:2]
        self.samples = plane.shape[-1]
        self.brightness = plane.mean(axis=-1).ravel()
        self.features = sampling.describe(plane)
        self.sample = sampling.draw(self.features)
        self._distances: Floats | None = None
        self._kmeans: dict[int, Model] = {}

    def labels(self, method: str, own: Mapping[str, Any]) -> IntArray:
        """Cluster the plane: (Y, X), 0 for noise, then by brightness."""
        labels = clustering.assign(self.fit(method, own), self.features)
        return clustering.by_brightness(labels, self.brightness).reshape(self.shape)

    def fit(self, method: str, own: Mapping[str, Any]) -> Model:
        """Find the clusters of the sample."""
        distinct = clustering.distinct(self.sample)
        if distinct == 1:
            return clustering.single(self.sample)
        if method == "kmeans":
            clusters = own["clusters"]
            if clusters is None:
                most = min(own["max_clusters"], distinct)
                silhouettes = [self._silhouette(k) for k in range(2, most + 1)]
                # Two pixels have no silhouette.
                clusters = 2 + (0 if np.isnan(silhouettes).all() else int(np.nanargmax(silhouettes)))
            return self.means(clusters)
        points = clustering.smoothed(self.sample, self.samples, self.sampling.seed)
        return (clustering.fit_dbscan if method == "dbscan" else clustering.fit_hdbscan)(points, **own)

    def means(self, clusters: int) -> Model:
        """Find K-means clusters of the sample, once for each K."""
        if clusters not in self._kmeans:
            self._kmeans[clusters] = clustering.fit_kmeans(self.sample, clusters, self.sampling.seed)
        return self._kmeans[clusters]

    def _silhouette(self, clusters: int) -> float:
        return clustering.silhouette(self.distances, clustering.assign(self.means(clusters), self.sample))

    @property
    def distances(self) -> Floats:
        """Distances between the scored pixels."""
        if self._distances is None:
            self._distances = clustering.distances(self.sample)
        return self._distances

    def table(self, method: str, own: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Score K-means over K, or a method's only outcome."""
        if method == "kmeans":
            most = min(max(own["max_clusters"], own["clusters"] or 2), clustering.distinct(self.sample))
            models = [self.means(k) for k in range(min(2, most), most + 1)]
        else:
            models = [self.fit(method, own)]
        return [{"method": method, **clustering.scores(self.sample, self.distances, model)} for model in models]


@dataclass(frozen=True, eq=False)
class Clusters:
    """What `cluster` found.

    Attributes
    ----------
    labels : array of int32
        The image's axes without S: 0 for noise, 1 for the darkest cluster of the plane, 2 for the next.
    mask : array of bool
        Where the cluster lies that is to be kept.
    scores : pandas.DataFrame
        As from `cluster_scores`, for the method used.
    """

    labels: Any
    mask: Any
    scores: pd.DataFrame


def cluster(
    image: Any, method: str = "kmeans", axes: str | None = None, *, rgb: bool = False, **parameters: Any
) -> Clusters:
    """Find clusters of pixels in each plane of an image.

    Parameters
    ----------
    image : array-like
    method : {"kmeans", "dbscan", "hdbscan"}
    axes, rgb
        As for `denoise`.
    **parameters
        Of the masking step of that name: ``clusters=3``, ``features="intensity_local"``, ``keep="largest"``.

    Returns
    -------
    Clusters

    Raises
    ------
    ValueError
        For other methods, parameters that are not allowed, and images that are not allowed.

    Examples
    --------
    >>> import numpy as np, napari_denoise_classify as ndc
    >>> image = np.repeat(np.array([10, 60, 200], np.uint8), 30).reshape(9, 10)
    >>> np.unique(ndc.cluster(image, "kmeans", clusters=3).labels).tolist()
    [1, 2, 3]
    """
    return run(cluster_iter(PlaneImage.wrap(image, axes, rgb), method, parameters))


def cluster_iter(
    source: PlaneImage, method: str, parameters: Mapping[str, Any], *, scored: bool = True
) -> Steps[Clusters]:
    """As `cluster`, with progress; without ``scored`` the table stays empty."""
    import pandas as pd

    _check(method)
    checked = get_step(method, "mask").validate(parameters)
    sampling, own = _split(checked)
    yield Progress(0.0, "reading the image")
    ranges = yield from within(source.ranges_iter("image"), 0.0, 0.1)
    labels = np.empty((*source.lead_shape, *source.plane_shape), np.int32)
    mask = np.empty(labels.shape, bool)
    rows: list[dict[str, Any]] = []
    indices = list(source.indices())
    for i, index in enumerate(indices):
        yield Progress(0.1 + 0.9 * i / len(indices), "clustering")
        plane = _Plane(source.planes([index], ranges)[0], sampling)
        labels[index] = plane.labels(method, own)
        mask[index] = chosen(labels[index], checked["keep"], checked["number"])
        if scored:
            rows += _rows(source, index, plane.table(method, own))
    whole = PlaneImage(labels, source.axes.replace("S", ""))
    return Clusters(whole.unwrap(labels), whole.unwrap(mask), pd.DataFrame(rows))


def cluster_scores(
    image: Any,
    methods: Sequence[str] = METHODS,
    axes: str | None = None,
    *,
    rgb: bool = False,
    **parameters: Any,
) -> pd.DataFrame:
    """Score clusterings of each plane of an image: K-means over the number of clusters, the others as they come out.

    Parameters
    ----------
    image : array-like
    methods : sequence of {"kmeans", "dbscan", "hdbscan"}
    axes, rgb
        As for `denoise`.
    **parameters
        Of the masking steps of these names; each goes to the methods that have it.

    Returns
    -------
    pandas.DataFrame
        One row for each clustering: the plane, if there are several (``t``, ``c``, ``z``, or ``axis0``), ``method``,
        ``K``, mean ``silhouette`` (-1 to 1, high is good), ``davies_bouldin`` (low is good), ``wcss`` (within-cluster
        sum of squares, in units of the features' variance) and ``noise`` (the part that is in no cluster). They are
        computed on a sample, on at most 2000 of its pixels, noise left out; NaN for fewer than two clusters.

    Raises
    ------
    ValueError
        As `cluster`.
    """
    return run(cluster_scores_iter(PlaneImage.wrap(image, axes, rgb), methods, parameters))


def cluster_scores_iter(
    source: PlaneImage, methods: Sequence[str] = METHODS, parameters: Mapping[str, Any] | None = None
) -> Steps[pd.DataFrame]:
    """As `cluster_scores`, with progress."""
    import pandas as pd

    jobs = {method: _split(checked) for method, checked in _each(methods, parameters or {}).items()}
    yield Progress(0.0, "reading the image")
    ranges = yield from within(source.ranges_iter("image"), 0.0, 0.1)
    rows: list[dict[str, Any]] = []
    indices = list(source.indices())
    for i, index in enumerate(indices):
        pixels = source.planes([index], ranges)[0]
        plane: _Plane | None = None
        for k, (method, (sampling, own)) in enumerate(jobs.items()):
            done = (i + k / len(jobs)) / len(indices)
            yield Progress(0.1 + 0.9 * done, f"scoring {get_step(method).title}")
            plane = plane or _Plane(pixels, sampling)
            rows += _rows(source, index, plane.table(method, own))
    return pd.DataFrame(rows)


def _rows(source: PlaneImage, index: tuple[int, ...], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    where = dict(zip(source.lead_names, index, strict=True)) if np.prod(source.lead_shape, dtype=int) > 1 else {}
    return [{**where, **row} for row in rows]


def _check(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not allowed: give one of {', '.join(METHODS)}.")


def _each(methods: Sequence[str], parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each method those of the parameters that it has."""
    methods = [methods] if isinstance(methods, str) else list(methods)
    if not methods:
        raise ValueError(f"There is no method to score: give some of {', '.join(METHODS)}.")
    for method in methods:
        _check(method)
    known = {method: {p.name for p in get_step(method).parameters} for method in methods}
    for name in parameters:
        if not any(name in names for names in known.values()):
            raise ValueError(f"None of {', '.join(methods)} has a parameter {name!r}.")
    return {
        method: get_step(method).validate({name: value for name, value in parameters.items() if name in names})
        for method, names in known.items()
    }


def _split(checked: Mapping[str, Any]) -> tuple[Sampling, dict[str, Any]]:
    """Tell what is clustered from how, and leave out what becomes of the clusters."""
    shared = {f.name for f in fields(Sampling)}
    others = shared | {"keep", "number", "fill"}
    sampling = Sampling(**{name: checked[name] for name in shared})
    return sampling, {name: value for name, value in checked.items() if name not in others}
