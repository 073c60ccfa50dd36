"""Labelled crops from folders and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_denoise_classify import Crops, load_crops

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8)
RGB = np.stack([GRAY, GRAY.T, GRAY], -1)


def write(path: Path, image: np.ndarray = GRAY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, image)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("round/p1_a.png", "round/p2_b.png", "long/p1_c.tif", "long/p2_d.png"):
        write(tmp_path / "cells" / name)
    (tmp_path / "cells" / "round" / "notes.txt").touch()
    return tmp_path / "cells"


@pytest.fixture
def table(folder: Path) -> Path:
    path = folder / "cells.csv"
    path.write_text(
        "path,class,patient\nround/p1_a.png,round,p1\nround/p2_b.png,round,p2\nlong/p1_c.tif,long,p1\n",
        encoding="utf-8",
    )
    return path


def test_spaces_around_names_make_no_other_classes_and_groups(table: Path) -> None:
    path = table.with_name("spaced.csv")
    path.write_text(table.read_text().replace("b.png,round,p2", "b.png,round , p1\t"), encoding="utf-8")
    crops = load_crops(path, group="patient")
    assert crops.counts == {"long": 1, "round": 2}
    assert crops.groups is not None
    assert set(crops.groups) == {"p1"}
    path.write_text(table.read_text().replace("b.png,round,p2", "b.png,  ,p2"), encoding="utf-8")
    with pytest.raises(ValueError, match="row 3 lacks a value in class"):
        load_crops(path, group="patient")


def test_a_folder_for_each_class(folder: Path) -> None:
    crops = load_crops(folder)
    assert len(crops) == 4
    assert crops.counts == {"long": 2, "round": 2}
    assert crops.groups is None
    assert [Path(name).name for name in crops.names] == ["p1_c.tif", "p2_d.png", "p1_a.png", "p2_b.png"]
    for image in crops.images:
        np.testing.assert_array_equal(image, GRAY)


def test_hidden_files_are_no_crops(folder: Path) -> None:
    seen = len(load_crops(folder))
    one = next(folder.glob("*/*"))
    write(folder / ".ipynb_checkpoints" / "copy.png")
    (one.parent / f"._{one.name}").write_bytes(b"what a Mac knows of the file")
    assert len(load_crops(folder)) == seen


def test_groups_from_file_names(folder: Path) -> None:
    crops = load_crops(folder, group=r"^(p\d)_")
    assert crops.groups is not None
    assert crops.groups.tolist() == ["p1", "p2", "p1", "p2"]
    assert repr(crops) == "<Crops: 4 images, long 2, round 2, 2 groups>"


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("(", "is not a regular expression"),
        ("(p9)", "finds no group in the names of 4 files"),
        ("p1", "finds no group in the names of 4 files"),
        ("(p1)?", "finds no group in the names of 2 files"),
    ],
)
def test_bad_patterns(folder: Path, group: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_crops(folder, group)


def test_a_table(table: Path) -> None:
    crops = load_crops(table, group="patient")
    assert crops.labels.tolist() == ["round", "round", "long"]
    assert crops.groups is not None
    assert crops.groups.tolist() == ["p1", "p2", "p1"]
    assert load_crops(table).groups is None


def test_the_column_group_is_used_by_itself(table: Path) -> None:
    table.write_text(table.read_text().replace("patient", "group"))
    assert load_crops(table).groups is not None
    tabs = table.with_suffix(".tsv")
    tabs.write_text(table.read_text().replace(",", "\t"))
    assert load_crops(tabs).labels.tolist() == ["round", "round", "long"]


@pytest.mark.parametrize("label", ["NA", "None", "null", "nan", "007", "1.50"])
def test_class_names_are_texts(table: Path, label: str) -> None:
    table.write_text(f"path,class\nround/p1_a.png,{label}\nlong/p2_d.png,b\n")
    assert load_crops(table).labels.tolist() == [label, "b"]


def test_blanks_make_no_other_classes_and_groups(table: Path) -> None:
    rows = ["path, class,patient ", "round/p1_a.png,round,p1", "round/p2_b.png,round ,p2", "long/p1_c.tif, long, p1"]
    table.write_text("\n".join(rows), encoding="utf-8")
    crops = load_crops(table, group="patient")
    assert crops.labels.tolist() == ["round", "round", "long"]
    assert crops.groups is not None
    assert crops.groups.tolist() == ["p1", "p2", "p1"]


def test_cells_after_the_last_column(table: Path) -> None:
    """With one more in every row, columns must not move."""
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *(f"{row}," for row in rows)]))
    assert load_crops(table, group="patient").labels.tolist() == ["round", "round", "long"]
    table.write_text("\n".join([header, *(f"{k},{row}" for k, row in enumerate(rows))]))
    with pytest.raises(ValueError, match="row 2 has 4 cells, but there are 3 columns"):
        load_crops(table, group="patient")
    table.write_text("\n".join([header, *rows[:-1], f"{rows[-1]},more"]))
    with pytest.raises(ValueError, match="row 4 has 4 cells, but there are 3 columns"):
        load_crops(table, group="patient")


def test_tables_as_other_programs_write_them(table: Path) -> None:
    rows = ['\ufeff"","path","class"', '"1","round/p1_a.png","round, or so"', "", '"2","long/p1_c.tif","long"', ""]
    table.write_text("\r\n".join(rows), encoding="utf-8")
    assert load_crops(table).labels.tolist() == ["round, or so", "long"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read as a table"),
        ("file,class\na.png,b\n", "no column 'path'"),
        ("path,kind\na.png,b\n", "no column 'class'"),
        ("path,class\nround/p1_a.png,\n", "row 2 lacks a value"),
        ("path,class\nround/p1_a.png, \n", "row 2 lacks a value"),
        ("path,class,group\nround/p1_a.png,a,g\nround/p2_b.png,b,\n", "row 3 lacks a value"),
        ("path,class\nround/none.png,b\n", r"none\.png: there is no such file"),
        ("path,class\n", "no images"),
        ('path,class\n"a,b\n', "cannot be read as a table"),
        ("path;class\nround/p1_a.png;a\n", "separated by semicolons: save it with commas"),
    ],
)
def test_bad_tables(table: Path, content: str, words: str) -> None:
    table.write_text(content)
    with pytest.raises(ValueError, match=words):
        load_crops(table)


def test_a_group_column_that_is_not_there(table: Path) -> None:
    with pytest.raises(ValueError, match="no column 'slide'; it has path, class, patient"):
        load_crops(table, group="slide")


def test_tables_that_are_no_text(table: Path) -> None:
    table.write_bytes(b"\xff\xfe\x00\x01" * 20)
    with pytest.raises(ValueError, match="cannot be read as a table: save it as CSV UTF-8"):
        load_crops(table)


@pytest.mark.parametrize("name", ["none", "none.csv", "cells.txt"])
def test_neither_folder_nor_table(tmp_path: Path, name: str) -> None:
    (tmp_path / "cells.txt").touch()
    with pytest.raises(ValueError, match="neither a folder nor a"):
        load_crops(tmp_path / name)


def test_a_folder_without_images(tmp_path: Path) -> None:
    write(tmp_path / "loose.png")
    with pytest.raises(ValueError, match="no images in subfolders"):
        load_crops(tmp_path)


def test_damaged_images_are_named(folder: Path) -> None:
    path = folder / "long" / "broken.png"
    path.write_bytes((folder / "round" / "p1_a.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"broken\.png: this file cannot be read"):
        load_crops(folder)


@pytest.mark.parametrize("image", [RGB, GRAY.astype(np.uint16)], ids=["RGB", "uint16"])
def test_mixed_kinds_are_named(folder: Path, image: np.ndarray) -> None:
    write(folder / "round" / "z.png", image)
    with pytest.raises(ValueError, match=r"z\.png is .*: all crops must be of one kind"):
        load_crops(folder)


def test_stacks_are_no_crops(folder: Path) -> None:
    tifffile.imwrite(folder / "round" / "stack.tif", np.zeros((5, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"stack\.tif has shape .* a crop is one plane"):
        load_crops(folder)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 9, 3), (1, 1, 3)])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_crops_of_one_pixel_keep_their_axes(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for label in "ab":
        write(tmp_path / label / f"it{suffix}", image)
    np.testing.assert_array_equal(load_crops(tmp_path).images[0], image)


@pytest.mark.parametrize("shape", [(1, 7, 9), (1, 1, 7, 9), (7, 9, 1)])
def test_axes_of_one_plane_are_dropped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        np.save(tmp_path / label / "it.npy", np.ones(shape))
    assert load_crops(tmp_path).images[0].shape == (7, 9)


def test_not_finite_crops_are_named(folder: Path) -> None:
    for path in folder.glob("*/*"):
        path.unlink()
    np.save(folder / "round" / "good.npy", np.ones((4, 4)))
    np.save(folder / "round" / "hole.npy", np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match=r"hole\.npy holds NaN or infinite pixels: replace them"):
        load_crops(folder)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    for label in "ab":
        write(tmp_path / label / "it.png", np.dstack([RGB, GRAY]))
    np.testing.assert_array_equal(load_crops(tmp_path).images[0], RGB)


# --- Crops ----------------------------------------------------------------------------------------------------------


def test_subsets(crops: Crops) -> None:
    some = crops.subset([3, 0])
    assert some.names == ["crop 3", "crop 0"]
    assert some.labels.tolist() == [crops.labels[3], crops.labels[0]]
    spots = crops.subset(crops.labels == "spot")
    assert spots.classes == ("spot",)
    assert len(spots) == crops.counts["spot"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"images": [], "labels": np.array([], str), "names": []}, "no images"),
        ({"labels": np.array(["a"])}, "2 images but 1 labels"),
        ({"groups": np.array(["g"])}, "2 images but 1 groups"),
        ({"names": ["a"]}, "2 images but 1 names"),
        ({"images": [GRAY, RGB]}, "b is RGB uint8, but a is gray uint8"),
        ({"images": [GRAY, np.zeros((0, 4), np.uint8)]}, "b has shape .*not empty"),
        ({"images": [GRAY, np.zeros((2, 4, 4, 3), np.uint8)]}, "b has shape"),
        ({"images": [GRAY[0], GRAY[0]]}, "a has shape"),
    ],
)
def test_bad_crops(fields: dict[str, Any], words: str) -> None:
    good = {"images": [GRAY, GRAY], "labels": np.array(["x", "y"]), "groups": None, "names": ["a", "b"]}
    with pytest.raises(ValueError, match=words):
        Crops(**{**good, **fields})


def test_copies_across_a_split_are_told() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(12)]
    labels = np.array(["x", "y"] * 6)
    crops = Crops(images, labels, None, [str(i) for i in range(12)])
    train, test, note = crops.split_with_note(0.5)
    assert note == ""
    held_out = {int(name) for name in test.names}
    copied = list(images)
    for here, there in zip(sorted(held_out)[:2], sorted(set(range(12)) - held_out)[:2], strict=True):
        copied[here] = images[there].copy()
    spoilt = Crops(copied, labels, None, crops.names)
    with pytest.warns(UserWarning, match="2 of 6 test samples have an exact copy among the training samples"):
        same, _ = spoilt.split(0.5)
    assert same.names == train.names
    # copies of one group are on one side
    groups = np.array([str(i) for i in range(12)])
    for image in {image.tobytes() for image in copied}:
        alike = [i for i in range(12) if copied[i].tobytes() == image]
        groups[alike] = groups[alike[0]]
    assert Crops(copied, labels, groups, crops.names).split_with_note(0.5)[2] == ""


def test_real_crops(shared_data: Path) -> None:
    crops = load_crops(shared_data / "cells_crc" / "crops.csv", group="image")
    assert crops.counts == dict.fromkeys(("epithelial", "fibroblast", "inflammatory", "others"), 700)
    assert {image.shape for image in crops.images} == {(32, 32, 3)}
    train, test = crops.split(seed=0)
    assert train.groups is not None
    assert test.groups is not None
    assert not set(train.groups) & set(test.groups)
    assert len(test) / len(crops) == pytest.approx(0.25, abs=0.05)
