"""The command ``study``, on real files."""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.core.study.result import load_study
from napari_denoise_classify.core.study.text import named_classifiers, named_recipes, swept

from .command_line import finish, said, start

QUICK = ("--classifier", "knn", "--classifier", "forest=random_forest:trees=10", "--group", "group")
FOLDS = ("--design", "cross-validation:folds=3", "--recipe", "raw=raw", "--recipe", "blur=gaussian:kernel_size=5")
study = partial(said, "study")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write 48 crops of two classes from four slides, and their table."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-8:8, -8:8]
    disc = np.hypot(y, x) < 5
    rows = []
    for i in range(48):
        name = ("dark", "bright")[i % 2]
        image = 120 + (40 if name == "bright" else -40) * disc + rng.normal(0, 30, disc.shape)
        iio.imwrite(tmp_path / f"{i}.png", np.clip(image, 0, 255).astype(np.uint8))
        rows.append({"path": f"{i}.png", "class": name, "group": f"slide {i // 2 % 4}"})
    pd.DataFrame(rows).to_csv(tmp_path / "crops.csv", index=False)
    return tmp_path / "crops.csv"


def test_from_table_to_report_and_again(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    output = study(table, *QUICK, *FOLDS, "-o", folder)
    assert "12 cells to run" in output
    assert "blur · forest: macro-F1" in output
    assert str(folder / "report.html") in output
    result = load_study(folder)
    assert set(result.cells["classifier"]) == {"knn", "forest"}
    assert (result.cells["status"] == "done").all()
    assert all(sentence in output for sentence in result.tests["sentence"])
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert list((folder / "figures").glob("*.svg"))
    assert list((folder / "figures").glob("*.png"))
    # the same command finds everything done; the study file gives the same numbers in another folder
    assert "(kept from before)" in study(table, *QUICK, *FOLDS, "-o", folder)
    study(folder / "study.json", "-o", tmp_path / "again")
    pd.testing.assert_series_equal(load_study(tmp_path / "again").cells["macro_f1"], result.cells["macro_f1"])


def test_another_study_is_not_overwritten(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    study(table, *QUICK, *FOLDS, "-o", folder)
    before = (folder / "cells.csv").read_bytes()
    assert "holds another study" in study(table, *QUICK, *FOLDS, "--seed", 1, "-o", folder, code=1)
    assert (folder / "cells.csv").read_bytes() == before
    study(table, *QUICK, *FOLDS, "--seed", 1, "-o", folder, "--overwrite")
    assert load_study(folder).study.seed == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process.")
def test_an_interrupted_study_goes_on(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    command = ["study", table, *FOLDS, "--group", "group", "--classifier", "random_forest:trees=1500", "-o", folder]
    with start(*command) as process:
        until = time.monotonic() + 180
        while len(list(folder.glob("cells/*"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        words = " ".join(finish(process, 130)[1].split())
    assert "Stopped. Finished cells are kept in" in words
    assert "(kept from before)" in study(*command[1:])
    assert load_study(folder).record["cache"]["cells_reused"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "a=gausian"], "'gausian' is not a denoise or mask step"),
        (["--recipe", "raw=raw", "--recipe", "raw=centre"], "Two recipes are named 'raw'"),
        (["--recipe", "missing.json"], "missing.json cannot be read"),
        (["--classifier", "svm:D=1"], "svm has no parameter 'D'"),
        (["--preset", "denosing"], "There is no preset 'denosing'"),
        (["--preset", "sweep"], "needs a grid"),
        (["--design", "folds=5"], "design"),
        (["--training", "mixed"], "training='mixed' is not allowed"),
        (["--noise", "gausian:3"], "gausian"),
        (["--group", "patient"], "no column 'patient'"),
        (["--reference", "other"], "reference='other' is not allowed"),
    ],
)
def test_bad_input_is_one_sentence(table: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    own = [] if any(a in ("--recipe", "--preset") for a in arguments) else ["--recipe", "raw=raw"]
    classifiers = [] if "--classifier" in arguments else ["--classifier", "knn"]
    output = study(table, *own, *classifiers, *arguments, "-o", tmp_path / "study", code=1)
    assert message in output
    assert "Traceback" not in output


def test_what_a_study_file_settles_is_refused(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    study(table, *QUICK, *FOLDS, "-o", folder)
    options = [("--noise", "gaussian:5"), ("--margin", 0), ("--seed", 0), ("--preset", "custom"), ("--explain", "none")]
    for name, value in options:
        assert f"settles {name}" in study(folder / "study.json", name, value, "-o", tmp_path / "x", code=1)


def test_texts_become_recipes_classifiers_and_grids(tmp_path: Path) -> None:
    recipe = ndc.Recipe(["median"])
    recipe.to_json(tmp_path / "r.json")
    found = named_recipes(["raw", f"m={tmp_path / 'r.json'}", "gaussian:kernel_size=5+centre"])
    assert found is not None
    assert found["raw"] == ndc.Recipe()
    assert found["m"] == recipe
    assert found["gaussian:kernel_size=5+centre"].title == "gaussian + centre"
    assert named_classifiers(["svm:C=0.1/1", "f=random_forest"]) == {
        "svm": ("svm", {"C": ["0.1", "1"]}),
        "f": ("random_forest", {}),
    }
    assert list(named_classifiers(["knn", "svm:C=1", "svm:C=10", "f=svm"])) == ["knn", "svm:C=1", "svm:C=10", "f"]
    assert list(named_classifiers(["knn=svm:C=1", "knn:neighbours=3"])) == ["knn", "knn:neighbours=3"]
    assert swept(["gaussian:kernel_size=3/5"]) == {"gaussian": {"kernel_size": ["3", "5"]}}


@pytest.mark.parametrize("name", ["cells.csv", "quality.csv", "report.html"])
def test_files_of_other_kinds_are_kept(table: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("precious")
    output = study(table, *QUICK, *FOLDS, "-o", folder, code=1)
    assert f"holds a file {name} that is of no study: choose another folder" in output
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "precious"


def test_a_study_of_which_nothing_succeeds_is_an_error(table: Path, tmp_path: Path) -> None:
    knn = ("--classifier", "knn:neighbours=900", "--group", "group")
    output = study(table, *knn, "--recipe", "raw=raw", "--design", "holdout", "-o", tmp_path / "study", code=1)
    assert "Error: All cells failed, the first with: knn: neighbours=900 is not allowed" in output
    assert (tmp_path / "study" / "report.html").is_file()
