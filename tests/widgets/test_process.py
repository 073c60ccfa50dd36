"""The panels Denoise and Mask on every kind of layer."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
from napari.layers import Image, Labels

import napari_denoise_classify as ndc
from napari_denoise_classify.widgets.layers import METADATA_KEY, add_image_like, take

GEOMETRY = {
    "scale": (2.0, 0.5, 0.25),
    "translate": (3.0, 4.0, 5.0),
    "rotate": 20.0,
    "shear": [0.1, 0.0, 0.0],
    "units": ("s", "um", "um"),
    "axis_labels": ("t", "y", "x"),
    "affine": np.array([[1, 0, 0, 2], [0, 0.9, 0.1, 3], [0, -0.1, 0.9, 4], [0, 0, 0, 1.0]]),
}


def test_result_lies_and_looks_like_its_source(open_dock, wait):
    viewer, dock = open_dock("Denoise")
    rotation = {key: value for key, value in GEOMETRY.items() if key != "rotate"}
    data = np.random.default_rng(0).integers(100, 4000, (3, 40, 50), dtype=np.uint16)
    source = viewer.add_image(data, name="cells", colormap="green", contrast_limits=(150, 3000), gamma=0.8, **rotation)
    dock.method.choice.value = "gaussian"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    assert isinstance(result, Image)
    assert result.name == "cells gaussian"
    assert result.data.dtype == np.uint16
    assert result.data.shape == data.shape
    for name in ("scale", "translate", "shear"):
        np.testing.assert_allclose(getattr(result, name), getattr(source, name))
    np.testing.assert_allclose(result.rotate, source.rotate)
    np.testing.assert_allclose(result.affine.affine_matrix, source.affine.affine_matrix)
    assert result.units == source.units
    assert result.axis_labels == source.axis_labels
    assert result.colormap.name == "green"
    assert tuple(result.contrast_limits) == (150, 3000)
    assert result.gamma == 0.8
    np.testing.assert_array_equal(result.data, ndc.denoise(data, "gaussian", axes="TYX"))


def test_record_and_copied_code_give_the_same_pixels(open_dock, wait, gray, qapp):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(gray, name="a 'quoted' name")
    dock.method.choice.value = "median"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    record = result.metadata[METADATA_KEY]
    assert record["package_version"] == ndc.__version__
    np.testing.assert_array_equal(ndc.Recipe.from_dict(record["recipe"]).apply(gray), result.data)
    viewer.layers.selection.active = result
    dock.copy_button.native.click()
    scope = {"viewer": viewer}
    exec(qapp.clipboard().text(), scope)
    np.testing.assert_array_equal(scope["result"], result.data)


@pytest.mark.parametrize("kind", ["rgb", "rgba", "dask", "multiscale", "float", "bool", "4d"])
def test_every_kind_of_layer(open_dock, wait, kind):
    viewer, dock = open_dock("Denoise")
    rng = np.random.default_rng(0)
    data = {
        "rgb": rng.integers(0, 256, (32, 40, 3), dtype=np.uint8),
        "rgba": rng.integers(0, 256, (32, 40, 4), dtype=np.uint8),
        "dask": dask.array.from_array(rng.integers(0, 4096, (2, 32, 40), dtype=np.uint16), chunks=(1, 16, 16)),
        "float": rng.normal(0, 5, (32, 40)).astype(np.float32),
        "bool": rng.random((32, 40)) > 0.5,
        "4d": rng.integers(0, 256, (2, 3, 32, 40), dtype=np.uint8),
    }
    if kind == "multiscale":
        full = rng.integers(0, 256, (64, 64), dtype=np.uint8)
        viewer.add_image([full, full[::2, ::2]], multiscale=True, name="source")
        expected = full
    else:
        viewer.add_image(data[kind], rgb=kind.startswith("rgb"), name="source")
        expected = np.asarray(data[kind])
    dock.method.choice.value = "median"
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers[-1]
    assert result.name == "source median"
    want = ndc.denoise(expected, "median", rgb=kind.startswith("rgb"))
    assert result.multiscale == (kind == "multiscale")
    np.testing.assert_array_equal(np.asarray(result.data[0] if result.multiscale else result.data), want)
    if kind == "rgba":
        np.testing.assert_array_equal(np.asarray(result.data)[..., 3], expected[..., 3])


def test_mask_tells_what_it_kept_and_adds_the_mask(open_dock, wait):
    viewer, dock = open_dock("Mask")
    viewer.add_image(np.full((224, 224), 9, np.uint8), name="flat")
    dock.add_mask.value = True
    dock.run_button.native.click()
    wait(dock)
    masked, mask = viewer.layers["flat centre"], viewer.layers["flat centre mask"]
    assert isinstance(mask, Labels)
    np.testing.assert_array_equal(masked.data, 9 * mask.data)
    assert "40.1%" in dock.status.value
    assert masked.metadata[METADATA_KEY]["kept"] == pytest.approx(0.401, abs=5e-4)


def test_cancel_stops_and_leaves_nothing(open_dock, wait, qtbot):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).integers(0, 256, (40, 512, 512), dtype=np.uint8), name="stack")
    dock.method.choice.value = "dncnn"
    dock.run_button.native.click()
    qtbot.waitUntil(lambda: "tile" in dock.status.value, timeout=60_000)
    dock.cancel_button.native.click()
    wait(dock, 20_000)
    assert [layer.name for layer in viewer.layers] == ["stack"]
    assert dock.status.value == "Cancelled."
    assert dock.run_button.enabled
    assert not dock.bar.visible


def test_viewer_stays_responsive_and_a_second_run_is_refused(open_dock, wait, qtbot, errors):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.zeros((4, 256, 256), np.uint8), name="stack")
    dock.method.choice.value = "dncnn"
    dock.run_button.native.click()
    assert not dock.run_button.enabled
    dock._on_run()
    assert "under way" in errors[0]
    dock.cancel_button.native.click()
    wait(dock)


def test_deleting_the_source_during_a_run_keeps_the_result(open_dock, wait, gray):
    viewer, dock = open_dock("Denoise")
    source = viewer.add_image(gray, name="gone", scale=(3, 3))
    dock.method.choice.value = "gaussian"
    dock.run_button.native.click()
    viewer.layers.remove(source)
    wait(dock)
    assert [layer.name for layer in viewer.layers] == ["gone gaussian"]
    np.testing.assert_allclose(viewer.layers[0].scale, (3, 3))


def test_running_twice_makes_two_layers(open_dock, wait, gray):
    viewer, dock = open_dock("Denoise")
    source = viewer.add_image(gray, name="cells")
    dock.method.choice.value = "gaussian"
    for _ in range(2):
        dock.image.value = source
        dock.run_button.native.click()
        wait(dock)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells gaussian", "cells gaussian [1]"]


def test_bad_input_is_one_sentence(open_dock, wait, errors):
    viewer, dock = open_dock("Denoise")
    dock.run_button.native.click()
    assert errors[-1].startswith("There is no image")
    data = np.ones((16, 16), np.float32)
    data[3, 3] = np.nan
    viewer.add_image(data, name="bad", contrast_limits=(0, 1))
    dock.method.choice.value = "gaussian"
    dock.run_button.native.click()
    wait(dock)
    assert "NaN" in errors[-1]
    assert len(viewer.layers) == 1


def test_axis_labels_name_the_channels(open_dock, wait):
    viewer, dock = open_dock("Denoise")
    data = np.stack([np.full((32, 32), 10, np.uint16), np.full((32, 32), 60000, np.uint16)])
    data[:, ::2] //= 2
    viewer.add_image(data, axis_labels=("channel", "y", "x"), name="two")
    dock.method.choice.value = "dncnn"
    dock.run_button.native.click()
    wait(dock)
    assert "axes='CYX'" in viewer.layers[-1].metadata[METADATA_KEY]["python"]


def test_an_enlarged_image_covers_the_same_field(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    image = np.arange(48, dtype=np.uint16).reshape(6, 8)
    layer = viewer.add_image(
        image, scale=(2.0, 3.0), translate=(10.0, -4.0), rotate=30.0, shear=[0.2], affine=np.diag([1.5, 0.5, 1.0])
    )
    enlarged = image.repeat(2, axis=0).repeat(2, axis=1)
    new = add_image_like(viewer, take(layer), enlarged, "unet", {})
    for y, x in [(0, 0), (5, 7), (2, 3)]:
        centre = np.mean([new.data_to_world((2 * y + a, 2 * x + b)) for a in (0, 1) for b in (0, 1)], axis=0)
        np.testing.assert_allclose(centre, layer.data_to_world((y, x)), atol=1e-9)


@pytest.mark.parametrize(("word", "said"), [("exact", "; exact."), ("fast", ". Computed fast, in bfloat16.")])
def test_the_panel_says_once_how_a_network_was_computed(open_dock, wait, gray, monkeypatch, cache, word, said):
    monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_PRECISION", word)
    monkeypatch.setattr("napari_denoise_classify.core.tuning.prefers_bfloat16", lambda device: True)
    viewer, dock = open_dock("Denoise")
    viewer.add_image(gray, name="cells")
    dock.method.choice.value = "dncnn"
    dock.run_button.native.click()
    wait(dock)
    assert dock.status.value == f"Added cells dncnn. Weights: dncnn_gray_blind{said}"
    assert viewer.layers[-1].metadata[METADATA_KEY]["precision"] == word


def test_noise_beyond_what_a_method_can_be_told_is_a_sentence(open_dock, wait, errors):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).normal(1000, 100, (128, 128)).astype(np.uint16), name="field")
    dock.method.choice.value = "nlm"
    dock.range.choice.value = "fixed"  # from 0 to 1, until somebody says otherwise
    dock.estimate_button.native.click()
    wait(dock)
    assert "choose an intensity range that holds the image" in dock.status.value
    assert not errors


def test_a_range_that_is_empty_is_a_sentence_of_the_panel(open_dock, errors, gray):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(gray, name="field")
    dock.range.choice.value = "fixed"
    dock.range.low.value = dock.range.high.value = 5
    dock.run_button.native.click()
    assert errors == ["Highest is 5 and Lowest 5: Highest must be above Lowest."]
    dock.range.low.value = 9
    dock.estimate_button.native.click()
    assert errors[1] == "Highest is 5 and Lowest 9: Highest must be above Lowest."


def test_the_result_is_blended_as_its_source_is(open_dock, wait):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.eye(32, dtype=np.uint8), name="red", blending="additive", opacity=0.8)
    dock.method.choice.value = "median"
    dock.run_button.native.click()
    wait(dock)
    assert (viewer.layers[-1].blending, viewer.layers[-1].opacity) == ("additive", 0.8)
