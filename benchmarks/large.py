"""Memory and time over the size of the image: OME-Zarr in, OME-Zarr or class map out, each run in its own process.

    python benchmarks/large.py --methods gaussian dncnn classify --workers workers.json --figure docs/images/scaling.png

makes noisy uint16 images of 0.25 to 256 megapixels in a temporary folder, denoises them by the command line, or
classifies them in tiles of 64 × 64 pixels by a random forest (``--methods classify``), and prints the largest memory of
each process (as the operating system counts it), seconds by the clock and of the processor, and
the latter per megapixel; they do not change with what else the machine is doing. Runs that are in the file of
``--results`` already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = (512, 1024, 2048, 4096, 8192, 16384)
_MAKE = """
import sys
from pathlib import Path
import numpy as np
from napari_denoise_classify.core.ome_zarr.axes import Axis
from napari_denoise_classify.core.ome_zarr.writing import new_ome_zarr
from napari_denoise_classify.core.progress import run

side, path, block = int(sys.argv[1]), Path(sys.argv[2]), 512
axes = [Axis(letter, 0.5, 0.0, "micrometer") for letter in "YX"]
rng = np.random.default_rng(0)
with new_ome_zarr(path, (side, side), np.uint16, axes) as canvas:
    for y in range(0, side, block):
        for x in range(0, side, block):
            wave = np.sin(np.arange(y, y + block) / 50)[:, None] * np.cos(np.arange(x, x + block) / 70)
            noisy = 2000 + 1000 * wave + rng.normal(0, 150, wave.shape)
            canvas[(slice(y, y + block), slice(x, x + block))] = noisy.astype(np.uint16)
    run(canvas.pyramid_iter())
"""
_TRAIN = """
import sys
import numpy as np
import napari_denoise_classify as ndc

rng = np.random.default_rng(0)
level = np.repeat([1500.0, 2500.0], 30)[:, None, None]
images = list((level + rng.normal(0, 150, (60, 64, 64))).astype(np.uint16))
crops = ndc.Crops(images, np.repeat(["dark", "bright"], 30), None, [f"crop {i}" for i in range(60)])
ndc.train_classifier(crops, "random_forest", trees=20).save(sys.argv[1])
"""
_RUN = "from napari_denoise_classify.cli import main; main()"


def measure(code: str, *arguments: object) -> dict[str, float]:
    """Run Python code in a process of its own; returns its largest resident memory in GB, and its seconds."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"The run failed: {' '.join(map(str, arguments))}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "gigabytes": round(usage.ru_maxrss * unit / 1e9, 3),
        "seconds": round(time.perf_counter() - start, 1),
        "processor": round(usage.ru_utime + usage.ru_stime, 1),
    }


def figure(rows: list[dict[str, float | str]], path: Path, workers: Path | None = None) -> None:
    """Draw time and memory over the size, and over the number of workers where they were measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axs = plt.subplots(1, 2 if workers is None else 3, figsize=(9 if workers is None else 13, 3.6))
    fig.set_layout_engine("constrained")
    left, right = axs[:2]
    if workers is not None:
        _bars(axs[2], json.loads(workers.read_text()))
    for method, marker in (("gaussian", "o"), ("dncnn", "s"), ("classify", "^")):
        some = sorted((r for r in rows if r["method"] == method), key=lambda r: r["megapixels"])
        size = [r["megapixels"] for r in some]
        left.plot(size, [r["processor"] for r in some], marker=marker, label=method)
        right.plot(size, [r["gigabytes"] for r in some], marker=marker, label=method)
    everything = sorted({float(r["megapixels"]) for r in rows})
    right.plot(everything, [mp * 2e6 * 2 / 1e9 for mp in everything], "k:", label="image and result alone")
    right.axhline(2, color="0.6", lw=1)
    for ax, title in ((left, "processor seconds, start of the program included"), (right, "largest memory, GB")):
        ax.set(xscale="log", yscale="log", xlabel="megapixels", title=title)
        ax.set_xticks(everything, [f"{mp:g}" for mp in everything])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    right.set_ylim(0.05, 8)
    right.set_yticks([0.1, 0.25, 0.5, 1, 2], ["0.1", "0.25", "0.5", "1", "2"])
    left.legend()
    right.legend(ncols=2, loc="upper center", fontsize=9)
    fig.savefig(path, dpi=150)


def _bars(ax: Any, found: dict[str, Any]) -> None:
    rows = [row for row in found["rows"] if row["gigabytes"] is not None]
    names = [row["way"].removeprefix("--scheduler, ").replace("here, ", "") for row in rows]
    bars = ax.bar(names, [row["seconds"] for row in rows], color="#56B4E9", width=0.6)
    ax.bar_label(bars, [f"{row['seconds']:.0f} s, {row['gigabytes']:.1f} GB" for row in rows], fontsize=9)
    ax.set(ylabel="seconds", title=f"{found['files']} images of {found['side']}², {found['method']}")
    ax.margins(y=0.15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="multiples of 512")
    parser.add_argument("--methods", nargs="+", default=["gaussian", "dncnn"])
    parser.add_argument("--folder", type=Path, help="for the images; default: a temporary one")
    parser.add_argument("--results", type=Path, help="JSON to add to")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--workers", type=Path, help="JSON of workers.py, for the figure")
    options = parser.parse_args()
    rows = json.loads(options.results.read_text()) if options.results and options.results.exists() else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for side in options.sides:
            for method in options.methods:
                if any(r["side"] == side and r["method"] == method for r in rows):
                    continue
                image = folder / f"{side}.ome.zarr"
                if not image.exists():
                    measure(_MAKE, side, image)
                what: list[object] = ["denoise", image, "--method", method]
                if method == "classify":
                    model = folder / "model.ndc"
                    if not model.exists():
                        measure(_TRAIN, model)
                    what = ["classify", image, "--model", model, "--tiles", 64]
                found = measure(_RUN, *what, "--output", folder / "out", "--overwrite")
                rows.append({"side": side, "method": method, "megapixels": side * side / 2**20, **found})
                if options.results:
                    options.results.write_text(json.dumps(rows, indent=1) + "\n")
    print("| image | method | largest memory, GB | seconds | processor seconds | of these per megapixel |")
    print("|---|---|---|---|---|---|")
    for r in sorted(rows, key=lambda r: (r["method"], r["side"])):
        numbers = (
            f"{r['gigabytes']:.2f} | {r['seconds']:.0f} | {r['processor']:.0f} | {r['processor'] / r['megapixels']:.2f}"
        )
        print(f"| {r['side']}² | {r['method']} | {numbers} |")
    if options.figure:
        figure(rows, options.figure, options.workers)


if __name__ == "__main__":
    main()
