"""The command line on OME-Zarr and on images that stay on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("zarr", minversion="3")

import napari_denoise_classify as ndc
from napari_denoise_classify.core.device import MEMORY_VARIABLE
from napari_denoise_classify.core.files import read_image
from napari_denoise_classify.core.ome_zarr.axes import Axis
from napari_denoise_classify.core.ome_zarr.reading import RECORD, read_ome_zarr
from napari_denoise_classify.core.ome_zarr.writing import new_ome_zarr
from napari_denoise_classify.core.progress import run as finish

from .command_line import run


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (2, 600, 700), np.uint16)


@pytest.fixture
def image(tmp_path: Path, data: np.ndarray) -> Path:
    path = tmp_path / "in" / "cells.ome.zarr"
    axes = [Axis("C"), Axis("Y", 0.5, 0.0, "micrometer"), Axis("X", 0.5, 0.0, "micrometer")]
    with new_ome_zarr(path, data.shape, data.dtype, axes, channels={"channels": [{"label": "DNA"}, {}]}) as canvas:
        canvas[tuple(slice(0, n) for n in data.shape)] = data
        finish(canvas.pyramid_iter())
    return path


def test_ome_zarr_in_and_out(tmp_path: Path, image: Path, data: np.ndarray) -> None:
    out = run("denoise", image, "--method", "gaussian", "--output", tmp_path / "results")
    target = tmp_path / "results" / "cells_gaussian.ome.zarr"
    assert str(target) in out
    found = read_ome_zarr(target)
    np.testing.assert_array_equal(found.levels[0][...], ndc.denoise(data, "gaussian", "CYX"))
    assert len(found.levels) == 2
    assert found.axes == read_ome_zarr(image).axes
    assert found.channels["channels"][0]["label"] == "DNA"
    record = json.loads((target / "zarr.json").read_text())["attributes"][RECORD]
    assert record["recipe"]["steps"][0]["step"] == "gaussian"
    assert [p.name for p in (tmp_path / "results").iterdir()] == [target.name]
    assert "exists already" in run("denoise", image, "-m", "gaussian", "-o", tmp_path / "results", code=1)
    run("denoise", image, "-m", "gaussian", "-o", tmp_path / "results", "--overwrite")


def test_a_folder_of_stores_and_files(tmp_path: Path, image: Path, data: np.ndarray) -> None:
    tifffile.imwrite(image.parent / "plain.tif", data[0])
    run("denoise", image.parent, "-m", "median", "-o", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cells_median.ome.zarr", "plain_median.tif"]


def test_any_image_can_become_ome_zarr_and_back(tmp_path: Path, data: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata={"axes": "ZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3})
    run("denoise", tmp_path / "a.ome.tif", "-m", "none", "-o", tmp_path / "out", "--format", "zarr")
    (target,) = (tmp_path / "out").iterdir()
    assert target.suffix == ".zarr"
    found = read_ome_zarr(target)
    assert found.letters == "ZYX"
    assert [(axis.scale, axis.unit) for axis in found.axes[1:]] == [(0.3, "micrometer"), (0.2, "micrometer")]
    run("denoise", target, "-m", "none", "-o", tmp_path / "back", "--format", "tif")
    back = read_image(next((tmp_path / "back").iterdir()))
    np.testing.assert_array_equal(back.data, data)
    assert (back.axes, back.metadata["ome"]["PhysicalSizeX"]) == ("ZYX", 0.2)


def test_centimetres_become_micrometres(tmp_path: Path, data: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", data[0], resolution=(20000, 40000), resolutionunit=3)
    run("denoise", tmp_path / "slide.tif", "-m", "none", "--format", "zarr", "-o", tmp_path)
    y, x = read_ome_zarr(tmp_path / "slide_none.zarr").axes
    assert (y.unit, x.unit) == ("micrometer", "micrometer")
    assert (y.scale, x.scale) == pytest.approx((0.25, 0.5))


def test_masks_of_ome_zarr(tmp_path: Path, image: Path, data: np.ndarray) -> None:
    out = run("mask", image, "-m", "centre", "--save-mask", "-o", tmp_path / "out")
    assert "(kept 34.3% of the pixels)" in out
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["cells_centre.ome.zarr", "cells_centre_mask.ome.zarr"]
    masked, mask = (read_image(tmp_path / "out" / name) for name in names)
    np.testing.assert_array_equal(masked.data, np.where(mask.data > 0, data, 0))


def test_axes_may_be_given(tmp_path: Path, image: Path, data: np.ndarray) -> None:
    run("denoise", image, "-m", "gaussian", "--axes", "ZYX", "-o", tmp_path / "out")
    found = read_ome_zarr(tmp_path / "out" / "cells_gaussian.ome.zarr")
    assert found.letters == "ZYX"
    np.testing.assert_array_equal(found.levels[0][...], ndc.denoise(data, "gaussian", "ZYX"))


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_masks_and_boolean_images_are_stored_alike_from_memory_and_from_disk(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).random((40, 50)) > 0.5
    if suffix == ".npy":
        np.save(tmp_path / "a.npy", image)
    else:
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", compression=None)
    run("mask", tmp_path / f"a{suffix}", "-m", "centre", "--save-mask", "-o", tmp_path / "memory")
    monkeypatch.setattr("napari_denoise_classify.cli.images.LARGE", 0)
    run("mask", tmp_path / f"a{suffix}", "-m", "centre", "--save-mask", "-o", tmp_path / "disk")
    names = sorted(p.name for p in (tmp_path / "memory").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "disk").iterdir())
    for name in names:
        small, large = (read_image(tmp_path / where / name).data for where in ("memory", "disk"))
        assert small.dtype == large.dtype
        np.testing.assert_array_equal(small, np.asarray(large))


def test_damage_is_one_sentence_and_finished_outputs_stay(tmp_path: Path, image: Path) -> None:
    broken = shutil.copytree(image, image.parent / "broken.ome.zarr")
    chunk = max((p for p in (broken / "0").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:99])
    out = run("denoise", image.parent, "-m", "gaussian", "-o", tmp_path / "out", code=1)
    assert "1 of 2 files failed" in out
    assert "it is damaged" in out.replace("\n", " ")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cells_gaussian.ome.zarr"]


def test_too_little_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.zarr"
    with new_ome_zarr(path, (6000, 6000), np.uint16, [Axis("Y"), Axis("X")]) as canvas:
        finish(canvas.pyramid_iter())
    monkeypatch.setenv(MEMORY_VARIABLE, "0.6")
    out = run("denoise", path, "-m", "wavelet", "--sigma", "20", "-o", tmp_path / "out", code=1)
    assert "wavelet needs whole planes" in out.replace("\n", " ")
    assert not list((tmp_path / "out").iterdir())


_PEAK = """
from pathlib import Path
from napari_denoise_classify.cli import main
try:
    main()
finally:
    print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's largest memory where Linux keeps it")
def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """A 64-megapixel image takes little more memory than a 4-megapixel one."""
    peaks = {}
    for side in (2048, 8192):
        path = tmp_path / f"{side}.zarr"
        with new_ome_zarr(path, (side, side), np.uint16, [Axis("Y"), Axis("X")]) as canvas:
            for y in range(0, side, 512):
                values = np.random.default_rng(y).integers(0, 4000, (512, side), np.uint16)
                canvas[(slice(y, y + 512), slice(0, side))] = values
            finish(canvas.pyramid_iter())
        arguments = ["denoise", str(path), "-m", "gaussian", "-o", str(tmp_path / "out")]
        done = subprocess.run([sys.executable, "-c", _PEAK, *arguments], capture_output=True, text=True, check=True)
        peaks[side] = int(done.stdout.split()[-2]) / 1024
    whole = 8192**2 * 4 / 2**20  # one plane as float32, in MB
    assert peaks[8192] - peaks[2048] < whole
    assert peaks[8192] < 1000
