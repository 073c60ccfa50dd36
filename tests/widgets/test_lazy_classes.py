"""Classify, Explain and Workflow on layers that are not in memory."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.widgets import class_layers
from napari_denoise_classify.widgets import layers as layers_module
from napari_denoise_classify.widgets.session import session

FIELD = np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)
SQUARES = np.zeros((96, 128), np.uint16)
for k in range(6):
    SQUARES[8 + 15 * k : 18 + 15 * k, 10 + 18 * k : 22 + 18 * k] = k + 1


@pytest.fixture(autouse=True)
def learned(cnn: ndc.Classifier) -> None:
    session.add("learned", cnn)


def lazy(array: np.ndarray) -> dask.array.Array:
    return dask.array.from_array(array, chunks=40)


def ready(open_dock, name: str):
    """Open a panel on the objects of a lazy image."""
    viewer, dock = open_dock(name)
    viewer.add_image(lazy(FIELD), name="big", contrast_limits=(0, 255))
    viewer.add_labels(lazy(SQUARES), name="squares")
    dock.classifier.choice.value = "learned"
    dock.target.where.value = "objects"
    return viewer, dock


@pytest.mark.parametrize("few_colours", [False, True])
def test_objects_of_lazy_layers(open_dock, wait, monkeypatch, few_colours):
    if few_colours:
        monkeypatch.setattr(class_layers, "LARGEST_COLOURED", 2)
    viewer, dock = ready(open_dock, "Classify")
    dock.run_button.native.click()
    wait(dock)
    found = viewer.layers["squares classes"]
    assert isinstance(found.data, dask.array.Array)
    classes = found.features.set_index("index")["class"]
    assert set(np.unique(np.asarray(found.data))) - {0} <= set(classes.index)
    assert (np.asarray(found.data) > 0).sum() == (SQUARES > 0).sum()


def test_the_heat_map_of_a_lazy_layer_is_a_pyramid(open_dock, wait, monkeypatch):
    monkeypatch.setattr(layers_module, "_ONE_LEVEL", 64)
    viewer, dock = ready(open_dock, "Explain")
    dock.explain.method.choice.value = "occlusion"
    dock.run_button.native.click()
    wait(dock)
    heat = viewer.layers["big occlusion"]
    assert [level.shape for level in heat.data] == [(96, 128), (48, 64)]
    full, half = (np.asarray(level) for level in heat.data)
    assert full.max() == 1
    np.testing.assert_array_equal(half, full.reshape(48, 2, 64, 2).max(axis=(1, 3)))
    assert not full[SQUARES.shape[0] - 4 :, :30].any()


def test_a_workflow_leaves_a_lazy_image_where_it_is(open_dock, wait, tmp_path):
    viewer, dock = ready(open_dock, "Workflow")
    dock.as_trained.value = False
    dock.denoiser.choice.value = "median"
    dock.run_button.native.click()
    wait(dock)
    assert "big median" not in viewer.layers
    assert "Save results… writes them" in dock.status.value
    dock.save(tmp_path)
    written = tifffile.imread(tmp_path / "big_processed.tif")
    assert written.shape == FIELD.shape
    assert (written != FIELD).any()
    assert (written[:, :2] == FIELD[:, :2]).all()  # no crop reaches there
