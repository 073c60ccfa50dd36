"""The commands on a cluster: real schedulers and workers in processes of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.cli.images import ProcessFile
from napari_denoise_classify.core.progress import run as drive
from napari_denoise_classify.core.remote.connection import connected
from napari_denoise_classify.core.remote.running import _told_iter, run_jobs_iter
from napari_denoise_classify.core.remote.versions import check_versions

from .command_line import ENVIRONMENT, finish, run, start

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

SLOW = ("-m", "median", "--kernel-size", "9")  # on float pixels: about half a second for a megapixel


class Cluster:
    """A scheduler, and workers that nobody starts again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = (folder / "log").open("wb")
        self.scheduler = self._start("dask_scheduler", "--port", "0")

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        common = ("--scheduler-file", str(self.file), "--no-dashboard", "--host", "127.0.0.1")
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *common, *options],
            stdout=self.log,
            stderr=self.log,
            env={**ENVIRONMENT, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"},
        )

    def with_workers(self, count: int) -> Cluster:
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < count:
            self.workers.append(self._start("dask_worker", "--nthreads", "1", "--no-nanny"))
        return self

    def wait(self) -> Cluster:
        for _ in range(600):
            if self.file.exists():
                break
            time.sleep(0.1)
        return self

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield found.wait()
    finally:
        found.close()


@pytest.fixture
def cluster(scheduler: Cluster) -> Cluster:
    return scheduler.with_workers(2)


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    def make(count: int, side: int = 48, dtype: str = "uint8") -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / "images"
        folder.mkdir()
        for i in range(count):
            tifffile.imwrite(folder / f"{i}.tif", rng.integers(0, 250, (side, side)).astype(dtype))
        return folder

    return make


def same_files(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_the_same_files_lines_and_failures_as_here(images, cluster, tmp_path) -> None:
    folder = images(4)
    (folder / "broken.tif").write_bytes(b"II*\0 and no more")
    np.save(folder / "empty.npy", np.zeros((0, 5)))
    (tmp_path / "recipe.json").write_text(ndc.Recipe([("gaussian", {"kernel_size": 5}), "centre"]).to_json())
    found = {}
    for name, options in {"here": (), "there": ("--scheduler", cluster.file)}.items():
        (tmp_path / name).mkdir()
        arguments = ("../images", "--recipe", "../recipe.json", "-o", "results", "--save-mask", *options)
        (tmp_path / name / "results").mkdir()
        tifffile.imwrite(tmp_path / name / "results" / "2_gaussian_centre.tif", np.zeros((5, 5), np.uint8))
        found[name] = finish(start("mask", *arguments, folder=tmp_path / name), 1)
    (out, err), (out_there, err_there) = found["here"], found["there"]
    assert "3 of 6 files failed" in err  # the damaged, the empty, and the one that exists already
    assert "results/2_gaussian_centre.tif exists already" in err
    assert len(out.splitlines()) == 3
    assert "results/0_gaussian_centre.tif  (kept" in out
    assert sorted(out_there.splitlines()) == sorted(out.splitlines())
    assert err[err.index("3 of 6") :] == err_there
    same_files(tmp_path / "here" / "results", tmp_path / "there" / "results")


def test_a_killed_worker_loses_nothing(images, cluster, tmp_path) -> None:
    folder = images(10, 350, "float32")
    run("denoise", folder, *SLOW, "-o", tmp_path / "here")
    running = start("denoise", folder, *SLOW, "-o", tmp_path / "there", "--scheduler", cluster.file)
    assert running.stdout is not None
    first = running.stdout.readline()
    assert first.endswith("_median.tif\n")
    os.kill(cluster.workers[0].pid, signal.SIGKILL)
    out, _ = finish(running)
    assert len(out.splitlines()) == 9
    same_files(tmp_path / "here", tmp_path / "there")  # and no temporary file


def test_a_lost_scheduler_is_one_sentence(images, tmp_path) -> None:
    folder = images(20, 350, "float32")
    (tmp_path / "own").mkdir()
    own = Cluster(tmp_path / "own").with_workers(1)
    try:
        running = start("denoise", folder, *SLOW, "-o", tmp_path / "out", "--scheduler", own.wait().file)
        assert running.stdout is not None
        running.stdout.readline()
        own.scheduler.kill()
        _, err = finish(running, 1)
    finally:
        own.close()
    assert err.startswith(f"Error: The scheduler {own.file} was lost: what is finished is kept")
    assert len(err.splitlines()) == 1
    assert 1 <= len(list((tmp_path / "out").iterdir())) < 20


def test_ctrl_c_keeps_finished_files(images, cluster, tmp_path) -> None:
    folder = images(30, 450, "float32")
    running = start("denoise", folder, *SLOW, "-o", tmp_path / "out", "--scheduler", cluster.file)
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = finish(running, 130)
    assert "Stopped. Finished files are kept" in err
    done = sorted((tmp_path / "out").iterdir())
    assert 1 <= len(done) < 25
    assert not [path for path in done if path.name.startswith(".")]
    for path in done:
        assert tifffile.imread(path).shape == (450, 450)
    time.sleep(1.5)
    assert sorted((tmp_path / "out").iterdir()) == done  # the workers have stopped
    (folder / "0.tif").rename(tmp_path / "0.tif")
    finish(start("denoise", tmp_path / "0.tif", "-m", "none", "-o", tmp_path, "--scheduler", cluster.file))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An OME-Zarr of several blocks."""
    pytest.importorskip("zarr")
    from napari_denoise_classify.core.ome_zarr.axes import Axis
    from napari_denoise_classify.core.ome_zarr.writing import new_ome_zarr

    path = tmp_path / "large.ome.zarr"
    pixels = np.random.default_rng(0).integers(0, 60_000, (5200, 2100), dtype=np.uint16)
    with new_ome_zarr(path, pixels.shape, pixels.dtype, [Axis("Y"), Axis("X")]) as canvas:
        canvas[slice(None), slice(None)] = pixels
        drive(canvas.pyramid_iter())
    return path


def digests_of(path: Path) -> dict[str, str]:
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_blocks_of_a_zarr_are_shared_out(store, cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("napari_denoise_classify.cli.images.LARGE", 0)
    run("denoise", store, "-m", "gaussian", "-o", tmp_path / "here")
    finished = []

    def spy(client: Any, jobs: Any) -> Any:
        for progress in _told_iter(client, jobs):
            finished.append(progress.data)
            if len([one for one in finished if one is not None]) == 1 and cluster.workers[0].poll() is None:
                os.kill(cluster.workers[0].pid, signal.SIGKILL)
                cluster.workers[0].wait()
            yield progress

    monkeypatch.setattr("napari_denoise_classify.core.remote.running._told_iter", spy)
    run("denoise", store, "-m", "gaussian", "-o", tmp_path / "there", "--scheduler", cluster.file)
    assert len([one for one in finished if one is not None]) == 3
    one, other = (digests_of(tmp_path / name / "large_gaussian.ome.zarr") for name in ("here", "there"))
    assert one == other
    assert len(list((tmp_path / "there").iterdir())) == 1


def test_files_after_one_whose_blocks_are_shared_out(store, images, cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("napari_denoise_classify.cli.images.LARGE", 0)
    small = images(2)
    (tmp_path / "out").mkdir()
    recipe = ndc.Recipe(["gaussian"])
    jobs = [ProcessFile(store, tmp_path / "out" / "large.zarr", recipe, None, False)]
    jobs += [ProcessFile(small / f"{i}.tif", tmp_path / "out" / f"{i}.tif", recipe, None, False) for i in range(2)]
    found = drive(run_jobs_iter(jobs, str(cluster.file)))
    assert [(one.number, one.error) for one in found] == [(0, ""), (1, ""), (2, "")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.tif", "1.tif", "large.zarr"]


def test_a_zarr_that_goes_away_or_is_cancelled_leaves_nothing(store, cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("napari_denoise_classify.cli.images.LARGE", 0)
    job = ProcessFile(store, tmp_path / "out" / "large.zarr", ndc.Recipe(["gaussian"]), None, False)
    (tmp_path / "out").mkdir()

    def work() -> Any:
        return run_jobs_iter([job], str(cluster.file))

    steps = work()
    while "0 of 3 done" not in next(steps).message:
        pass
    steps.close()
    time.sleep(1)
    assert list((tmp_path / "out").iterdir()) == []
    steps = work()
    while "0 of 3 done" not in next(steps).message:
        pass
    shutil.rmtree(store)
    (found,) = drive(steps)
    # A worker notices it while it reads a block, or before it begins with one.
    during, before = f"{store / '0'}", f"{store} is not there for the worker on "
    assert (found.error.startswith(during) and "is not there any more" in found.error) or before in found.error
    assert list((tmp_path / "out").iterdir()) == []


def test_classify_on_a_cluster(images, forest, cluster, tmp_path) -> None:
    folder = images(1)
    forest.save(tmp_path / "model.ndc")
    points = tmp_path / "points.csv"
    points.write_text("y,x\n10,10\n30,20\n")
    for more in (("--points", points), ("--tiles", 16)):
        arguments = ("classify", folder, "--model", tmp_path / "model.ndc", *more, "-o")
        run(*arguments, tmp_path / "here")
        run(*arguments, tmp_path / "there", "--scheduler", cluster.file)
    for path in (tmp_path / "here").iterdir():
        if path.suffix in (".csv", ".tif"):
            assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()
    assert len(list((tmp_path / "there").iterdir())) == 2 + 4


def test_processes_of_this_machine_keep_what_they_free_and_are_never_paused() -> None:
    def about() -> tuple[str, bool, int]:
        import dask

        threshold = os.environ["MALLOC_TRIM_THRESHOLD_"]
        return threshold, dask.config.get("distributed.worker.memory.pause"), os.getsid(0)

    with connected(None, 2) as client:
        client.wait_for_workers(2, timeout=60)
        found = client.run(about)
    assert len(found) == 2
    for threshold, paused, session in found.values():
        assert int(threshold) >= 2**27
        assert not paused
        assert session != os.getsid(0)  # Ctrl-C of this terminal does not reach them
    for pid in {session for *_, session in found.values()}:
        assert not psutil.pid_exists(pid)


def test_a_study_on_a_cluster_that_loses_a_worker(cluster, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for i in range(48):
        (tmp_path / "crops" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100 + 100 * (i % 2), (16, 16)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "crops" / "ab"[i % 2] / f"{i}.tif", pixels)
    command = ["study", tmp_path / "crops", "--classifier", "random_forest:trees=500", "--classifier", "knn"]
    command += ["--recipe", "raw=raw", "--recipe", "blur=gaussian", "--design", "cross-validation:folds=4"]
    command += ["--cache", tmp_path / "cache"]
    run(*command, "-o", tmp_path / "here")
    running = start(*command, "-o", tmp_path / "there", "--scheduler", cluster.file)
    assert running.stderr is not None
    while "random_forest: macro-F1" not in running.stderr.readline():
        assert running.poll() is None
    os.kill(cluster.workers[0].pid, signal.SIGKILL)
    finish(running)
    here, there = ((tmp_path / name / "predictions.csv").read_bytes() for name in ("here", "there"))
    assert here == there
    assert not list((tmp_path / "there").glob(".*"))


_DEADLY = """
import cv2, os, signal, sys
from dataclasses import dataclass
from pathlib import Path
from napari_denoise_classify.core.whole import write_whole
from napari_denoise_classify.core.progress import Progress, run
from napari_denoise_classify.core.remote.running import run_jobs_iter

@dataclass(frozen=True)
class Job:
    path: Path
    deadly: bool
    @property
    def targets(self):
        return [self.path.with_suffix(".out")]
    def run_iter(self):
        yield Progress(0.5)
        if self.deadly:
            write_whole(self.targets[0], lambda path: os.kill(os.getpid(), signal.SIGKILL))
        text = f" {cv2.getNumThreads()} {os.environ['OMP_NUM_THREADS']} {os.environ['NAPARI_DENOISE_CLASSIFY_MEMORY']}"
        write_whole(self.targets[0], lambda path: path.write_text(text))
        return text

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    jobs = [Job(folder / f"{i}.in", i == 1) for i in range(4)]
    for job in jobs:
        job.path.touch()
    for done in run(run_jobs_iter(jobs, sys.argv[2])):
        print(done.number, done.result, done.error)
"""


def test_a_file_that_kills_every_worker_is_one_sentence(cluster, tmp_path) -> None:
    cluster.with_workers(4)
    script = tmp_path / "deadly.py"
    script.write_text(_DEADLY)
    (tmp_path / "jobs").mkdir()
    found = subprocess.run(
        [sys.executable, script, tmp_path / "jobs", cluster.file],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=120,
    )
    lines = found.stdout.splitlines()
    assert len(lines) == 4, found.stderr
    assert "1.in: the workers that were at it died again and again" in lines[1]
    for i in (0, 2, 3):
        number, opencv, torch, gigabytes = lines[i].split()
        assert (number, opencv, torch) == (str(i), "1", "1")  # the worker's thread
        assert 0 < float(gigabytes) < 0.9 * psutil.virtual_memory().total / 1e9
    names = {path.name for path in (tmp_path / "jobs").iterdir()}
    assert names == {*(f"{i}.in" for i in range(4)), *(f"{i}.out" for i in (0, 2, 3))}


def test_processes_of_this_machine(images, tmp_path) -> None:
    folder = images(3)
    out, _ = finish(start("denoise", folder, "-m", "median", "-o", tmp_path / "there", "--workers", 2))
    assert len(out.splitlines()) == 3
    finish(start("denoise", folder, "-m", "median", "-o", tmp_path / "here"))
    same_files(tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:{port}"), "No scheduler answers at tcp://127.0.0.1:{port}: start one with"),
        (("--scheduler", "nowhere.json"), "nowhere.json: there is no such file; give the scheduler's address"),
        (("--scheduler", "carrier-pigeon://somewhere:1"), "is no address of a scheduler"),
        (("--scheduler", "tcp://x:1", "--workers", "2"), "--scheduler and --workers exclude each other"),
    ],
)
def test_no_scheduler_is_one_sentence(images, tmp_path, options, words) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = images(1)
    begun = time.monotonic()
    arguments = [option.format(port=port) for option in options]
    _, err = finish(start("denoise", folder, "-m", "median", "-o", tmp_path / "out", *arguments), 1)
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 1
    assert words.format(port=port) in err
    assert time.monotonic() - begun < 25
    assert not list(tmp_path.glob("out/*"))


def test_other_versions_and_a_missing_package_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    def about(**changes: Any) -> dict[str, Any]:
        packages = {"python": "3.12.1.final.0", "distributed": "2026.8.0", "napari_denoise_classify": "1.0"}
        return {"packages": {**packages, **changes}}

    def check(scheduler: dict[str, Any], worker: dict[str, Any]) -> None:
        class Client:
            @staticmethod
            def get_versions(packages: list[str]) -> dict[str, Any]:
                assert packages == ["napari_denoise_classify"]
                return {"client": about(), "scheduler": scheduler, "workers": {"tcp://w:1": worker}}

        check_versions(Client())

    check(about(python="3.12.9.final.0", napari_denoise_classify=None), about())
    with pytest.raises(ValueError, match=r"The worker tcp://w:1 lacks napari-denoise-classify: install version"):
        check(about(), about(napari_denoise_classify=None))
    with pytest.raises(ValueError, match=r"The worker tcp://w:1 has version 0.9 of napari_denoise_classify, and this"):
        check(about(), about(napari_denoise_classify="0.9"))
    with pytest.raises(ValueError, match=r"The scheduler has version 3.11 of python, and this program 3.12: install"):
        check(about(python="3.11.4.final.0"), about())


def test_nothing_of_it_is_imported_without_the_options(images, tmp_path) -> None:
    code = (
        "import sys; from napari_denoise_classify.cli import app; "
        f"line = ['denoise', {str(images(1))!r}, '-m', 'none', '-o', {str(tmp_path)!r}]; "
        "app(line, standalone_mode=False); assert 'distributed' not in sys.modules; "
        "sys.modules['distributed'] = None; app([*line, '--overwrite', '--workers', '2'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1, found.stderr
    assert "pip install 'napari-denoise-classify[cluster]'" in found.stderr
    assert "Traceback" not in found.stderr
