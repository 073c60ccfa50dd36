"""The commands explain and check-explanation, run in process on real files."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.cli import explanations

from .command_line import run


@pytest.fixture
def model(cnn, tmp_path):
    path = tmp_path / "model.ndc"
    cnn.save(path)
    return path


@pytest.fixture
def field(crops, tmp_path):
    """A field of 24 crops side by side, and their centres."""
    spots = [image for image, label in zip(crops.images, crops.labels, strict=True) if label == "spot"][:24]
    path = tmp_path / "field.png"
    iio.imwrite(path, np.vstack([np.hstack(spots[6 * k : 6 * k + 6]) for k in range(4)]))
    centres = [(16 * y + 8, 16 * x + 8) for y in range(4) for x in range(6)]
    table = tmp_path / "points.csv"
    pd.DataFrame(centres, columns=["y", "x"]).to_csv(table, index=False)
    return path, table


def test_explain_by_occlusion_with_statistics(field, model, tmp_path, cnn):
    image, points = field
    out = tmp_path / "out"
    run(
        "explain", image, "--model", model, "--points", points, "--crop-size", 16, "-m", "occlusion", "--patch-size", 8,
        "--area", "half-mass", "--statistics", "-o", out,
    )  # fmt: skip
    table = pd.read_csv(out / "field_classes.csv")
    assert {"critical_px", "critical_influence", "probability_kept", "probability_removed", "stability"} <= set(table)
    expected = ndc.classify(
        iio.imread(image),
        cnn,
        centres=pd.read_csv(points).to_numpy(),
        crop_size=16,
        explain=("occlusion", {"patch_size": 8}),
        area="half-mass",
        statistics=True,
    )
    pd.testing.assert_frame_equal(table, expected.table, check_dtype=False)


def test_check_explanation_says_it_and_writes_it(field, model, tmp_path, cnn):
    image, points = field
    output, figure = tmp_path / "check.csv", tmp_path / "check.svg"
    said = run(
        "check-explanation", image, "--model", model, "--points", points, "--crop-size", 16, "--layer", "stage2",
        "--target", "spot", "-o", output, "--figure", figure,
    )  # fmt: skip
    assert "Insertion − deletion: Grad-CAM" in said
    assert "centred Gaussian" in said
    table = pd.read_csv(output)
    assert len(table) == 3 * 24
    crops = [iio.imread(image)[y - 8 : y + 8, x - 8 : x + 8] for y, x in pd.read_csv(points).to_numpy()]
    expected = ndc.check_explanation(cnn, crops, ("gradcam", {"layer": "stage2"}), "spot")
    pd.testing.assert_frame_equal(table, expected.samples)
    assert expected.verdict in said
    assert figure.read_text().startswith("<?xml")
    again = run("check-explanation", image, "--model", model, "--points", points, "-o", output, code=1)
    assert "exists already" in again


def test_few_samples_are_drawn_of_many(field, model, tmp_path):
    image, points = field
    output = tmp_path / "check.csv"
    options = ("--model", model, "--points", points, "--crop-size", 16, "--samples", 5)
    assert "too few to tell" in run("check-explanation", image, *options, "-o", output)
    assert pd.read_csv(output)["sample"].nunique() == 5


def test_only_the_rows_of_the_image_are_checked(field, model, tmp_path):
    image, points = field
    table = pd.read_csv(points)
    table.assign(image=["field"] * 6 + ["another.png"] * 18).to_csv(points, index=False)
    run("check-explanation", image, "--model", model, "--points", points, "--crop-size", 16, "-o", tmp_path / "it.csv")
    assert pd.read_csv(tmp_path / "it.csv")["sample"].nunique() == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-m", "guess"), "'guess' is not an explain step"),
        (("--layer", "first"), "gradcam: layer='first' is not allowed"),
        (("--stride", "2"), "gradcam has no parameter 'stride'"),
        (("--target", "nobody"), "target='nobody' is not allowed"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "check-explanation"])
def test_bad_options_are_one_sentence(field, model, tmp_path, command, options, words):
    output = tmp_path / ("out" if command == "explain" else "out.csv")
    assert words in run(command, field[0], "--model", model, *options, "-o", output, code=1)
    assert not output.exists()


def test_bad_figures_are_refused_before_the_work(field, model, tmp_path):
    options = ("check-explanation", field[0], "--model", model)
    assert "figures are written as .png, .svg or .pdf" in run(*options, "--figure", tmp_path / "x.docx", code=1)
    before = field[0].read_bytes()
    assert "tables are written as .csv" in run(*options, "-o", field[0], "--overwrite", code=1)
    assert field[0].read_bytes() == before


def test_a_mask_that_is_there_is_found_before_the_work(field, model, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "field_mask.tif").touch()
    monkeypatch.setattr(explanations, "classify_samples_iter", lambda *_, **__: pytest.fail("it was explained"))
    output = run("explain", field[0], "--model", model, "-o", tmp_path / "out", code=1)
    assert "add --overwrite to replace it" in " ".join(output.split())


def test_bad_areas_are_one_sentence(field, model, tmp_path):
    said = run("explain", field[0], "--model", model, "--area", "all", "-o", tmp_path / "out", code=1)
    assert "critical_area: mode='all' is not allowed; give one of 'top', 'half-maximum', 'half-mass'." in said
