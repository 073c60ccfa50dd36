"""Macro-F1, time and memory of every classifier on labelled crops, split by group.

    python benchmarks/classifiers.py CROPS.csv --group image [--cnn-input-size 32] [--seed 0]

Each is trained and tested by the command ``train`` in a process of its own; peak memory is that process's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--group")
    parser.add_argument("--cnn-input-size", default="32")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--methods", nargs="+", default=["knn", "random_forest", "svm", "cnn"])
    options = parser.parse_args()
    print("| classifier | macro-F1 | accuracy | balanced accuracy | n | seconds | peak memory (MB) |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for method in options.methods:
            model = Path(folder) / f"{method}.ndc"
            command = [sys.executable, "-c", "from napari_denoise_classify.cli import main; main()", "train"]
            command += [str(options.crops), "-m", method, "-o", str(model), "--seed", options.seed]
            command += ["--group", options.group] if options.group else []
            command += ["--input-size", options.cnn_input_size] if method == "cnn" else []
            start = time.perf_counter()
            quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
            process = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
            _, status, usage = os.wait4(process, 0)
            seconds = time.perf_counter() - start
            if status:
                raise SystemExit(f"{method} failed")
            with zipfile.ZipFile(model) as archive:
                e = json.loads(archive.read("model.json"))["training"]["evaluation"]
            print(
                f"| {method} | {e['macro_f1']:.3f} | {e['accuracy']:.3f} | {e['balanced_accuracy']:.3f} | {e['n']} "
                f"| {seconds:.0f} | {usage.ru_maxrss / 1024:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
