"""PSNR of DnCNN weights on Set12 with fresh Gaussian noise.

    python benchmarks/set12.py FOLDER [WEIGHTS ...] [--sigma 15 25 50] [--self-ensemble]

FOLDER holds the twelve images; WEIGHTS are names or files (default: the shipped ones).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import find_images, read_image
from napari_denoise_classify.core.noise import add_gaussian, psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", nargs="*", default=["auto"])
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--self-ensemble", action="store_true", help="mean over eight orientations")
    options = parser.parse_args()
    images = [read_image(path).data for path in find_images([options.folder])]
    print(f"| weights | {' | '.join(f'σ {s:g}' for s in options.sigma)} |")
    print(f"|---|{'---|' * len(options.sigma)}")
    for weights in options.weights:
        cells = []
        for sigma in options.sigma:
            values = []
            for i, clean in enumerate(images):
                noisy = add_gaussian(clean, sigma, np.random.default_rng((options.seed, i)))
                parameters = {"weights": weights, "self_ensemble": options.self_ensemble}
                out = ndc.denoise(noisy, "dncnn", intensity_range=(0, 255), **parameters)
                values.append(psnr(clean, np.clip(out, 0, 255)))
            cells.append(f"{np.mean(values):.2f}")
        print(f"| {Path(weights).name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
