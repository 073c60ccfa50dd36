"""What the critical area is worth, and heat maps of whole images."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_denoise_classify import Classifier, Crops, classify, explain_map
from napari_denoise_classify.core.explain import variants
from napari_denoise_classify.core.explain.areas import area_statistics_iter, area_table
from napari_denoise_classify.core.explain.attribution import influence_iter
from napari_denoise_classify.core.explain.contours import critical_mask
from napari_denoise_classify.core.progress import run

from .known import classifier_of


class Corner:
    """Says "spot" by the brightness of the upper left quarter; its map is that quarter, wherever the noise falls."""

    def predict_proba(self, scaled: list[np.ndarray]) -> np.ndarray:
        p = np.clip([(image[:16, :16] > 0.9).mean() for image in scaled], 0, 1)
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def corner() -> Classifier:
    return classifier_of(Corner())


def test_size_and_share_of_known_areas() -> None:
    heat = np.zeros((20, 20), np.float32)
    heat[:10, :10] = 3
    heat[10:, 10:] = 1
    mask = critical_mask(heat, fraction=0.25)
    table = area_table([heat, np.zeros((4, 5), np.float32)], [mask, np.zeros((4, 5), bool)])
    assert table["critical_px"].tolist() == [100, 0]
    assert table["critical_fraction"].tolist() == [0.25, 0]
    assert table["critical_influence"][0] == pytest.approx(0.75)
    assert np.isnan(table["critical_influence"][1])


def test_what_decides_is_kept_and_removed(corner: Classifier) -> None:
    y, x = np.mgrid[:32, :32]
    image = ((y + x) % 2).astype(np.float32)[..., None]  # its blur is nowhere bright
    right, wrong = np.zeros((2, 32, 32), bool)
    right[:16, :16] = True
    wrong[16:, 16:] = True
    masks = [right, wrong, np.zeros((32, 32), bool)]
    area = {"mode": "top", "fraction": 0.2}
    work = area_statistics_iter(corner, [image] * 3, "occlusion", np.ones(3, int), masks, area, draws=1)
    table = run(work)
    np.testing.assert_allclose(table["probability_kept"][:2], [0.5, 0])
    np.testing.assert_allclose(table["probability_removed"][:2], [0, 0.5])
    assert table.iloc[2].isna().all()
    assert table["stability"][:2].between(0, 1).all()


def test_statistics_repeat_and_do_not_depend_on_the_batch(
    cnn: Classifier, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, scaled = run(cnn.prepare_iter(crops.images[:6]))
    heats = run(influence_iter(cnn, scaled, "gradcam", np.ones(6, int)))
    masks = [critical_mask(heat) for heat in heats]
    how: dict[str, Any] = {"area": {"mode": "top", "fraction": 0.2}, "draws": 2}
    first = run(area_statistics_iter(cnn, scaled, "gradcam", np.ones(6, int), masks, **how))
    again = run(area_statistics_iter(cnn, scaled, "gradcam", np.ones(6, int), masks, **how))
    np.testing.assert_array_equal(first, again)
    part = run(area_statistics_iter(cnn, scaled[:2], "gradcam", np.ones(2, int), masks[:2], **how))
    np.testing.assert_allclose(part, first[:2], atol=1e-6)
    with monkeypatch.context() as patch:
        patch.setattr(variants, "_BLOCK_FLOATS", 4 * scaled[0].size)
        np.testing.assert_allclose(
            run(area_statistics_iter(cnn, scaled, "gradcam", np.ones(6, int), masks, **how)), first, atol=1e-6
        )
    other = run(area_statistics_iter(cnn, scaled, "gradcam", np.ones(6, int), masks, seed=1, **how))
    np.testing.assert_allclose(other["probability_kept"], first["probability_kept"])
    assert not np.array_equal(other["stability"], first["stability"], equal_nan=True)


def test_the_workflow_puts_them_into_its_table(cnn: Classifier, crops: Crops) -> None:
    image = np.stack(crops.images[:4])
    plain = classify(image, cnn, explain="gradcam", target="spot", area="half-maximum")
    names = ["explained", "critical_px", "critical_fraction", "critical_influence"]
    assert list(plain.table.columns[-4:]) == names
    full = classify(image, cnn, explain=("gradcam", {"layer": "stage2"}), target="spot", statistics=True)
    assert list(full.table.columns[-3:]) == ["probability_kept", "probability_removed", "stability"]
    assert full.table["critical_fraction"].max() <= 0.21
    assert full.record["explanation"] == {
        "method": "gradcam",
        "parameters": {"layer": "stage2"},
        "target": "spot",
        "area": "top",
        "fraction": 0.2,
        "statistics": True,
    }
    assert classify(image, cnn).record["explanation"] is None
    with pytest.raises(ValueError, match="critical_area: mode='all' is not allowed"):
        classify(image, cnn, explain="gradcam", area="all")


# --- large images ---------------------------------------------------------------------------------------------------


@pytest.fixture
def field(crops: Crops) -> np.ndarray:
    """Return a field of empty crops with one spot in it."""
    empty = [image for image, label in zip(crops.images, crops.labels, strict=True) if label == "empty"]
    spot = next(image for image, label in zip(crops.images, crops.labels, strict=True) if label == "spot")
    rows = [np.hstack(empty[6 * k % 20 : 6 * k % 20 + 4]) for k in range(3)]
    field = np.vstack([rows[0], rows[1], rows[2], rows[0]])
    field[32:48, 16:32] = spot
    return field


def test_one_tile_is_the_crops_own_map(cnn: Classifier, crops: Crops) -> None:
    from napari_denoise_classify import explain

    image = crops.images[1]
    np.testing.assert_allclose(explain_map(cnn, image, "spot", 16), explain(cnn, image, target="spot"), atol=1e-6)


def test_the_heat_is_where_the_spot_is(cnn: Classifier, field: np.ndarray) -> None:
    heat = explain_map(cnn, field, "spot", 16, 4)
    assert heat.shape == field.shape
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() == 1
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 26 <= y <= 54
    assert 10 <= x <= 38
    assert heat[26:54, 10:38].mean() > 2 * heat.mean()


def test_lazy_images_give_the_same_and_are_read_by_the_row(cnn: Classifier, field: np.ndarray) -> None:
    largest = []

    def read(block: np.ndarray) -> np.ndarray:
        largest.append(block.shape)
        return block

    lazy = da.from_array(field, chunks=(16, -1)).map_blocks(read, dtype=field.dtype)
    largest.clear()
    np.testing.assert_array_equal(explain_map(cnn, lazy, "spot"), explain_map(cnn, field, "spot"))
    assert max(shape[0] for shape in largest) == 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "middle"}, "target='middle' is not allowed"),
        ({"size": 100}, "size=100 is not allowed: the image has 64 × 64 pixels"),
        ({"stride": 17}, "stride=17 is not allowed: give 1 to 16"),
    ],
)
def test_bad_input(cnn: Classifier, field: np.ndarray, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explain_map(cnn, field, **{"target": "spot", **options})


def test_planes_are_taken_one_at_a_time(cnn: Classifier, field: np.ndarray) -> None:
    with pytest.raises(ValueError, match="The image has 2 planes: give one plane at a time"):
        explain_map(cnn, np.stack([field, field]), "spot")
