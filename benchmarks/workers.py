"""A batch of files on one and two worker processes beside the plain command: seconds, ratio, memory; median of three.

Each process has one thread, so that two workers have twice what the plain command has. Memory is the largest of the
command and of each of its workers, added up.

    python benchmarks/workers.py
    python benchmarks/workers.py --method dncnn --side 1024 --files 8 --rounds 1 --results workers.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

PROGRAM = [sys.executable, "-c", "from napari_denoise_classify.cli import main; main()"]
ONE_THREAD = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**27),  # see the docs: else dask's workers give back memory at once
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}


class Cluster:
    """A scheduler with workers of one thread each, that are up when the clock starts."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.file = folder / f"scheduler{workers}.json"
        options = ["--scheduler-file", str(self.file), "--no-dashboard", "--host", "127.0.0.1"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ONE_THREAD}
        self.processes = [
            subprocess.Popen([sys.executable, "-m", f"distributed.cli.{name}", *options, *more], **quiet)
            for name, more in [("dask_scheduler", ["--port", "0"]), *[("dask_worker", ["--nthreads", "1"])] * workers]
        ]
        from distributed import Client

        while not self.file.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(self.file)) as client:
            client.wait_for_workers(workers, timeout=120)

    def memory(self) -> float:
        """The largest memory of each worker so far, in bytes, added up."""
        from distributed import Client

        with Client(scheduler_file=str(self.file)) as client:
            return float(sum(client.run(_largest).values()))

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def _largest() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(images: Path, output: Path, method: str, options: list[str]) -> tuple[float, float]:
    """Run the command; returns the seconds that it took, and its own largest memory in bytes."""
    start = time.perf_counter()
    command = [*PROGRAM, "denoise", str(images), "-m", method, "-o", str(output), "--overwrite", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ONE_THREAD)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("The run failed.")
    return time.perf_counter() - start, usage.ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--method", default="bm3d")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="JSON to write, for the figure of large.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        rng = np.random.default_rng(0)
        for i in range(options.files):
            image = rng.normal(100, 20, (options.side, options.side)).clip(0, 255).astype(np.uint8)
            tifffile.imwrite(folder / "images" / f"{i}.tif", image)
        found: dict[str, list[tuple[float, float]]] = {}
        clusters = {f"--scheduler, {n} worker{'s' * (n > 1)}": Cluster(folder, n) for n in (1, 2)}
        try:
            ways = {name: ["--scheduler", str(cluster.file)] for name, cluster in clusters.items()}
            for way in ways.values():  # workers import what they need
                measure(folder / "images" / "[0-3].tif", folder / "out", options.method, way)
            for _ in range(options.rounds):
                for way, more in {"here, one process": [], **ways, "--workers 2": ["--workers", "2"]}.items():
                    found.setdefault(way, []).append(measure(folder / "images", folder / "out", options.method, more))
            workers = {name: cluster.memory() for name, cluster in clusters.items()}
        finally:
            for cluster in clusters.values():
                cluster.close()
    here = statistics.median(took for took, _ in found["here, one process"])
    print(f"{options.files} images of {options.side} × {options.side}, {options.method}, one thread for each process")
    print(f"{os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}; median of {options.rounds}\n")
    print("| way | seconds | times as fast | memory, GB |\n|---|---|---|---|")
    rows = []
    for way, runs in found.items():
        took = statistics.median(time for time, _ in runs)
        # The processes that --workers starts are not counted.
        memory = None if way == "--workers 2" else (max(m for _, m in runs) + workers.get(way, 0.0)) / 1e9
        rows.append({"way": way, "seconds": round(took, 1), "gigabytes": memory and round(memory, 2)})
        print(f"| {way} | {took:.1f} | {here / took:.2f} | {'' if memory is None else f'{memory:.2f}'} |")
    if options.results:
        about = {"files": options.files, "side": options.side, "method": options.method, "rows": rows}
        options.results.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
