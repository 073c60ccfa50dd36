"""The panel Mask with clusters, and with Labels and Shapes layers."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

import napari_denoise_classify as ndc
from napari_denoise_classify.core.mask.cluster import cluster, cluster_scores
from napari_denoise_classify.core.mask.given import apply_mask
from napari_denoise_classify.widgets.layers import METADATA_KEY
from napari_denoise_classify.widgets.mask_layers import mask_from_layer


@pytest.fixture
def cells() -> np.ndarray:
    """Two bright squares on dark noise."""
    image = np.random.default_rng(0).normal(40, 5, (60, 80))
    image[10:30, 10:30] += 150
    image[40:50, 50:70] += 80
    return np.clip(image, 0, 255).astype(np.uint8)


def test_the_rows_are_those_that_count(open_dock):
    _, dock = open_dock("Mask")

    def shown() -> set[str]:
        return {widget.name for widget in dock.form if widget.native.isVisibleTo(dock.native)}

    geometric = {"image", "origin", "mask_step", "radius", "equal_area", "fill", "add_mask"}
    assert shown() == geometric
    dock.method.choice.value = "kmeans"
    rows = {"image", "origin", "mask_step", "clusters", "max_clusters", "keep", "features", "sample", "seed", "fill"}
    rows |= {"add_mask", "add_clusters", "scores"}
    assert shown() == rows
    dock.form.get_widget("features").value = "intensity_local"
    dock.form.get_widget("keep").value = "number"
    dock.form.get_widget("clusters").value = 3
    assert shown() == (rows | {"weight", "window", "number"}) - {"max_clusters"}
    dock.origin.value = "layer"
    assert shown() == {"image", "origin", "mask_layer", "fill", "add_mask"}
    dock.origin.value = "method"
    dock.method.choice.value = "centre"
    assert shown() == geometric


@pytest.mark.parametrize("method", ["kmeans", "dbscan", "hdbscan"])
def test_clusters_become_labels_and_mask(open_dock, wait, qapp, cells, method):
    viewer, dock = open_dock("Mask")
    stack = np.stack([cells, 255 - cells]).astype(np.uint16) * 100
    viewer.add_image(stack, name="cells", scale=(2, 0.5, 0.5), translate=(1, 2, 3), axis_labels=("z", "y", "x"))
    dock.method.choice.value = method
    dock.form.get_widget("fill").value = "mean"
    dock.add_clusters.value = True
    dock.run_button.native.click()
    wait(dock)
    masked, clusters = viewer.layers[f"cells {method}"], viewer.layers[f"cells {method} clusters"]
    expected = cluster(stack, method, "ZYX")
    np.testing.assert_array_equal(clusters.data, expected.labels)
    assert isinstance(clusters, Labels)
    for layer in (masked, clusters):
        np.testing.assert_allclose(layer.scale, (2, 0.5, 0.5))
        np.testing.assert_allclose(layer.translate, (1, 2, 3))
    record = masked.metadata[METADATA_KEY]
    np.testing.assert_array_equal(ndc.Recipe.from_dict(record["recipe"]).apply(stack, "ZYX"), masked.data)
    assert record["kept"] == pytest.approx(expected.mask.mean())
    assert f"{expected.mask.mean():.1%}" in dock.status.value
    assert viewer.layers.selection.active is masked
    dock.copy_button.native.click()
    scope = {"viewer": viewer}
    exec(qapp.clipboard().text(), scope)
    np.testing.assert_array_equal(scope["result"], masked.data)


def test_scores_of_the_plane_that_is_shown(open_dock, wait, qapp, cells):
    viewer, dock = open_dock("Mask")
    viewer.add_image(np.stack([np.zeros_like(cells), cells]), name="cells", scale=(3, 1, 1))
    viewer.dims.set_point(0, 3)
    dock.method.choice.value = "kmeans"
    dock.form.get_widget("max_clusters").value = 5
    for _ in range(2):  # the second time replaces the first
        dock.scores_button.native.click()
        wait(dock)
    expected = cluster_scores(cells, max_clusters=5)
    assert [name for name in viewer.window.dock_widgets if "scores" in name] == ["Cluster scores"]
    table = dock.scores.table
    assert table.rowCount() == len(expected) == 6
    assert [table.item(r, 0).text() for r in (0, 4, 5)] == ["K-means", "DBSCAN", "HDBSCAN"]
    assert [table.item(r, 2).text() for r in range(4)] == [f"{v:.4g}" for v in expected["silhouette"][:4]]
    assert len(dock.scores.canvas.figure.axes) == 3
    assert "with 3 clusters" in dock.status.value
    dock.scores._on_copy()
    assert len(qapp.clipboard().text().splitlines()) == 7


def test_a_labels_layer_is_the_mask(open_dock, wait, qapp, cells):
    viewer, dock = open_dock("Mask")
    viewer.add_image(cells, name="cells", scale=(0.5, 0.5), translate=(10, 20))
    labels = np.zeros((30, 40), np.int32)  # half as fine: each label covers 2 × 2 pixels
    labels[5:15, 5:15], labels[20:25, 25:35] = 1, 2
    viewer.add_labels(labels, name="drawn", scale=(1, 1), translate=(10.25, 20.25))
    dock.origin.value = "layer"
    dock.layer.value = viewer.layers["drawn"]
    assert dock.label_number.native.isVisibleTo(dock.native)
    fine = labels.repeat(2, axis=0).repeat(2, axis=1)
    for label, fill, kept in ((0, "zero", fine > 0), (2, "blur", fine == 2)):
        dock.image.value = viewer.layers["cells"]
        dock.label_number.value = label
        dock.fill.value = fill
        dock.run_button.native.click()
        wait(dock)
        result = viewer.layers[-1]
        np.testing.assert_array_equal(result.data, apply_mask(cells, kept, fill=fill))
        record = result.metadata[METADATA_KEY]
        assert record["mask_layer"] == {"name": "drawn", "type": "Labels", "label": label or None}
        assert record["fill"] == fill
        assert f"drawn kept {kept.mean():.1%}" in dock.status.value
        dock.copy_button.native.click()
        scope = {"viewer": viewer}
        exec(qapp.clipboard().text(), scope)
        np.testing.assert_array_equal(scope["result"], result.data)


def test_shapes_are_the_mask(open_dock, wait, cells):
    viewer, dock = open_dock("Mask")
    viewer.add_image(cells, name="cells", scale=(0.5, 0.5))
    # In world units: rows 5 to 14.5 are pixels 10 to 29.
    viewer.add_shapes([[[5, 5], [5, 14.5], [14.5, 14.5], [14.5, 5]]], shape_type="rectangle", name="drawn")
    dock.origin.value = "layer"
    dock.layer.value = viewer.layers["drawn"]
    assert not dock.label_number.native.isVisibleTo(dock.native)
    dock.add_mask.value = True
    dock.run_button.native.click()
    wait(dock)
    mask = viewer.layers["cells masked by drawn mask"].data.astype(bool)
    square = np.zeros(cells.shape, bool)
    square[10:30, 10:30] = True
    assert (mask ^ square).sum() <= 40  # napari leaves two of the sides out
    np.testing.assert_array_equal(viewer.layers["cells masked by drawn"].data, np.where(mask, cells, 0))


@pytest.mark.parametrize("kind", ["labels", "polygon", "rectangle", "ellipse"])
def test_layers_under_any_transform(make_napari_viewer, kind):
    """A disc or square drawn around a place in the world covers the pixels that lie there."""
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((90, 70)), scale=(0.5, 0.8), translate=(3, -4), rotate=25, shear=[0.2])
    how = {"scale": (0.7, 0.4), "translate": (5, 6), "rotate": -40}
    if kind == "labels":
        y, x = np.indices((120, 140))
        drawn = viewer.add_labels(((abs(y - 60) <= 20) & (abs(x - 40) <= 30)).astype(int), **how)
    else:
        corners = np.array([(40, 10), (40, 70), (80, 70), (80, 10)], float)
        drawn = viewer.add_shapes([corners], shape_type=kind, **how)
    drawn.translate += np.subtract(image.data_to_world((45, 35)), drawn.data_to_world((60, 40)))
    found = mask_from_layer(viewer, image, drawn)
    pixels = np.array(list(np.ndindex(90, 70)), float)
    at = np.array([drawn.world_to_data(image.data_to_world(p)) for p in pixels]) - (60, 40)
    if kind == "ellipse":
        inside = ((at / (20, 30)) ** 2).sum(axis=1) <= 1
    else:
        inside = (abs(at) <= (20.5, 30.5) if kind == "labels" else abs(at) <= (20, 30)).all(axis=1)
    inside = inside.reshape(90, 70)
    assert inside.sum() > 300
    assert (found ^ inside).sum() <= (0 if kind == "labels" else 0.05 * inside.sum())


def test_planes_and_layers_of_fewer_or_more_axes(make_napari_viewer):
    viewer = make_napari_viewer()
    flat = viewer.add_image(np.zeros((20, 30)), name="flat")
    stack = viewer.add_image(np.zeros((3, 20, 30)), name="stack")
    labels = np.zeros((3, 20, 30), int)
    for k in range(3):
        labels[k, k : k + 5, 4:9] = k + 1
    one, all_planes = viewer.add_labels(labels[0]), viewer.add_labels(labels)
    np.testing.assert_array_equal(mask_from_layer(viewer, stack, one), np.stack([labels[0] > 0] * 3))
    np.testing.assert_array_equal(mask_from_layer(viewer, stack, all_planes), labels > 0)
    np.testing.assert_array_equal(mask_from_layer(viewer, stack, all_planes, 2), labels == 2)
    viewer.dims.set_point(0, 2)
    np.testing.assert_array_equal(mask_from_layer(viewer, flat, all_planes), labels[2] > 0)
    on_one = viewer.add_shapes([[[1, 4, 4], [1, 4, 12], [1, 12, 12], [1, 12, 4]]], shape_type="polygon")
    found = mask_from_layer(viewer, stack, on_one)
    assert found.any(axis=(1, 2)).tolist() == [False, True, False]
    on_all = viewer.add_shapes([[[4, 4], [4, 12], [12, 12], [12, 4]]], shape_type="polygon")
    np.testing.assert_array_equal(mask_from_layer(viewer, stack, on_all), np.stack([found[1]] * 3))


def test_colour_images_and_bad_choices(open_dock, errors, make_napari_viewer):
    viewer, dock = open_dock("Mask")
    dock.origin.value = "layer"
    dock.run_button.native.click()
    assert errors[-1].startswith("There is no image")
    image = viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True, name="colours")
    dock.run_button.native.click()
    assert errors[-1] == "There is no Labels or Shapes layer: add one, or choose a method."
    labels = viewer.add_labels(np.zeros((20, 30), int), name="nothing")
    dock.layer.value = labels
    dock.run_button.native.click()
    assert errors[-1] == "nothing has no label on colours: choose another layer or label."
    labels.data[3, 4] = 1
    assert np.argwhere(mask_from_layer(viewer, image, labels)).tolist() == [[3, 4]]


def test_shapes_of_other_planes_are_no_mask_of_a_plane(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((5, 20, 20), np.uint8), name="stack")
    image = viewer.add_image(np.zeros((20, 20), np.uint8), name="plane")
    corners = np.array([[2, 2], [2, 6], [6, 6], [6, 2]], float)
    drawn = [np.column_stack([np.full(4, z), corners + shift]) for z, shift in ((0, 0), (4, 10))]
    shapes = viewer.add_shapes(drawn, shape_type="polygon", name="drawn")
    viewer.dims.set_point(0, 0)
    mask = mask_from_layer(viewer, image, shapes)
    assert (mask[4, 4], mask[14, 14]) == (True, False)
    viewer.dims.set_point(0, 4)
    mask = mask_from_layer(viewer, image, shapes)
    assert (mask[4, 4], mask[14, 14]) == (False, True)
