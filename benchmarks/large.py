"""Memory and time over the size of the image: OME-Zarr in, OME-Zarr out, each run in a process of its own.

    python benchmarks/large.py --figure docs/images/scaling.png

makes noisy uint16 images of 0.25 to 256 megapixels in a temporary folder, denoises them by the command line, and prints
the largest memory of each process (as the operating system counts it), seconds by the clock and of the processor, and
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

SIDES = (512, 1024, 2048, 4096, 8192, 16384)
_MAKE = """
import sys
from pathlib import Path
import numpy as np
from napari_denoise_classify.core.ome_zarr import Axis, new_ome_zarr
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


def figure(rows: list[dict[str, float | str]], path: Path) -> None:
    """Draw time and memory over the size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for method, marker in (("gaussian", "o"), ("dncnn", "s")):
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
    right.set_ylim(0.05, 4)
    right.set_yticks([0.1, 0.25, 0.5, 1, 2], ["0.1", "0.25", "0.5", "1", "2"])
    left.legend()
    right.legend()
    fig.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="multiples of 512")
    parser.add_argument("--methods", nargs="+", default=["gaussian", "dncnn"])
    parser.add_argument("--folder", type=Path, help="for the images; default: a temporary one")
    parser.add_argument("--results", type=Path, help="JSON to add to")
    parser.add_argument("--figure", type=Path)
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
                found = measure(_RUN, "denoise", image, "--method", method, "--output", folder / "out", "--overwrite")
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
        figure(rows, options.figure)


if __name__ == "__main__":
    main()
