"""Files of classifiers that are damaged, foreign or forged: refused with a sentence, and no code of theirs runs."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from napari_denoise_classify import Classifier, Crops, load_classifier, train_classifier

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, cnn: Classifier, forest: Classifier) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    for name, classifier in (("cnn", cnn), ("random_forest", forest)):
        classifier.save(folder / f"{name}.ndc")
    return {name: folder / f"{name}.ndc" for name in ("cnn", "random_forest")}


def forge(path: Path, source: Path, edit: Edit | None = None, payload: bytes | None = None) -> Path:
    """Write a copy with other metadata or another payload, whose SHA-256 is right."""
    with zipfile.ZipFile(source) as archive:
        model = json.loads(archive.read("model.json"))
        content = archive.read(model["payload"]["file"]) if payload is None else payload
    name = model["payload"]["file"]
    model["payload"]["sha256"] = hashlib.sha256(content).hexdigest()
    model = (edit(model) or model) if edit else model
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.json", json.dumps(model))
        archive.writestr(name, content)
    return path


def refused(path: Path, words: str = "") -> None:
    with pytest.raises(ValueError, match=rf"{path.name}.*{words}"):
        load_classifier(path)


# --- damaged and foreign --------------------------------------------------------------------------------------------


def test_missing_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.ndc", "there is no such file")
    refused(tmp_path, "there is no such file")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18), pickle.dumps({"a": 1})])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.ndc").write_bytes(content)
    refused(tmp_path / "it.ndc", "is not a classifier, or the file is damaged")


@pytest.mark.parametrize("method", ["cnn", "random_forest"])
@given(keep=st.floats(0, 0.999))
def test_truncated_files(saved: dict[str, Path], tmp_path: Path, method: str, keep: float) -> None:
    content = saved[method].read_bytes()
    (tmp_path / "it.ndc").write_bytes(content[: int(keep * len(content))])
    refused(tmp_path / "it.ndc", "is not a classifier, or the file is damaged")


@pytest.mark.parametrize("method", ["cnn", "random_forest"])
@given(where=st.floats(0, 0.99999), value=st.integers(0, 255))
def test_changed_bytes_are_noticed_or_harmless(
    saved: dict[str, Path], tmp_path: Path, crops: Crops, method: str, where: float, value: int
) -> None:
    content = bytearray(saved[method].read_bytes())
    content[int(where * len(content))] = value
    (tmp_path / "it.ndc").write_bytes(content)
    try:
        read = load_classifier(tmp_path / "it.ndc")
    except ValueError as error:
        assert "it.ndc" in str(error)  # noqa: PT017
    else:
        expected = load_classifier(saved[method]).predict_proba(crops.images[:2])
        np.testing.assert_array_equal(read.predict_proba(crops.images[:2]), expected)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '"text"', "{}", "{", '{"format": 1}', "\x00", "[" * 100_000], ids=lambda text: text[:9]
)
def test_foreign_zips(tmp_path: Path, text: str) -> None:
    with zipfile.ZipFile(tmp_path / "it.ndc", "w") as archive:
        archive.writestr("model.json", text)
    refused(tmp_path / "it.ndc", "is not a classifier, or the file is damaged")


def test_encrypted_zips(saved: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(saved["cnn"].read_bytes())
    content[6] |= 1  # the flag of the first file ...
    content[content.index(b"PK\x01\x02") + 8] |= 1  # ... and of its entry in the directory
    (tmp_path / "it.ndc").write_bytes(content)
    refused(tmp_path / "it.ndc", "is not a classifier, or the file is damaged")


def test_a_wrong_hash(saved: dict[str, Path], tmp_path: Path) -> None:
    path = forge(tmp_path / "it.ndc", saved["cnn"], lambda m: m["payload"].update(sha256="0" * 64))
    refused(path, "is damaged: its SHA-256 differs")


def test_a_newer_version(saved: dict[str, Path], tmp_path: Path) -> None:
    refused(forge(tmp_path / "it.ndc", saved["cnn"], lambda m: m.update(version=99)), "newer version")


def drop(name: str) -> Edit:
    return lambda model: {key: value for key, value in model.items() if key != name}


def put(**values: Any) -> Edit:
    return lambda model: {**model, **values}


KEYS = ("version", "method", "classes", "recipe", "samples", "crop_size", "dtype", "intensity_range", "payload")


@pytest.mark.parametrize("key", [*KEYS, "parameters", "training"])
def test_missing_entries(saved: dict[str, Path], tmp_path: Path, key: str) -> None:
    refused(forge(tmp_path / "it.ndc", saved["cnn"], drop(key)))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("method", ["cnn", "random_forest"])
def test_entries_of_other_types(saved: dict[str, Path], tmp_path: Path, key: str, method: str) -> None:
    wrong: dict[str, str] = {}
    for value in (None, 1.5, "text", [], {}, [None], {"file": "weights.safetensors"}):
        path = forge(tmp_path / "it.ndc", saved[method], put(**{key: value}))
        try:
            load_classifier(path)
        except ValueError as error:
            if "it.ndc" not in str(error):
                wrong[repr(value)] = str(error)
        except Exception as error:
            wrong[repr(value)] = repr(error)
        else:
            wrong[repr(value)] = "was accepted"
    assert not wrong


@pytest.mark.parametrize(
    "values",
    [
        {"classes": ["empty", "spot", "third"]},
        {"samples": 3},
        {"samples": 2},
        {"parameters": {"input_size": 16, "hidden": 3}},
        {"method": "knn"},
        {"intensity_range": [5, 1]},
        {"intensity_range": [0, float("nan")]},
        {"crop_size": 0},
        {"dtype": "complex"},
    ],
    ids=str,
)
def test_entries_that_do_not_fit(saved: dict[str, Path], tmp_path: Path, values: dict[str, Any]) -> None:
    refused(forge(tmp_path / "it.ndc", saved["cnn"], put(**values)))


def test_a_forest_with_other_classes(saved: dict[str, Path], tmp_path: Path) -> None:
    refused(forge(tmp_path / "it.ndc", saved["random_forest"], put(classes=["empty", "spot", "third"])))


def test_weights_of_another_network(saved: dict[str, Path], tmp_path: Path) -> None:
    import torch

    path = forge(tmp_path / "it.ndc", saved["cnn"], payload=save({"a": torch.zeros(3)}))
    refused(path, "is damaged: its parts do not fit together")


# --- malicious ------------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("method", ["cnn", "random_forest"])
def test_pickles_do_not_run(saved: dict[str, Path], tmp_path: Path, method: str) -> None:
    proof = tmp_path / "it ran"
    refused(forge(tmp_path / "it.ndc", saved[method], payload=pickle.dumps(Payload(proof))))
    assert not proof.exists()


@pytest.mark.parametrize("function", [os.system, eval, exec, os.path.join, np.loadtxt, load_classifier])
def test_functions_in_an_estimator_are_refused(saved: dict[str, Path], tmp_path: Path, function: Any) -> None:
    estimator = Pipeline([("it", FunctionTransformer(function))])
    refused(forge(tmp_path / "it.ndc", saved["random_forest"], payload=skops.io.dumps(estimator)))


def test_estimators_of_other_types_are_refused(saved: dict[str, Path], tmp_path: Path, forest: Classifier) -> None:
    model = forest.estimator.model_
    for estimator in (model, model[-1], Pipeline([("it", FunctionTransformer())]), np.zeros(3)):
        refused(forge(tmp_path / "it.ndc", saved["random_forest"], payload=skops.io.dumps(estimator)))


@pytest.mark.parametrize("damage", ["child beyond the end", "loop", "feature beyond the end"])
@pytest.mark.parametrize("where", ["classifier", "forest", "pipeline", "lone tree"])
def test_malformed_trees_are_refused(
    saved: dict[str, Path], tmp_path: Path, forest: Classifier, damage: str, where: str
) -> None:
    estimator = copy.deepcopy(forest.estimator)
    trees = estimator.model_[-1]
    tree = trees.estimators_[0]
    state = tree.tree_.__getstate__()
    name, value = {
        "child beyond the end": ("left_child", 10**6),
        "loop": ("left_child", 0),
        "feature beyond the end": ("feature", 10**6),
    }[damage]
    state["nodes"] = state["nodes"].copy()
    state["nodes"][name][0] = value
    tree.tree_.__setstate__(state)
    forged = {"classifier": estimator, "forest": trees, "pipeline": estimator.model_, "lone tree": tree}[where]
    refused(forge(tmp_path / "it.ndc", saved["random_forest"], payload=skops.io.dumps(forged)))


# --- parts that do not fit together ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(crops: Crops, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Classifier]]:
    """A classifier of each kind with its file."""
    folder = tmp_path_factory.mktemp("several")
    how: dict[str, dict[str, Any]] = {
        "svm": {"calibration": "isotonic"},
        "knn": {"features": "texture", "calibration": "sigmoid"},
        "random_forest": {"features": "texture+embedding", "input_size": 4, "trees": 5},
    }
    found = {}
    for method, parameters in how.items():
        classifier = train_classifier(crops, method, **parameters)
        classifier.save(folder / f"{method}.ndc")
        found[method] = (folder / f"{method}.ndc", classifier)
    return found


def test_they_load(several: dict[str, tuple[Path, Classifier]], crops: Crops) -> None:
    for path, classifier in several.values():
        read = load_classifier(path)
        np.testing.assert_array_equal(read.predict_proba(crops.images), classifier.predict_proba(crops.images))
        assert read.feature_names == classifier.feature_names
        assert read.estimator.get_params() == classifier.estimator.get_params()


def other_parameter(estimator: Any) -> None:
    estimator.calibration = "none"


def other_calibration(estimator: Any) -> None:
    calibrated = estimator.calibrator_.calibrated_classifiers_[0]
    calibrated.calibrators = [Pipeline([("it", FunctionTransformer())])]


def no_calibration(estimator: Any) -> None:
    estimator.calibrator_ = None


def other_scores(estimator: Any) -> None:
    estimator.calibrator_.calibrated_classifiers_[0].estimator = estimator.model_


def shorter(estimator: Any) -> None:
    last = estimator.model_[-1]
    if hasattr(last, "support_vectors_"):
        last.support_vectors_ = last.support_vectors_[:, :3]
    else:
        last._fit_X = last._fit_X[:, :3]


def beyond_the_classes(estimator: Any) -> None:
    last = estimator.model_[-1]
    if hasattr(last, "_n_support"):
        last._n_support = last._n_support + np.int32(10**6)
    else:
        last._y = last._y + 10**6


def method_of_its_own(estimator: Any) -> None:
    estimator.uncalibrated = np.zeros(2)


def other_kernel(estimator: Any) -> None:
    last = estimator.model_[-1]
    if hasattr(last, "kernel"):
        last.kernel = "sigmoid"
    else:
        last.weights = "uniform"


@pytest.mark.parametrize("method", ["svm", "knn"])
@pytest.mark.parametrize(
    "damage",
    [
        other_parameter,
        other_calibration,
        no_calibration,
        other_scores,
        shorter,
        beyond_the_classes,
        method_of_its_own,
        other_kernel,
    ],
)
def test_parts_that_do_not_fit_are_refused(
    several: dict[str, tuple[Path, Classifier]], tmp_path: Path, method: str, damage: Callable[[Any], None]
) -> None:
    path, classifier = several[method]
    estimator = copy.deepcopy(classifier.estimator)
    damage(estimator)
    refused(forge(tmp_path / "it.ndc", path, payload=skops.io.dumps(estimator)))


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("svm", {"C": 2.0}),
        ("svm", {"kernel": "poly"}),
        ("svm", {"calibration": "sigmoid"}),
        ("knn", {"features": "pixels"}),
        ("knn", {"random_state": "0"}),
        ("knn", {"n_jobs": 4}),
        ("random_forest", {"trees": 6}),
        ("random_forest", {"features": "texture"}),
        ("random_forest", {"balance": "none"}),
    ],
)
def test_other_recorded_parameters_are_refused(
    several: dict[str, tuple[Path, Classifier]], tmp_path: Path, method: str, values: dict[str, Any]
) -> None:
    def edit(model: dict[str, Any]) -> None:
        model["parameters"].update(values)

    refused(forge(tmp_path / "it.ndc", several[method][0], edit))


def wrong_shape(weights: dict[str, Any]) -> None:
    weights["head.weight"] = weights["head.weight"][:, :3]


def no_array(weights: dict[str, Any]) -> None:
    weights["head.weight"] = [1.0]


def missing(weights: dict[str, Any]) -> None:
    del weights["head.weight"]


@pytest.mark.parametrize("damage", [wrong_shape, no_array, missing])
def test_networks_within_features_are_checked(
    several: dict[str, tuple[Path, Classifier]], tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    path, classifier = several["random_forest"]
    estimator = copy.deepcopy(classifier.estimator)
    damage(estimator.features_.parts_[1].weights_)
    refused(forge(tmp_path / "it.ndc", path, payload=skops.io.dumps(estimator)))


@pytest.mark.parametrize("method", ["cnn", "random_forest"])
def test_parameters_that_are_missing_or_strange(saved: dict[str, Path], tmp_path: Path, method: str) -> None:
    def without(model: dict[str, Any]) -> None:
        del model["parameters"]["balance"]

    refused(forge(tmp_path / "it.ndc", saved[method], without), "it does not tell balance")
    refused(forge(tmp_path / "it.ndc", saved[method], lambda m: m["parameters"].update(more=1)), "no parameter 'more'")
