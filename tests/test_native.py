"""Compiled libraries that must not meet: real ones, each in a process of its own."""

from __future__ import annotations

import ctypes.util
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_LLVM = next((p.name for p in sorted(Path("/usr/lib").glob("*/libLLVM[-.]*so*"))), ctypes.util.find_library("LLVM"))
_DRIVER = f"""
import ctypes, sys
ctypes.CDLL({_LLVM!r}, mode=ctypes.RTLD_GLOBAL)  # as a graphics driver of Mesa
"""
_GO_ON = """
import numpy as np
import napari_denoise_classify as ndc

image = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
assert ndc.denoise(image, "dncnn").shape == image.shape
crops = ndc.Crops([image] * 8, np.array(["a", "b"] * 4), None, [str(i) for i in range(8)])
network = ndc.train_classifier(crops, "cnn", input_size=16, epochs=1, width=4, batch_size=4)
assert ndc.explain(network, image).shape == image.shape
print("triton" in sys.modules)
"""
needs_llvm = pytest.mark.skipif(sys.platform != "linux" or _LLVM is None, reason="there is no driver with LLVM here")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)


@needs_llvm
def test_networks_run_and_learn_beside_a_driver_with_llvm() -> None:
    done = python(_DRIVER + _GO_ON)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


@needs_llvm
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="PyTorch has no triton here")
def test_triton_is_refused_only_where_it_would_end_the_program() -> None:
    ask = "import napari_denoise_classify\ntry:\n    import triton\nexcept ImportError as error:\n    print(error)"
    assert python(ask).stdout == ""
    assert "graphics driver of this program's window" in python(_DRIVER + ask).stdout
    assert python(f"import triton\n{_DRIVER}\n{ask}\nprint('fine')").stdout.strip() == "fine"


def test_a_classical_classifier_needs_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys, threading
import numpy as np
import napari_denoise_classify as ndc
from napari_denoise_classify._native import leaving_torch_alone

images = list(np.random.default_rng(0).integers(0, 255, (8, 16, 16)).astype(np.uint8))
crops = ndc.Crops(images, np.array(["a", "b"] * 4), None, [str(i) for i in range(8)])
forest = ndc.train_classifier(crops, "random_forest", features="texture", trees=5)
forest.save({str(tmp_path / "model.ndc")!r})
loaded = ndc.load_classifier({str(tmp_path / "model.ndc")!r})
np.testing.assert_array_equal(loaded.predict_proba(images), forest.predict_proba(images))
assert "torch" not in sys.modules

found = []
with leaving_torch_alone():
    try:
        import torch
    except ImportError as error:
        found.append(str(error))
    other = threading.Thread(target=lambda: found.append(__import__("torch").__name__))
    other.start()
    other.join()
    import torch
print(found, ndc.denoise(images[0], "dncnn").shape)
"""
    done = python(code)
    assert done.stdout.strip() == "['torch is not wanted here.', 'torch'] (16, 16)", done.stderr
