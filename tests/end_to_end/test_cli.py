"""The command line, run in process on real files."""

from __future__ import annotations

import json
import time
from pathlib import PurePosixPath, PureWindowsPath

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.cli.common import output_names, parts_below, parts_shared
from napari_denoise_classify.cli.options import with_step_options
from napari_denoise_classify.core.classify.fields import pixel_size_of
from napari_denoise_classify.core.files import read_image

from .command_line import ENVIRONMENT, finish, run, said, start


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def crops(tmp_path, rng):
    """Two classes, bright and dark squares, in a folder each, with a table that names groups."""
    rows = []
    for name, level in (("bright", 200), ("dark", 50)):
        (tmp_path / "crops" / name).mkdir(parents=True)
        for i in range(24):
            image = np.clip(rng.normal(level, 25, (16, 16)), 0, 255).astype(np.uint8)
            path = tmp_path / "crops" / name / f"{i}.png"
            iio.imwrite(path, image)
            rows.append({"path": f"crops/{name}/{i}.png", "class": name, "slide": f"slide {i % 6}"})
    table = tmp_path / "crops.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


@pytest.fixture
def model(crops, tmp_path):
    path = tmp_path / "model.ndc"
    run("train", crops, "-m", "cnn", "--input-size", 16, "--epochs", 4, "--group", "slide", "-o", path)
    return path


def test_denoise_keeps_axes_resolution_and_dtype_of_imagej(tmp_path, rng):
    data = rng.integers(0, 4096, (2, 3, 24, 32), dtype=np.uint16)
    source = tmp_path / "stack.tif"
    tifffile.imwrite(
        source, data, imagej=True, resolution=(4.0, 4.0), metadata={"axes": "TZYX", "spacing": 0.5, "unit": "um"}
    )
    run("denoise", source, "-m", "gaussian", "--kernel-size", 3, "-o", tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "stack_gaussian.tif") as tif:
        assert tif.series[0].axes == "TZYX"
        assert tif.imagej_metadata["spacing"] == 0.5
        assert tif.imagej_metadata["unit"] == "um"
        assert tif.pages[0].tags["XResolution"].value == (4, 1)
        written = tif.asarray()
    np.testing.assert_array_equal(written, ndc.denoise(data, "gaussian", axes="TZYX", kernel_size=3))


def test_denoise_keeps_ome_pixel_size(tmp_path, rng):
    data = rng.integers(0, 255, (3, 20, 20), dtype=np.uint8)
    source = tmp_path / "a.ome.tif"
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25}
    tifffile.imwrite(source, data, ome=True, metadata=metadata)
    run("denoise", source, "-m", "median", "-o", tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    with tifffile.TiffFile(written) as tif:
        assert tif.series[0].axes == "CYX"
        assert 'PhysicalSizeX="0.25"' in tif.ome_metadata


def test_units_in_other_spellings_of_xml_are_kept(tmp_path, rng):
    source = tmp_path / "a.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25}
    tifffile.imwrite(source, rng.integers(0, 255, (20, 20), dtype=np.uint8), ome=True, metadata=metadata)
    with tifffile.TiffFile(source) as tif:
        xml = tif.ome_metadata
    tifffile.tiffcomment(source, xml.encode("ascii", "xmlcharrefreplace"))  # as ElementTree.tostring writes it
    assert pixel_size_of(read_image(source)) == 0.25
    run("denoise", source, "-m", "median", "-o", tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    with tifffile.TiffFile(written) as tif:
        assert 'PhysicalSizeXUnit="µm"' in tif.ome_metadata


def test_axes_that_are_given_do_not_change_the_size_of_pixels(tmp_path, rng):
    source = tmp_path / "a.tif"
    data = rng.integers(0, 255, (60, 100, 3), dtype=np.uint8)
    tifffile.imwrite(source, data, photometric="minisblack", resolution=(1000, 1000), resolutionunit="CENTIMETER")
    run("denoise", source, "-m", "none", "--axes", "YXS", "-o", tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    assert read_image(written).resolution == (1000.0, 1000.0)


def test_folder_glob_and_failures_are_reported_at_the_end(tmp_path, rng):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "c"):
        iio.imwrite(folder / f"{name}.png", rng.integers(0, 255, (20, 20), dtype=np.uint8))
    (folder / "b.png").write_bytes(b"not a picture")
    output = run("denoise", folder, "-m", "median", "-o", tmp_path / "out", code=1)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_median.png", "c_median.png"]
    assert "1 of 3 files failed" in output
    assert "b.png" in output
    output = run("denoise", folder / "*.png", "-m", "median", "-o", tmp_path / "out", code=1)
    assert "--overwrite" in output
    run("denoise", folder / "[ac].png", "-m", "median", "-o", tmp_path / "out", "--overwrite")


def test_mask_prints_the_fraction_and_writes_the_mask(tmp_path):
    source = tmp_path / "flat.png"
    iio.imwrite(source, np.full((224, 224), 255, np.uint8))
    output = run("mask", source, "-m", "centre", "--save-mask", "-o", tmp_path)
    assert "40.1%" in output
    masked = iio.imread(tmp_path / "flat_centre.png")
    np.testing.assert_array_equal(masked, iio.imread(tmp_path / "flat_centre_mask.png"))


def test_recipe_file_and_its_conflicts(tmp_path, rng):
    source = tmp_path / "a.png"
    data = rng.integers(0, 255, (30, 30), dtype=np.uint8)
    iio.imwrite(source, data)
    recipe = ndc.Recipe([("gaussian", {"kernel_size": 7}), "centre"])
    recipe.to_json(tmp_path / "recipe.json")
    run("denoise", source, "--recipe", tmp_path / "recipe.json", "-o", tmp_path)
    np.testing.assert_array_equal(iio.imread(tmp_path / "a_gaussian_centre.png"), recipe.apply(data))
    for option in ("--sigma", "--kernel-size"):
        output = said("denoise", source, "--recipe", tmp_path / "recipe.json", option, 3, code=1)
        assert f"{option} does not go with --recipe" in output
    options = ("--recipe", tmp_path / "recipe.json", "--intensity-range", "0,100")
    assert "--intensity-range does not go with --recipe" in said("denoise", source, *options, code=1)
    options = ("--recipe", tmp_path / "recipe.json", "--method", "median", "--sigma", 3)
    assert "--method does not go with --recipe" in said("denoise", source, *options, code=1)
    run("mask", source, "--recipe", tmp_path / "recipe.json", "--save-mask", "-o", tmp_path / "masked")
    assert (tmp_path / "masked" / "a_gaussian_centre_mask.png").exists()
    ndc.Recipe(["gaussian"]).to_json(tmp_path / "recipe.json")
    options = ("--recipe", tmp_path / "recipe.json", "--save-mask", "-o", tmp_path / "other")
    assert "no step of that recipe masks" in said("mask", source, *options, code=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("denoise", "{png}", "-m", "wrong"), "'wrong' is not a denoise step"),
        (("denoise", "{png}", "-m", "gaussian", "--kernel-size", "4"), "odd whole number"),
        (("denoise", "{png}", "-m", "median", "--sigma", "4"), "median has no parameter 'sigma'"),
        (("denoise", "missing.tif"), "no such file"),
        (("denoise", "{png}", "--intensity-range", "5,1"), "intensity_range"),
        (("classify", "{png}", "--model", "{png}"), "is not a classifier"),
        (("train", "nowhere"), "neither a folder nor"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    png = tmp_path / "a.png"
    iio.imwrite(png, np.zeros((20, 20), np.uint8))
    output = said(*(a.format(png=png) for a in arguments), code=1)
    assert words in output
    assert "Traceback" not in output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


def test_train_prints_figures_and_saves_a_model(model, crops, tmp_path):
    clf = ndc.load_classifier(model)
    assert clf.classes == ("bright", "dark")
    assert clf.training["evaluation"]["macro_f1"] > 0.9
    assert clf.training["groups"] is not None
    output = run("train", crops, "-m", "knn", "-o", model, code=1)
    assert "exists already" in output
    output = run("train", crops, "-m", "knn", "-o", tmp_path / "knn.ndc")
    assert "macro-F1 1.000" in output
    assert "No groups given" in output
    assert "exact copy" not in output


def test_neighbours_have_a_say_where_places_are_known(crops, tmp_path):
    refusal = said("train", crops, "-m", "knn", "-o", tmp_path / "knn.ndc", "--context", 20, code=1)
    assert "The context needs to know where the crops were cut: train on points or objects" in refusal
    assert not (tmp_path / "knn.ndc").exists()
    grid = [(8 + 16 * (k // 8), 8 + 16 * (k % 8)) for k in range(64)]
    image = np.kron([[200] * 4 + [50] * 4] * 8, np.ones((16, 16))).astype(np.uint8)
    image[8 + 16 * 3, 8 + 16] = 40
    iio.imwrite(tmp_path / "field.png", image)
    table = pd.DataFrame(grid, columns=["y", "x"]).assign(**{"class": (["bright"] * 4 + ["dark"] * 4) * 8})
    table.to_csv(tmp_path / "points.csv", index=False)
    where = ("--points", tmp_path / "points.csv")
    marked = ("--image", tmp_path / "field.png", *where, "--crop-size", 9)
    run("train", *marked, "-m", "knn", "-o", tmp_path / "knn.ndc", "--context", 20, "--test-fraction", 0)
    run("classify", tmp_path / "field.png", "--model", tmp_path / "knn.ndc", *where, "-o", tmp_path)
    found = pd.read_csv(tmp_path / "field_classes.csv")
    assert found["class"].tolist() == table["class"].tolist()
    assert found["p_dark"][27] > found["p_dark"][24]  # both bright, one beside dark ones


def test_train_tells_of_copies_on_both_sides_of_the_split(crops, tmp_path):
    bright = sorted((tmp_path / "crops" / "bright").glob("*.png"))
    for path in bright[1:]:
        path.write_bytes(bright[0].read_bytes())
    output = run("train", crops, "-m", "knn", "-o", tmp_path / "knn.ndc")
    (line,) = [line for line in output.splitlines() if "exact copy" in line]
    assert line.startswith("Note: 6 of 12 test samples have an exact copy among the training samples, which flatters")


def test_classify_points_objects_and_whole_images(model, tmp_path):
    image = np.full((64, 64), 50, np.uint8)
    image[8:24, 8:24] = 200
    labels = np.zeros((64, 64), np.uint16)
    labels[8:24, 8:24], labels[40:56, 40:56] = 1, 2
    iio.imwrite(tmp_path / "field.png", image)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    pd.DataFrame({"y": [15.5, 47.5], "x": [15.5, 47.5]}).to_csv(tmp_path / "points.csv", index=False)
    for name, extra in (("points", tmp_path / "points.csv"), ("labels", tmp_path / "labels.tif")):
        out = tmp_path / name
        run("classify", tmp_path / "field.png", "--model", model, f"--{name}", extra, "-o", out)
        table = pd.read_csv(out / "field_classes.csv")
        assert table["class"].tolist() == ["bright", "dark"]
        assert (out / "field_classes.png").exists()
    run("classify", tmp_path / "field.png", "--model", model, "-o", tmp_path / "whole")
    assert len(pd.read_csv(tmp_path / "whole" / "field_classes.csv")) == 1


def test_explain_writes_heat_contours_and_record(model, tmp_path):
    image = np.full((32, 32), 50, np.uint8)
    image[8:24, 8:24] = 200
    iio.imwrite(tmp_path / "field.png", image)
    run("explain", tmp_path / "field.png", "--model", model, "-o", tmp_path / "out", "--target", "bright")
    heat = tifffile.imread(tmp_path / "out" / "field_heat.tif")
    assert heat.shape == (32, 32)
    assert heat.dtype == np.float32
    record = json.loads((tmp_path / "out" / "field_record.json").read_text())
    assert record["classifier"]["sha256"] == ndc.load_classifier(model).sha256
    assert record["explanation"]["target"] == "bright"
    output = said("explain", tmp_path / "field.png", "--model", model, "--target", "nobody", code=1)
    assert "the classes are bright, dark" in output


def test_steps_lists_everything():
    output = run("steps")
    listed = json.loads(run("steps", "--json"))
    assert [item["id"] for item in listed] == [s.id for s in ndc.steps()]
    for item in listed:
        assert item["id"] in output
        for parameter in item["parameters"]:
            assert parameter["name"] in output


def test_demo_writes_figure_table_and_model(tmp_path):
    output = run("demo", "-o", tmp_path)
    table = pd.read_csv(tmp_path / "demo.csv", index_col=0)
    assert table.loc["clean", "macro_f1"] > 0.9
    assert table.loc["DnCNN", "macro_f1"] >= table.loc["noisy", "macro_f1"]
    assert iio.imread(tmp_path / "demo.png").shape[1] > 1500
    assert ndc.load_classifier(tmp_path / "demo_model.ndc").classes == ("DAB-negative", "DAB-positive")
    assert "demo.png" in output


def test_program_runs_as_a_process_and_errors_have_no_traceback():
    out, _ = finish(start("steps"))
    assert "dncnn" in out
    _, err = finish(start("denoise", "/nowhere/*.tif"), 1)
    assert "no such file" in err


def test_letters_that_the_output_cannot_hold_end_nothing(tmp_path, rng, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "PYTHONIOENCODING", "cp1252")
    iio.imwrite(tmp_path / "\u03b1.png", rng.integers(0, 255, (20, 20), dtype=np.uint8))
    out, _ = finish(start("estimate-noise", tmp_path / "\u03b1.png"))
    assert "?.png" in out


def test_folders_on_several_drives_are_told_apart():
    several = [PureWindowsPath("C:/a/b"), PureWindowsPath("Z:/a/b"), PureWindowsPath("//server/share/a")]
    assert [parts_below(folder, parts_shared(several)) for folder in several] == [
        ["C", "a", "b"],
        ["Z", "a", "b"],
        ["server-share", "a"],
    ]
    assert parts_below(several[0], parts_shared(several[:1])) == []
    posix = [PurePosixPath("/x/a/b"), PurePosixPath("/x/c")]
    assert parts_below(posix[0], parts_shared(posix)) == ["a", "b"]


@pytest.mark.parametrize("name", ["crop_{}.png", "{}/crop.png"])
def test_many_outputs_are_named_in_no_time(tmp_path, name):
    paths = [tmp_path / name.format(k) for k in range(5000)]
    start = time.process_time()
    names = output_names(paths, tmp_path, lambda _: "_x.png")
    assert len(set(names.values())) == len(paths)
    assert time.process_time() - start < 5


def test_inputs_of_equal_name_keep_their_own_outputs(tmp_path, rng):
    images = {}
    for folder in ("d1/a", "d2/a"):
        (tmp_path / folder).mkdir(parents=True)
        images[folder] = rng.integers(0, 255, (20, 20), dtype=np.uint8)
        iio.imwrite(tmp_path / folder / "x.png", images[folder])
    paths = [tmp_path / folder / "x.png" for folder in images]
    run("denoise", *paths, paths[0], "-m", "median", "-o", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    for folder, data in images.items():
        written = iio.imread(tmp_path / "out" / f"{folder.replace('/', '_')}_x_png_median.png")
        np.testing.assert_array_equal(written, ndc.denoise(data, "median"))


def test_sixteen_bit_colour_png_stays_sixteen_bit(tmp_path, rng):
    from napari_denoise_classify.core.opencv import cv2

    data = rng.integers(0, 65536, (20, 24, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), data[..., ::-1])
    run("denoise", tmp_path / "a.png", "-m", "median", "-o", tmp_path / "out")
    written = cv2.imread(str(tmp_path / "out" / "a_median.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(written, ndc.denoise(data, "median", axes="YXS"))


def test_tiff_of_several_images_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tif:
        for side in (20, 30):
            tif.write(np.zeros((side, side), np.uint8))
    output = said("denoise", tmp_path / "pages.tif", "-m", "median", "-o", tmp_path / "out", code=1)
    assert "holds 2 images" in output


@pytest.mark.parametrize(("axes", "planar"), [("YX", None), ("SYX", "separate"), ("YXS", "contig")])
def test_photometric_and_planes_are_kept(tmp_path, rng, axes, planar):
    shape = tuple({"S": 3, "Y": 20, "X": 24}[letter] for letter in axes)
    data = rng.integers(0, 255, shape, dtype=np.uint8)
    photometric = "rgb" if planar else "miniswhite"
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=photometric, planarconfig=planar)
    run("denoise", tmp_path / "a.tif", "-m", "median", "-o", tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "a_median.tif") as tif:
        assert tif.pages[0].photometric.name.lower() == photometric
        np.testing.assert_array_equal(tif.asarray(), ndc.denoise(data, "median", axes=axes))


@pytest.mark.parametrize("name", ["~backup.png", "a b.png", "größe.png"])
def test_names_may_be_odd(tmp_path, monkeypatch, rng, name):
    monkeypatch.chdir(tmp_path)
    iio.imwrite(tmp_path / name, rng.integers(0, 255, (20, 20), dtype=np.uint8))
    run("denoise", name, "-m", "median", "-o", "out")
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_numbers_beyond_float32_and_nested_json_are_refused(tmp_path, rng):
    np.save(tmp_path / "big.npy", rng.normal(size=(20, 20)) * 1e300)
    output = said("denoise", tmp_path / "big.npy", "-m", "gaussian", "-o", tmp_path / "out", code=1)
    assert "rescale it first" in output
    (tmp_path / "deep.json").write_text('{"a":' + "[" * 100_000)
    output = said("denoise", tmp_path / "big.npy", "--recipe", tmp_path / "deep.json", code=1)
    assert "is not a recipe" in output


def test_unusable_output_is_found_before_training(crops, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.ndc").mkdir()
    for output, words in ((tmp_path / "folder.ndc", "is a folder"), (tmp_path / "file" / "m.ndc", "cannot be made")):
        assert words in said("train", crops, "-m", "knn", "-o", output, "--overwrite", code=1)
    before = crops.read_bytes()
    assert "classifiers are written as .ndc" in said("train", crops, "-m", "knn", "-o", crops, "--overwrite", code=1)
    assert crops.read_bytes() == before


def test_tables_of_stacks_and_objects_can_be_used_again(model, tmp_path, rng):
    stack = rng.integers(0, 255, (5, 40, 40), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack", metadata=None)
    run("classify", tmp_path / "s.tif", "--model", model, "-o", tmp_path / "one")
    table = tmp_path / "one" / "s_classes.csv"
    assert pd.read_csv(table).columns[0] == "axis0"
    run("classify", tmp_path / "s.tif", "--model", model, "--points", table, "-o", tmp_path / "two")
    assert len(pd.read_csv(tmp_path / "two" / "s_classes.csv")) == 5
    labels = np.zeros((40, 40), np.uint32)
    labels[2:12, 2:12], labels[20:30, 20:30] = 7, 4_000_000_000
    tifffile.imwrite(tmp_path / "plane.tif", stack[0])
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    run(
        "classify",
        tmp_path / "plane.tif",
        "--model",
        model,
        "--labels",
        tmp_path / "labels.tif",
        "-o",
        tmp_path / "three",
    )
    assert pd.read_csv(tmp_path / "three" / "plane_classes.csv")["label"].tolist() == [7, 4_000_000_000]


@pytest.mark.parametrize(
    ("text", "words"),
    [("y,x\n1,foo\n", "must be numbers"), ("", "cannot be read"), ("y;x\n1;2\n", "save it with commas")],
)
def test_bad_tables_of_points_are_named(model, tmp_path, text, words):
    iio.imwrite(tmp_path / "a.png", np.zeros((20, 20), np.uint8))
    (tmp_path / "points.csv").write_text(text)
    output = said("classify", tmp_path / "a.png", "--model", model, "--points", tmp_path / "points.csv", code=1)
    assert words in output
    assert "points.csv" in output


def test_slides_keep_their_pixel_size(tmp_path, rng):
    data = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    description = "Aperio |AppMag = 20|MPP = 0.5000"
    tifffile.imwrite(tmp_path / "s.svs", data, tile=(32, 32), photometric="rgb", description=description)
    run("denoise", tmp_path / "s.svs", "-m", "median", "-o", tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "s_median.tif") as tif:
        tags = tif.pages[0].tags
        assert tags["ResolutionUnit"].value == 3
        assert np.divide(*tags["XResolution"].value) == pytest.approx(20000)


def test_no_parameter_of_a_step_takes_the_place_of_an_option() -> None:
    def command(*, sigma: str = "", parameters: dict[str, str]) -> None: ...

    with pytest.raises(TypeError, match=r"named like declared parameters: \['sigma'\]"):
        with_step_options("denoise")(command)


@pytest.mark.parametrize("command", ["denoise", "mask", "demo", "study"])
@pytest.mark.parametrize("name", ["clean.tif", "clean.ome.zarr", "table.csv"])
def test_a_file_is_no_folder_for_results(tmp_path, command, name):
    iio.imwrite(tmp_path / "image.png", np.zeros((16, 16), np.uint8))
    arguments = {"demo": [], "study": ["synthetic:cells"]}.get(command, [tmp_path / "image.png"])
    words = said(command, *arguments, "-o", tmp_path / name, code=1)
    assert f"{name} is a file's name, but --output is a folder" in words
    assert not (tmp_path / name).exists()


def test_a_folder_may_have_a_dot_in_its_name(tmp_path):
    iio.imwrite(tmp_path / "image.png", np.zeros((16, 16), np.uint8))
    run("mask", tmp_path / "image.png", "-o", tmp_path / "run.1")
    assert (tmp_path / "run.1" / "image_centre.png").exists()
