"""The file of a classifier: a zip of ``model.json`` and ``weights.safetensors`` (CNN) or ``estimator.skops``.

Reading it runs no code of the file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..files import user_path, write_whole
from ..recipe import Recipe
from ..steps import get_step
from .bundle import Classifier

FORMAT = "napari-denoise-classify/classifier"
VERSION = 1
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


def _image_dtype(name: str) -> str:
    if name not in {np.dtype(code).name for code in "?bBhHiIqQefd"}:
        raise ValueError("no dtype of images")
    return name


def _increasing(limits: tuple[float, float]) -> tuple[float, float]:
    if not (np.isfinite(limits).all() and limits[0] < limits[1]):
        raise ValueError("not two finite numbers, low and high")
    return limits


class _Payload(BaseModel):
    file: Literal["weights.safetensors", "estimator.skops"]
    sha256: str


class _Saved(BaseModel):
    """What ``model.json`` holds."""

    model_config = ConfigDict(strict=True)

    format: str
    version: int
    method: Literal["cnn", "svm", "random_forest", "knn"]
    classes: Annotated[list[str], Field(min_length=2)]
    recipe: dict[str, Any]
    samples: Literal[1, 3]
    crop_size: Annotated[int, Field(ge=1)]
    dtype: Annotated[str, AfterValidator(_image_dtype)]
    intensity_range: Annotated[tuple[float, float], AfterValidator(_increasing)]
    parameters: dict[str, Any]
    payload: _Payload
    training: dict[str, Any]


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Write a classifier to a file; the file appears whole or not at all."""
    name, payload = classifier.payload
    model = {
        "format": FORMAT,
        "version": VERSION,
        "method": classifier.method,
        "classes": list(classifier.classes),
        "recipe": classifier.recipe.to_dict(),
        "samples": classifier.samples,
        "crop_size": classifier.crop_size,
        "dtype": classifier.dtype,
        "intensity_range": list(classifier.intensity_range),
        "parameters": classifier.estimator.get_params(deep=False) if classifier.method == "cnn" else {},
        "payload": {"file": name, "sha256": hashlib.sha256(payload).hexdigest()},
        "training": classifier.training,
    }
    text = json.dumps(model, indent=2, ensure_ascii=False)

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in (("model.json", text.encode()), (name, payload)):
                archive.writestr(zipfile.ZipInfo(entry, _EPOCH), content, zipfile.ZIP_DEFLATED)

    write_whole(path, write)


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
    path = user_path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    damaged = f"{path} is not a classifier, or the file is damaged: choose an .ndc file that this program saved."
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read("model.json")
            header = json.loads(text)
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise ValueError(damaged)
            version = header.get("version")
            if isinstance(version, int) and version > VERSION:
                raise ValueError(
                    f"{path} was saved by a newer version of this program: update napari-denoise-classify."
                )
            model = _Saved.model_validate_json(text)
            payload = archive.read(model.payload.file)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} is damaged: {where} is not as it should be ({first['msg']}).") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(damaged) from error
    if hashlib.sha256(payload).hexdigest() != model.payload.sha256:
        raise ValueError(f"{path} is damaged: its SHA-256 differs. Copy or save it again.")
    try:
        estimator = _load_cnn(model, payload) if model.method == "cnn" else _load_skops(model, payload)
        classifier = Classifier(
            method=model.method,
            classes=model.classes,
            recipe=Recipe.from_dict(model.recipe),
            samples=model.samples,
            crop_size=model.crop_size,
            dtype=model.dtype,
            intensity_range=model.intensity_range,
            estimator=estimator,
            training=model.training,
        )
        classifier.__dict__["payload"] = (model.payload.file, payload)
        return classifier
    except UntrustedError as error:
        raise ValueError(f"{path} is refused: {error}") from None
    except Exception as error:  # whatever a forged file may bring about
        raise ValueError(f"{path} is damaged: its parts do not fit together ({error}).") from error


def example_classifier() -> Path:
    """Return the path of the classifier that ships with this package: DAB-negative and DAB-positive nuclei.

    It was trained by the command ``demo --colour`` on crops of scikit-image's immunohistochemistry image; its labels
    come from colour. It is there to try things out, not for science.
    """
    return Path(__file__).parent / "models" / "ihc_nuclei.ndc"


class UntrustedError(ValueError):
    """A file holds types that could run code."""


def _load_cnn(model: _Saved, payload: bytes) -> Any:
    from safetensors.torch import load

    from .cnn import CNNClassifier

    estimator = CNNClassifier(**model.parameters)
    estimator.classes_ = np.array(model.classes)
    estimator.temperature_ = 1.0
    estimator.network_ = estimator.build(model.samples, len(model.classes))
    estimator.network_.load_state_dict(load(payload))
    estimator.network_.eval()
    return estimator


def _load_skops(model: _Saved, payload: bytes) -> Any:
    import skops.io
    from sklearn.tree import DecisionTreeClassifier

    strange = [name for name in skops.io.get_untrusted_types(data=payload) if name not in _TRUSTED]
    if strange:
        raise UntrustedError(f"it holds {strange[0]}, which is no part of a classifier of this program.")
    estimator = skops.io.loads(payload, trusted=list(_TRUSTED))
    # It must be built as this program builds it: each part may then rely on the checks of the others.
    expected = get_step(model.method, "classifier").function(0)
    if type(estimator) is not type(expected) or [type(s) for _, s in estimator.steps] != [
        type(s) for _, s in expected.steps
    ]:
        raise UntrustedError(f"what it holds is not a {model.method} classifier of this program.")
    if list(estimator.classes_) != model.classes:
        raise ValueError("its classes differ")
    for tree in getattr(estimator.steps[-1][1], "estimators_", ()):
        if type(tree) is not DecisionTreeClassifier:
            raise UntrustedError(f"its forest holds a {type(tree).__name__}.")
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
