"""OME-Zarr, and other pixels that stay on disk: what is written is read back, and damage is told in one sentence."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

zarr = pytest.importorskip("zarr", minversion="3")

from napari_denoise_classify import Recipe  # noqa: E402
from napari_denoise_classify.core import storing  # noqa: E402
from napari_denoise_classify.core.files import find_images, read_image  # noqa: E402
from napari_denoise_classify.core.ome_zarr import writing  # noqa: E402
from napari_denoise_classify.core.ome_zarr.axes import Axis  # noqa: E402
from napari_denoise_classify.core.ome_zarr.reading import RECORD, read_ome_zarr  # noqa: E402
from napari_denoise_classify.core.ome_zarr.writing import Canvas, new_ome_zarr  # noqa: E402
from napari_denoise_classify.core.progress import run  # noqa: E402
from napari_denoise_classify.core.storing import process_file_iter  # noqa: E402

SHAPES = {"T": 2, "C": 3, "Z": 2, "Y": 70, "X": 90, "S": 3, "?": 2}
GAUSSIAN = Recipe(["gaussian"])


def draw(axes: str, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, [SHAPES[a] for a in axes]).astype(dtype)


def write(path: Path, data: np.ndarray, axes: str, **more: Any) -> Path:
    where = [Axis(a, 0.5, 3.0, "micrometer") if a in "ZYX" else Axis(a) for a in axes]
    with new_ome_zarr(path, data.shape, data.dtype, where, **more) as canvas:
        canvas[tuple(slice(0, n) for n in data.shape)] = data
        run(canvas.pyramid_iter())
    return path


def store(source: Path, target: Path, recipe: Recipe = GAUSSIAN, lazy_above: int = 0, **how: Any) -> Path:
    return run(process_file_iter(recipe, read_image(source, lazy_above), target, **how)).path


def foreign(path: Path, version: str, data: np.ndarray, attributes: dict[str, Any]) -> Path:
    """Write a store as other programs do."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("full", data=data, chunks=(*(1 for _ in data.shape[:-2]), 32, 32))
    half = data[..., ::2, ::2]
    group.create_array("half", data=half, chunks=(*(1 for _ in data.shape[:-2]), 32, 32))
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", **attributes}
    else:
        group.attrs.update(attributes)
    return path


def multiscales(version: str | None, axes: Any, scale: list[float], **more: Any) -> dict[str, Any]:
    half = [*scale[:-2], scale[-2] * 2, scale[-1] * 2]
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": s}]}
        for name, s in (("full", scale), ("half", half))
    ]
    found = {"datasets": datasets, **({"axes": axes} if axes else {}), **({"version": version} if version else {})}
    return {"multiscales": [{**found, **more}]}


# --- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "TCZYX", "CYX", "YXS", "XY", "ZYXS", "?YX"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_round_trip(tmp_path: Path, version: str, axes: str, dtype: str) -> None:
    data = draw(axes, dtype)
    path = write(tmp_path / "it.ome.zarr", data, axes, version=version)
    file = read_image(path)
    assert sorted(file.axes) == sorted(axes)
    assert file.data.dtype == data.dtype
    np.testing.assert_array_equal(file.data, data.transpose([axes.index(a) for a in file.axes]))
    found = read_ome_zarr(path)
    assert found.version == version
    where = {axis.letter: (axis.scale, axis.translation, axis.unit) for axis in found.axes}
    assert where["Y"] == where["X"] == (0.5, 3.0, "micrometer")
    assert file.resolution == (2.0, 2.0)


@pytest.mark.parametrize("lazy_above", [None, 0])
def test_names_of_channels_are_kept(tmp_path: Path, lazy_above: int | None) -> None:
    names = ["DAPI & more", "α-actin", "β"]
    metadata = {"axes": "TCYX", "Channel": {"Name": names}}
    tifffile.imwrite(tmp_path / "in.ome.tif", draw("TCYX"), ome=True, metadata=metadata)
    store(tmp_path / "in.ome.tif", tmp_path / "out.zarr", lazy_above=lazy_above)
    channels = read_ome_zarr(tmp_path / "out.zarr").channels["channels"]
    assert [one["label"] for one in channels] == names
    assert all(0 <= one["window"]["start"] < one["window"]["end"] <= 200 for one in channels)
    store(tmp_path / "out.zarr", tmp_path / "back.ome.tif", lazy_above=lazy_above)
    assert read_image(tmp_path / "back.ome.tif").metadata["ome"]["Channel"] == {"Name": names}
    # Axes that are given may say that these are no channels.
    store(tmp_path / "in.ome.tif", tmp_path / "planes.zarr", lazy_above=lazy_above, axes="TZYX")
    assert read_ome_zarr(tmp_path / "planes.zarr").channels == {}


def test_the_pyramid_halves_until_it_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_SMALLEST", 20)
    monkeypatch.setattr(writing, "_BLOCK", 16)
    data = draw("CYX")
    found = read_ome_zarr(write(tmp_path / "it.zarr", data, "CYX"))
    assert [level.shape for level in found.levels] == [(3, 70, 90), (3, 35, 45), (3, 18, 23), (3, 9, 12)]
    half = data.reshape(3, 35, 2, 45, 2).mean(axis=(2, 4))
    assert np.abs(found.levels[1][...] - half).max() <= 0.5
    odd = found.levels[1][...].astype(float)
    np.testing.assert_allclose(found.levels[2][:, -1, -1], odd[:, -1, -1])  # alone at its corner
    np.testing.assert_allclose(found.levels[2][:, 0, 0], odd[:, :2, :2].mean(axis=(1, 2)), atol=0.5)
    # Each pixel lies in the middle of those it was made from.
    assert [(axes[-1].scale, axes[-1].translation) for axes in found.level_axes] == [
        (0.5, 3.0),
        (1.0, 3.25),
        (2.0, 3.75),
        (4.0, 4.75),
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["YX", "TCZYX", "CYX", "YXS"])
def test_others_can_read_what_is_written(tmp_path: Path, version: str, axes: str) -> None:
    models = pytest.importorskip("ome_zarr_models")
    path = write(tmp_path / "it.zarr", draw(axes, "uint8"), axes, version=version)
    image = models.open_ome_zarr(zarr.open_group(str(path), mode="r"))
    assert type(image).__name__ == "Image"
    assert f"v{version.replace('.', '')}" in type(image).__module__


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stores_of_other_programs(tmp_path: Path, version: str) -> None:
    kinds = {"c": "channel", "z": "space", "y": "space", "x": "space"}
    axes = [
        {"name": a, "type": kind, **({"unit": "nanometer"} if kind == "space" else {})} for a, kind in kinds.items()
    ]
    omero = {"channels": [{"label": "DNA", "color": "0000FF"}, {"label": "actin"}, {}]}
    outer = [{"type": "scale", "scale": [1, 1, 2, 2]}, {"type": "translation", "translation": [0, 0, 7, 0]}]
    about = multiscales(version, axes, [1, 300, 50, 60], coordinateTransformations=outer)
    path = foreign(tmp_path / "theirs.zarr", version, draw("CZYX"), {**about, "omero": omero})
    found = read_ome_zarr(path)
    assert (found.letters, found.version) == ("CZYX", version)
    assert [axis.scale for axis in found.axes] == [1, 300, 100, 120]
    assert [axis.translation for axis in found.axes] == [0, 0, 7, 0]
    assert found.axes[1].micrometres == pytest.approx(0.3)
    assert found.channels == omero
    again = read_ome_zarr(store(path, tmp_path / "ours.zarr"))
    assert (again.letters, again.version, again.channels) == ("CZYX", version, omero)
    assert [axis.scale for axis in again.axes] == [1, 300, 100, 120]
    assert [axis.unit for axis in again.axes] == ["", "nanometer", "nanometer", "nanometer"]
    np.testing.assert_array_equal(again.levels[0][...], GAUSSIAN.apply(draw("CZYX"), "CZYX"))


def test_old_versions_and_plain_arrays(tmp_path: Path) -> None:
    old = foreign(tmp_path / "old.zarr", "0.2", draw("TCZYX"), multiscales("0.2", None, [1.0] * 5))
    assert read_image(old).axes == "TCZYX"
    for version in (2, 3):
        plain = tmp_path / f"plain{version}.zarr"
        zarr.create_array(str(plain), data=draw("ZYX"), zarr_format=version)
        file = read_image(plain)
        assert file.axes == "?YX"
        np.testing.assert_array_equal(file.data, draw("ZYX"))
        assert read_image(store(plain, tmp_path / "out.zarr")).axes == "?YX"
    named = tmp_path / "named.zarr"
    zarr.create_array(str(named), data=draw("XZY"), dimension_names=["x", "z", "y"])
    assert read_image(named).axes == "XZY"


def test_the_image_within_a_group_is_found(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "many.zarr"), mode="w")
    write(tmp_path / "many.zarr" / "0", draw("YX"), "YX")
    assert read_image(tmp_path / "many.zarr").axes == "YX"
    write(tmp_path / "many.zarr" / "1", draw("YX"), "YX")
    with pytest.raises(ValueError, match=r"holds 2 images: name one of them, as .*many.zarr/0"):
        read_image(tmp_path / "many.zarr")
    np.testing.assert_array_equal(read_image(tmp_path / "many.zarr" / "1").data, draw("YX"))
    group.attrs["ome"] = {"plate": {}}
    with pytest.raises(ValueError, match="is a plate of many images"):
        read_image(tmp_path / "many.zarr")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "is no OME-Zarr image: name one of its arrays, as"),
        ({"multiscales": []}, "description of this OME-Zarr image is damaged"),
        ({"multiscales": [{"version": "0.4", "datasets": [{}]}]}, "damaged"),
        ({"multiscales": [{"version": "0.4", "datasets": [{"path": "nowhere"}]}]}, "cannot be read"),
    ],
)
def test_stores_without_an_image(tmp_path: Path, attributes: dict[str, Any], words: str) -> None:
    path = foreign(tmp_path / "it.zarr", "0.4", draw("YX"), attributes)
    with pytest.raises(ValueError, match=words):
        read_image(path)


def test_a_store_is_one_image_among_files(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ome.zarr", draw("YX"), "YX")
    two = write(tmp_path / "two.zarr", draw("YX"), "YX")
    tifffile.imwrite(tmp_path / "three.tif", draw("YX"))
    assert find_images([tmp_path]) == sorted([one, two, tmp_path / "three.tif"])
    assert find_images([one]) == [one]
    assert find_images([str(tmp_path / "*.zarr")]) == [one, two]


# --- block by block -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["TCZYX", "YXS", "XY"])
def test_a_recipe_from_store_to_store(tmp_path: Path, axes: str) -> None:
    dtype = "uint8" if "S" in axes else "uint16"
    source = write(tmp_path / "in.zarr", draw(axes, dtype), axes)
    file = read_image(source, lazy_above=0)
    assert file.lazy
    path = store(source, tmp_path / "out.zarr")
    found = read_ome_zarr(path)
    np.testing.assert_array_equal(found.levels[0][...], GAUSSIAN.apply(file.data.compute(), file.axes))
    assert [(a.scale, a.translation) for a in found.axes] == [
        (a.scale, a.translation) for a in read_ome_zarr(source).axes
    ]
    record = dict(zarr.open_group(str(path), mode="r").attrs)[RECORD]
    assert Recipe.from_dict(record["recipe"]) == GAUSSIAN
    assert record["source"] == "in.zarr"


def test_the_mask_is_written_beside_the_image(tmp_path: Path) -> None:
    recipe = Recipe(["centre"])
    source = write(tmp_path / "in.zarr", draw("YXS", "uint8"), "YXS")
    done = run(
        process_file_iter(recipe, read_image(source, 0), tmp_path / "out.zarr", mask_path=tmp_path / "mask.zarr")
    )
    mask = read_image(tmp_path / "mask.zarr")
    assert mask.axes == "YX"
    assert set(np.unique(mask.data)) == {0, 255}
    assert done.kept == pytest.approx((mask.data > 0).mean())
    image = read_image(tmp_path / "out.zarr")
    assert not np.moveaxis(image.data, image.axes.index("S"), -1)[mask.data == 0].any()


@pytest.mark.parametrize(
    ("kind", "axes"),
    [*product(["plain", "tiled", "strips", "ome", "imagej"], ["YX", "ZYX", "YXS"]), ("npy", "YX"), ("npy", "ZYX")],
)
def test_large_files_are_read_and_written_block_by_block(tmp_path: Path, axes: str, kind: str) -> None:
    data = draw(axes, "uint8")
    path = tmp_path / ("in.npy" if kind == "npy" else "in.tif")
    colour = {"photometric": "rgb" if "S" in axes else "minisblack"}
    if kind == "npy":
        np.save(path, data)
    elif kind == "imagej":
        tifffile.imwrite(path, data, imagej=True, resolution=(4, 4), metadata={"axes": axes, "unit": "um"})
    else:
        how = {
            "tiled": {"tile": (32, 16), "compression": "zlib"},
            "strips": {"rowsperstrip": 8, "compression": "zlib"},
            "ome": {"ome": True},
        }.get(kind, {})
        size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25} if kind == "ome" else {}
        tifffile.imwrite(path, data, **colour, **how, metadata={"axes": axes, **size})
    file, small = read_image(path, lazy_above=0), read_image(path)
    assert file.lazy
    assert not small.lazy
    assert not read_image(path, lazy_above=data.nbytes).lazy
    assert (file.axes, file.resolution, file.unit, file.metadata) == (
        small.axes,
        small.resolution,
        small.unit,
        small.metadata,
    )
    np.testing.assert_array_equal(file.data.compute(scheduler="synchronous"), small.data)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(file)).data[..., 2].compute(), small.data[..., 2])
    expected = GAUSSIAN.apply(small.data, small.axes)
    back = read_image(store(path, tmp_path / f"out{path.suffix}"))
    np.testing.assert_array_equal(back.data, expected)
    if kind != "npy":
        assert (back.axes, back.resolution) == (small.axes, small.resolution)
    as_zarr = read_image(store(path, tmp_path / "out.zarr"))
    order = [small.axes.index(a) for a in as_zarr.axes]
    np.testing.assert_array_equal(as_zarr.data, expected.transpose(order))
    if kind in ("ome", "imagej"):
        assert as_zarr.resolution == (4.0, 4.0)


def test_many_blocks_go_to_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 4000, (2, 3000, 2700), np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", data, metadata={"axes": "ZYX"})
    recipe = Recipe([("gaussian", {"kernel_size": 3})], (0.0, 4000.0))
    expected = recipe.apply(data)
    for name in ("out.tif", "out.zarr", "out.npy"):
        np.testing.assert_array_equal(read_image(store(tmp_path / "in.tif", tmp_path / name, recipe)).data, expected)


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "histology_wsi/cmu_small_region.svs"])
def test_slides_are_read_lazily(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / name
    if not path.exists():
        pytest.skip("not among the shared data")
    file, whole = read_image(path, lazy_above=0), read_image(path)
    assert file.lazy
    part = (slice(300, 420), slice(700, 777))
    np.testing.assert_array_equal(file.data[part].compute(), whole.data[part])
    again = read_image(store(path, tmp_path / "slide.zarr"))
    assert again.axes == "SYX"
    assert again.resolution == pytest.approx([n / 1e4 for n in whole.resolution])
    np.testing.assert_array_equal(np.moveaxis(again.data, 0, -1), GAUSSIAN.apply(whole.data, whole.axes))


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_plane_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_denoise_classify.core.images._CHUNK_PIXELS", 1)


def a_chunk(path: Path) -> Path:
    return max(
        (p for p in (path / "0").rglob("*") if p.is_file() and p.suffix != ".json"), key=lambda p: p.stat().st_size
    )


def test_a_truncated_chunk_is_told_in_a_sentence(tmp_path: Path) -> None:
    source = write(tmp_path / "in.zarr", draw("ZYX"), "ZYX")
    chunk = a_chunk(source)
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"in.zarr.*a part of this image cannot be read, it is damaged"):
        store(source, tmp_path / "out.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["in.zarr"]


_KILLED = """
import os, pathlib, pickle, signal, sys
import numpy as np
canvas = pickle.loads(bytes.fromhex(sys.argv[1]))
pathlib.Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
canvas[:, :] = np.ones((70, 90), np.uint16)
"""


def test_a_helper_killed_in_the_middle_of_a_chunk_leaves_none_of_it(tmp_path: Path) -> None:
    pixels = draw("YX")
    with new_ome_zarr(tmp_path / "out.zarr", pixels.shape, pixels.dtype, [Axis("Y"), Axis("X")]) as canvas:
        helper = subprocess.run([sys.executable, "-c", _KILLED, pickle.dumps(canvas).hex()])
        assert helper.returncode == -signal.SIGKILL
        assert len(list(canvas.folder.rglob("*.partial"))) == 1
        canvas[slice(None), slice(None)] = pixels
        run(canvas.pyramid_iter())
    assert not list(tmp_path.rglob("*.partial"))
    np.testing.assert_array_equal(read_image(tmp_path / "out.zarr").data, pixels)


@pytest.mark.parametrize("target", ["out.zarr", "out.tif"])
@pytest.mark.usefixtures("one_plane_at_a_time")
def test_a_store_that_disappears_is_told_in_a_sentence(tmp_path: Path, target: str) -> None:
    source = write(tmp_path / "in.zarr", draw("TZYX"), "TZYX")
    store(source, tmp_path / "before.zarr")
    work = process_file_iter(Recipe(["gaussian"], "plane"), read_image(source, 0), tmp_path / target)
    for _ in range(6):
        next(work)
    shutil.rmtree(source)
    with pytest.raises(ValueError, match="is not there any more"):
        run(work)
    assert [p.name for p in tmp_path.iterdir()] == ["before.zarr"]
    assert read_image(tmp_path / "before.zarr").data.shape == draw("TZYX").shape


@pytest.mark.usefixtures("one_plane_at_a_time")
def test_a_cancelled_run_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "in.zarr", draw("TZYX"), "TZYX")
    for target in ("out.zarr", "out.tif"):
        work = process_file_iter(GAUSSIAN, read_image(source, 0), tmp_path / target)
        for _ in range(8):
            next(work)
        assert len([p for p in tmp_path.iterdir() if p.suffix != ".lock"]) == 2  # under a name of its own
        work.close()
        assert [p.name for p in tmp_path.iterdir()] == ["in.zarr"]


def test_a_full_disk_leaves_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "in.zarr", draw("TZYX"), "TZYX")
    target = store(source, tmp_path / "out.zarr", Recipe(["median"]))
    before = read_image(target).data

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Canvas, "__setitem__", full)
    with pytest.raises(OSError, match=r"out\.zarr could not be written: there is no space left"):
        store(source, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]
    np.testing.assert_array_equal(read_image(target).data, before)


def test_a_file_larger_than_the_disk_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "in.npy", draw("YX"))
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storing.shutil, "disk_usage", lambda _: used._replace(free=1000))
    with pytest.raises(OSError, match="more than the disk has left"):
        store(tmp_path / "in.npy", tmp_path / "out.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]


def test_results_are_replaced_whole(tmp_path: Path) -> None:
    source = write(tmp_path / "in.zarr", draw("YX"), "YX")
    target = store(source, tmp_path / "out.zarr", Recipe(["median"]))
    (target / "stray").write_text("x")
    store(source, target)
    assert not (target / "stray").exists()
    np.testing.assert_array_equal(read_image(target).data, GAUSSIAN.apply(draw("YX")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]
    assert json.loads((target / "zarr.json").read_text())["attributes"]["ome"]["version"] == "0.5"


def test_a_folder_that_is_no_ome_zarr_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "photos.zarr"
    folder.mkdir()
    (folder / "photo.txt").write_text("precious")
    axes = [Axis("Y"), Axis("X")]
    with (
        pytest.raises(ValueError, match="there already, and is no OME-Zarr: choose another name"),
        new_ome_zarr(folder, (4, 4), np.dtype("uint8"), axes),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zarr"]
    assert (folder / "photo.txt").read_text() == "precious"
