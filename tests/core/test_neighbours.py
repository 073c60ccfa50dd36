"""Neighbours have a say: votes, what is learnt of them, and classifiers that look at them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops
from napari_denoise_classify.core.classify.fields import CropField
from napari_denoise_classify.core.classify.neighbours import Context, Places
from napari_denoise_classify.core.classify.sampling import crops_from_points, join_crops
from napari_denoise_classify.core.classify.training import fit_estimator_iter
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.workflow import classify

SIDE, STEP = 12, 16


def tissue(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tissues side by side, whose cells are hard to tell apart one by one: image, positions, classes."""
    rng = np.random.default_rng(seed)
    grid = np.arange(10) * STEP + STEP / 2
    centres = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    right = centres[:, 1] > 5 * STEP
    levels = np.clip(rng.normal(110 + 25 * right, 25), 0, 255).reshape(10, 10)
    image = np.kron(levels, np.ones((STEP, STEP))).astype(np.uint8)
    return image, centres, np.where(right, "right", "left")


def cut(seed: int, field: CropField | int = SIDE) -> Crops:
    image, centres, classes = tissue(seed)
    return crops_from_points(image, centres, classes, crop=field, groups=np.full(100, f"image {seed}"))


@pytest.fixture(scope="module")
def training() -> Crops:
    return join_crops([cut(seed) for seed in range(6)])


@pytest.fixture(scope="module")
def aware(training: Crops) -> Classifier:
    return ndc.train_classifier(training, "random_forest", context=2.0 * STEP, trees=30)


# --- votes ----------------------------------------------------------------------------------------------------------


def test_nearer_neighbours_count_more() -> None:
    places = Places(np.array(["a", "a", "a", "b"]), np.array([[0.0, 0], [0, 10], [20, 0], [0, 1]]))
    proba = np.array([[0.5, 0.5], [1, 0], [0, 1], [0, 1]])
    near, far = np.exp(-0.5), np.exp(-2.0)
    vote = places.vote(proba, 10.0)
    np.testing.assert_allclose(vote[0], [(near + 0.5) / (near + far + 1), (far + 0.5) / (near + far + 1)])
    np.testing.assert_allclose(vote[3], 0.5)  # alone in its image, however near the others' numbers
    np.testing.assert_allclose(places.vote(proba, 1.0)[2], 0.5)  # the others are too far away


@given(st.integers(1, 40), st.integers(2, 4), st.integers(1, 3), st.floats(1, 100), st.integers(0, 99))
def test_votes_are_probabilities_whatever_the_order(
    n: int, classes: int, images: int, distance: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    places = Places(rng.integers(0, images, n).astype(str), rng.uniform(0, 100, (n, 2)))
    proba = rng.dirichlet(np.ones(classes), n)
    vote = places.vote(proba, distance)
    np.testing.assert_allclose(vote.sum(axis=1), 1)
    assert vote.min() >= 0
    order = rng.permutation(n)
    np.testing.assert_allclose(places.subset(order).vote(proba[order], distance), vote[order], atol=1e-12)


def test_samples_at_one_place_are_neighbours_and_none_is_its_own() -> None:
    places = Places(np.array(["a", "a"]), np.zeros((2, 2)))
    np.testing.assert_allclose(places.vote(np.array([[1.0, 0], [0, 1]]), 5.0), [[0.25, 0.75], [0.75, 0.25]])


def test_planes_of_a_stack_are_apart() -> None:
    places = Places.of([[0, 5, 5], [1, 5, 5], [0, 5, 6]], "stack")
    assert places.planes[0] == places.planes[2] != places.planes[1]
    joined = Places.joined([places, places])
    assert len(set(joined.planes)) == 4
    with pytest.raises(ValueError, match="two finite numbers"):
        Places(np.array(["a"]), np.array([[0, np.nan]]))


# --- classifiers ----------------------------------------------------------------------------------------------------


def test_neighbours_tell_what_a_cell_alone_does_not(aware: Classifier) -> None:
    new = cut(77)
    alone = (aware.predict(new.images) == new.labels).mean()
    assert alone < 0.85
    assert aware.evaluate(new).accuracy > alone + 0.1
    proba = aware.predict_proba(new.images, places=new.places)
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_a_classifier_without_context_stays_as_it_was(training: Crops, aware: Classifier) -> None:
    plain = ndc.train_classifier(training, "random_forest", trees=30)
    assert plain.context is None
    np.testing.assert_array_equal(plain.predict_proba(training.images), aware.predict_proba(training.images))
    np.testing.assert_array_equal(
        plain.predict_proba(training.images, places=training.places), plain.predict_proba(training.images)
    )
    assert plain.sha256 != aware.sha256


@pytest.mark.parametrize("parameters", [{}, {"balance": "none"}, {"calibration": "sigmoid"}])
def test_three_classes_and_ways_to_balance(parameters: dict[str, Any]) -> None:
    image, centres, _ = tissue(3)
    bands = np.array(["a", "b", "c"])[np.digitize(centres[:, 1], [50, 110])]
    data = crops_from_points(image, centres, bands, crop=SIDE)
    found = ndc.train_classifier(data, "knn", context=20.0, **parameters)
    assert found.predict_proba(data.images, places=data.places).shape == (100, 3)


def test_networks_go_the_same_way(training: Crops) -> None:
    some = training.subset(np.arange(100))
    how = {"input_size": 16, "epochs": 1, "width": 4, "batch_size": 32, "views": 1}
    aware = ndc.train_classifier(some, "cnn", context=2.0 * STEP, **how)
    plain = ndc.train_classifier(some, "cnn", **how)
    np.testing.assert_array_equal(plain.predict_proba(some.images), aware.predict_proba(some.images))
    assert aware.context is not None
    assert aware.context.coefficients.shape == (2, 4)
    held_out = np.full((100, 2), np.nan)
    run(
        fit_estimator_iter(
            "cnn", how, 0, [i[..., None] / np.float32(255) for i in some.images], some.labels, None, held_out
        )
    )
    np.testing.assert_allclose(held_out.sum(axis=1), 1)


def test_what_is_held_out_was_not_learnt_from(training: Crops) -> None:
    """The nearest neighbour of a crop that was learnt from is itself: its class would be certain."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 9, 9)).astype(np.float32) / 255
    held_out = np.empty((60, 2))
    classes = np.repeat(["a", "b"], 30)
    estimator, _ = run(fit_estimator_iter("knn", {"neighbours": 1}, 0, list(noise[..., None]), classes, None, held_out))
    assert (estimator.predict(list(noise[..., None])) == classes).all()
    assert 0.2 < (np.array(["a", "b"])[held_out.argmax(1)] == classes).mean() < 0.8


def test_points_of_an_image_are_classified_among_each_other(aware: Classifier) -> None:
    image, centres, classes = tissue(78)
    table = classify(image, aware, centres=centres).table
    crops = cut(78)
    expected = aware.predict_proba(crops.images, places=crops.places)
    np.testing.assert_allclose(table[["p_left", "p_right"]], expected)
    assert (table["class"] == classes).mean() > (aware.predict(crops.images) == classes).mean()
    stack = classify(np.stack([image, image]), aware, centres=np.pad(centres, ((0, 0), (1, 0)), constant_values=1))
    np.testing.assert_allclose(stack.table[["p_left", "p_right"]], expected)
    assert classify(image, aware).table.shape[0] == 1  # a whole plane has no neighbours


def test_the_distance_follows_the_pixel_size() -> None:
    data = join_crops([cut(seed, CropField(6.0, "µm", 0.5)) for seed in range(3)])
    aware = ndc.train_classifier(data, "knn", context=2.0 * STEP)
    image, centres, _ = tissue(79)
    fine = classify(np.kron(image, np.ones((2, 2), np.uint8)), aware, centres=2 * centres + 0.5, pixel_size=0.25).table
    plain = classify(image, aware, centres=centres, pixel_size=0.5).table
    assert (fine["class"] == plain["class"]).mean() > 0.95
    assert aware.context is not None
    own = np.array(plain[["p_left", "p_right"]])
    assert not np.allclose(
        aware.context.applied(own, Places.of(centres), 2.0), aware.context.applied(own, Places.of(centres))
    )


def test_saved_and_read_again(aware: Classifier, tmp_path: Path) -> None:
    aware.save(tmp_path / "it.ndc")
    again = ndc.load_classifier(tmp_path / "it.ndc")
    new = cut(80)
    np.testing.assert_array_equal(
        again.predict_proba(new.images, places=new.places), aware.predict_proba(new.images, places=new.places)
    )
    assert again.sha256 == aware.sha256
    assert again.record()["context"] == 2.0 * STEP
    assert again.training["context"] == 2.0 * STEP


@pytest.mark.parametrize(
    "context", [{}, {"distance": 5.0}, {"distance": "near"}, {"distance": 5.0, "coefficients": [], "intercepts": []}]
)
def test_a_forged_context_is_refused(aware: Classifier, tmp_path: Path, context: dict[str, Any]) -> None:
    aware.save(tmp_path / "it.ndc")
    with zipfile.ZipFile(tmp_path / "it.ndc") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.json"] = json.dumps({**json.loads(parts["model.json"]), "context": context}).encode()
    with zipfile.ZipFile(tmp_path / "forged.ndc", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"forged\.ndc is damaged: its parts do not fit together"):
        ndc.load_classifier(tmp_path / "forged.ndc")


# --- data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["image", "group"])
def test_tables_tell_where_crops_were_cut(tmp_path: Path, named: str) -> None:
    lines = [f"path,class,{named},x,y"]
    for i in range(4):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.full((5, 5), i, np.uint8))
        lines.append(f"{i}.tif,{'ab'[i % 2]},f{i // 2},{10 * i},{i}")
    (tmp_path / "crops.csv").write_text("\n".join(lines))
    places = ndc.load_crops(tmp_path / "crops.csv").places
    assert places is not None
    assert places.planes.tolist() == ["f0", "f0", "f1", "f1"]
    assert places.positions.tolist() == [[0, 0], [1, 10], [2, 20], [3, 30]]
    for cells in (",x,", ",u,"):  # no such columns; no numbers in them
        text = "\n".join(lines).replace(",x,", cells)
        (tmp_path / "other.csv").write_text(text if cells == ",u," else text.replace(",10,", ",left,"))
        assert ndc.load_crops(tmp_path / "other.csv").places is None


def test_places_go_with_their_crops(training: Crops) -> None:
    assert training.places is not None
    some = training.subset([5, 205])
    assert some.places is not None
    assert some.places.positions.tolist() == training.places.positions[[5, 205]].tolist()
    assert len(set(some.places.planes)) == 2
    bare = Crops(training.images[:4], training.labels[:4], training.groups[:4], training.names[:4])
    assert join_crops([cut(0), bare]).places is None


def test_what_is_refused(training: Crops, aware: Classifier) -> None:
    bare = Crops(training.images, training.labels, training.groups, training.names)
    with pytest.raises(ValueError, match="where the crops were cut: train on points or objects of an image, or add"):
        ndc.train_classifier(bare, "knn", context=10.0)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="give a distance in pixels, or 0"):
            ndc.train_classifier(training, "knn", context=wrong)
    with pytest.raises(ValueError, match="There are 2 images but 600 places"):
        aware.predict_proba(training.images[:2], places=training.places)


@pytest.mark.parametrize(
    "change",
    [
        {"distance": 0.0},
        {"distance": float("nan")},
        {"intercepts": [0.0]},
        {"intercepts": [0.0, float("inf")]},
        {"coefficients": [[0.0] * 4]},
        {"coefficients": [[0.0] * 3] * 2},
    ],
)
def test_unsound_numbers_are_refused(aware: Classifier, change: dict[str, Any]) -> None:
    assert aware.context is not None
    values = aware.context.to_dict()
    assert Context.from_dict(values, 2).to_dict() == values
    with pytest.raises(ValueError, match="do not fit together"):
        Context.from_dict({**values, **change}, 2)
