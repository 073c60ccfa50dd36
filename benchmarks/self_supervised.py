"""One noisy image and nothing else: the step ``self_supervised`` beside the best classical filter of each image.

    python benchmarks/self_supervised.py DATA

DATA holds ``w2s_pairs``: real noisy widefield images, and the mean of 400 shots to judge by (nothing is trained on it).
Each filter gets its best parameter for each image, which only who has the clean image can know. Affine-matched PSNR.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import read_image

IMAGES = ("001_0", "025_1", "049_2", "073_0", "085_1", "097_2")
SWEEPS = {
    "gaussian": [{"blur_sigma": s, "kernel_size": 2 * int(np.ceil(3 * s)) + 1} for s in (1, 1.5, 2, 2.5, 3, 4)],
    "median": [{"kernel_size": k} for k in (3, 5, 7, 9, 11)],
    "tv": [{"sigma": s} for s in (10, 20, 30, 45, 60)],
    "nlm": [{"sigma": s} for s in (10, 20, 30, 45, 60)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", nargs="*", default=list(IMAGES))
    parser.add_argument("--parameters", nargs="*", default=[], help="of the step, as training_steps=1000")
    arguments = parser.parse_args()
    parameters = dict(item.split("=", 1) for item in arguments.parameters)
    pairs = arguments.data / "w2s_pairs"
    rows = []
    print(
        "| image | noisy | best filter | its parameters | self-supervised | gain | s |\n|---|---|---|---|---|---|---|"
    )
    for name in arguments.images:
        noisy, clean = (read_image(pairs / kind / f"{name}.png").data.astype(np.float32) for kind in ("noisy", "clean"))

        def judge(image: np.ndarray, clean: np.ndarray = clean) -> float:
            return float(ndc.compare(clean, image, value_range=255).iloc[0]["psnr_matched"])

        swept = [
            (judge(ndc.denoise(noisy, step, intensity_range=(0, 255), **given)), f"{step} {given}")
            for step, grid in SWEEPS.items()
            for given in grid
        ]
        best, how = max(swept)
        start = time.perf_counter()
        ours = judge(ndc.denoise(noisy, "self_supervised", intensity_range=(0, 255), **parameters))
        seconds = time.perf_counter() - start
        rows.append((judge(noisy), best, ours, seconds))
        print(
            f"| {name} | {rows[-1][0]:.2f} | {best:.2f} | {how} | {ours:.2f} | {ours - best:+.2f} | {seconds:.0f} |",
            flush=True,
        )
    noise, best, ours, seconds = np.mean(rows, axis=0)
    print(f"| mean | {noise:.2f} | {best:.2f} | | {ours:.2f} | {ours - best:+.2f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
