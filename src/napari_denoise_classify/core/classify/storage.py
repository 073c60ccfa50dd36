"""The file of a classifier: a zip of ``model.json`` and ``weights.safetensors`` (networks) or ``estimator.skops``.

Reading it runs no code of the file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..._native import leaving_torch_alone
from ..files import ZIP_ERRORS, user_path
from ..recipe import Recipe
from ..steps import get_step
from ..whole import write_whole
from .bundle import Classifier
from .checks import UntrustedError, check_estimator
from .neighbours import Context

FORMAT = "napari-denoise-classify/classifier"
VERSION = 1
_OURS = "napari_denoise_classify.core.classify"
_TEMPERATURE = "temperature"
# What skops does not vouch for by itself; what it lets through is checked once it is read, see checks.py.
_TRUSTED = (
    f"{_OURS}.calibration.Scores",
    f"{_OURS}.classical.ForestClassifier",
    f"{_OURS}.classical.NeighboursClassifier",
    f"{_OURS}.classical.SVMClassifier",
    f"{_OURS}.embedding.CNNEmbedding",
    f"{_OURS}.embedding.JoinedFeatures",
    f"{_OURS}.estimators.BalancedKNN",
    f"{_OURS}.estimators.ExactKNN",
    f"{_OURS}.estimators.PixelFeatures",
    f"{_OURS}.estimators.StandardSVC",
    f"{_OURS}.features.FibreFeatures",
    f"{_OURS}.features.TextureFeatures",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.tree._tree.Tree",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def _method(name: str) -> str:
    get_step(name, "classifier")
    return name


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
    method: Annotated[str, AfterValidator(_method)]
    classes: Annotated[list[str], Field(min_length=2)]
    recipe: dict[str, Any]
    samples: Literal[1, 3]
    crop_size: Annotated[int, Field(ge=1)]
    dtype: Annotated[str, AfterValidator(_image_dtype)]
    intensity_range: Annotated[tuple[float, float], AfterValidator(_increasing)]
    parameters: dict[str, Any]
    payload: _Payload
    training: dict[str, Any]
    context: dict[str, Any] | None = None


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
        "parameters": classifier.estimator.get_params(deep=False),
        "payload": {"file": name, "sha256": hashlib.sha256(payload).hexdigest()},
        "training": classifier.training,
    }
    if classifier.context is not None:
        model["context"] = classifier.context.to_dict()
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
        raise ValueError(
            f"{path} is damaged: {where} is not as it should be ({first['msg']}). Copy or save it again."
        ) from None
    except (*ZIP_ERRORS, ValueError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(damaged) from error
    if hashlib.sha256(payload).hexdigest() != model.payload.sha256:
        raise ValueError(f"{path} is damaged: its SHA-256 differs. Copy or save it again.")
    try:
        estimator = _load_estimator(model, payload)
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
            context=None if model.context is None else Context.from_dict(model.context, len(model.classes)),
        )
        classifier.__dict__["payload"] = (model.payload.file, payload)
        return classifier
    except UntrustedError as error:
        raise ValueError(f"{path} is refused: {error}") from None
    except Exception as error:  # whatever a forged file may bring about
        raise ValueError(
            f"{path} is damaged: its parts do not fit together ({error}). Copy or save it again."
        ) from error


def example_classifier() -> Path:
    """Return the path of the classifier that ships with this package: DAB-negative and DAB-positive nuclei.

    It was trained by the command ``demo --colour`` on crops of scikit-image's immunohistochemistry image; its labels
    come from colour. It is there to try things out, not for science.
    """
    return Path(__file__).parent / "models" / "ihc_nuclei.ndc"


def dump_estimator(estimator: Any) -> tuple[str, bytes]:
    """Return the name and the bytes of the file that holds what a fitted estimator has learnt."""
    if hasattr(estimator, "network_"):
        import torch
        from safetensors.torch import save

        state = {key: value.cpu().contiguous() for key, value in estimator.network_.state_dict().items()}
        if estimator.temperature_ != 1:
            state[_TEMPERATURE] = torch.tensor(estimator.temperature_, dtype=torch.float64)
        return "weights.safetensors", save(state)
    return "estimator.skops", _skops().dumps(estimator)


def _load_estimator(model: _Saved, payload: bytes) -> Any:
    """Build the estimator from its recorded parameters, and give it what it had learnt."""
    spec = get_step(model.method, "classifier")
    parameters = dict(model.parameters)
    seed = parameters.pop("random_state", None)
    missing = [p.name for p in spec.parameters if p.name not in parameters]
    if missing:
        raise ValueError(f"it does not tell {missing[0]}")
    if type(seed) is not int:
        raise ValueError("random_state is no whole number")
    expected = spec.function(seed, **spec.validate(parameters))
    if hasattr(expected, "build"):
        return _load_network(model, expected, payload)
    estimator = _load_skops(payload)
    check_estimator(estimator, expected, model.classes)
    return estimator


def _load_network(model: _Saved, estimator: Any, payload: bytes) -> Any:
    import torch
    from safetensors.torch import load

    from ..device import place

    state = load(payload)
    temperature = state.pop(_TEMPERATURE, None)
    estimator.temperature_ = 1.0 if temperature is None else float(temperature)
    if not 0 < estimator.temperature_ < float("inf"):
        raise ValueError("its temperature is no number above 0")
    estimator.classes_ = np.array(model.classes)
    network = estimator.rebuild(model.samples, len(model.classes), state).eval()
    estimator.network_ = place(network, torch.device("cpu"))  # as after training: another layout rounds otherwise
    return estimator


def _skops() -> Any:
    """Import skops, which looks through all of scikit-learn when it is imported, and finds a way to torch."""
    with leaving_torch_alone():
        import skops.io
    return skops.io


def _load_skops(payload: bytes) -> Any:
    skops = _skops()
    strange = [name for name in skops.get_untrusted_types(data=payload) if name not in _TRUSTED]
    if strange:
        raise UntrustedError(f"it holds {strange[0]}, which is no part of a classifier of this program.")
    return skops.loads(payload, trusted=list(_TRUSTED))
