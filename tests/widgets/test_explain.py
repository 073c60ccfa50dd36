"""The panel Explain in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Shapes

import napari_denoise_classify as ndc
from napari_denoise_classify.widgets.layers import METADATA_KEY
from napari_denoise_classify.widgets.session import session


@pytest.fixture
def panel(open_dock, crops, cnn):
    """The panel with a field of 16 crops, their centres and a CNN that knows them."""
    viewer, dock = open_dock("Explain")
    spots = [image for image, label in zip(crops.images, crops.labels, strict=True) if label == "spot"][:16]
    field = np.vstack([np.hstack(spots[4 * k : 4 * k + 4]) for k in range(4)])
    viewer.add_image(field, name="field")
    viewer.add_points([(16 * y + 8, 16 * x + 8) for y in range(4) for x in range(4)], name="cells")
    session.add("spots", cnn)
    dock.classifier.choice.value = "spots"
    dock.target.where.value = "points"
    return viewer, dock


def test_rows_follow_the_method_and_the_area(panel):
    _, dock = panel
    explain = dock.explain
    names = [widget.name for widget in dock.form]
    assert names[names.index("explain_step") :] == ["explain_step", "layer", "target", "mode", "fraction", "statistics"]
    explain.method.choice.value = "occlusion"
    names = [widget.name for widget in dock.form]
    assert names[names.index("explain_step") + 1 :][:3] == ["patch_size", "stride", "fill"]
    assert not explain.fraction.native.isHidden()
    explain.area.value = "half-maximum"
    assert explain.fraction.native.isHidden()
    assert explain.options == {"target": None, "area": "half-maximum"}
    assert explain.explain == "occlusion"
    explain.method.step = ("occlusion", {"patch_size": 8})
    assert explain.explain == ("occlusion", {"patch_size": 8})


def test_statistics_come_with_the_outlines(panel, wait, qapp):
    viewer, dock = panel
    dock.explain.statistics.value = True
    dock.explain.target.value = "spot"
    dock.explain.method.step = ("gradcam", {"layer": "stage2"})
    dock.run_button.native.click()
    wait(dock)
    area = viewer.layers["field critical area"]
    assert isinstance(area, Shapes)
    names = ["sample", "class", "probability", "explained", "critical_px", "critical_fraction", "critical_influence"]
    assert list(area.features.columns) == [*names, "probability_kept", "probability_removed", "stability"]
    assert area.features["stability"].between(0, 1).all()
    assert "Probability with only the critical area" in dock.status.value
    assert area.metadata[METADATA_KEY]["explanation"]["parameters"] == {"layer": "stage2"}
    viewer.layers.selection.active = area
    dock.copy_button.native.click()
    code = qapp.clipboard().text().replace("clf = ndc.load", "# ")
    scope = {"viewer": viewer, "clf": session.get("spots")}
    exec(code, scope)
    table = scope["result"].table
    np.testing.assert_allclose(
        table["stability"].to_numpy()[area.features["sample"].to_numpy(int)], area.features["stability"]
    )


def test_check_shows_verdict_and_curves_once(panel, wait):
    viewer, dock = panel
    dock.explain.target.value = "spot"
    dock.check_button.native.click()
    wait(dock)
    first = dock.outcome
    image = viewer.layers["field"].data
    crops = [image[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] for y in range(4) for x in range(4)]
    expected = ndc.check_explanation(session.get("spots"), crops, target="spot")
    assert first.check.verdict == first.verdict.text() == expected.verdict
    assert first.table.item(0, 3).text() == f"{expected.table['difference'][0]:.3f}"
    assert "Checked 16 samples" in dock.status.value
    dock.check_button.native.click()
    wait(dock)
    assert dock.outcome is not first
    docks = [name for name in viewer.window.dock_widgets if name.startswith("Explanation check")]
    assert len(docks) == 1


def test_what_cannot_be_checked_is_a_sentence(panel, wait, errors, forest):
    viewer, dock = panel
    session.add("forest", forest)
    dock.classifier.choice.value = "forest"
    dock.check_button.native.click()
    wait(dock)
    assert "Grad-CAM needs a network with gradients" in errors[-1]
    viewer.layers.remove("cells")
    dock.check_button.native.click()
    assert "There are no points" in errors[-1]
