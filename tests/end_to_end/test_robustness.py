"""What goes wrong outside of the program ends in one sentence, with finished outputs intact and nothing half-done."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.cli.images import ProcessFile
from napari_denoise_classify.core.progress import run as drive

from .command_line import PROGRAM, run, start


def failure(*arguments: object) -> list[str]:
    """Run a command that fails; returns the lines it says."""
    return run(*arguments, code=1).splitlines()


def picture(side: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (side, side)).astype(dtype)


def names(folder: Path) -> set[str]:
    """All that is in a folder, hidden files included."""
    return {path.name for path in folder.iterdir()}


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("Only the superuser can make a small disk.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_a_full_disk(small_disk: Path, tmp_path: Path, suffix: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i, side in enumerate((100, 500, 120)):
        path = images / f"{i}{suffix}"
        np.save(path, picture(side)) if suffix == ".npy" else iio.imwrite(path, picture(side))
    lines = failure("denoise", images, "-m", "none", "-o", small_disk / "out")
    assert "1 of 3 files failed:" in lines
    assert f"{small_disk}/out/1_none{suffix} could not be written: there is no space left" in lines[-1]
    assert names(small_disk / "out") == {f"0_none{suffix}", f"2_none{suffix}"}
    for i, side in ((0, 100), (2, 120)):
        path = small_disk / "out" / f"{i}_none{suffix}"
        kept = np.load(path) if suffix == ".npy" else iio.imread(path)
        np.testing.assert_array_equal(kept, picture(side))


def test_a_full_disk_while_a_zarr_is_written(small_disk: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    tifffile.imwrite(tmp_path / "0.tif", picture(600))
    lines = failure("denoise", tmp_path / "0.tif", "-m", "none", "--format", "zarr", "-o", small_disk)
    assert "1 of 1 files failed:" in lines
    assert "0_none.zarr could not be written: there is no space left" in lines[-1]
    assert names(small_disk) == set()


def test_a_full_disk_while_results_of_a_classifier_are_written(
    small_disk: Path, tmp_path: Path, forest: ndc.Classifier
) -> None:
    forest.save(tmp_path / "model.ndc")
    tifffile.imwrite(tmp_path / "0.tif", picture(64))
    (small_disk / "filler").write_bytes(bytes(190_000))
    for more in (("--tiles", "4"), ("--axes", "YX")):
        lines = failure("classify", tmp_path / "0.tif", "--model", tmp_path / "model.ndc", "-o", small_disk, *more)
        assert "could not be written: there is no space left" in lines[-1]
        assert names(small_disk) == {"filler"}
    with pytest.raises(OSError, match="there is no space left"):
        forest.save(small_disk / "model.ndc")
    assert names(small_disk) == {"filler"}


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A quota, by the limit on the size of files."""
    tifffile.imwrite(tmp_path / "0.tif", picture(300))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    found = subprocess.run(
        [*PROGRAM, "denoise", str(tmp_path / "0.tif"), "-m", "none", "-o", str(tmp_path / "out")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 1
    assert "0_none.tif could not be written: there is no space left, or no more is allowed." in found.stderr
    assert "Traceback" not in found.stderr
    assert names(tmp_path / "out") == set()


# --- files that cannot be read --------------------------------------------------------------------------------------


def test_truncated_files_do_not_stop_the_others(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "good.tif", picture(128))
    for name, options in {"plain": {}, "zlib": {"compression": "zlib"}, "tiled": {"tile": (64, 64)}}.items():
        tifffile.imwrite(images / f"{name}.tif", picture(128), **options)
        whole = (images / f"{name}.tif").read_bytes()
        (images / f"{name}.tif").write_bytes(whole[: len(whole) * 6 // 10])
    iio.imwrite(images / "picture.png", picture(128))
    whole = (images / "picture.png").read_bytes()
    (images / "picture.png").write_bytes(whole[: len(whole) // 2])
    (images / "nothing.tif").touch()
    (images / "folder.tif").mkdir()
    (images / "nowhere.tif").symlink_to("away.tif")
    (images / "around.tif").symlink_to("around.tif")
    bad = {
        "plain.tif",
        "zlib.tif",
        "tiled.tif",
        "picture.png",
        "nothing.tif",
        "folder.tif",
        "nowhere.tif",
        "around.tif",
    }
    lines = failure("denoise", images, "-m", "none", "-o", tmp_path / "out")
    assert f"{len(bad)} of {len(bad) + 1} files failed:" in lines
    told = lines[lines.index(f"{len(bad)} of {len(bad) + 1} files failed:") + 1 :]
    assert len(told) == len(bad)  # a line each
    assert {Path(line.strip().split(": ")[0]).name for line in told} == bad
    assert names(tmp_path / "out") == {"good_none.tif"}


@contextmanager
def without_rights() -> Iterator[None]:
    """Be nobody instead of the superuser, who may do everything."""
    if os.geteuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_what_may_not_be_read_or_written(tmp_path: Path) -> None:
    own = takewhile(lambda folder: folder.name.startswith(("pytest-", "popen-")), tmp_path.parents)
    for folder in (tmp_path, *own):
        folder.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    for name in ("secret", "open"):
        tifffile.imwrite(tmp_path / f"{name}.tif", picture(64))
    (tmp_path / "secret.tif").chmod(0)
    run("denoise", tmp_path / "open.tif", "-m", "median", "-o", tmp_path / "before")  # all is imported
    with without_rights():
        lines = failure("denoise", tmp_path / "secret.tif", tmp_path / "open.tif", "-m", "median", "-o", out)
        assert "1 of 2 files failed:" in lines
        assert "secret.tif: this file cannot be read as an image ([Errno 13] Permission denied" in lines[-1]
        assert names(out) == {"open_median.tif"}
    out.chmod(0o555)
    with without_rights():
        (_, line) = failure("denoise", tmp_path / "open.tif", "-m", "gaussian", "-o", out)
        assert f"Nothing can be written into {out}: choose another --output." in line
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    with without_rights():
        (line,) = failure("denoise", tmp_path / "open.tif", "-m", "gaussian", "-o", closed / "out")
        assert f"Nothing can be written into {closed / 'out'}: choose another --output." in line


def test_an_image_that_disappears_while_it_is_processed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    monkeypatch.setattr("napari_denoise_classify.cli.images.LARGE", 0)
    tifffile.imwrite(tmp_path / "0.tif", np.random.default_rng(0).integers(0, 9999, (5200, 600), dtype=np.uint16))
    drive(ProcessFile(tmp_path / "0.tif", tmp_path / "0.zarr", ndc.Recipe(["none"]), None, False).run_iter())
    out = tmp_path / "out"
    for suffix in (".zarr", ".tif"):
        source = tmp_path / "source.zarr"
        shutil.copytree(tmp_path / "0.zarr", source)
        work = ProcessFile(source, out / f"0{suffix}", ndc.Recipe(["gaussian"]), None, False).run_iter()
        assert any("block 2" in progress.message for progress in work)
        assert len([name for name in names(out) if not name.endswith(".lock")]) == 1
        shutil.rmtree(source)
        with pytest.raises(ValueError, match=r"source\.zarr.* is not there any more"):
            drive(work)
        assert names(out) == set()


# --- memory, and being stopped --------------------------------------------------------------------------------------


def test_no_memory_even_for_the_smallest_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", picture(64, seed=i))

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.nn.Conv2d, "forward", full)
    lines = failure("denoise", tmp_path, "-m", "dncnn", "-o", tmp_path / "out")
    assert lines[0] == "2 of 2 files failed:"
    assert len(lines) == 3
    assert all("There is not enough memory" in line for line in lines[1:])
    assert names(tmp_path / "out") == set()
    monkeypatch.undo()
    run("denoise", tmp_path, "-m", "dncnn", "-o", tmp_path / "out")  # the network is as good as before


def test_an_interrupted_command_keeps_what_is_finished(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        tifffile.imwrite(images / f"{i}.tif", picture(64 if i == 0 else 2500))
    process = start("denoise", images, "-m", "dncnn", "-o", tmp_path / "out")
    assert process.stdout is not None
    assert process.stdout.readline().endswith("0_dncnn.tif\n")
    time.sleep(1)  # within the second image, which takes a minute
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20  # a tile takes a second, on a busy machine some more
    assert process.returncode in (1, 130)
    assert "Traceback" not in err
    assert names(tmp_path / "out") == {"0_dncnn.tif"}
