"""Training on points and objects of images, and class maps, on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_denoise_classify as ndc

from .command_line import run, said


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Write two images of bright and dark squares, their labels, and tables of their classes."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = rng.integers(90, 110, (100, 100)).astype(np.uint8)
        labels = np.zeros((100, 100), np.uint16)
        rows = []
        for k in range(25):
            y, x = 10 + 20 * (k // 5), 10 + 20 * (k % 5)
            image[y - 4 : y + 5, x - 4 : x + 5] = 20 if k % 2 else 200
            labels[y - 4 : y + 5, x - 4 : x + 5] = k + 1
            rows.append({"label": k + 1, "y": y, "x": x, "class": "dark" if k % 2 else "bright"})
        tifffile.imwrite(tmp_path / f"{name}.tif", image, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
        tifffile.imwrite(tmp_path / f"{name}_labels.tif", labels)
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


FOREST = ("-m", "random_forest", "--trees", 20)


def test_points_of_two_images_are_two_groups(fields: Path) -> None:
    images = [part for n in "ab" for part in ("--image", fields / f"{n}.tif", "--points", fields / f"{n}.csv")]
    output = said("train", *images, "--crop-size", 8, "--crop-unit", "um", *FOREST, "-o", fields / "m.ndc")
    assert "50 images, bright 26, dark 24, 2 groups" in output
    assert "macro-F1 1.000" in output
    clf = ndc.load_classifier(fields / "m.ndc")
    assert clf.crop_size == 16
    assert clf.training["crop"] == {"size": 8.0, "unit": "µm", "pixel_size": 0.5}
    tifffile.imwrite(fields / "bare.tif", tifffile.imread(fields / "a.tif"))
    how = ("--model", fields / "m.ndc", "--points", fields / "a.csv", "-o", fields / "bare")
    assert "the pixel size of this image is unknown" in said("classify", fields / "bare.tif", *how)
    # Twice as many pixels for the same micrometres.
    fine = np.kron(tifffile.imread(fields / "a.tif"), np.ones((2, 2), np.uint8))
    tifffile.imwrite(fields / "fine.tif", fine, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    table = pd.read_csv(fields / "a.csv")
    table[["y", "x"]] = 2 * table[["y", "x"]] + 0.5
    table.assign(group="slide 1").to_csv(fields / "fine.csv", index=False)
    run("classify", fields / "fine.tif", "--model", fields / "m.ndc", "--points", fields / "fine.csv", "-o", fields)
    found = pd.read_csv(fields / "fine_classes.csv")
    assert found["class"].tolist() == table["class"].tolist()
    assert set(found["group"]) == {"slide 1"}


def test_micrometres_hold_for_images_of_other_pixel_sizes(fields: Path) -> None:
    for name, factor in (("fine", 2), ("finer", 4)):
        pixels = np.kron(tifffile.imread(fields / "a.tif"), np.ones((factor, factor), np.uint8))
        how = {"resolution": (2 * factor, 2 * factor), "metadata": {"unit": "um"}}
        tifffile.imwrite(fields / f"{name}.tif", pixels, imagej=True, **how)
        table = pd.read_csv(fields / "a.csv")
        table[["y", "x"]] = factor * table[["y", "x"]] + (factor - 1) / 2
        table.to_csv(fields / f"{name}.csv", index=False)
    images = [part for n in ("a", "fine") for part in ("--image", fields / f"{n}.tif", "--points", fields / f"{n}.csv")]
    run("train", *images, "--crop-size", 8, "--crop-unit", "um", *FOREST, "-o", fields / "m.ndc")
    assert ndc.load_classifier(fields / "m.ndc").training["crop"] == {"size": 8.0, "unit": "µm", "pixel_size": None}
    table.iloc[:2].to_csv(fields / "finer.csv", index=False)
    how = ("--points", fields / "finer.csv", "-m", "occlusion", "--patch-size", 32, "-o", fields / "out")
    run("explain", fields / "finer.tif", "--model", fields / "m.ndc", *how)
    assert json.loads((fields / "out" / "finer_record.json").read_text())["crop_size"] == 64


def test_images_of_one_name_are_told_apart_by_their_folders(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for name in ("p1", "p2"):
        (fields / name).mkdir()
        shutil.copy(fields / f"{'a' if name == 'p1' else 'b'}.tif", fields / name / "img.tif")
        rows.append(pd.read_csv(fields / "a.csv").assign(image=f"{name}/img.tif"))
    rows[1] = rows[1].iloc[:10]
    images = [part for n in ("p1", "p2") for part in ("--image", fields / n / "img.tif")]
    pd.concat(rows).to_csv(fields / "all.csv", index=False)
    options = ("--points", fields / "all.csv", "--crop-size", 8, *FOREST, "-o", fields / "m.ndc")
    assert "35 images, bright 18, dark 17, 2 groups" in said("train", *images, *options)
    pd.concat(rows).assign(image="img").to_csv(fields / "all.csv", index=False)
    output = said("train", *images, *options, "--overwrite", code=1)
    assert "The table means several images by 'img'" in output
    # A path that is written as it was given is that image, though it is the end of another's.
    monkeypatch.chdir(fields / "p1")
    shutil.copytree(fields / "p2", fields / "p1" / "p2")
    pd.concat([rows[0].assign(image="img.tif"), rows[1]]).to_csv(fields / "all.csv", index=False)
    images = ["--image", "img.tif", "--image", "p2/img.tif"]
    assert "35 images, bright 18, dark 17, 2 groups" in said("train", *images, *options, "--overwrite")


def test_a_table_of_several_images_gives_each_its_rows(fields: Path) -> None:
    a, b = (pd.read_csv(fields / f"{name}.csv").assign(image=f"{name}.tif") for name in "ab")
    pd.concat([a.iloc[:9], b.iloc[9:]]).to_csv(fields / "all.csv", index=False)
    images = (fields / "a.tif", fields / "b.tif")
    points = ("--points", fields / "all.csv", "--crop-size", 8)
    run("train", "--image", images[0], "--image", images[1], *points, *FOREST, "-o", fields / "m.ndc")
    model = ("--model", fields / "m.ndc")
    run("classify", *images, *model, *points, "-o", fields / "out")
    run("explain", *images, *model, *points, "-m", "occlusion", "-o", fields / "why")
    for folder in ("out", "why"):
        assert pd.read_csv(fields / folder / "a_classes.csv")["y"].tolist() == a["y"][:9].tolist()
        assert pd.read_csv(fields / folder / "b_classes.csv")["class"].tolist() == b["class"][9:].tolist()
    # An image without rows fails, and the other does not.
    a.to_csv(fields / "all.csv", index=False)
    output = said("classify", *images, *model, *points, "-o", fields / "out", "--overwrite", code=1)
    assert "1 of 2 files failed" in output
    assert "The table has no row for b.tif" in output
    a.assign(image="img").to_csv(fields / "all.csv", index=False)
    for name in ("p1", "p2"):
        (fields / name).mkdir()
        shutil.copy(fields / "a.tif", fields / name / "img.tif")
    output = said(
        "classify", fields / "p1/img.tif", fields / "p2/img.tif", *model, *points, "-o", fields / "out", code=1
    )
    assert "The table means several images by 'img'" in output


def test_objects_and_their_table(fields: Path) -> None:
    objects = ("--image", fields / "a.tif", "--labels", fields / "a_labels.tif", "--classes", fields / "a.csv")
    output = said("train", *objects, "--crop-unit", "object", *FOREST, "-o", fields / "m.ndc")
    assert "No groups given" in output
    run("classify", fields / "b.tif", "--model", fields / "m.ndc", "--labels", fields / "b_labels.tif", "-o", fields)
    found = pd.read_csv(fields / "b_classes.csv")
    assert found["class"].tolist() == pd.read_csv(fields / "b.csv")["class"].tolist()
    assert found["label"].tolist() == list(range(1, 26))


def test_objects_of_a_time_series_that_is_numbered_anew(fields: Path) -> None:
    for end, how in (("", {"imagej": True, "metadata": {"axes": "TYX"}}), ("_labels", {})):
        frames = [tifffile.imread(fields / f"{name}{end}.tif") for name in "ab"]
        tifffile.imwrite(fields / f"series{end}.tif", np.stack([frames[0], frames[1].T]), **how)
    table = pd.read_csv(fields / "a.csv")[["label", "class"]]
    later = table.assign(label=[1 + 5 * (k % 5) + k // 5 for k in range(25)])  # that frame lies on its side
    pd.concat([table.assign(t=0), table.assign(t=1)]).to_csv(fields / "series.csv", index=False)
    series = ("--labels", fields / "series_labels.tif")
    train = ("train", "--image", fields / "series.tif", *series, "--classes", fields / "series.csv", *FOREST)
    assert "50 images, bright 26, dark 24" in said(*train, "-o", fields / "m.ndc")
    run("classify", fields / "series.tif", "--model", fields / "m.ndc", *series, "-o", fields)
    found = pd.read_csv(fields / "series_classes.csv")
    assert found["t"].tolist() == [0] * 25 + [1] * 25
    assert found["label"].tolist() == [*range(1, 26)] * 2
    assert found["class"].tolist() == table["class"].tolist() * 2
    pd.concat([table.assign(t=0), later.assign(t=2)]).to_csv(fields / "series.csv", index=False)
    assert "25 of 50 objects are not in the label image; the first is t 2, label 1" in said(
        *train, "-o", fields / "n.ndc", code=1
    )
    table.to_csv(fields / "series.csv", index=False)  # by number alone, each is one object
    assert "25 images" in said(*train, "-o", fields / "n.ndc")


def test_tiles_are_written_as_maps(fields: Path) -> None:
    points = ("--image", fields / "a.tif", "--points", fields / "a.csv", "--crop-size", 20)
    run("train", *points, *FOREST, "-o", fields / "m.ndc")
    output = said("classify", fields / "b.tif", "--model", fields / "m.ndc", "--tiles", 20, "-o", fields / "maps")
    assert "bright 52.0%, dark 48.0% of 25 tiles" in output
    written = sorted(p.name for p in (fields / "maps").iterdir())
    assert written == ["b_class_map.tif", "b_probabilities.tif", "b_record.json", "b_tiles.csv"]
    labels = tifffile.imread(fields / "maps" / "b_class_map.tif")
    np.testing.assert_array_equal(labels.ravel(), [1 + k % 2 for k in range(25)])
    with tifffile.TiffFile(fields / "maps" / "b_class_map.tif") as tif:
        assert tif.imagej_metadata is not None
        tiles, unit = tif.pages[0].tags["XResolution"].value
        assert tiles / unit == pytest.approx(0.1)  # of 10 µm in one
    again = ("classify", fields / "b.tif", "--model", fields / "m.ndc", "--tiles", 20, "-o", fields / "maps")
    assert "exists already" in said(*again, code=1)
    run(*again, "--stride", 10, "--overwrite")
    assert tifffile.imread(fields / "maps" / "b_class_map.tif").shape == (10, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train",), "Give a folder or table of crops, or else --image"),
        (("train", "{0}", "--image", "{0}/a.tif"), "Give a folder or table of crops, or else --image"),
        (("train", "{0}", "--points", "{0}/a.csv"), "go with --image"),
        (("train", "{0}", "--crop-size", "9", "--axes", "YX"), "--crop-size, --axes: these options go with --image"),
        (("train", "{0}", "--crop-unit", "px"), "--crop-unit: these options go with --image"),
        (("train", "--image", "{0}/a.tif"), "either --points, or --labels and --classes"),
        (("train", "--image", "{0}/a.tif", "--points", "{0}/a.csv", "--crop-unit", "inch"), "give px, um or object"),
        (("train", "--image", "{0}/a.tif", "--points", "{0}/a.csv", "--crop-unit", "object"), "need objects"),
        (("train", "--image", "{0}/a_labels.tif", "--points", "{0}/a.csv", "--crop-unit", "um"), "need the pixel size"),
        (("classify", "{0}/a.tif", "--model", "m.ndc", "--stride", "4"), "--stride goes with --tiles"),
        (("classify", "{0}/a.tif", "--model", "m.ndc", "--tiles", "4", "--points", "{0}/a.csv"), "--tiles excludes"),
        (("classify", "{0}/a.tif", "--model", "m.ndc", "--crop-size", "9"), "--crop-size goes with --points or --la"),
        (("explain", "{0}/a.tif", "--model", "m.ndc", "--crop-size", "9"), "--crop-size goes with --points or --la"),
        (("check-explanation", "{0}/a.tif", "--model", "m.ndc", "--crop-size", "9"), "--crop-size goes with --points"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(fields: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in said(*(a.format(fields) for a in arguments), code=1)
