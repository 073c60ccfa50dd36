"""Lazy and multiscale layers, the preview, and OME-Zarr in napari."""

from __future__ import annotations

import threading
from typing import Any

import dask.array
import numpy as np
import pytest
from napari.settings import get_settings

import napari_denoise_classify as ndc
from napari_denoise_classify.core.images import PlaneImage
from napari_denoise_classify.core.ome_zarr.axes import Axis
from napari_denoise_classify.core.ome_zarr.writing import new_ome_zarr
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.widgets.layers import METADATA_KEY
from napari_denoise_classify.widgets.preview import camera_of
from napari_denoise_classify.widgets.reader import get_zarr_reader

WHERE = {"scale": (2.0, 0.5), "translate": (30.0, 40.0), "units": ("um", "um"), "axis_labels": ("y", "x")}


class Counted:
    """An array that counts how many pixels were read."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.read = 0

    def __getitem__(self, region: Any) -> np.ndarray:
        self.read += self.data[region].size
        return self.data[region]


def pyramid(dtype: str = "uint8", side: int = 2048) -> list[np.ndarray]:
    full = np.random.default_rng(0).integers(0, 255, (side, side)).astype(dtype)
    return [full, full[::2, ::2], full[::4, ::4]]


def lazy(levels: list[np.ndarray]) -> list[Any]:
    return [dask.array.from_array(level, chunks=256) for level in levels]


@pytest.fixture
def settled(qtbot):
    """Wait until no preview is under way."""

    def wait(dock: Any, timeout: int = 60_000) -> None:
        qtbot.wait(250)
        qtbot.waitUntil(lambda: not dock.preview.busy, timeout=timeout)

    return wait


# --- lazy results ---------------------------------------------------------------------------------------------------


def test_the_box_is_there_for_lazy_layers_only(open_dock, gray):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(gray, name="in memory")
    assert dock.lazy.native.isHidden()
    assert dock.store_button.native.isHidden()
    viewer.add_image(dask.array.from_array(gray), name="on disk")
    dock.image.value = viewer.layers["on disk"]
    assert not dock.lazy.native.isHidden()
    assert dock.lazy.value
    assert not dock.store_button.native.isHidden()
    dock.image.value = viewer.layers["in memory"]
    assert dock.lazy.native.isHidden()


def test_a_multiscale_layer_stays_one_and_reads_what_is_shown(open_dock, wait):
    viewer, dock = open_dock("Denoise")
    counted = [Counted(level) for level in pyramid()]
    viewer.add_image([dask.array.from_array(c, chunks=256) for c in counted], multiscale=True, name="big", **WHERE)
    dock.method.choice.value = "median"
    counted[0].read = 0
    dock.run_button.native.click()
    wait(dock)
    result = viewer.layers["big median"]
    assert result.multiscale
    assert [level.shape for level in result.data] == [(2048, 2048), (1024, 1024), (512, 512)]
    assert counted[0].read < 2048**2  # 8-bit images have a fixed range, and a coarser level is shown
    for name in ("scale", "translate"):
        np.testing.assert_allclose(getattr(result, name), WHERE[name])
    for level, source in zip(result.data, counted, strict=True):
        part = (slice(400, 420), slice(300, 333))
        np.testing.assert_array_equal(np.asarray(level)[part], ndc.denoise(source.data, "median")[part])
    record = result.metadata[METADATA_KEY]
    assert ndc.Recipe.from_dict(record["recipe"]).steps[0].id == "median"
    assert "its parts are computed when they come into view" in dock.status.value


class Told:
    """An array that tells which threads read it."""

    def __init__(self) -> None:
        self.shape, self.dtype, self.ndim, self.threads = (400, 400), np.dtype(np.uint8), 2, set()

    def __getitem__(self, region: Any) -> np.ndarray:
        values = np.full(self.shape, 9, np.uint8)[region]
        if values.size:  # dask asks for nothing, too, to see what it would be
            self.threads.add(threading.current_thread())
        return values


@pytest.mark.parametrize("apart", [True, False])
def test_the_window_goes_on_while_parts_are_computed(open_dock, wait, qtbot, apart):
    viewer, dock = open_dock("Denoise")
    viewer.window._qt_window.show()
    told = Told()
    image = dask.array.from_array(told, chunks=-1, name=False)  # napari keeps what was read under a name
    viewer.add_image(image, name="big", contrast_limits=(0, 255), visible=False)
    dock.method.choice.value = "gaussian"
    assert not dock.apart.native.isHidden()
    dock.apart.value = apart
    with dask.config.set(scheduler="synchronous"):  # in the thread that asks
        dock.run_button.native.click()
        wait(dock)
        layer = viewer.layers["big gaussian"]
        qtbot.waitUntil(lambda: layer.loaded and bool(told.threads), timeout=30_000)
    assert (threading.main_thread() in told.threads) != apart
    np.testing.assert_array_equal(layer._slice.image.view, 9)
    assert get_settings().experimental.async_ == apart
    assert ("renders layers asynchronously" in dock.status.value) == apart
    dock.lazy.value = False
    assert dock.apart.native.isHidden()


def test_the_box_can_be_unticked(open_dock, wait):
    viewer, dock = open_dock("Denoise")
    data = pyramid("uint16", 600)[0]
    viewer.add_image(dask.array.from_array(data, chunks=200), name="big")
    dock.method.choice.value = "gaussian"
    dock.lazy.value = False
    dock.run_button.native.click()
    wait(dock)
    assert isinstance(viewer.layers["big gaussian"].data, np.ndarray)
    np.testing.assert_array_equal(viewer.layers["big gaussian"].data, ndc.denoise(data, "gaussian"))


def test_lazy_masks(open_dock, wait, errors):
    viewer, dock = open_dock("Mask")
    viewer.add_image(lazy(pyramid(side=512)), multiscale=True, name="big")
    dock.run_button.native.click()
    wait(dock)
    np.testing.assert_array_equal(
        np.asarray(viewer.layers["big centre"].data[1]), ndc.mask(pyramid(side=512)[1], "centre")
    )
    dock.add_mask.value = True
    dock.run_button.native.click()
    assert "untick" in errors[-1]


# --- written --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rgb", [False, True])
def test_writing_to_ome_zarr_adds_what_was_written(open_dock, wait, tmp_path, rgb):
    pytest.importorskip("zarr")
    viewer, dock = open_dock("Denoise")
    data = np.random.default_rng(0).integers(0, 255, (700, 900, 3) if rgb else (700, 900), np.uint8)
    viewer.add_image(dask.array.from_array(data, chunks=300), name="big", rgb=rgb, **WHERE)
    dock.method.choice.value = "gaussian"
    recipe, source, record = dock._ready()
    dock.store(tmp_path / "out.ome.zarr", recipe, source, record)
    wait(dock)
    layer = viewer.layers["big gaussian"]
    assert layer.multiscale
    assert layer.rgb == rgb
    np.testing.assert_array_equal(np.asarray(layer.data[0]), ndc.denoise(data, "gaussian", rgb=rgb))
    np.testing.assert_allclose(layer.scale, WHERE["scale"])
    np.testing.assert_allclose(layer.translate, WHERE["translate"])
    (again,) = viewer.open(str(tmp_path / "out.ome.zarr"), plugin="napari-denoise-classify")
    assert again.rgb == rgb
    np.testing.assert_allclose(again.scale, WHERE["scale"])
    np.testing.assert_allclose(again.translate, WHERE["translate"])
    assert [str(unit) for unit in again.units] == ["micrometer", "micrometer"]
    assert again.metadata[METADATA_KEY]["recipe"] == record["recipe"]


# --- reader ---------------------------------------------------------------------------------------------------------


def test_ome_zarr_opens_with_its_channels_axes_and_place(make_napari_viewer, tmp_path):
    pytest.importorskip("zarr")
    data = np.random.default_rng(0).integers(0, 900, (2, 3, 600, 50), np.uint16)
    axes = [
        Axis("C"),
        Axis("Z", 2.0, 0.0, "micrometer"),
        Axis("Y", 0.3, 5.0, "micrometer"),
        Axis("X", 0.3, 7.0, "fathom"),
    ]
    channels = {
        "channels": [
            {"label": "DNA", "color": "00FF00", "window": {"start": 10, "end": 500}},
            {"color": "nonsense", "active": False, "window": {"start": 3}},
        ]
    }
    path = tmp_path / "it.ome.zarr"
    with new_ome_zarr(path, data.shape, data.dtype, axes, channels=channels) as canvas:
        canvas[tuple(slice(0, n) for n in data.shape)] = data
        run(canvas.pyramid_iter())
    viewer = make_napari_viewer()
    first, second = viewer.open(str(path), plugin="napari-denoise-classify")
    assert (first.name, second.name) == ("DNA", "it 1")
    assert first.multiscale
    assert not second.visible
    assert tuple(first.contrast_limits) == (10, 500)
    np.testing.assert_allclose(first.colormap.colors[-1][:3], (0, 1, 0))
    np.testing.assert_array_equal(np.asarray(second.data[0]), data[1])
    np.testing.assert_allclose(first.scale, (2, 0.3, 0.3))
    np.testing.assert_allclose(first.translate, (0, 5, 7))
    assert first.axis_labels == ("z", "y", "x")


def test_plain_zarr_is_left_to_napari(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "plain.zarr"), data=np.zeros((4, 4)))
    assert get_zarr_reader(str(tmp_path / "plain.zarr")) is None
    (tmp_path / "empty.zarr").mkdir()
    assert get_zarr_reader(str(tmp_path / "empty.zarr")) is None
    assert get_zarr_reader([str(tmp_path / "plain.zarr")]) is None


# --- preview --------------------------------------------------------------------------------------------------------


def test_the_preview_lies_on_what_is_shown_and_follows(open_dock, settled, qtbot):
    viewer, dock = open_dock("Denoise")
    data = np.random.default_rng(0).integers(0, 255, (3, 900, 1000), np.uint8)
    source = viewer.add_image(data, name="stack", scale=(2.0, 0.5, 0.25), translate=(1.0, 3.0, 4.0), rotate=15)
    viewer.window._qt_window.show()
    viewer.reset_view()
    dock.method.choice.value = "median"
    dock.preview_box.value = True
    settled(dock)
    preview = viewer.layers["preview"]
    assert viewer.layers.selection.active is source
    assert dock.image.value is source
    assert "Preview of" in dock.status.value

    def check(step: str) -> None:
        corner = np.rint(source.world_to_data(preview.data_to_world((0, 0, 0)))).astype(int)
        z, y, x = corner
        height, width = preview.data.shape[-2:]
        expected = ndc.denoise(data[z], step)[y : y + height, x : x + width]
        np.testing.assert_array_equal(preview.data[0], expected)
        far = source.world_to_data(preview.data_to_world((0, height, width)))
        np.testing.assert_allclose(far, corner + np.array([0, height, width]), atol=1e-6)

    check("median")
    dock.method.choice.value = "gaussian"
    settled(dock)
    check("gaussian")
    viewer.dims.set_current_step(0, 2)
    settled(dock)
    assert np.rint(source.world_to_data(preview.data_to_world((0, 0, 0))))[0] == 2
    check("gaussian")
    dock.preview_box.value = False
    assert "preview" not in viewer.layers
    camera_of(viewer).zoom *= 2
    qtbot.wait(300)
    assert "preview" not in viewer.layers


def test_the_preview_of_a_pyramid_is_of_the_level_that_is_shown(open_dock, settled):
    viewer, dock = open_dock("Denoise")
    levels = pyramid()
    source = viewer.add_image(lazy(levels), multiscale=True, name="big", **WHERE)
    viewer.window._qt_window.show()
    viewer.reset_view()
    dock.method.choice.value = "gaussian"
    dock.preview_box.value = True
    settled(dock)
    preview = viewer.layers["preview"]
    factor = 2**source.data_level
    corner = np.rint(np.array(source.world_to_data(preview.data_to_world((0, 0)))) / factor).astype(int)
    height, width = preview.data.shape
    expected = ndc.denoise(levels[source.data_level], "gaussian")
    np.testing.assert_array_equal(preview.data, expected[corner[0] : corner[0] + height, corner[1] : corner[1] + width])


def test_what_cannot_be_previewed_is_told_in_the_panel_alone(open_dock, settled, errors, gray):
    viewer, dock = open_dock("Denoise")
    dock.preview_box.value = True
    settled(dock)
    assert "There is no image to preview" in dock.status.value
    viewer.add_image(gray)
    viewer.window._qt_window.show()
    dock.method.step = ("unet", {"weights": "/nowhere.safetensors"})
    settled(dock)
    assert "No preview: unet: weights='/nowhere.safetensors' is not allowed" in dock.status.value
    viewer.dims.ndisplay = 3
    settled(dock)
    assert "switch to the 2D view" in dock.status.value
    assert not errors
    assert "preview" not in viewer.layers


def test_many_changes_count_once_and_the_window_stays_alive(open_dock, settled, qtbot):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (600, 600), np.uint8))
    viewer.window._qt_window.show()
    dock.method.choice.value = "dncnn"
    dock.preview_box.value = True
    for sigma in range(5, 25):
        dock.method.step = ("dncnn", {"sigma": float(sigma)})
        qtbot.wait(5)
    settled(dock)
    assert [layer.name for layer in viewer.layers].count("preview") == 1
    assert dock.preview.seconds < 30


def test_closing_the_panel_ends_the_preview(open_dock, qtbot):
    viewer, dock = open_dock("Denoise")
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8))
    dock.method.choice.value = "nlm"
    dock.preview_box.value = True
    qtbot.waitUntil(lambda: dock.preview._job is not None)
    job, preview = dock.preview._job, dock.preview
    viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(lambda: not preview.on and not job._worker.is_running, timeout=30_000)
    camera_of(viewer).zoom *= 2
    qtbot.wait(300)
    assert not preview.busy


def offered(*widgets: Any) -> list[bool]:
    """Tell which rows are shown once the window is."""
    return [not widget.native.isHidden() for widget in widgets]


def test_rows_for_parts_are_only_where_they_mean_something(open_dock):
    viewer, dock = open_dock("Mask")
    rows = dock.lazy, dock.apart, dock.store_button
    assert offered(*rows) == [False, False, False]
    viewer.add_image(lazy(pyramid(side=512)), name="slide", multiscale=True)
    assert offered(*rows) == [True, True, True]
    dock.origin.value = "layer"
    assert offered(*rows) == [False, False, False]
    dock.origin.value = "method"
    assert offered(*rows) == [True, True, True]


def test_the_panel_for_training_opens_no_window_of_its_own(open_dock):
    viewer, dock = open_dock("Train denoiser")
    viewer.add_image(lazy(pyramid(side=512)), name="slide", multiscale=True)
    assert offered(dock.lazy, dock.apart, dock.store_button) == [False, False, False]


def test_a_preview_looks_through_the_image_once_and_keeps_it_no_longer_than_it_is_on(open_dock, settled, monkeypatch):
    seen = []
    ranges_iter = PlaneImage.ranges_iter

    def count(self, how):
        seen.append(how)
        return (yield from ranges_iter(self, how))

    viewer, dock = open_dock("Denoise")
    data = np.random.default_rng(0).integers(0, 999, (4, 100, 100), np.uint16)
    viewer.add_image(data, name="stack")
    dock.method.choice.value = "gaussian"
    monkeypatch.setattr(PlaneImage, "ranges_iter", count)
    dock.preview_box.value = True
    settled(dock)
    for plane in (0, 1, 2):
        viewer.dims.set_point(0, plane)
        settled(dock)
    assert len(seen) == 1
    dock.preview_box.value = False
    assert dock.preview._now is None
    assert dock.preview._ranges is None


def test_a_preview_that_is_ended_while_it_looks_for_the_range_holds_nothing(open_dock, qtbot, monkeypatch):
    viewer, dock = open_dock("Denoise")
    begun, go_on = threading.Event(), threading.Event()
    usual = PlaneImage.ranges_iter

    def slow(*arguments: Any) -> Any:
        found = yield from usual(*arguments)
        begun.set()
        go_on.wait(20)
        return found

    monkeypatch.setattr(PlaneImage, "ranges_iter", slow)
    viewer.add_image(np.random.default_rng(0).random((300, 400)).astype(np.float32), name="noisy")
    viewer.window._qt_window.show()
    viewer.reset_view()
    dock.method.choice.value = "gaussian"
    dock.preview_box.value = True
    qtbot.waitUntil(begun.is_set, timeout=20_000)
    job = dock.preview._job
    dock.preview_box.value = False
    go_on.set()
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=20_000)
    qtbot.wait(100)
    assert dock.preview._ranges is None
