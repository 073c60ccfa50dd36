"""Classifiers that would not fit into memory are refused before they begin, in one sentence with numbers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify import Crops, Recipe
from napari_denoise_classify.core.classify.memory import check_memory
from napari_denoise_classify.core.device import MEMORY_VARIABLE

ONE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def many(count: int) -> Crops:
    """So many crops that take no memory: they are all the same one."""
    labels = np.array(["a", "b"])[np.arange(count) % 2]
    return Crops([ONE] * count, labels, None, [""] * count)


def test_the_sentence_has_the_numbers_and_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "0.5")
    check_memory(4.9e8, "Thinking", "think less")
    with pytest.raises(
        ValueError, match=r"^Thinking needs about 2\.3 GB of memory, and 500 MB are free: think less\.$"
    ):
        check_memory(2.3e9, "Thinking", "think less")


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("knn", {}, r"\(neighbours\) on 600 crops with 12,288 figures each \(pixels\) needs about 7\.4 MB"),
        ("svm", {}, "600 crops .* a smaller input_size, or features='texture'"),
        ("random_forest", {}, "600 crops .* give fewer crops"),
        ("random_forest", {"augment": "turns"}, "augment='none'"),
        ("knn", {"balance": "sampling", "augment": "turns"}, "600 crops"),
        ("cnn", {"input_size": 64}, "Training a network on 64 crops of 64 pixels .* input_size, batch_size or width"),
    ],
)
def test_training_is_refused(method: str, parameters: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = many(600)
    monkeypatch.setenv(MEMORY_VARIABLE, "0.003")
    with pytest.raises(ValueError, match=words):
        ndc.train_classifier(data, method, **parameters)


def test_preparing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = many(600)
    monkeypatch.setenv(MEMORY_VARIABLE, "0.003")
    with pytest.raises(ValueError, match="Preparing 600 crops needs about 15 MB"):
        ndc.train_classifier(data, "knn", Recipe(["centre"]))


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("knn", {}),
        ("svm", {}),
        ("random_forest", {"trees": 2}),
        ("cnn", {"input_size": 32, "epochs": 1, "width": 4, "views": 1}),
    ],
)
def test_prediction_is_refused(method: str, parameters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ndc.train_classifier(many(20), method, **parameters)
    monkeypatch.setenv(MEMORY_VARIABLE, "0.0001")
    with pytest.raises(ValueError, match=r"Classifying .* needs about .* MB of memory, and 0\.1 MB are free"):
        classifier.predict(many(40).images)


SCRIPT = """
import resource, sys
import numpy as np
import napari_denoise_classify as ndc
from napari_denoise_classify import Crops
from napari_denoise_classify.core.classify.classical import {kind}
from napari_denoise_classify.core.classify.scaled import ScaledCrops

def memory(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

{body}
"""


def run_script(kind: str, body: str) -> str:
    script = SCRIPT.format(kind=kind, body=body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_limit_of_the_process_is_known() -> None:
    out = run_script(
        "SVMClassifier",
        """
limit = memory("VmSize") + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
one = np.zeros((64, 64, 3), np.uint8)
data = Crops([one] * 30000, np.array(["a", "b"])[np.arange(30000) % 2], None, [""] * 30000)
try:
    ndc.train_classifier(data, "svm")
except ValueError as error:
    print(error)
""",
    )
    assert out.startswith("Training a classifier (svm) on 30,000 crops with 12,288 figures each (pixels) needs about ")
    assert "are free: give fewer crops, a smaller input_size, or features='texture'." in out
    assert out.count("\n") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("made", ["SVMClassifier()", "NeighboursClassifier()", "ForestClassifier(trees=5)"])
def test_the_estimate_is_about_right(made: str) -> None:
    out = run_script(
        made.split("(")[0],
        f"""
rng = np.random.default_rng(0)
images = list(rng.integers(0, 256, (1500, 64, 64, 3), np.uint8))
images += [image ^ 1 for image in images]
y = np.arange(3000) % 2
def fit(count):
    return {made}.set_params(calibration="none").fit(ScaledCrops(images[:count], (0, 255)), y[:count])

fit(40)  # what is imported counts for nothing
from napari_denoise_classify.core.classify import crop_classifier
crop_classifier.check_memory = lambda needed, what, advice: print(needed)
before = memory("VmRSS")
fit(len(images))
print(memory("VmHWM") - before)
""",
    )
    estimate, found = (float(line) for line in out.split())
    assert 0.7 * found < estimate < 3 * found
