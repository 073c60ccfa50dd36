"""Layers in nanometres beside layers in micrometres: napari shows both in the smaller unit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", minversion="0.9")

from napari_denoise_classify.widgets.layers import (
    Source,
    painted_in,
    pixel_size_of,
    positions_in,
    same_place,
    shown_plane,
    size_factor,
    take,
)
from napari_denoise_classify.widgets.mask_layers import mask_from_layer
from napari_denoise_classify.widgets.preview import camera_of, shown

NM, UM = ("nm", "nm"), ("um", "um")


def test_positions_and_sizes_are_converted(make_napari_viewer):
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((40, 50)), scale=(500, 500), units=NM)
    points = viewer.add_points([[2.0, 3.0]], units=UM)
    labels = viewer.add_labels(np.zeros((40, 50), int), scale=(0.25, 0.25), units=UM)
    np.testing.assert_allclose(positions_in(image, points, points.data, viewer), [[4, 6]])
    assert size_factor(image, points, viewer) == pytest.approx(2)
    assert size_factor(image, labels, viewer) == pytest.approx(0.5)
    assert not same_place(image, labels, viewer)
    labels.scale = (0.5, 0.5)
    assert same_place(image, labels, viewer)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"scale": (0.5, -0.505), "units": UM}, 0.505),
        ({"scale": (1.0, 0.25), "units": UM}, None),
        ({"scale": (500, 0.5), "units": ("nm", "um")}, 0.5),
        ({"scale": (0.5, 0.5), "units": ("pixel", "um")}, None),
        ({"affine": np.diag([0.25, 0.25, 1]), "units": UM}, 0.25),
        ({"affine": np.diag([0.25, 0.5, 1]), "units": UM}, None),
    ],
)
def test_only_square_pixels_have_a_size(make_napari_viewer, how, expected):
    layer = make_napari_viewer().add_image(np.zeros((8, 8)), **how)
    assert pixel_size_of(layer) == pytest.approx(expected)


def test_what_is_drawn_and_painted_in_another_unit(make_napari_viewer):
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((40, 50)), scale=(0.5, 0.5), units=UM)
    shapes = viewer.add_shapes([[[4750, 4750], [4750, 9750], [9750, 9750], [9750, 4750]]], units=NM)
    expected = np.zeros((40, 50), bool)
    expected[10:20, 10:20] = True  # 5 to 10 µm
    assert (mask_from_layer(viewer, image, shapes) ^ expected).sum() <= 20  # napari leaves two of the sides out
    painted = viewer.add_labels(expected.astype(int), scale=(500, 500), units=NM)
    np.testing.assert_array_equal(mask_from_layer(viewer, image, painted), expected)
    objects = viewer.add_labels(np.zeros((20, 25), int), scale=(1, 1), units=UM)
    assert np.argwhere(painted_in(objects, painted, viewer)).mean(axis=0) == pytest.approx(7, abs=0.5)


def test_the_plane_and_the_part_that_are_shown(make_napari_viewer):
    viewer = make_napari_viewer()
    fine = viewer.add_image(np.zeros((3, 60, 60)), scale=(300, 100, 100), units=("nm",) * 3)
    image = viewer.add_image(np.zeros((4, 30, 30)), scale=(0.3, 0.2, 0.2), units=("um",) * 3)
    viewer.dims.set_point(0, 600)
    assert [shown_plane(take(layer), layer, viewer) for layer in (image, fine)] == [(2,), (2,)]
    camera_of(viewer).center = (0, 3000, 3000)
    source: Source = take(image)
    view = shown(viewer, image, source, 10)
    assert view.index == (2,)
    assert [s.start + 5 for s in (view.rows, view.columns)] == pytest.approx([15, 15], abs=1)
