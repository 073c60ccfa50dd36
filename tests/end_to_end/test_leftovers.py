"""What a run that was killed has left is cleared by the next one; what another run is writing is not touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", minversion="3")
if os.name != "posix":
    pytest.skip("Processes are stopped by signals here.", allow_module_level=True)

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import find_images, read_image
from napari_denoise_classify.core.ome_zarr.axes import Axis
from napari_denoise_classify.core.ome_zarr.writing import new_ome_zarr
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.storing import process_file_iter
from napari_denoise_classify.core.whole import claimed, clear_leftovers, remove_temporaries

_WRITE = """
import sys, time
from pathlib import Path
import numpy as np
from napari_denoise_classify import Recipe
from napari_denoise_classify.core.files import read_image
from napari_denoise_classify.core.storing import process_file_iter

source, target = map(Path, sys.argv[1:])
for progress in process_file_iter(Recipe(["median"]), read_image(source, lazy_above=0), target):
    if progress.message.startswith("block 2"):
        print("writing", flush=True)
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (3000, 200), np.uint8))
    return path


def start(source: Path, target: Path) -> subprocess.Popen[str]:
    """Start a run, and wait until it is in the midst of writing."""
    process = subprocess.Popen([sys.executable, "-c", _WRITE, source, target], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def write(source: Path, target: Path) -> None:
    run(process_file_iter(ndc.Recipe(["median"]), read_image(source, lazy_above=0), target))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["x.zarr", "x.npy"])
def test_a_killed_run(tmp_path: Path, source: Path, name: str) -> None:
    process = start(source, tmp_path / name)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    left = names(tmp_path)
    assert len(left) == 2
    assert all(path.startswith(".x-") for path in left)
    if name.endswith(".zarr"):
        with pytest.raises(ValueError, match="no such file, and no image"):
            find_images([tmp_path])  # no half of an image is taken for one
    write(source, tmp_path / "y.zarr")  # another output: not its business
    assert set(left) < set(names(tmp_path))
    write(source, tmp_path / name)
    assert names(tmp_path) == sorted([name, "y.zarr"])


def test_a_run_that_lives(tmp_path: Path, source: Path) -> None:
    process = start(source, tmp_path / "x.zarr")
    try:
        before = names(tmp_path)
        write(source, tmp_path / "x.zarr")
        assert names(tmp_path) == sorted([*before, "x.zarr"])
        remove_temporaries(tmp_path / "x.zarr")
        assert not clear_leftovers(tmp_path / "x.zarr")
        assert names(tmp_path) == sorted([*before, "x.zarr"])
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert clear_leftovers(tmp_path / "x.zarr")
    assert names(tmp_path) == ["x.zarr"]


def test_leftovers_of_other_computers_stay(tmp_path: Path) -> None:
    left = tmp_path / ".x-abcdefgh.zarr"
    left.mkdir()
    (tmp_path / ".x-abcdefgh.zarr.lock").write_text("some other computer")
    assert not clear_leftovers(tmp_path / "x.zarr")
    assert left.is_dir()
    remove_temporaries(tmp_path / "x.zarr")  # when all workers of a cluster have ended
    assert names(tmp_path) == []


def test_a_killed_replacement_is_ended(tmp_path: Path) -> None:
    for done in (False, True):  # the old one was put aside; and the new one was put in its place
        (tmp_path / ".old-abcdefgh" / "x.zarr").mkdir(parents=True)
        for name in ("old", "zarr.json"):
            (tmp_path / ".old-abcdefgh" / "x.zarr" / name).touch()
        (tmp_path / ".old-other123" / "y.zarr").mkdir(parents=True, exist_ok=True)
        if done:
            assert (tmp_path / "x.zarr" / "old").exists()
        with pytest.raises(KeyError), new_ome_zarr(tmp_path / "x.zarr", (4, 4), "u1", [Axis("Y"), Axis("X")]):
            raise KeyError
        assert names(tmp_path) == [".old-other123", "x.zarr"]


def test_the_mark_goes_with_the_work(tmp_path: Path) -> None:
    seen: list[str] = []

    def work() -> None:
        with claimed(tmp_path / "it"):
            seen.extend(names(tmp_path))
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert seen == ["it.lock"]
    assert names(tmp_path) == []
