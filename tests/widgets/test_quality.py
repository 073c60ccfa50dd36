"""The panel Quality, and Estimate noise in the panel Denoise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skimage import data

from napari_denoise_classify.core.noise import add_gaussian
from napari_denoise_classify.core.quality import compare, residual, residual_structure
from napari_denoise_classify.widgets.layers import METADATA_KEY


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    clean = data.camera()[100:200, 150:260]
    return clean, np.clip(np.rint(add_gaussian(clean, 30, 0)), 0, 255).astype(np.uint8)


def figure(dock, row: str, column: int) -> float:
    rows = [dock.table.verticalHeaderItem(r).text() for r in range(dock.table.rowCount())]
    return float(dock.table.item(rows.index(row), column).text())


def test_table_residual_and_sentence(open_dock, wait, pair, tmp_path, qapp, errors, monkeypatch):
    viewer, dock = open_dock("Quality")
    clean, noisy = pair
    viewer.add_image(clean, name="clean")
    before = viewer.add_image(noisy, name="noisy", scale=(2, 3), translate=(5, 6), units=("um", "um"))
    after = viewer.add_image(clean, name="better", scale=(2, 3), translate=(5, 6))
    dock.before.value, dock.after.value, dock.reference.value = before, after, viewer.layers["clean"]
    dock.run_button.native.click()
    wait(dock)
    assert "looks like noise" in dock.status.value
    want = compare(clean, {"noisy": noisy, "better": clean})
    assert figure(dock, "PSNR (dB)", 0) == pytest.approx(want["psnr"][0], rel=1e-3)
    assert figure(dock, "PSNR (dB)", 1) == np.inf
    assert figure(dock, "Noise σ (of 255)", 0) == pytest.approx(30, rel=0.15)
    layer = viewer.layers["noisy residual"]
    np.testing.assert_array_equal(layer.data, residual(noisy, clean))
    np.testing.assert_allclose(layer.scale, before.scale)
    np.testing.assert_allclose(layer.translate, before.translate)
    assert layer.units == before.units
    assert layer.contrast_limits[0] == -layer.contrast_limits[1]
    dock.copy_table_button.native.click()
    lines = qapp.clipboard().text().splitlines()
    assert lines[0] == "\tNoisy\tDenoised"
    assert lines[1].startswith("PSNR (dB)\t")
    dock.save_table(tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv")["image"].tolist() == ["noisy", "better"]
    assert "Saved" in dock.status.value
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_: (str(tmp_path / "t.csv" / "t.csv"), "")
    )
    dock.save_table_button.native.click()  # a file is no folder
    assert errors == [f"{tmp_path / 't.csv'}: File exists."]


def test_without_reference_and_residual(open_dock, wait, pair):
    viewer, dock = open_dock("Quality")
    clean, noisy = pair
    dock.before.value, dock.after.value = viewer.add_image(noisy, name="n"), viewer.add_image(clean, name="c")
    assert dock.reference.value is None
    dock.add_residual.value = False
    dock.run_button.native.click()
    wait(dock)
    assert len(viewer.layers) == 2
    assert dock.table.rowCount() == 1
    assert not dock.save_table_button.enabled


def test_stacks_show_the_mean_and_colour_one_residual(open_dock, wait, pair):
    viewer, dock = open_dock("Quality")
    clean, noisy = pair
    stacks = [np.stack([image] * 3) for image in (clean, noisy)]
    layers = [viewer.add_image(stack) for stack in stacks]
    dock.reference.value, dock.before.value, dock.after.value = layers[0], layers[1], layers[0]
    dock.run_button.native.click()
    wait(dock)
    assert figure(dock, "RMSE", 0) == pytest.approx(compare(*stacks)["rmse"].iloc[-1], rel=1e-3)
    viewer.layers.clear()
    colours = [np.moveaxis(stack, 0, -1) for stack in stacks]
    layers = [viewer.add_image(colour, rgb=True, name=name) for colour, name in zip(colours, "cn", strict=True)]
    dock.before.value, dock.after.value = layers[1], layers[0]
    dock.run_button.native.click()
    wait(dock)
    assert viewer.layers["n residual"].data.shape == clean.shape


@pytest.mark.parametrize("case", ["none", "same", "shapes"])
def test_what_cannot_be_compared_is_named(open_dock, wait, pair, errors, case):
    viewer, dock = open_dock("Quality")
    words = {"none": "nothing to compare", "same": "same layer", "shapes": "do not fit"}[case]
    if case != "none":
        one = viewer.add_image(pair[0])
        other = viewer.add_image(pair[1][:50]) if case == "shapes" else one
        dock.before.value, dock.after.value = one, other
    dock.run_button.native.click()
    wait(dock)
    assert words in errors[0]


def test_images_that_do_not_fit_are_named_as_in_the_panel(open_dock, pair, errors):
    viewer, dock = open_dock("Quality")
    clean, noisy = pair
    dock.before.value, dock.after.value = viewer.add_image(noisy, name="n"), viewer.add_image(clean[:50], name="c")
    dock.run_button.native.click()
    what_to_do = "do not fit: choose two images of the same size and the same colours."
    assert errors == [f"Noisy (n: 100 × 110 px, gray) and Denoised (c: 50 × 110 px, gray) {what_to_do}"]
    dock.after.value = viewer.add_image(clean, name="whole")
    dock.reference.value = viewer.add_image(np.stack([clean] * 3, axis=-1), rgb=True, name="ref")
    dock.run_button.native.click()
    assert errors[1] == f"Noisy (n: 100 × 110 px, gray) and Reference (ref: 100 × 110 px, RGB) {what_to_do}"
    assert dock.job is None


def test_copied_code_finds_the_same(open_dock, wait, pair, qapp, capsys):
    viewer, dock = open_dock("Quality")
    clean, noisy = pair
    dock.before.value, dock.after.value = viewer.add_image(noisy, name="n"), viewer.add_image(clean, name="c")
    dock.reference.value = viewer.layers["c"]
    dock.run_button.native.click()
    wait(dock)
    viewer.layers.selection.active = viewer.layers["n residual"]
    dock.copy_button.native.click()
    scope = {"viewer": viewer}
    exec(qapp.clipboard().text(), scope)
    np.testing.assert_array_equal(scope["residual"], viewer.layers["n residual"].data)
    assert residual_structure(noisy, clean).sentence in capsys.readouterr().out
    assert viewer.layers["n residual"].metadata[METADATA_KEY]["source"] == "n"


def test_estimate_sets_the_sigma_of_the_method(open_dock, wait, pair, errors):
    viewer, dock = open_dock("Denoise")
    dock.estimate_button.native.click()
    assert "no image" in errors[0]
    viewer.add_image(pair[1], name="noisy")
    dock.method.choice.value = "dncnn"
    dock.estimate_button.native.click()
    wait(dock)
    assert dock.method.step[1]["sigma"] == pytest.approx(30, rel=0.15)
    assert "white and Gaussian" in dock.status.value
    dock.method.choice.value = "gaussian"
    before = dock.method.step
    dock.estimate_button.native.click()
    wait(dock)
    assert dock.method.step == before
    assert "try dncnn" in dock.status.value
    assert len(viewer.layers) == 1


def test_figures_of_other_layers_go(open_dock, wait, pair, errors):
    viewer, dock = open_dock("Quality")
    clean, noisy = pair
    layers = [viewer.add_image(image, name=name) for image, name in ((clean, "clean"), (noisy, "noisy"))]
    dock.before.value, dock.after.value, dock.reference.value = layers[1], layers[0], layers[0]
    dock.run_button.native.click()
    wait(dock)
    assert not dock.table.isHidden()
    assert dock.save_table_button.enabled
    dock.before.value = layers[0]
    assert dock.table.isHidden()
    assert (dock.copy_table_button.enabled, dock.save_table_button.enabled) == (False, False)
