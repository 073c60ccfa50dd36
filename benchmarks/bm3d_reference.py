"""PSNR and time of the step bm3d beside the authors' own program, on gray images with fresh Gaussian noise.

    pip install bm3d
    python benchmarks/bm3d_reference.py FOLDER [--sigma 15 25 50] [--crop 256] [--samples 3]

FOLDER holds the images, Set12 for example. The authors' program is licensed for non-commercial use only, so nothing
but this comparison uses it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import bm3d
import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import find_images, read_image
from napari_denoise_classify.core.noise import add_gaussian, psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50])
    parser.add_argument("--crop", type=int, default=None, help="only this many rows and columns")
    parser.add_argument("--samples", type=int, choices=[1, 3], default=1, help="3 for RGB images")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rgb = options.samples == 3
    images = [np.asarray(read_image(p).data)[: options.crop, : options.crop] for p in find_images([options.folder])]
    images = [image[..., :3] if rgb else image for image in images]
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    reference = bm3d.bm3d_rgb if rgb else bm3d.bm3d
    print(f"{len(images)} images, {pixels / 1e6:.2f} MP")
    print("| σ | bm3d package (dB) | step bm3d (dB) | difference | package (s/MP) | step (s/MP) |")
    print("|---|---|---|---|---|---|")
    for sigma in options.sigma:
        noisy = [add_gaussian(x, sigma, np.random.default_rng((options.seed, i))) for i, x in enumerate(images)]
        values, seconds = [], []
        for denoise in (
            lambda x, sigma=sigma: reference(x, sigma),
            lambda x, sigma=sigma: ndc.denoise(x, "bm3d", rgb=rgb, sigma=sigma, intensity_range=(0, 255)),
        ):
            start = time.perf_counter()
            results = [denoise(x) for x in noisy]
            seconds.append((time.perf_counter() - start) / pixels * 1e6)
            values.append(float(np.mean([psnr(x, np.clip(y, 0, 255)) for x, y in zip(images, results, strict=True)])))
        theirs, ours = values
        print(
            f"| {sigma:g} | {theirs:.2f} | {ours:.2f} | {ours - theirs:+.2f} | {seconds[0]:.0f} | {seconds[1]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
