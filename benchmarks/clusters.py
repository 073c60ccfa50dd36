"""Seconds of a processor that cluster masks take on an image of 4 megapixels and more; median of a few runs.

python benchmarks/clusters.py [IMAGE] [--side 2048] [--runs 3]

Without an image, noisy blobs on a 16-bit background of the given side are clustered.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import read_image
from napari_denoise_classify.core.mask.cluster import METHODS
from napari_denoise_classify.core.mask.clustering import FeatureSet


def blobs(side: int, samples: int) -> np.ndarray:
    """Draw three levels with noise, gray or RGB."""
    from skimage.data import binary_blobs

    rng = np.random.default_rng(0)
    levels = [binary_blobs(side, blob_size_fraction=0.05, volume_fraction=v, rng=rng) for v in (0.3, 0.1)]
    clean = 2000.0 + 8000 * levels[0] + 20_000 * levels[1]
    noisy = clean[..., None] + rng.normal(0, 1500, (side, side, samples))
    image = np.clip(noisy, 0, 65535).astype(np.uint16)
    return image if samples == 3 else image[..., 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.image is not None:
        file = read_image(arguments.image)
        images = {arguments.image.name: (np.asarray(file.data), file.axes)}
    else:
        images = {"gray": (blobs(arguments.side, 1), "YX"), "RGB": (blobs(arguments.side, 3), "YXS")}
    for name, (image, axes) in images.items():
        print(f"{name}: {image.shape} {image.dtype}")
        for features in ("intensity", "intensity_position", "intensity_local"):
            for method in METHODS:
                print(
                    f"  {features:20} {method:8} {seconds(image, axes, method, features, arguments.runs):6.2f} s",
                    flush=True,
                )


def seconds(image: np.ndarray, axes: str, method: str, features: FeatureSet, runs: int) -> float:
    """Return the median time of masking, on the processor: others may use the machine as well."""
    taken = []
    for _ in range(runs):
        start = time.process_time()
        ndc.mask(image, method, axes, features=features)
        taken.append(time.process_time() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
