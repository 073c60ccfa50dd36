"""Image files: axes and pixel sizes come back, damaged files are refused, and files appear whole or not at all."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_denoise_classify.core import files
from napari_denoise_classify.core.device import MEMORY_VARIABLE
from napari_denoise_classify.core.files import ImageFile, find_images, read_image, write_like
from napari_denoise_classify.core.whole import write_whole

SHAPES = {"T": 2, "C": 3, "Z": 4, "Y": 11, "X": 13, "S": 3, "?": 5}


def draw(axes: str, dtype: str = "uint8") -> np.ndarray:
    shape = tuple(SHAPES[letter] for letter in axes)
    return np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 200, shape).astype(dtype)


def source(axes: str, **fields: Any) -> ImageFile:
    return ImageFile(np.empty(0), axes, Path("source.tif"), **fields)


# --- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["YX", "YXS", "ZYX", "TYX", "CYX", "?YX", "TZYX", "TCZYX", "ZYXS", "TZCYX"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_tiff_round_trip(tmp_path: Path, axes: str, dtype: str) -> None:
    data = draw(axes, dtype)
    path = write_like(tmp_path / "it.tif", data, source(axes, resolution=(2.5, 4.0), unit="centimeter"))
    back = read_image(path)
    np.testing.assert_array_equal(back.data, data)
    assert back.data.dtype == data.dtype
    assert back.axes == axes
    assert back.resolution == pytest.approx((2.5, 4.0))
    assert back.unit == "centimeter"


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "TZCYX", "YXS"])
def test_imagej_files_stay_imagej_files(tmp_path: Path, axes: str) -> None:
    meta = {"axes": axes, "unit": "um", "spacing": 0.5, "finterval": 3.0}
    tifffile.imwrite(tmp_path / "in.tif", draw(axes), imagej=True, resolution=(4.0, 2.5), metadata=meta)
    original = read_image(tmp_path / "in.tif")
    assert original.axes == axes
    assert original.unit == "um"
    back = read_image(write_like(tmp_path / "out.tif", original.data, original))
    np.testing.assert_array_equal(back.data, original.data)
    assert (back.axes, back.resolution, back.unit) == (original.axes, original.resolution, original.unit)
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.is_imagej
        assert tif.imagej_metadata["spacing"] == 0.5
        assert tif.imagej_metadata["finterval"] == 3.0


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TCZYX", "YXS"])
def test_ome_files_stay_ome_files(tmp_path: Path, axes: str) -> None:
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "in.ome.tif", draw(axes), ome=True, metadata={"axes": axes, **sizes})
    original = read_image(tmp_path / "in.ome.tif")
    back = read_image(write_like(tmp_path / "out.ome.tif", original.data, original))
    np.testing.assert_array_equal(back.data, original.data)
    assert back.axes == original.axes == axes
    assert back.metadata["ome"] == original.metadata["ome"] == sizes


@pytest.mark.parametrize("axes", ["YX", "CYX", "TCZYX", "ZYXS"])
def test_names_of_channels_are_kept(tmp_path: Path, axes: str) -> None:
    names = ["DAPI & more", "α-actin", "β"] if "C" in axes else ["H&E"]
    tifffile.imwrite(tmp_path / "in.ome.tif", draw(axes), ome=True, metadata={"axes": axes, "Channel": {"Name": names}})
    original = read_image(tmp_path / "in.ome.tif")
    assert original.metadata["ome"]["Channel"]["Name"] == names
    back = read_image(write_like(tmp_path / "out.ome.tif", original.data, original))
    assert back.metadata["ome"] == original.metadata["ome"]
    # Of another number of channels, nobody knows which is which.
    if "C" in axes:
        fewer = original.data.take([0, 1], original.axes.index("C"))
        assert "Channel" not in read_image(write_like(tmp_path / "two.ome.tif", fewer, original)).metadata["ome"]


@pytest.mark.parametrize("axes", ["SYX", "ZSYX"])
def test_planar_colour_is_read_with_its_axes(tmp_path: Path, axes: str) -> None:
    tifffile.imwrite(tmp_path / "it.tif", draw(axes), photometric="rgb", planarconfig="separate")
    back = read_image(tmp_path / "it.tif")
    np.testing.assert_array_equal(back.data, draw(axes))
    assert back.axes.replace("?", "Z") == axes
    again = read_image(write_like(tmp_path / "again.tif", back.data, back))
    np.testing.assert_array_equal(again.data, back.data)
    assert again.axes == back.axes


def test_large_images_are_tiled_and_come_back(tmp_path: Path) -> None:
    data = np.tile(np.arange(2100, dtype=np.uint16), (30, 1))
    path = write_like(tmp_path / "it.tif", data, source("YX"))
    np.testing.assert_array_equal(read_image(path).data, data)
    assert path.stat().st_size < data.nbytes / 2


@pytest.mark.parametrize(("axes", "dtype"), [("YX", "uint8"), ("YX", "uint16"), ("YXS", "uint8")])
def test_png_round_trip(tmp_path: Path, axes: str, dtype: str) -> None:
    data = draw(axes, dtype) * (200 if dtype == "uint16" else 1)
    back = read_image(write_like(tmp_path / "it.png", data, source(axes)))
    np.testing.assert_array_equal(back.data, data)
    assert (back.data.dtype, back.axes) == (data.dtype, axes)


def test_npy_round_trip(tmp_path: Path) -> None:
    data = draw("TZYX", "float32")
    back = read_image(write_like(tmp_path / "it.npy", data, source("TZYX")))
    np.testing.assert_array_equal(back.data, data)
    assert back.axes == "??YX"


def test_masks_are_written_as_0_and_255(tmp_path: Path) -> None:
    mask = draw("ZYX", "bool")
    back = read_image(write_like(tmp_path / "mask.tif", mask, source("ZYXS"), axes="ZYX"))
    np.testing.assert_array_equal(back.data, mask * np.uint8(255))
    assert back.axes == "ZYX"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_read(tmp_path: Path, suffix: str) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    iio.imwrite(tmp_path / f"it{suffix}", rgba)
    back = read_image(tmp_path / f"it{suffix}")
    np.testing.assert_array_equal(back.data, rgba)
    assert back.axes == "YXS"


def test_gray_with_alpha_is_gray(tmp_path: Path) -> None:
    from PIL import Image

    data = draw("YX")
    Image.merge("LA", [Image.fromarray(data), Image.new("L", data.shape[::-1], 255)]).save(tmp_path / "it.png")
    back = read_image(tmp_path / "it.png")
    np.testing.assert_array_equal(back.data, data)
    assert back.axes == "YX"


@pytest.mark.parametrize("lazy_above", [None, 0])
def test_numbers_of_colours_become_colours(tmp_path: Path, lazy_above: int | None) -> None:
    from PIL import Image

    few = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8), 6, 0), 6, 1)
    for name in ("it.tif", "it.png"):
        Image.fromarray(few).quantize(20).save(tmp_path / name)
        back = read_image(tmp_path / name, lazy_above)
        np.testing.assert_array_equal(np.asarray(back.data), few)
        assert (back.axes, back.data.dtype, back.data.shape) == ("YXS", np.uint8, few.shape)
    # Grays may stand in any order.
    gray = Image.fromarray(few[..., 0] // 64, mode="P")
    gray.putpalette([level for level in (200, 10, 250, 90) for _ in range(3)])
    gray.save(tmp_path / "it.tif")
    back = read_image(tmp_path / "it.tif", lazy_above)
    assert back.axes == "YX"
    np.testing.assert_array_equal(np.asarray(back.data), np.array([200, 10, 250, 90])[few[..., 0] // 64])


def test_colours_that_intensities_are_shown_in_are_left_alone(tmp_path: Path) -> None:
    data, colours = draw("YX"), np.random.default_rng(0).integers(0, 2**16, (3, 256)).astype(np.uint16)
    for options in ({"description": "ImageJ=1.54f\n", "metadata": None}, {"ome": True}):
        tifffile.imwrite(tmp_path / "it.ome.tif", data, colormap=colours, photometric="palette", **options)
        back = read_image(tmp_path / "it.ome.tif")
        np.testing.assert_array_equal(back.data, data)
        assert back.axes == "YX"


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_colours_of_print_are_refused(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    Image.new("CMYK", (9, 8)).save(tmp_path / f"it{suffix}")
    with pytest.raises(ValueError, match="it is a CMYK picture for print: save it as RGB"):
        read_image(tmp_path / f"it{suffix}")


# --- real files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "axes", "shape"),
    [
        ("stacks/C1-MAX_mitosis_TYX.tif", "TYX", (51, 196, 171)),
        ("stacks/pollen_ZYX.tif", "ZYX", (32, 256, 256)),
        ("histology_wsi/cmu_small_region.svs", "YXS", (2967, 2220, 3)),
        ("collagen/TACS-3a.jpg", None, None),
    ],
)
def test_real_files(shared_data: Path, name: str, axes: str | None, shape: tuple[int, ...] | None) -> None:
    image = read_image(shared_data / name)
    assert image.data.ndim == len(image.axes)
    assert image.data.std() > 0
    if shape is not None:
        assert image.data.shape == shape
        assert image.axes.replace("?", axes[0] if axes else "") == axes


# --- bad files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp", ".npy"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, suffix: str, keep: float) -> None:
    data = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    path = tmp_path / f"it{suffix}"
    np.save(path, data) if suffix == ".npy" else iio.imwrite(path, data)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=rf"it\{suffix}: this file cannot be read as an image"):
        read_image(path)


def write_stack(path: Path, kind: str, data: np.ndarray) -> None:
    """Write a stack as one of the programs that do."""
    from PIL import Image

    if kind == "pages":
        with tifffile.TiffWriter(path) as tif:
            for plane in data:
                tif.write(plane, metadata=None, contiguous=False)
    elif kind == "Pillow":
        first, *others = (Image.fromarray(plane) for plane in data)
        first.save(path, save_all=True, append_images=others)
    else:
        options: dict[str, Any] = {
            "ImageJ": {"imagej": True},
            "OME": {"ome": True, "metadata": {"axes": "ZYX"}},
            "OME, compressed": {"ome": True, "compression": "zlib"},
            "compressed": {"compression": "zlib"},
            "tiled": {"compression": "zlib", "tile": (16, 16)},
            "big": {"bigtiff": True, "compression": "zlib"},
            "plain": {},
        }
        tifffile.imwrite(path, data, **options[kind])


STACKS = ["ImageJ", "OME", "OME, compressed", "compressed", "tiled", "big", "plain", "pages", "Pillow"]


@pytest.mark.parametrize("lazy_above", [None, 0])
@pytest.mark.parametrize("kind", STACKS)
def test_stacks_that_end_early_are_refused(tmp_path: Path, kind: str, lazy_above: int | None) -> None:
    data = np.random.default_rng(0).integers(0, 4095, (12, 40, 40)).astype(np.uint16)
    path = tmp_path / ("it.ome.tif" if kind.startswith("OME") else "it.tif")
    write_stack(path, kind, data)
    content = path.read_bytes()
    np.testing.assert_array_equal(np.asarray(read_image(path, lazy_above).data), data)
    for keep in (0.05, 0.3, 0.6, 0.9):
        path.write_bytes(content[: int(keep * len(content))])
        with pytest.raises(ValueError, match=r"tif: (this file|a part of this image) cannot be read"):
            np.asarray(read_image(path, lazy_above).data)


def test_an_ome_file_without_the_end_of_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.ome.tif"
    tifffile.imwrite(path, draw("TCYX"), ome=True, metadata={"axes": "TCYX"})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="it ends early, or is damaged"):
        read_image(path)


def test_large_imagej_stacks_have_one_page_for_all_planes(tmp_path: Path) -> None:
    """So ImageJ writes more than 4 GB: no pointer goes beyond the end of one that was cut."""
    path, data = tmp_path / "it.tif", draw("ZYX")
    tifffile.imwrite(path, data, imagej=True)
    with tifffile.TiffFile(path) as tif:
        start, pointer = tif.pages.first.dataoffsets[0], tif.pages.first.offset + 2 + 12 * len(tif.pages.first.tags)
    content = bytearray(path.read_bytes()[: start + data.nbytes])
    content[pointer : pointer + 4] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path).data, data)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="it ends early, or is damaged"):
        read_image(path)


def test_a_description_may_promise_planes_that_never_were(tmp_path: Path) -> None:
    """Programs that save one plane of a stack copy what ImageJ said of all."""
    path, plane = tmp_path / "it.tif", draw("YX")
    with open(path, "wb") as file:  # the page after its pixels, as libtiff writes them
        description = b"ImageJ=1.54f\nimages=12\nslices=12\n\0"
        tags = [(256, 3, 1, 13), (257, 3, 1, 11), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        tags += [(270, 2, len(description), 8 + plane.nbytes), (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 11)]
        tags += [(279, 4, 1, plane.nbytes)]
        end = 8 + plane.nbytes + len(description)
        file.write(struct.pack("<2sHI", b"II", 42, end) + plane.tobytes() + description)
        file.write(struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4))
    np.testing.assert_array_equal(read_image(path).data, plane)


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.tif"
    write_like(path, draw("YX"), source("YX"))
    monkeypatch.setattr(files, "LARGE", 100)
    assert read_image(path).data.shape == (11, 13)
    monkeypatch.setenv(MEMORY_VARIABLE, "0.0000001")
    with pytest.raises(
        MemoryError, match=r"^[^\n]*it\.tif: the image takes 0\.0 GB of memory, and 0\.0 GB are free: close"
    ):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("it.png", b"", "it is damaged, or no PNG"),
        ("it.png", b"This is no image. ", "it is damaged, or no PNG"),
        ("it.jpg", b"", "it is damaged, or of another kind than its name says"),
        ("it.bmp", b"This is no image. ", "it is damaged, or of another kind than its name says"),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot be read as an image \({words}\)\.$"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".tif", ".svs", ".png", ".jpg", ".bmp", ".npy"])
def test_foreign_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"it{suffix}"
    path.write_bytes(b"This is no image. " * 100)
    with pytest.raises(ValueError, match=rf"it\{suffix}: this file cannot be read as an image"):
        read_image(path)


def test_arrays_with_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "it.npy", np.array([{"a": 1}, None], object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image(tmp_path / "it.npy")


@pytest.mark.parametrize(("name", "words"), [("none.png", "no such file"), ("it.txt", "this kind of file is not read")])
def test_files_that_are_not_images(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "it.txt").write_text("text")
    with pytest.raises(ValueError, match=words):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "axes", "dtype"),
    [("it.png", "ZYX", "uint8"), ("it.png", "YX", "float32"), ("it.jpg", "YX", "uint8"), ("it", "YX", "uint8")],
)
def test_formats_that_cannot_hold_it(tmp_path: Path, name: str, axes: str, dtype: str) -> None:
    with pytest.raises(ValueError, match=r"\.tif"):
        write_like(tmp_path / name, draw(axes, dtype), source(axes))
    assert list(tmp_path.iterdir()) == []


# --- finding and writing --------------------------------------------------------------------------------------------


def test_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.TIF", "notes.txt", "sub/c.png"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images([tmp_path])] == ["a.TIF", "b.png"]
    assert [p.name for p in find_images([tmp_path / "**" / "*.png"])] == ["b.png", "c.png"]
    assert [p.name for p in find_images([tmp_path / "b.png", tmp_path])] == ["b.png", "a.TIF"]
    with pytest.raises(ValueError, match=r"\*\.jpg: there is no such file"):
        find_images([tmp_path, tmp_path / "*.jpg"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "it.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_write_replaces_the_file_with_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "it.txt"
    write_whole(path, lambda temporary: temporary.write_text("one"))
    write_whole(path, lambda temporary: temporary.write_text("two"))
    (tmp_path / "other.txt").touch()
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode == (tmp_path / "other.txt").stat().st_mode


def test_the_permissions_of_other_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The umask belongs to the whole process: changed for a moment, files of other threads are open to everybody."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was changed"))
    write_whole(tmp_path / "it.txt", lambda temporary: temporary.write_text("one"))
