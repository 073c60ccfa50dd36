"""Synthetic images: the truth that comes with them is true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_denoise_classify.core.synthetic import CELL_CLASSES, CellField, collagen, fibres, fluorescence, he_cells

TACS = ("TACS-1", "TACS-2", "TACS-3")


@pytest.fixture(scope="module")
def cells() -> CellField:
    return he_cells((224, 256), seed=1)


def test_cells_are_where_the_table_says(cells: CellField) -> None:
    assert cells.image.shape == (224, 256, 3)
    assert cells.image.dtype == np.uint8
    assert cells.labels.shape == (224, 256)
    assert sorted(cells.table["label"]) == list(range(1, cells.labels.max() + 1))
    assert set(cells.table["class"]) == set(CELL_CLASSES)
    for row in cells.table.itertuples():
        inside = cells.labels == row.label
        np.testing.assert_allclose(ndi.center_of_mass(inside), (row.y, row.x), atol=0.25 * row.radius)
        assert np.sqrt(inside.sum() / np.pi) == pytest.approx(row.radius, rel=0.3)
        assert ndi.label(inside)[1] == 1


def test_classes_look_as_described(cells: CellField) -> None:
    gray = cells.image.mean(axis=-1)
    eroded = ndi.grey_erosion(cells.labels, 3)
    table = cells.table.assign(brightness=ndi.mean(gray, eroded, cells.table["label"]))
    immune, medium, invasive = (table[table["class"] == name] for name in CELL_CLASSES)
    assert immune["radius"].max() < medium["radius"].min()
    assert medium["radius"].max() < invasive["radius"].min()
    assert invasive["radius"].std() > 2 * medium["radius"].std()
    assert immune["brightness"].mean() + 20 < medium["brightness"].mean() < invasive["brightness"].mean()
    assert gray[cells.labels == 0].mean() > invasive["brightness"].mean() + 30


def test_counts_of_cells_can_be_chosen() -> None:
    found = he_cells((128, 128), {"immune": 5, "invasive": 2}, noise=None)
    assert found.table["class"].value_counts().to_dict() == {"immune": 5, "invasive": 2}
    nothing = he_cells((64, 64), {})
    assert len(nothing.table) == 0
    assert not nothing.labels.any()
    crowded = he_cells((64, 64), {"invasive": 200})
    assert 0 < len(crowded.table) < 200


def test_cells_as_crops(cells: CellField) -> None:
    crops = cells.crops(24)
    assert crops.counts == cells.table["class"].value_counts().to_dict()
    assert set(crops.groups) == {"H&E 1"}
    assert crops.images[0].shape == (24, 24, 3)


def test_fluorescent_nuclei_and_spots() -> None:
    found = fluorescence((160, 192), seed=3)
    assert found.image.dtype == np.uint16
    assert found.image.shape == found.labels.shape == (160, 192)
    assert found.image.max() > 4000
    inside = found.labels > 0
    background = ndi.distance_transform_edt(~inside) > 8
    assert found.image[inside].mean() > 2.5 * found.image[background].mean()
    assert len(found.table) == found.labels.max() > 2
    at = np.clip(np.rint(found.spots), 0, np.array(inside.shape) - 1).astype(int)
    assert ndi.binary_dilation(inside)[tuple(at.T)].all()
    clean = fluorescence((160, 192), spots=0, seed=3, noise=None)
    assert clean.spots.shape == (0, 2)


@pytest.mark.parametrize("make", [he_cells, fluorescence, collagen, lambda **how: fibres(30, 5, **how)])
def test_the_seed_decides(make) -> None:
    first, again, other = (make(shape=(64, 80), seed=seed).image for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("make", [he_cells, fluorescence, collagen, lambda **how: fibres(30, 5, **how)])
def test_noise_is_on_top_of_the_same_scene(make) -> None:
    clean = make(shape=(96, 96), noise=None)
    noisy = make(shape=(96, 96), noise="gaussian:8")
    unit = 1 if clean.image.dtype == np.uint8 else 16384 / 255
    residual = (noisy.image.astype(float) - clean.image)[(clean.image > 40 * unit) & (clean.image < 210 * unit)]
    assert residual.std() == pytest.approx(8 * unit, rel=0.15)
    with pytest.raises(ValueError, match="noise"):
        make(shape=(96, 96), noise="pink:3")


def test_fibres_run_as_told() -> None:
    found = fibres(35, 0, (96, 96), 5, width=(3, 3), noise=None, seed=2)
    np.testing.assert_allclose(found.angles, 35)
    np.testing.assert_allclose(found.widths, 3)
    assert len(found.boundary) == 0
    assert np.isnan(found.boundary_angles).all()
    dy, dx = found.centre_lines[0][-1] - found.centre_lines[0][0]
    assert np.degrees(np.arctan2(-dy, dx)) % 180 == pytest.approx(35)
    for line in found.centre_lines:
        at = np.rint(line).astype(int)
        at = at[((at >= 0) & (at < 96)).all(axis=1)]
        assert found.mask[tuple(at.T)].all()
    assert found.image[found.mask].mean() > 2 * found.image[~found.mask].mean()
    spread = fibres(35, 20, (96, 96), 400, seed=2).angles
    assert np.std((spread - 35 + 90) % 180 - 90) == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("seed", [0, 1])
def test_signatures_of_collagen(seed: int) -> None:
    found = {name: collagen(name, (160, 160), seed=seed) for name in TACS}
    angles = {name: field.boundary_angles for name, field in found.items()}
    assert np.median(angles["TACS-2"]) < 12
    assert np.median(angles["TACS-3"]) > 75
    assert 30 < np.median(angles["TACS-1"]) < 60

    def straightness(name: str) -> float:
        lines = found[name].centre_lines
        lengths = [np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines]
        return float(np.mean([np.linalg.norm(x[-1] - x[0]) / n for x, n in zip(lines, lengths, strict=True)]))

    assert straightness("TACS-1") < 0.85
    assert min(straightness("TACS-2"), straightness("TACS-3")) > 0.98
    for field in found.values():
        assert field.image.dtype == np.uint8
        assert 0.1 < field.mask.mean() < 0.6
        middle = field.boundary.mean(axis=0).astype(int)
        assert not field.mask[middle[0] - 15 : middle[0] + 15, middle[1] - 15 : middle[1] + 15].any()


def test_what_is_not_allowed() -> None:
    with pytest.raises(ValueError, match="There is no signature 'TACS-4'"):
        collagen("TACS-4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="There is no class 'plasma'"):
        he_cells(counts={"plasma": 3})
    with pytest.raises(ValueError, match="at least 32 pixels"):
        fluorescence((16, 64))
    with pytest.raises(ValueError, match="spots=-1"):
        fluorescence(spots=-1)
