"""Checks of heat maps: curves with known answers, dummies, random networks, and verdicts."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import napari_denoise_classify as ndc
from napari_denoise_classify import Classifier, Crops, check_explanation
from napari_denoise_classify.core.explain.deletion import LEVELS, areas_under, curves_iter, dummies
from napari_denoise_classify.core.explain.trust import _tables, _verdict, mean_interval, with_random_weights
from napari_denoise_classify.core.progress import run

from .known import classifier_of


class Share:
    """Says "spot" by how much of a fixed quarter of the image is bright."""

    def predict_proba(self, scaled: list[np.ndarray]) -> np.ndarray:
        p = np.array([(image[:16, :16] > 0.9).mean() for image in scaled])
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def chequered() -> np.ndarray:
    """Return an image whose blur is nowhere bright: every second pixel is."""
    y, x = np.mgrid[:32, :32]
    return ((y + x) % 2).astype(np.float32)[..., None]


def test_curves_of_the_perfect_map_are_known(chequered: np.ndarray) -> None:
    heat = np.zeros((32, 32), np.float32)
    heat[:16, :16] = 1
    curves = run(curves_iter(classifier_of(Share()), [chequered], [heat], np.array([1]), 0))
    assert curves.shape == (2, 1, LEVELS + 1)
    deletion, insertion = curves[:, 0]
    # Half of that quarter's pixels are bright, and it is gone, or there, after a quarter of the way.
    level = np.linspace(0, 1, LEVELS + 1)
    np.testing.assert_allclose(deletion, 0.5 * np.clip(1 - 4 * level, 0, 1), atol=0.06)
    np.testing.assert_allclose(insertion, 0.5 * np.clip(4 * level, 0, 1), atol=0.06)
    assert deletion[-1] == 0
    assert insertion[0] == 0
    deletion, insertion = areas_under(curves)[:, 0]
    assert deletion == pytest.approx(0.5 / 8, abs=0.01)
    assert insertion == pytest.approx(0.5 * (1 - 1 / 8), abs=0.01)


def test_a_perfect_map_beats_a_wrong_one(chequered: np.ndarray) -> None:
    right, wrong = np.zeros((2, 32, 32), np.float32)
    right[:16, :16] = 1
    wrong[16:, 16:] = 1
    found = {}
    for name, heat in (("right", right), ("wrong", wrong)):
        curves = run(curves_iter(classifier_of(Share()), [chequered], [heat], np.array([1]), 0))
        deletion, insertion = areas_under(curves)[:, 0]
        found[name] = insertion - deletion
    assert found["right"] > 0.3
    assert found["wrong"] < 0


def test_areas_under_straight_lines() -> None:
    level = np.linspace(0, 1, LEVELS + 1)
    np.testing.assert_allclose(areas_under(np.stack([level, 1 - level, np.ones_like(level)])), [0.5, 0.5, 1])


def test_dummies_know_nothing_and_come_back_with_their_seed() -> None:
    shapes = [(32, 32), (20, 30)]
    centred, noise = dummies(shapes, 3).values()
    for maps in (centred, noise):
        assert [m.shape for m in maps] == shapes
        assert all(m.min() >= 0 and m.max() <= 1 and m.dtype == np.float32 for m in maps)
    np.testing.assert_allclose(centred[1], centred[1][::-1, ::-1], rtol=1e-5)
    np.testing.assert_array_equal(noise[0], dummies(shapes, 3)["smooth noise"][0])
    assert not np.array_equal(noise[0], dummies(shapes, 4)["smooth noise"][0])
    np.testing.assert_array_equal(noise[0], dummies(shapes[:1], 3)["smooth noise"][0])


def test_random_weights_are_others_and_leave_the_trained_ones(cnn: Classifier, crops: Crops) -> None:
    before = cnn.predict_proba(crops.images)
    sha256 = cnn.sha256
    other = with_random_weights(cnn, 0)
    assert np.abs(other.predict_proba(crops.images) - before).max() > 0.05
    assert other.sha256 not in (sha256, with_random_weights(cnn, 1).sha256)
    assert other.sha256 == with_random_weights(cnn, 0).sha256
    np.testing.assert_array_equal(cnn.predict_proba(crops.images), before)


@pytest.fixture(scope="module")
def check(cnn: Classifier, crops: Crops) -> ndc.ExplanationCheck:
    return check_explanation(cnn, crops.images, "gradcam", "spot")


def test_the_table_is_the_mean_of_the_samples(check: ndc.ExplanationCheck) -> None:
    assert check.table["map"].tolist() == ["Grad-CAM", "centred Gaussian", "smooth noise"]
    names = ["deletion", "insertion", "difference"]
    means = check.samples.groupby("map")[names].mean()
    for row in check.table.to_dict("records"):
        np.testing.assert_allclose([row[n] for n in names], means.loc[row["map"]])
    by_map = {name: rows["difference"].to_numpy() for name, rows in check.samples.groupby("map")}
    oracle = stats.ttest_rel(by_map["Grad-CAM"], by_map["smooth noise"]).confidence_interval()
    row = check.table.iloc[2]
    np.testing.assert_allclose((row["low"], row["high"]), oracle)
    assert len(check.samples) == 3 * 48
    assert check.samples[["deletion", "insertion"]].stack().between(0, 1).all()


def test_curves_begin_and_end_alike_for_every_map(check: ndc.ExplanationCheck) -> None:
    stacked = np.stack(list(check.curves.values()))
    np.testing.assert_allclose(stacked[:, 0, 0], stacked[:, 1, -1], atol=1e-6)  # nothing deleted, all inserted
    np.testing.assert_allclose(stacked[:, 0, -1], stacked[:, 1, 0], atol=1e-6)
    np.testing.assert_allclose(stacked[:, :, 0], stacked[:1, :, 0].repeat(3, axis=0), atol=1e-6)


def test_random_networks_are_compared_and_the_verdict_follows(check: ndc.ExplanationCheck) -> None:
    assert check.randomised["spearman"].between(-1, 1).all()
    assert check.randomised["iou"].between(0, 1).all()
    assert check.beats_dummies in (None, (check.table["low"][1:] > 0).all())
    assert check.depends_on_network == (mean_interval(check.randomised["spearman"].to_numpy())[2] < 0.5)
    assert ("beats both dummies" in check.verdict) == bool(check.beats_dummies)
    assert str(check).endswith(check.verdict)


def test_the_seed_repeats_it(cnn: Classifier, crops: Crops, check: ndc.ExplanationCheck) -> None:
    again = check_explanation(cnn, crops.images, ("gradcam", {"layer": "last"}), "spot", seed=0)
    assert again.table.equals(check.table)
    assert again.randomised.equals(check.randomised)
    other = check_explanation(cnn, crops.images, "gradcam", "spot", seed=7)
    assert other.table["difference"][2] != check.table["difference"][2]
    assert other.table["difference"][0] == pytest.approx(check.table["difference"][0], abs=0.02)


@pytest.mark.parametrize(
    ("lead", "spearman", "beats", "depends", "words"),
    [
        (0.2, 0.1, True, True, "beats both dummies and depends on trained weights.* Both checks are passed."),
        (0.2, 0.9, True, False, "beats both dummies but hardly depends on trained weights.* Do not rely on this map."),
        (0.0, 0.1, False, True, "does not beat centred Gaussian but depends on trained weights"),
        (0.0, 0.9, False, False, "does not beat centred Gaussian and hardly depends on trained weights"),
    ],
)
def test_verdicts(lead: float, spearman: float, beats: bool, depends: bool, words: str) -> None:
    rng = np.random.default_rng(0)
    level = np.linspace(0, 1, LEVELS + 1)

    def curves(difference: float) -> np.ndarray:
        noise = rng.normal(0, 0.02, (2, 30, 1))
        return np.stack([np.tile(level, (30, 1)), np.tile(level + difference, (30, 1))]) + noise

    table, _ = _tables({"map": curves(lead), "centred Gaussian": curves(0.0), "smooth noise": curves(-0.1)})
    randomised = pd.DataFrame({"spearman": rng.normal(spearman, 0.05, 30), "iou": np.full(30, 0.1)})
    found = _verdict(table, randomised, "cnn", 30, 0.4)
    assert found[:2] == (beats, depends)
    assert re.search(words, found[2])
    survives = _verdict(table, randomised, "cnn", 30, 0.04)
    assert survives[:2] == (None, depends)
    assert "changes the probability by 0.04 only: what decides survives the blur" in survives[2]
    assert "checks are passed" not in survives[2]


def test_nothing_is_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    level = np.tile(np.linspace(0, 1, LEVELS + 1), (30, 1)) + rng.normal(0, 0.01, (30, 1))
    table, samples = _tables({"map": np.stack([level + 0.0004, level]), "dummy": np.stack([level, level])})
    randomised = pd.DataFrame({"spearman": np.full(30, -0.001), "iou": np.full(30, 0.1)})
    beats, depends, words = _verdict(table, randomised, "cnn", 30, 0.4)
    assert table["difference"][0] < 0
    assert "map 0.00" in words
    assert "rank correlation is 0.00" in words
    whole = ndc.ExplanationCheck(table, samples, randomised, beats, depends, 0, words, {}, [])
    assert not re.search(r"-0\.0+\b", words)
    assert "-0.000 " not in str(whole)


def test_other_classifiers_are_only_tested_by_deletion(forest: Classifier, crops: Crops) -> None:
    found = check_explanation(forest, crops.images, "occlusion", patch_size=8, fill="mean")
    assert found.randomised is None
    assert found.depends_on_network is None
    assert "can only be tested with a network, and the method is random_forest" in found.verdict


def test_few_samples_give_no_verdict(cnn: Classifier, crops: Crops) -> None:
    spots = [image for image, label in zip(crops.images, crops.labels, strict=True) if label == "spot"]
    found = check_explanation(cnn, spots[:3], target="spot")
    assert found.beats_dummies is None
    assert "too few to tell: take 10 or more" in found.verdict
    check_explanation(cnn, spots[0], target="spot")  # one is no error


def test_figure(check: ndc.ExplanationCheck, tmp_path: Any) -> None:
    figure = check.figure()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "Deletion: lower is better",
        "Insertion: higher is better",
        "sample",
        "Grad-CAM",
        "random weights",
    ]
    figure.savefig(tmp_path / "check.png")


def test_bad_input(cnn: Classifier, crops: Crops) -> None:
    with pytest.raises(ValueError, match="target='middle' is not allowed"):
        check_explanation(cnn, crops.images, target="middle")
    with pytest.raises(ValueError, match="gradcam has no parameter 'stride'"):
        check_explanation(cnn, crops.images, stride=3)
