"""A trained classifier with everything it needs to be applied: recipe, scale, classes, record; and its file.

The file is a zip of ``model.json`` and ``weights.safetensors`` (CNN) or ``estimator.skops`` (the others): reading it
runs no code of the file.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ..files import write_whole
from ..images import FloatArray, IntensityRange, PlaneImage
from ..progress import Progress, Steps, run, within
from ..recipe import Recipe
from ..steps import get_step
from .datasets import Crops, Image, check_images
from .evaluation import Evaluation

FORMAT = "napari-denoise-classify/classifier"
VERSION = 1
MINIMUM_PER_CLASS = 4
_OURS = "napari_denoise_classify.core.classify.estimators"
# What skops does not vouch for by itself; trees are checked after they are read.
_TRUSTED = (
    f"{_OURS}.BalancedKNN",
    f"{_OURS}.CalibratedSVM",
    f"{_OURS}.PixelFeatures",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.tree._tree.Tree",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Classifier:
    """A trained classifier. Made by `train_classifier` and `load_classifier`.

    Attributes
    ----------
    method : str
        ``"cnn"``, ``"svm"``, ``"random_forest"`` or ``"knn"``.
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
        Of the training images; images of the same dtype are scaled by it.
    estimator : scikit-learn estimator
    training : dict
        The record: parameters, seed, number of samples of each class, groups, versions.
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

    def __repr__(self) -> str:
        kind = "RGB" if self.samples == 3 else "gray"
        return f"<Classifier: {self.method}, {kind}, classes {', '.join(self.classes)}, recipe {self.recipe.title}>"

    # --- predicting -----------------------------------------------------------------------------------------------

    def prepare_iter(
        self, images: Any, recipe: Recipe | None = None, intensity_range: IntensityRange | None = None
    ) -> Steps[tuple[list[Image], list[FloatArray]]]:
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
            if array.ndim not in (single, single + 1):
                kind = "RGB images (Y, X, 3)" if self.samples == 3 else "gray images (Y, X)"
                raise ValueError(f"This classifier knows {kind}; this array has shape {array.shape}.")
            images = [array] if array.ndim == single else list(array)
        crops = [np.asarray(image) for image in images]
        crops = [c[..., :3] if c.ndim == 3 and c.shape[-1] == 4 else c for c in crops]
        check_images(crops)
        if (crops[0].ndim == 3) != (self.samples == 3):
            want, got = ("RGB", "gray") if self.samples == 3 else ("gray", "RGB")
            raise ValueError(f"This classifier was trained on {want} images, and these are {got}.")
        return crops

    def _scale(self, crops: list[Image]) -> IntensityRange:
        if str(crops[0].dtype) == self.dtype:
            return self.intensity_range
        return dataset_range(crops)

    def predict_proba_iter(
        self, images: Any, recipe: Recipe | None = None, intensity_range: IntensityRange | None = None
    ) -> Steps[npt.NDArray[np.float64]]:
        """As `predict_proba`, with progress."""
        _, scaled = yield from within(self.prepare_iter(images, recipe, intensity_range), 0.0, 0.5)
        proba: npt.NDArray[np.float64] = yield from within(self.proba_of_scaled_iter(scaled), 0.5, 1.0, "classifying")
        return proba

    def proba_of_scaled_iter(self, scaled: list[FloatArray]) -> Steps[npt.NDArray[np.float64]]:
        """Classify what `prepare_iter` returned; (N, classes)."""
        if hasattr(self.estimator, "predict_proba_iter"):
            proba: npt.NDArray[np.float64] = yield from self.estimator.predict_proba_iter(scaled)
            return proba
        parts = []
        for start in range(0, len(scaled), 1024):
            parts.append(self.estimator.predict_proba(scaled[start : start + 1024]))
            yield Progress(min(1.0, (start + 1024) / len(scaled)))
        return np.concatenate(parts)

    def predict_proba(self, images: Any, recipe: Recipe | None = None) -> npt.NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        images : array or sequence of array
            One image, a stack (N, Y, X[, 3]), or a list of images, as they are: the recipe is applied here.
        recipe : Recipe, optional
            Instead of the one that the classifier was trained with.

        Returns
        -------
        (N, classes) float64
            In the order of `classes`.

        Raises
        ------
        ValueError
            If the images are not of the kind that the classifier knows.
        """
        return run(self.predict_proba_iter(images, recipe))

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
        unknown = sorted(set(data.classes) - set(self.classes))
        if unknown:
            raise ValueError(
                f"The classifier does not know the class {unknown[0]!r}; it knows {', '.join(self.classes)}."
            )
        return Evaluation.of(data.labels, self.predict(data.images, recipe), self.classes)

    # --- saved form -----------------------------------------------------------------------------------------------

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the trained parameters: tells models apart."""
        return hashlib.sha256(self.payload[1]).hexdigest()

    @cached_property
    def payload(self) -> tuple[str, bytes]:
        """Name and bytes of the file that holds the trained parameters; kept, as skops writes no two alike."""
        if self.method == "cnn":
            from safetensors.torch import save

            state = self.estimator.network_.state_dict()
            return "weights.safetensors", save({key: value.cpu().contiguous() for key, value in state.items()})
        import skops.io

        return "estimator.skops", skops.io.dumps(self.estimator)

    def record(self) -> dict[str, Any]:
        """Describe the classifier for the metadata of what it makes."""
        return {
            "method": self.method,
            "sha256": self.sha256,
            "classes": list(self.classes),
            "recipe": self.recipe.to_dict(),
            "package_version": __version__,
        }

    def save(self, path: str | Path) -> None:
        """Write the classifier to a file; the file appears whole or not at all.

        Parameters
        ----------
        path : str or Path
            ``.ndc`` by custom.
        """
        name, payload = self.payload
        model = {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method,
            "classes": list(self.classes),
            "recipe": self.recipe.to_dict(),
            "samples": self.samples,
            "crop_size": self.crop_size,
            "dtype": self.dtype,
            "intensity_range": list(self.intensity_range),
            "parameters": self.estimator.get_params(deep=False) if self.method == "cnn" else {},
            "payload": {"file": name, "sha256": hashlib.sha256(payload).hexdigest()},
            "training": self.training,
        }
        text = json.dumps(model, indent=2, ensure_ascii=False)

        def write(temporary: Path) -> None:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for entry, content in (("model.json", text.encode()), (name, payload)):
                    archive.writestr(zipfile.ZipInfo(entry, _EPOCH), content, zipfile.ZIP_DEFLATED)

        write_whole(Path(path), write)


def load_classifier(path: str | Path) -> Classifier:
    """Read a classifier.

    Parameters
    ----------
    path : str or Path
        A file that `Classifier.save` wrote.

    Raises
    ------
    ValueError
        If the file is missing, damaged, of another kind, or holds anything that would run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            model = json.loads(archive.read("model.json"))
            if not isinstance(model, dict) or model.get("format") != FORMAT:
                raise KeyError("format")
            payload = archive.read(model["payload"]["file"])
    except (
        zipfile.BadZipFile,
        KeyError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} is not a classifier, or the file is damaged: choose an .ndc file that this program saved."
        ) from error
    if model.get("version", VERSION + 1) > VERSION:
        raise ValueError(f"{path} was saved by a newer version of this program: update napari-denoise-classify.")
    if hashlib.sha256(payload).hexdigest() != model["payload"]["sha256"]:
        raise ValueError(f"{path} is damaged: its SHA-256 differs. Copy or save it again.")
    try:
        estimator = _load_cnn(model, payload) if model["method"] == "cnn" else _load_skops(payload)
        classifier = Classifier(
            method=model["method"],
            classes=model["classes"],
            recipe=Recipe.from_dict(model["recipe"]),
            samples=model["samples"],
            crop_size=model["crop_size"],
            dtype=model["dtype"],
            intensity_range=tuple(model["intensity_range"]),
            estimator=estimator,
            training=model["training"],
        )
        classifier.__dict__["payload"] = (model["payload"]["file"], payload)
        return classifier
    except UntrustedError as error:
        raise ValueError(f"{path} is refused: {error}") from None
    except Exception as error:  # whatever a forged file may bring about
        raise ValueError(f"{path} is damaged: its parts do not fit together ({error}).") from error


def example_classifier() -> Path:
    """Return the path of the classifier that ships with this package: DAB-negative and DAB-positive nuclei.

    It was trained by the command ``demo`` on crops of scikit-image's immunohistochemistry image; its labels come
    from colour. It is there to try things out, not for science.
    """
    return Path(__file__).parent / "models" / "ihc_nuclei.ndc"


class UntrustedError(ValueError):
    """A file holds types that could run code."""


def _load_cnn(model: dict[str, Any], payload: bytes) -> Any:
    from safetensors.torch import load

    from .cnn import CNNClassifier, SmallResNet

    estimator = CNNClassifier(**model["parameters"])
    estimator.classes_ = np.array(model["classes"])
    estimator.network_ = SmallResNet(model["samples"], len(model["classes"]), estimator.input_size)
    estimator.network_.load_state_dict(load(payload))
    estimator.network_.eval()
    return estimator


def _load_skops(payload: bytes) -> Any:
    import skops.io

    strange = [name for name in skops.io.get_untrusted_types(data=payload) if name not in _TRUSTED]
    if strange:
        raise UntrustedError(f"it holds {strange[0]}, which is no part of a classifier of this program.")
    estimator = skops.io.loads(payload, trusted=list(_TRUSTED))
    forest = estimator.steps[-1][1]
    for tree in getattr(forest, "estimators_", ()):
        _check_tree(tree.tree_)
    return estimator


def _check_tree(tree: Any) -> None:
    """Check that a tree's nodes point at nodes and features that exist: scikit-learn follows them unchecked.

    Raises
    ------
    ValueError
        If one does not.
    """
    leaf = tree.children_left == -1
    inner = np.flatnonzero(~leaf)
    for children in (tree.children_left, tree.children_right):
        # A child comes after its parent, so that following them always ends.
        if (children[leaf] != -1).any() or (children[inner] <= inner).any() or (children >= tree.node_count).any():
            raise ValueError("a tree is malformed")
    if (tree.feature[inner] < 0).any() or (tree.feature[inner] >= tree.n_features).any():
        raise ValueError("a tree is malformed")


# --- preparing and training ---------------------------------------------------------------------------------------


def dataset_range(images: Sequence[Image]) -> tuple[float, float]:
    """Return the intensity range over all images."""
    ranges: list[tuple[float, float]] = []
    for image in images:
        ranges.extend(PlaneImage.wrap(image, rgb=image.ndim == 3).ranges("image").values())
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def prepare_iter(
    images: Sequence[Image], recipe: Recipe, intensity_range: IntensityRange
) -> Steps[tuple[list[Image], list[FloatArray]]]:
    """Apply a recipe to crops, those of equal shape together, and scale them to 0..1; see `Classifier.prepare_iter`."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(i)
    processed: list[Image] = [np.empty(0)] * len(images)
    scaled: list[FloatArray] = [np.empty(0, np.float32)] * len(images)
    done = 0
    for shape, indices in shapes.items():
        stack = np.stack([images[i] for i in indices])
        axes = "?YXS" if len(shape) == 3 else "?YX"
        source = PlaneImage.wrap(stack, axes)
        if recipe:
            result = yield from within(
                recipe.apply_iter(source, intensity_range=intensity_range),
                done / len(images),
                (done + len(indices)) / len(images),
                "preparing",
            )
            source = PlaneImage.wrap(result.image, axes)
        planes = list(source.indices())
        floats = source.planes(planes, source.ranges(intensity_range))
        for k, i in enumerate(indices):
            processed[i], scaled[i] = source.data[k], floats[k]
        done += len(indices)
        yield Progress(done / len(images), "preparing")
    return processed, scaled


def train_classifier(
    data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0, **parameters: Any
) -> Classifier:
    """Train a classifier.

    Parameters
    ----------
    data : Crops
        From `load_crops`. Hold out a part for `Classifier.evaluate` before, with `Crops.split`.
    method : {"cnn", "svm", "random_forest", "knn"}
    recipe : Recipe, optional
        Applied to the images, here and whenever the classifier predicts.
    seed : int
    **parameters
        Of the method; see ``steps()``.

    Returns
    -------
    Classifier

    Raises
    ------
    ValueError
        For unknown methods or parameters, one class only, or too few samples of a class.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> data = ndc.load_crops("cells.csv", group="patient")  # doctest: +SKIP
    >>> train, test = data.split(seed=0)  # doctest: +SKIP
    >>> clf = ndc.train_classifier(train, "random_forest")  # doctest: +SKIP
    >>> clf.evaluate(test).macro_f1  # doctest: +SKIP
    """
    return run(train_classifier_iter(data, method, recipe, seed, **parameters))


def train_classifier_iter(
    data: Crops, method: str, recipe: Recipe | None = None, seed: int = 0, **parameters: Any
) -> Steps[Classifier]:
    """As `train_classifier`, with progress."""
    spec = get_step(method, "classifier")
    parameters = spec.validate(parameters)
    recipe = Recipe() if recipe is None else recipe
    few = [f"{name} ({count})" for name, count in data.counts.items() if count < MINIMUM_PER_CLASS]
    if len(data.classes) < 2:
        raise ValueError(f"There is only the class {data.classes[0]!r}: a classifier needs at least two.")
    if few:
        raise ValueError(f"Too few samples of {', '.join(few)}: each class needs at least {MINIMUM_PER_CLASS}.")
    intensity_range = dataset_range(data.images)
    _, X = yield from within(prepare_iter(data.images, recipe, intensity_range), 0.0, 0.1)
    estimator = spec.function(seed, **parameters)
    yield Progress(0.1, f"training {spec.title}")
    record: dict[str, Any] = {}
    if hasattr(estimator, "fit_iter"):
        yield from within(estimator.fit_iter(X, data.labels, data.groups), 0.1, 1.0)
        record = {
            "best_epoch": estimator.fit_.best_epoch,
            "history": estimator.fit_.history,
            "stopped_early": estimator.fit_.stopped_early,
        }
    else:
        extra = {"classify__groups": data.groups} if method == "svm" else {}
        estimator.fit(X, data.labels, **extra)
    import sklearn

    return Classifier(
        method=method,
        classes=data.classes,
        recipe=recipe,
        samples=X[0].shape[-1],
        crop_size=int(np.median([min(image.shape[:2]) for image in data.images])),
        dtype=str(data.images[0].dtype),
        intensity_range=intensity_range,
        estimator=estimator,
        training={
            "seed": seed,
            "parameters": parameters,
            "samples_per_class": data.counts,
            "groups": None if data.groups is None else len(np.unique(data.groups)),
            "versions": {
                "napari-denoise-classify": __version__,
                "scikit-learn": sklearn.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            **record,
        },
    )
