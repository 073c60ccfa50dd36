"""Make RGB images to train denoisers on from gray images and slides: there are few clean RGB images to be had.

    python benchmarks/coloured.py OUT --gray train400 [--slide slide.svs] [--copies 2] [--seed 0]

A gray image becomes the first of two stains, another one the second: each stain has a random colour, and stains
multiply as absorbing layers do (Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001)). A third of the images has
one stain only, near to gray; a quarter is inverted, as light on dark. Slides are cut into tiles, so that they count as
many images; once more at half their size, which is sharper and as a lower magnification shows tissue.

All then pass through a slide scanner: half of them are sharpened; half go through strong JPEG, each colour by itself,
as many scanners write it (a network that rarely saw this takes its patterns for noise), a quarter through usual JPEG.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from imagecodecs import jpeg8_decode, jpeg8_encode
from scipy.ndimage import gaussian_filter
from skimage.transform import downscale_local_mean

from napari_denoise_classify.core.files import find_images, read_image

TILE = 360  # pixels
DARKEST = 0.02
JPEG = (  # colours, subsampling, range of qualities
    ("rgb", "444", (20, 50)),
    ("ycbcr", "444", (50, 95)),
    ("ycbcr", "420", (50, 95)),
)
SHARPENING = 2.0  # at most, by an unsharp mask of 1 pixel


def coloured(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (Y, X, 3) of two transmissions (Y, X) from 0 to 1 of the same size."""
    stain, other = rng.uniform(0.0, 1.0, (2, 3))
    if rng.random() < 1 / 3:
        stain, other = rng.uniform(0.6, 1.4) + rng.normal(0, 0.1, 3), np.zeros(3)
    first, second = (np.clip(plane, DARKEST, 1)[..., None] for plane in (first, second))
    mixed = first ** np.maximum(stain, 0) * second**other
    return 1 - mixed if rng.random() < 0.25 else mixed


def scanned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (Y, X, 3) uint8 of an image from 0 to 1 as it comes back from a scanner's file."""
    if rng.random() < 0.5:
        image = image + rng.uniform(0, SHARPENING) * (image - gaussian_filter(image, (1, 1, 0)))
    stored = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if (kind := rng.random()) < 0.25:
        return stored
    colours, subsampling, qualities = JPEG[0 if kind < 0.75 else rng.integers(1, len(JPEG))]
    quality = int(rng.integers(*qualities))
    coded = jpeg8_encode(stored, quality, colorspace="rgb", outcolorspace=colours, subsampling=subsampling)
    return jpeg8_decode(coded, outcolorspace="rgb", colorspace=colours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--gray", nargs="+", default=[], help="files, folders or globs of gray images")
    parser.add_argument("--slide", nargs="+", default=[])
    parser.add_argument("--copies", type=int, default=2, help="of each gray image, in other colours")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    options.out.mkdir(parents=True)
    gray = [read_image(path).data / np.float32(255) for path in find_images(options.gray)] if options.gray else []
    for copy in range(options.copies):
        for k, image in enumerate(gray):
            fitting = [other for other in gray if other.shape == image.shape]
            mixed = coloured(image, fitting[rng.integers(len(fitting))], rng)
            iio.imwrite(options.out / f"coloured_{k:04}_{copy}.png", scanned(mixed, rng))
    for path in find_images(options.slide) if options.slide else []:
        slide = read_image(path).data / np.float32(255)
        half = downscale_local_mean(slide, (2, 2, 1))
        for name, plane in (("whole", slide), ("half", half)):
            for y in range(0, plane.shape[0] - TILE + 1, TILE):
                for x in range(0, plane.shape[1] - TILE + 1, TILE):
                    tile = plane[y : y + TILE, x : x + TILE]
                    iio.imwrite(options.out / f"{path.stem}_{name}_{y:05}_{x:05}.png", scanned(tile, rng))


if __name__ == "__main__":
    main()
