"""Time and peak memory of classifying the objects of one large image, against a plain loop over them.

    python benchmarks/objects.py [--objects 10000] [--loop 500] [--crop 16] [--methods random_forest cnn]
        [--repeats 3] [--threads 1] [--seed 0]

The loop is what one would write by hand: scikit-image's ``regionprops``, then for each object a crop out of the
reflected image and the classifier's ``predict_proba`` on it. It runs on the first ``--loop`` objects only, and its time
is scaled up to all of them. Both give the same probabilities, which is checked (to 0.02 with
``NAPARI_DENOISE_CLASSIFY_PRECISION=fast``). Every run is a process of its own,
whose peak memory is given; figures are medians of the repeats. "import" is a process that only reads the image, the
labels and the classifier. Seconds of the processor, on one thread, are what a busy machine disturbs least.
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


def make(folder: Path, count: int, crop: int, methods: list[str], seed: int) -> None:
    """Draw bright and dark discs on a grid, 16 bit, and train classifiers on 400 of them."""
    import napari_denoise_classify as ndc
    from napari_denoise_classify.core.classify.objects import listed_classes
    from napari_denoise_classify.core.classify.sampling import crops_from_objects

    rng = np.random.default_rng(seed)
    across = int(np.ceil(np.sqrt(count)))
    cell = crop + 4
    side = across * cell
    image = rng.normal(1000, 100, (side, side)).astype(np.float32)
    labels = np.zeros((side, side), np.int32)
    y, x = np.mgrid[:cell, :cell] - (cell - 1) / 2
    disc = np.hypot(y, x) < crop / 2.5
    bright = rng.random(count) < 0.4
    for k in range(count):
        area = tuple(slice(n * cell, (n + 1) * cell) for n in divmod(k, across))
        image[area][disc] += 600 if bright[k] else 250
        labels[area][disc] = k + 1
    np.save(folder / "image.npy", image.astype(np.uint16))
    np.save(folder / "labels.npy", labels)
    ids = np.arange(1, min(count, 400) + 1)
    classes = np.where(bright[: len(ids)], "bright", "dim")
    crops = crops_from_objects(image.astype(np.uint16), labels, listed_classes(ids, classes), crop=crop)
    for method in methods:
        small = {"input_size": max(16, crop), "epochs": 4} if method == "cnn" else {}
        ndc.train_classifier(crops, method, seed=seed, **small).save(folder / f"{method}.ndc")


def work(folder: Path, method: str, how: str, loop: int) -> None:
    """Do one run and print its seconds, its peak memory in MB and the number of objects."""
    import resource

    import napari_denoise_classify as ndc
    from napari_denoise_classify.core.classify.objects import measure_objects

    image, labels = np.load(folder / "image.npy"), np.load(folder / "labels.npy")
    classifier = ndc.load_classifier(folder / f"{method}.ndc")
    size = classifier.crop_size
    classifier.predict_proba(image[:size, :size])  # what is imported only now is none of the run's business
    count = int(labels.max())
    start, processor = time.perf_counter(), time.process_time()
    proba = np.zeros((0, 2))
    if how == "this package":
        objects = measure_objects(labels)
        table = ndc.classify(image, classifier, centres=objects.centres, ids=objects.ids).table
        proba = table[[f"p_{name}" for name in classifier.classes]].to_numpy()
    elif how == "plain loop":
        from skimage.measure import regionprops

        padded = np.pad(image, size, mode="reflect")
        rows = []
        for region in regionprops(labels)[:loop]:
            top, left = np.rint(region.centroid).astype(int) - size // 2 + size
            rows.append(classifier.predict_proba(padded[top : top + size, left : left + size])[0])
        proba, count = np.array(rows), len(rows)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    np.save(folder / f"{method} {how}.npy", proba)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak, "count": count}))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--loop", type=int, default=500)
    parser.add_argument("--crop", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=["random_forest", "cnn"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Path(options.work[0]), options.work[1], options.work[2], options.loop)
        return
    os.environ |= {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    print(f"{options.objects} objects, crops of {options.crop} px, 16 bit; {options.threads} threads\n")
    print("| classifier | how | seconds | CPU seconds | objects/s | peak memory (MB) | times as fast, by CPU |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.objects, options.crop, options.methods, options.seed)
        for method in options.methods:
            runs: dict[str, list[dict[str, float]]] = {"import": [], "plain loop": [], "this package": []}
            for _ in range(options.repeats):  # in turns, so that a busy moment meets all of them
                for how, done in runs.items():
                    command = [sys.executable, __file__, "--loop", str(options.loop), "--work", name, method, how]
                    done.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            times, used = (
                {
                    how: statistics.median(run[key] / run["count"] for run in done) * options.objects
                    for how, done in runs.items()
                }
                for key in ("seconds", "processor")
            )
            for how, done in runs.items():
                row = [f"{times[how]:.1f}", f"{used[how]:.1f}", f"{options.objects / times[how]:.0f}"]
                row = row if how != "import" else ["", "", ""]
                gain = ""
                if how == "this package":
                    gain = f"{times['plain loop'] / times[how]:.0f}, {used['plain loop'] / used[how]:.1f}"
                peak = statistics.median(run["peak"] for run in done)
                print(f"| {method} | {how} | {' | '.join(row)} | {peak:.0f} | {gain} |", flush=True)
            loop, ours = (np.load(folder / f"{method} {how}.npy") for how in ("plain loop", "this package"))
            exact = os.environ.get("NAPARI_DENOISE_CLASSIFY_PRECISION") != "fast"
            np.testing.assert_allclose(ours[: len(loop)], loop, atol=1e-5 if exact else 0.02)


if __name__ == "__main__":
    main()
