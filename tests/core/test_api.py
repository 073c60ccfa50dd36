"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import napari_denoise_classify as ndc

NAMES = {
    "ClassMap",
    "Classified",
    "Classifier",
    "CropField",
    "Crops",
    "ExplanationCheck",
    "FibreMap",
    "Objects",
    "Recipe",
    "Study",
    "StudyResult",
    "__version__",
    "apply_mask",
    "augment",
    "check_explanation",
    "class_map",
    "classify",
    "clicked_classes",
    "cluster",
    "cluster_scores",
    "compare",
    "critical_area",
    "crops_from_objects",
    "crops_from_points",
    "denoise",
    "estimate_noise",
    "example_classifier",
    "explain",
    "explain_map",
    "explanation_drift",
    "export_zoo",
    "feature_importance",
    "fibre_features",
    "fibre_map",
    "import_zoo",
    "join_crops",
    "listed_classes",
    "load_classifier",
    "load_crops",
    "load_study",
    "mask",
    "measure_objects",
    "painted_classes",
    "parse_noise",
    "release_memory",
    "residual",
    "residual_structure",
    "steps",
    "study",
    "train_classifier",
    "train_denoiser",
}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names() -> None:
    assert set(ndc.__all__) == NAMES
    assert set(dir(ndc)) >= NAMES
    for name in ndc.__all__:
        value = getattr(ndc, name)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ndc.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, napari_denoise_classify; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in python(code).split()}
    heavy = {"torch", "sklearn", "skimage", "cv2", "pydantic", "pandas", "scipy", "numpy", "napari", "qtpy", "dask"}
    assert not loaded & heavy


def test_listing_and_classical_steps_import_no_torch() -> None:
    code = (
        "import sys, numpy, napari_denoise_classify as ndc; ndc.steps();"
        "ndc.denoise(numpy.ones((9, 9)), 'median'); ndc.mask(numpy.ones((9, 9)), 'centre'); print(*sys.modules)"
    )
    loaded = {name.split(".")[0] for name in python(code).split()}
    assert not loaded & {"torch", "sklearn", "napari", "qtpy", "matplotlib"}


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_any_name_first_registers_every_step(name: str) -> None:
    code = f"import napari_denoise_classify as ndc; ndc.{name}; print(len(ndc.steps()))"
    assert int(python(code)) == len(ndc.steps())


# --- denoise and mask -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axes"), [((9, 8), None), ((2, 9, 8), "CYX"), ((9, 8, 3), "YXS"), ((3, 9, 8), "SYX")]
)
def test_shape_and_dtype_stay(dtype: str, shape: tuple[int, ...], axes: str | None) -> None:
    image = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for out in (ndc.denoise(image, "gaussian", axes), ndc.mask(image, "centre", axes)):
        assert type(out) is np.ndarray
        assert out.shape == shape
        assert out.dtype == dtype


def test_lists_are_images_too() -> None:
    assert ndc.denoise([[1, 2], [3, 4]], "none").tolist() == [[1, 2], [3, 4]]


def test_masked_tells_what_was_kept() -> None:
    image, mask, kept = ndc.mask(np.ones((40, 40)), "random", fraction=0.25, return_mask=True)
    assert kept == mask.mean() == image.mean() == 0.25


BAD: list[tuple[Any, str]] = [
    (np.empty((0, 5)), "empty"),
    (np.ones(5), "at least 2 axes"),
    (np.array(5), "at least 2 axes"),
    (np.full((5, 5), np.nan), "NaN or infinite"),
    (np.full((5, 5), np.inf), "NaN or infinite"),
    (np.ones((5, 5), complex), "dtype complex128"),
    (np.full((5, 5), "x"), "dtype <U1"),
    (None, "image"),
]


@pytest.mark.parametrize(("image", "words"), BAD, ids=[words for _, words in BAD])
@pytest.mark.parametrize(("function", "step"), [(ndc.denoise, "gaussian"), (ndc.mask, "centre")])
def test_bad_images(function: Any, step: str, image: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        function(image, step)


def test_bad_steps() -> None:
    image = np.ones((5, 5))
    with pytest.raises(
        ValueError, match="'centre' is not a denoise step; there are: none, gaussian, median, bilateral, tv"
    ):
        ndc.denoise(image, "centre")
    with pytest.raises(ValueError, match="'median' is not a mask step; there are: centre, non_centre, random"):
        ndc.mask(image, "median")
    with pytest.raises(ValueError, match="gaussian has no parameter 'width'; it has kernel_size, blur_sigma"):
        ndc.denoise(image, "gaussian", width=3)
    with pytest.raises(ValueError, match="none has no parameter 'sigma'; it has no parameters"):
        ndc.denoise(image, "none", sigma=3)
    with pytest.raises(ValueError, match="axes='ZYX' names 3 axes"):
        ndc.denoise(image, "median", "ZYX")
    with pytest.raises(ValueError, match="intensity_range='all'"):
        ndc.denoise(image, "median", intensity_range="all")
