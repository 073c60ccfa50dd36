"""The synthetic images under File ▸ Open Sample."""

from __future__ import annotations

import numpy as np
import pytest

KINDS = {
    "synthetic_he": ["image", "labels", "points"],
    "synthetic_fluorescence": ["image", "labels", "points"],
    "synthetic_tacs1": ["image", "shapes", "shapes"],
    "synthetic_tacs2": ["image", "shapes", "shapes"],
    "synthetic_tacs3": ["image", "shapes", "shapes"],
}


@pytest.mark.parametrize("key", KINDS)
def test_samples_open(make_napari_viewer, key: str) -> None:
    viewer = make_napari_viewer()
    layers = viewer.open_sample("napari-denoise-classify", key)
    assert [layer._type_string for layer in layers] == KINDS[key]
    image, *truth = layers
    assert image.visible
    assert not any(layer.visible for layer in truth)
    assert all(len(layer.data) for layer in truth)


def test_cells_carry_their_class(make_napari_viewer) -> None:
    viewer = make_napari_viewer()
    image, labels, points = viewer.open_sample("napari-denoise-classify", "synthetic_he")
    assert image.rgb
    assert set(points.features["class"]) == {"immune", "non-invasive", "invasive"}
    at = np.rint(points.data).astype(int)
    assert (labels.data[tuple(at.T)] > 0).all()


def test_fibres_carry_their_angle_to_the_boundary(make_napari_viewer) -> None:
    viewer = make_napari_viewer()
    _, lines, boundary = viewer.open_sample("napari-denoise-classify", "synthetic_tacs3")
    assert len(lines.features) == len(lines.data)
    assert lines.features["angle to boundary"].median() > 75
    assert len(boundary.data) == 1
