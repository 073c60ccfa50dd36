"""A trained classifier with everything it needs to be applied: recipe, scale, classes, record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ..images import FloatArray, IntensityRange, PlaneImage
from ..progress import Progress, Steps, run, within
from ..recipe import Recipe
from .datasets import Crops, Image, check_images, native
from .evaluation import Evaluation
from .fields import field_of
from .neighbours import Context, Places
from .preparing import dataset_range, prepare_iter


def proba_iter(estimator: Any, scaled: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
    """Let a fitted estimator classify images (Y, X, S) from 0 to 1; (N, classes), with progress."""
    if hasattr(estimator, "predict_proba_iter"):
        proba: npt.NDArray[np.float64] = yield from estimator.predict_proba_iter(scaled)
        return proba
    parts = []
    for start in range(0, len(scaled), 1024):
        parts.append(estimator.predict_proba(scaled[start : start + 1024]))
        yield Progress(min(1.0, (start + 1024) / len(scaled)))
    return np.concatenate(parts)


class Classifier:
    """A trained classifier. Made by `train_classifier` and `load_classifier`.

    Attributes
    ----------
    method : str
        Id of the step: ``"cnn"``, ``"integrated"``, ``"svm"``, ``"random_forest"`` or ``"knn"``.
    classes : tuple of str
    recipe : Recipe
        What training images went through; applied to images before they are classified.
    samples : int
        3 for RGB, 1 for gray images.
    crop_size : int
        Median side of the training crops, in pixels: the natural size for crops around objects.
    dtype : str
        Of the training images.
    intensity_range : (float, float)
        Of the training images; images of the same dtype are scaled by it, where all floats are alike.
    estimator : scikit-learn estimator
    training : dict
        The record: parameters, seed, number of samples of each class, groups, versions.
    context : Context or None
        How the neighbours of a sample change what is said of it, wherever their places are known.
    """

    def __init__(
        self,
        *,
        method: str,
        classes: Sequence[str],
        recipe: Recipe,
        samples: int,
        crop_size: int,
        dtype: str,
        intensity_range: tuple[float, float],
        estimator: Any,
        training: dict[str, Any],
        context: Context | None = None,
    ) -> None:
        self.method = method
        self.classes = tuple(classes)
        self.recipe = recipe
        self.samples = samples
        self.crop_size = crop_size
        self.dtype = dtype
        self.intensity_range = intensity_range
        self.estimator = estimator
        self.training = training
        self.context = context

    def __repr__(self) -> str:
        kind = "RGB" if self.samples == 3 else "gray"
        return f"<Classifier: {self.method}, {kind}, classes {', '.join(self.classes)}, recipe {self.recipe.title}>"

    # --- predicting -----------------------------------------------------------------------------------------------

    def prepare_iter(
        self, images: Any, recipe: Recipe | None = None, intensity_range: IntensityRange | None = None
    ) -> Steps[tuple[list[Image], Sequence[FloatArray]]]:
        """Apply the recipe and scale to 0..1.

        Parameters
        ----------
        images : array or sequence of array
            One image, a stack of them (N, Y, X[, 3]), or a list.
        recipe : Recipe, optional
            Instead of the one that the classifier was trained with: a deliberate mismatch.
        intensity_range : optional
            Instead of the training images'.

        Returns
        -------
        processed : list of array
            What the recipe made of the images, in their dtype.
        scaled : list of (Y, X, S) float32

        Raises
        ------
        ValueError
            If the images are not of the kind that the classifier knows.
        """
        crops = self._crops(images)
        scale = intensity_range if intensity_range is not None else self._scale(crops)
        return (yield from prepare_iter(crops, self.recipe if recipe is None else recipe, scale))

    def _crops(self, images: Any) -> list[Image]:
        if not isinstance(images, (list, tuple)):
            array = np.asarray(images)
            single = 3 if self.samples == 3 else 2
            colour = self.samples == 1 and array.ndim == 3 and array.shape[-1] in (3, 4)  # no stack is that narrow
            if array.ndim not in (single, single + 1) or colour:
                kind = "RGB images (Y, X, 3)" if self.samples == 3 else "gray images (Y, X)"
                raise ValueError(f"This classifier knows {kind}; this array has shape {array.shape}: give such images.")
            images = [array] if array.ndim == single else list(array)
        crops = [native(np.asarray(image)) for image in images]
        crops = [c[..., :3] if c.ndim == 3 and c.shape[-1] == 4 else c for c in crops]
        check_images(crops)
        self.check_samples(3 if crops[0].ndim == 3 else 1, "these are")
        return crops

    def check_samples(self, samples: int, this: str = "this image is") -> None:
        """Check that an image is of the kind that the classifier knows.

        Parameters
        ----------
        samples : int
            3 for an RGB image, 1 for a gray one.
        this : str
            Words for it, in the error.

        Raises
        ------
        ValueError
            If it is not.
        """
        if samples != self.samples:
            want, got = ("RGB", "gray") if self.samples == 3 else ("gray", "RGB")
            raise ValueError(
                f"This classifier was trained on {want} images, and {this} {got}: give {want} images, or train a "
                f"classifier on {got} ones."
            )

    def _scale(self, crops: list[Image]) -> IntensityRange:
        return self.intensity_range if self._knows(crops[0].dtype) else dataset_range(crops)

    def _knows(self, dtype: npt.DTypeLike) -> bool:
        """Tell whether brightness of this dtype means what it meant in training; floats of any precision do."""
        one, other = np.dtype(dtype), np.dtype(self.dtype)
        return one == other or one.kind == other.kind == "f"

    def scale_of_iter(self, source: PlaneImage) -> Steps[tuple[float, float]]:
        """Return the intensity range for samples out of an image, with progress: it may have to be looked through.

        It is that of the training images where the dtype is the same, so that brightness means what it meant then; else
        the range of this image.
        """
        if self._knows(source.data.dtype):
            return self.intensity_range
        ranges = (yield from source.ranges_iter("image")).values()
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def crop_side(self, pixel_size: float | None = None) -> int:
        """Return the side of crops in pixels that show as much of an image as the training crops did.

        Parameters
        ----------
        pixel_size : float, optional
            Micrometres per pixel of the image. Without it, crops have as many pixels as in training.
        """
        field = field_of(self.training, self.crop_size)
        return int(field.pixels(pixel_size)) if field.unit == "µm" and pixel_size else self.crop_size

    def predict_proba_iter(
        self,
        images: Any,
        recipe: Recipe | None = None,
        intensity_range: IntensityRange | None = None,
        places: Places | None = None,
    ) -> Steps[npt.NDArray[np.float64]]:
        """As `predict_proba`, with progress."""
        _, scaled = yield from within(self.prepare_iter(images, recipe, intensity_range), 0.0, 0.5)
        proba: npt.NDArray[np.float64] = yield from within(self.proba_of_scaled_iter(scaled), 0.5, 1.0, "classifying")
        if places is not None and len(places) != len(proba):
            raise ValueError(f"There are {len(proba)} images but {len(places)} places: give one for each.")
        return self.in_context(proba, places)

    def in_context(
        self, proba: npt.NDArray[np.float64], places: Places | None, pixel_size: float | None = None
    ) -> npt.NDArray[np.float64]:
        """Let the neighbours of samples have their say.

        Parameters
        ----------
        proba : (N, classes) array
            Of each sample by itself.
        places : Places or None
            Without it nothing changes, nor for a classifier without a context.
        pixel_size : float, optional
            Micrometres per pixel of the image, which may be another than in training.
        """
        if self.context is None or places is None:
            return proba
        trained = field_of(self.training, self.crop_size).pixel_size
        return self.context.applied(proba, places, trained / pixel_size if trained and pixel_size else 1.0)

    def proba_of_scaled_iter(self, scaled: Sequence[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Classify what `prepare_iter` returned; (N, classes)."""
        return (yield from proba_iter(self.estimator, scaled))

    def predict_proba(
        self, images: Any, recipe: Recipe | None = None, places: Places | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        images : array or sequence of array
            One image, a stack (N, Y, X[, 3]), or a list of images, as they are: the recipe is applied here.
        recipe : Recipe, optional
            Instead of the one that the classifier was trained with.
        places : Places, optional
            Where the images were cut: a classifier that was trained with a context then looks at the neighbours.

        Returns
        -------
        (N, classes) float64
            In the order of `classes`.

        Raises
        ------
        ValueError
            If the images are not of the kind that the classifier knows.
        """
        return run(self.predict_proba_iter(images, recipe, places=places))

    def predict(self, images: Any, recipe: Recipe | None = None) -> npt.NDArray[np.str_]:
        """Return the most probable class of each image, (N,) of str; see `predict_proba`."""
        return self.label(self.predict_proba(images, recipe))

    def label(self, proba: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
        """Return the most probable class of each row."""
        labels: npt.NDArray[np.str_] = np.array(self.classes)[proba.argmax(axis=1)]
        return labels

    def evaluate(self, data: Crops, recipe: Recipe | None = None) -> Evaluation:
        """Compare predictions with labels.

        Parameters
        ----------
        data : Crops
            Not those it was trained on.
        recipe : Recipe, optional
            Instead of the one that the classifier was trained with.

        Raises
        ------
        ValueError
            If the data hold a class that the classifier does not know.
        """
        return run(self.evaluate_iter(data, recipe))

    def evaluate_iter(self, data: Crops, recipe: Recipe | None = None) -> Steps[Evaluation]:
        """As `evaluate`, with progress."""
        unknown = sorted(set(data.classes) - set(self.classes))
        if unknown:
            raise ValueError(
                f"The classifier does not know the class {unknown[0]!r}; it knows {', '.join(self.classes)}."
            )
        proba = yield from self.predict_proba_iter(data.images, recipe, places=data.places)
        return Evaluation.of(data.labels, self.label(proba), self.classes, proba)

    # --- features -------------------------------------------------------------------------------------------------

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the features that it classifies by; None where those are the pixels themselves."""
        names: tuple[str, ...] | None = getattr(self.estimator, "feature_names_", None)
        return names

    def features_iter(self, scaled: Sequence[FloatArray]) -> Steps[FloatArray]:
        """Measure the named features of what `prepare_iter` returned: (N, features) float32, with progress.

        Raises
        ------
        ValueError
            If the classifier has no named features.
        """
        self._need_features()
        table: FloatArray = yield from self.estimator.features_iter(scaled)
        return table

    def proba_of_features(self, table: FloatArray) -> npt.NDArray[np.float64]:
        """Classify a table as `features_iter` returns it: (N, classes).

        Raises
        ------
        ValueError
            If the classifier has no named features, or the table has other columns.
        """
        names = self._need_features()
        if table.ndim != 2 or table.shape[1] != len(names):
            raise ValueError(f"The table has shape {table.shape}: give one column for each of {len(names)} features.")
        proba: npt.NDArray[np.float64] = self.estimator.proba_of_features(table)
        return proba

    def _need_features(self) -> tuple[str, ...]:
        if self.feature_names is None:
            raise ValueError(
                "This classifier looks at pixels: train a svm, random_forest or knn with features such as 'texture'."
            )
        return self.feature_names

    # --- saved form -----------------------------------------------------------------------------------------------

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the trained parameters: tells models apart."""
        more = b"" if self.context is None else json.dumps(self.context.to_dict()).encode()
        return hashlib.sha256(self.payload[1] + more).hexdigest()

    @cached_property
    def payload(self) -> tuple[str, bytes]:
        """Name and bytes of the file that holds the trained parameters; kept, as skops writes no two alike."""
        from .storage import dump_estimator

        return dump_estimator(self.estimator)

    def record(self) -> dict[str, Any]:
        """Describe the classifier for the metadata of what it makes."""
        return {
            "method": self.method,
            "sha256": self.sha256,
            "classes": list(self.classes),
            "recipe": self.recipe.to_dict(),
            **({} if self.context is None else {"context": self.context.distance}),
            "package_version": __version__,
        }

    def save(self, path: str | Path) -> None:
        """Write the classifier to a file; the file appears whole or not at all.

        Parameters
        ----------
        path : str or Path
            ``.ndc`` by custom.
        """
        from .storage import save_classifier

        save_classifier(self, Path(path))
