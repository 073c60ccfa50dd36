"""Ten thousand crops of 128 × 128 RGB pixels: time and peak memory beside scikit-learn and plain loops.

    python benchmarks/at_size.py [--crops 10000] [--side 128] [--repeats 3] [--only knn svm] [--threads 2] [--seed 0]

The crops lie around nuclei of synthetic H&E tissue; as many of another piece of tissue are known. Every run is a
process of its own, whose peak memory is given, the pixels it starts from included. scikit-learn gets pixels as it
takes them, flattened floats. Where it or a loop would take very long it does a part of the work, and its time is scaled
up; the table says which part. Predictions of both are checked to be the same. Seconds of the processor, on one thread,
are what a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

NEIGHBOURS, TREES = 5, 50
# Work: its runs, each with the part of the crops that it does; the last is this package's.
WORKS: dict[str, dict[str, float]] = {
    "cutting crops": {"loop": 1.0, "this package, copies": 1.0, "this package": 1.0},
    "knn": {"scikit-learn": 0.02, "this package": 0.2},
    "svm, training": {"scikit-learn": 0.1, "this package": 0.1},
    "svm": {"scikit-learn": 0.0005, "this package": 0.1},
    "linear svm": {"scikit-learn": 0.0005, "this package": 1.0},
    "random_forest": {"scikit-learn": 1.0, "this package": 1.0},
    "random_forest, one by one": {"loop": 0.01, "this package": 1.0},
    "cnn": {"loop": 0.03, "PyTorch, batches of 128": 0.1, "this package": 1.0},
}


def make(folder: Path, count: int, side: int, seed: int, works: list[str]) -> None:
    """Draw two pieces of tissue, one to learn from, and fit what takes long and is asked for, unless it is there."""
    import napari_denoise_classify as ndc
    from napari_denoise_classify.core.classify.classical import ForestClassifier, SVMClassifier
    from napari_denoise_classify.core.classify.scaled import ScaledCrops

    if not (folder / "new classes.npy").exists():
        draw(folder, count, side, seed)
    known, classes = np.load(folder / "known.npy"), np.load(folder / "known classes.npy")
    crops = ScaledCrops(known, (0, 255))
    fitted = {
        "svm": SVMClassifier(input_size=side, calibration="none"),
        "linear svm": SVMClassifier(input_size=side, kernel="linear", calibration="none"),
        "random_forest": ForestClassifier(input_size=side, trees=TREES),
    }
    wanted = {what.split(",")[0] for what in works if not (folder / f"{what.split(',')[0]}.pickle").exists()}
    for name, estimator in fitted.items():
        if name not in wanted:
            continue
        some = len(known) // 5 if name == "random_forest" else len(known)
        start = time.perf_counter()
        estimator.fit(crops[:some], classes[:some])
        print(f"fitted {name} to {some} crops in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(estimator))
    if "cnn" not in wanted:
        return
    data = ndc.Crops(list(known[:64]), classes[:64], None, [str(i) for i in range(64)])
    cnn = ndc.train_classifier(data, "cnn", epochs=1, input_size=side, batch_size=16, views=1)
    (folder / "cnn.pickle").write_bytes(pickle.dumps(cnn.estimator))


def draw(folder: Path, count: int, side: int, seed: int) -> None:
    """Draw the tissue, and cut the crops."""
    from napari_denoise_classify.core.classify.sampling import crop_around
    from napari_denoise_classify.core.images import PlaneImage
    from napari_denoise_classify.core.synthetic import he_cells

    across = 2 * side + int(np.sqrt(count / 5.2e-4))
    for name, number in (("known", seed), ("new", seed + 1)):
        field = he_cells((across, across), seed=number)
        table = field.table.sample(frac=1, random_state=number)[:count]
        if len(table) < count:
            raise SystemExit(f"only {len(table)} nuclei: give fewer --crops")
        centres = table[["y", "x"]].to_numpy()
        np.save(folder / f"{name} image.npy", field.image)
        np.save(folder / f"{name} centres.npy", centres)
        np.save(folder / f"{name}.npy", np.stack(crop_around(PlaneImage.wrap(field.image, rgb=True), centres, side)))
        np.save(folder / f"{name} classes.npy", table["class"].to_numpy(np.str_))


def flat(folder: Path, name: str, dtype: Any, part: float = 1.0) -> Any:
    """Return flattened pixels from 0 to 1."""
    crops = np.load(folder / f"{name}.npy")
    crops = crops[: max(1, round(part * len(crops)))]
    out = crops.reshape(len(crops), -1).astype(dtype)
    out /= 255
    return out


def work(folder: Path, what: str, how: str, part: float) -> dict[str, Any]:
    """Do one run; return its seconds and the number of crops. What it found is saved."""
    import_module("torch")  # what is imported only now is none of the run's business

    prepare = {"cutting crops": cutting, "knn": neighbours, "svm, training": training, "cnn": network}.get(what, other)
    compute = prepare(folder, what, how, part)
    start, processor = time.perf_counter(), time.process_time()
    found, count = compute()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    if found is not None:
        np.save(folder / f"{what} {how}.npy", found)
    return {"seconds": seconds, "processor": processor, "count": count}


Compute = Callable[[], tuple[Any, int]]


def cutting(folder: Path, what: str, how: str, part: float) -> Compute:
    from napari_denoise_classify.core.classify.batches import Samples
    from napari_denoise_classify.core.classify.sampling import crop_around
    from napari_denoise_classify.core.images import PlaneImage

    image, centres = np.load(folder / "new image.npy"), np.load(folder / "new centres.npy")
    side = np.load(folder / "new.npy", mmap_mode="r").shape[1]
    source = PlaneImage.wrap(image, rgb=True)

    def loop() -> tuple[Any, int]:
        crops = []
        half = side // 2
        for y, x in np.rint(centres).astype(int):
            top, left = y - half, x - half
            bottom, right = top + side - image.shape[0], left + side - image.shape[1]
            inside = image[max(top, 0) : top + side, max(left, 0) : left + side]
            pad = ((max(-top, 0), max(bottom, 0)), (max(-left, 0), max(right, 0)), (0, 0))
            crops.append(np.pad(inside, pad, mode="reflect"))
        return np.array([crop.sum() for crop in crops[:100]]), len(crops)

    def copies() -> tuple[Any, int]:
        crops = crop_around(source, centres, side)
        return np.array([crop.sum() for crop in crops[:100]]), len(crops)

    def ours() -> tuple[Any, int]:
        found = np.zeros(len(centres))
        for rows, crops in Samples.around(source, centres, side).batches():
            for row, crop in zip(rows, crops, strict=True):
                if row < 100:
                    found[row] = crop.sum()
        return found[:100], len(centres)

    return {"loop": loop, "this package, copies": copies, "this package": ours}[how]


def neighbours(folder: Path, what: str, how: str, part: float) -> Compute:
    classes = np.load(folder / "known classes.npy")
    if how == "scikit-learn":
        from sklearn.neighbors import KNeighborsClassifier

        model = KNeighborsClassifier(NEIGHBOURS, weights="distance", algorithm="brute")
        model.fit(flat(folder, "known", np.float32), classes)
        new = flat(folder, "new", np.float32, part)
        return lambda: (model.predict_proba(new), len(new))
    from napari_denoise_classify.core.classify.classical import NeighboursClassifier
    from napari_denoise_classify.core.classify.scaled import ScaledCrops

    known, crops = (np.load(folder / f"{name}.npy") for name in ("known", "new"))
    ours = NeighboursClassifier(input_size=known.shape[1], neighbours=NEIGHBOURS, balance="none")
    ours.fit(ScaledCrops(known, (0, 255)), classes)
    count = round(part * len(crops))
    return lambda: (ours.predict_proba(ScaledCrops(crops[:count], (0, 255))), count)


def training(folder: Path, what: str, how: str, part: float) -> Compute:
    classes, known = np.load(folder / "known classes.npy"), np.load(folder / "known.npy")
    count = round(part * len(known))
    if how == "scikit-learn":
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        model = make_pipeline(StandardScaler(), SVC(class_weight="balanced", cache_size=1000))
        table = flat(folder, "known", np.float64, part)

        def fit() -> tuple[Any, int]:
            model.fit(table[:count], classes[:count])
            return None, count

        del known
        return fit
    from napari_denoise_classify.core.classify.classical import SVMClassifier
    from napari_denoise_classify.core.classify.scaled import ScaledCrops

    ours = SVMClassifier(input_size=known.shape[1], calibration="none")
    crops = ScaledCrops(known, (0, 255))

    def fit_ours() -> tuple[Any, int]:
        ours.fit(crops[:count], classes[:count])
        return None, count

    return fit_ours


def network(folder: Path, what: str, how: str, part: float) -> Compute:
    import torch

    from napari_denoise_classify.core.classify.scaled import ScaledCrops

    crops = np.load(folder / "new.npy")
    estimator = pickle.loads((folder / "cnn.pickle").read_bytes())
    model = estimator.network_.eval()
    count = max(1, round(part * len(crops)))
    size = 1 if how == "loop" else 128

    def plain() -> tuple[Any, int]:
        parts = []
        with torch.no_grad():
            for start in range(0, count, size):
                x = torch.from_numpy(crops[start : min(start + size, count)].astype(np.float32) / 255)
                parts.append(torch.softmax(model(x.permute(0, 3, 1, 2)), 1))
        return torch.cat(parts).double().numpy(), count

    if how != "this package":
        return plain
    return lambda: (estimator.predict_proba(ScaledCrops(crops[:count], (0, 255))), count)


def other(folder: Path, what: str, how: str, part: float) -> Compute:
    """Return a run of a support vector machine or a forest that was fitted before."""
    from napari_denoise_classify.core.classify.scaled import ScaledCrops

    estimator = pickle.loads((folder / f"{what.split(',')[0]}.pickle").read_bytes())
    crops = np.load(folder / "new.npy")
    count = max(1, round(part * len(crops)))
    if how == "this package":
        return lambda: (estimator.predict_proba(ScaledCrops(crops[:count], (0, 255))), count)
    last = estimator.model_[-1]
    if "forest" in what:
        flattened = crops[:count].reshape(count, -1)  # the forest was fitted to grey levels
        if how == "loop":
            return lambda: (np.concatenate([last.predict_proba(row[None]) for row in flattened]), count)
        return lambda: (last.predict_proba(flattened.astype(np.float32)), count)
    from sklearn.svm import SVC

    from napari_denoise_classify.core.classify.calibration import softmax

    model = SVC(**last.get_params())
    model.__dict__.update({key: value for key, value in vars(last).items() if key not in ("mean_", "scale_")})
    model.support_vectors_ = (last.support_vectors_ - last.mean_) / last.scale_
    table = (crops[:count].reshape(count, -1) - last.mean_) / last.scale_

    def margins() -> tuple[Any, int]:
        found = model.decision_function(table)
        return softmax(found if found.ndim == 2 else np.column_stack([-found, found])), count

    return margins


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep what is drawn and fitted there, for the next time")
    parser.add_argument("--make", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Path(options.make[0]), *map(int, options.make[1:4]), options.make[4:])
        return
    if options.work:
        import resource

        folder, what, how, part = options.work
        found = work(Path(folder), what, how, float(part))
        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    os.environ |= {name: str(options.threads) for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary if options.folder is None else options.folder)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [str(number) for number in (options.crops, options.side, options.seed)]
        # In a process of its own: runs would inherit its peak memory.
        subprocess.run([sys.executable, __file__, "--make", str(folder), *numbers, *options.only], check=True)
        side = options.side
        print(f"{options.crops} crops of {side} × {side} × 3, {options.threads} threads, median of {options.repeats}\n")
        print("| work | how | done | seconds for all | CPU seconds | peak memory (MB) | times as fast, by CPU |")
        print("|---|---|---|---|---|---|---|")
        for what in options.only:
            measure(folder, what, options.repeats)


def measure(folder: Path, what: str, repeats: int) -> None:
    """Print the rows of one work."""
    runs = WORKS[what]
    times: dict[str, list[float]] = {how: [] for how in runs}
    used: dict[str, list[float]] = {how: [] for how in runs}
    peaks: dict[str, list[float]] = {how: [] for how in runs}
    counts: dict[str, int] = {}
    for _ in range(repeats):  # in turns, so that a busy moment meets all of them
        for how, part in runs.items():
            command = [sys.executable, __file__, "--work", str(folder), what, how, str(part)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            counts[how] = found["count"]
            times[how].append(found["seconds"])
            used[how].append(found["processor"])
            peaks[how].append(found["peak"])
    # The time of training does not grow in proportion: it stands for the part that both did.
    most = max(counts.values()) if "training" in what else len(np.load(folder / "new.npy", mmap_mode="r"))
    baseline = next(iter(runs))
    seconds, processor = (
        {how: statistics.median(found[how]) / counts[how] * most for how in runs} for found in (times, used)
    )
    for how in runs:
        gain = "" if how == baseline else f"{processor[baseline] / processor[how]:.1f}"
        spent = (f"{seconds[how]:.2f}", f"{processor[how]:.2f}")
        row = (what, how, counts[how], *spent, f"{statistics.median(peaks[how]):.0f}", gain)
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    results = [np.load(file) for how in runs if (file := folder / f"{what} {how}.npy").exists()]
    for result in results[1:]:
        common = min(len(results[0]), len(result))
        np.testing.assert_allclose(result[:common], results[0][:common], rtol=1e-4, atol=1e-5)
        if result.ndim == 2:
            np.testing.assert_array_equal(result[:common].argmax(1), results[0][:common].argmax(1))


if __name__ == "__main__":
    main()
