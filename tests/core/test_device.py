import sys
from pathlib import Path

import pytest
import torch

from napari_denoise_classify.core.device import (
    MEMORY_VARIABLE,
    _group_memory,
    available_memory,
    keeping_memory,
    with_room_iter,
)
from napari_denoise_classify.core.progress import Progress, Steps, run


def write_group(folder: Path, limit: str, used: int, cached: int, version: int) -> None:
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {cached}\n")


def test_memory_is_some_of_what_the_machine_has() -> None:
    assert 2**20 < available_memory() < 2**50


@pytest.mark.parametrize(("text", "expected"), [("0.5", 500_000_000), ("2", 2_000_000_000), ("1e-3", 1_000_000)])
def test_memory_can_be_given(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, text)
    assert available_memory() == expected


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_memory_given_badly_is_a_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, text)
    with pytest.raises(ValueError, match="give a number of GB above 0"):
        available_memory()


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_group_counts_and_cached_files_give_way(version: int, tmp_path: Path) -> None:
    top = tmp_path / "fs" / ("memory" if version == 1 else ".")
    write_group(top / "batch", "1000", 300, 50, version)
    write_group(top / "batch" / "job", "max" if version == 2 else str(2**63 - 4096), 200, 0, version)
    groups = tmp_path / "cgroup"
    groups.write_text("3:cpu:/elsewhere\n" + ("4:memory:/batch/job\n" if version == 1 else "0::/batch/job\n"))
    assert _group_memory(tmp_path / "fs", groups) == 1000 - 300 + 50
    write_group(top / "batch" / "job", "500", 450, 0, version)
    assert _group_memory(tmp_path / "fs", groups) == 50
    write_group(top, "40", 10, 0, version)  # within a container
    assert _group_memory(tmp_path / "fs", groups) == 30


def test_no_group_is_no_limit(tmp_path: Path) -> None:
    assert _group_memory(tmp_path, tmp_path / "missing") == sys.maxsize


@pytest.mark.parametrize("library", [None, object()])
def test_keeping_memory_hides_no_errors_where_the_allocator_can_be_told_and_where_not(
    library: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library is not None:  # as on macOS and Windows
        monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    for error in (OSError, AttributeError, TypeError):
        with pytest.raises(error, match="mine"), keeping_memory():
            raise error("mine")
    done = []
    with keeping_memory():
        done.append(1)
    assert done == [1]


def test_work_goes_to_the_cpu_when_the_memory_of_the_gpu_is_full() -> None:
    """The device is one that computes nothing, in place of a GPU."""
    full = {"meta"}

    def work(device: torch.device) -> Steps[str]:
        yield Progress(0.5)
        if device.type in full:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return device.type

    notes: list[str] = []
    assert run(with_room_iter(torch.device("meta"), work), lambda p: notes.append(p.note)) == "cpu"
    assert "The GPU's memory was full: computed on the CPU." in notes
    full.add("cpu")
    with pytest.raises(MemoryError, match="not enough memory: close other programs"):
        run(with_room_iter(torch.device("meta"), work))


def test_errors_of_other_kinds_are_not_taken_for_full_memory() -> None:
    def work(device: torch.device) -> Steps[None]:
        yield Progress(0.5)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(with_room_iter(torch.device("meta"), work))
