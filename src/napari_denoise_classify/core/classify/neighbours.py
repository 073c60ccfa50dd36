"""What stands around a sample: its probabilities, corrected by those of the samples near it in the same image.

Tissue is no mixture: a cell among epithelium is more likely epithelium. Sirinukunwattana, Raza, Tsang, Snead, Cree,
Rajpoot: Locality sensitive deep learning for detection and classification of nuclei in routine colon cancer histology
images. IEEE TMI 35 (2016), for letting neighbours vote; here a logistic regression weighs the vote, and learns from
predictions on held-out training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatTable = npt.NDArray[np.float64]

_FAR = 3.0  # in distances: whoever is farther away does not count
_MOST = 64  # the nearest so many count
_LONELY = 1.0  # the weight of knowing nothing, beside neighbours at no distance of weight 1
_FLOOR = 1e-3  # of a probability, before its logarithm


@dataclass(frozen=True, eq=False)
class Places:
    """Where samples are.

    Attributes
    ----------
    planes : (N,) array of str
        The image, and the plane of it, that each is in.
    positions : (N, 2) array
        The middle (Y, X) of each, in pixels.
    """

    planes: npt.NDArray[np.str_]
    positions: FloatTable

    def __post_init__(self) -> None:
        if self.positions.shape != (len(self.planes), 2) or not np.isfinite(self.positions).all():
            raise ValueError("Places need a row of two finite numbers, Y and X, for each sample.")

    @classmethod
    def of(cls, centres: npt.ArrayLike, name: str = "") -> Places:
        """Take the positions of samples of one image.

        Parameters
        ----------
        centres : (N, D) array
            Leading indices, then Y, X, in pixels.
        name : str
            Of the image.
        """
        where = np.asarray(centres, float)
        _, plane = np.unique(np.rint(where[:, :-2]), axis=0, return_inverse=True)
        return cls(np.array([f"{name} {i}" for i in plane.ravel()], np.str_), where[:, -2:])

    @classmethod
    def joined(cls, parts: Sequence[Places]) -> Places:
        """Put the places of several images together; equal names are different images."""
        planes = [f"{k} {plane}" for k, part in enumerate(parts) for plane in part.planes.tolist()]
        return cls(np.array(planes, np.str_), np.concatenate([part.positions for part in parts]))

    def __len__(self) -> int:
        return len(self.planes)

    def subset(self, indices: npt.NDArray[np.intp]) -> Places:
        """Return some of the places."""
        return Places(self.planes[indices], self.positions[indices])

    def vote(self, proba: FloatTable, distance: float) -> FloatTable:
        """Return the mean probabilities of each sample's neighbours, (N, classes).

        Parameters
        ----------
        proba : (N, classes) array
        distance : float
            In pixels, the standard deviation of the Gaussian that neighbours weigh. The 64 nearest within three times
            as much count, the sample itself does not; where there is none, all classes are equally probable.
        """
        from scipy.spatial import cKDTree

        n_classes = proba.shape[1]
        votes = np.full((len(self), n_classes), _LONELY / n_classes)
        weight = np.full(len(self), _LONELY)
        _, planes = np.unique(self.planes, return_inverse=True)
        order = np.argsort(planes, kind="stable")
        for rows in np.split(order, np.cumsum(np.bincount(planes))[:-1]):
            k = min(_MOST + 1, len(rows))
            if k < 2:
                continue
            tree = cKDTree(self.positions[rows])
            away, near = tree.query(self.positions[rows], k=k, distance_upper_bound=_FAR * distance)
            other = np.isfinite(away) & (near != np.arange(len(rows))[:, None])
            weights = np.where(other, np.exp(-0.5 * np.square(np.where(other, away, 0) / distance)), 0.0)
            votes[rows] += np.einsum("nk,nkc->nc", weights, proba[rows][np.where(other, near, 0)])
            weight[rows] += weights.sum(axis=1)
        result: FloatTable = votes / weight[:, None]
        return result


@dataclass(frozen=True, eq=False)
class Context:
    """How much the neighbours of a sample change what a classifier says of it.

    Attributes
    ----------
    distance : float
        As for `Places.vote`.
    coefficients : (classes, 2 classes) array
        Of the logarithms of the sample's own probabilities, then of those of its neighbours' vote.
    intercepts : (classes,) array
    """

    distance: float
    coefficients: FloatTable
    intercepts: FloatTable

    def __post_init__(self) -> None:
        n = len(self.intercepts)
        sound = self.coefficients.shape == (n, 2 * n) and n > 1 and np.isfinite(self.coefficients).all()
        if not (sound and np.isfinite(self.intercepts).all() and 0 < self.distance < np.inf):
            raise ValueError("the context's numbers do not fit together")

    @classmethod
    def learnt(
        cls, proba: FloatTable, codes: npt.NDArray[np.intp], places: Places, distance: float, balanced: bool
    ) -> Context:
        """Learn it.

        Parameters
        ----------
        proba : (N, classes) array
            Of training samples, by classifiers that did not learn from them.
        codes : (N,) array of int
            The column of each sample's class.
        places : Places
        distance : float
        balanced : bool
            Whether rare classes weigh as much as frequent ones.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        inputs = _inputs(proba, places, distance)
        scaler = StandardScaler().fit(inputs)
        model = LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced" if balanced else None)
        model.fit(scaler.transform(inputs), codes)
        coefficients = model.coef_ / scaler.scale_
        intercepts = model.intercept_ - coefficients @ scaler.mean_
        if len(coefficients) == 1:  # of two classes scikit-learn keeps the second's
            coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
            intercepts = np.array([0.0, intercepts[0]])
        return cls(distance, coefficients, intercepts)

    def applied(self, proba: FloatTable, places: Places, factor: float = 1.0) -> FloatTable:
        """Return the probabilities of samples among their neighbours, (N, classes).

        Parameters
        ----------
        proba : (N, classes) array
            By the classifier, of each by itself.
        places : Places
        factor : float
            How many pixels there are to one of the training images.
        """
        from scipy.special import softmax

        scores = _inputs(proba, places, factor * self.distance) @ self.coefficients.T + self.intercepts
        result: FloatTable = softmax(scores, axis=1)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; `from_dict` takes them."""
        return {
            "distance": self.distance,
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], n_classes: int) -> Context:
        """Read what `to_dict` returned.

        Raises
        ------
        ValueError
            If it is not for so many classes, or not sound.
        """
        tables = [np.array(values[key], np.float64) for key in ("coefficients", "intercepts")]
        if len(tables[1]) != n_classes:
            raise ValueError("the context's numbers do not fit together")
        return cls(float(values["distance"]), tables[0], tables[1])


def _inputs(proba: FloatTable, places: Places, distance: float) -> FloatTable:
    return np.hstack([np.log(proba + _FLOOR), np.log(places.vote(proba, distance) + _FLOOR)])
