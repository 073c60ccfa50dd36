"""Relative error of the estimated noise level on real images with fresh Gaussian noise, not clipped.

    python benchmarks/noise_estimation.py SET12 [--slides SVS ...] [--sigma 5 10 15 25 50]

SET12 is the folder of the twelve images; of each slide, nine tiles of 512 x 512 pixels are taken on a grid.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from napari_denoise_classify.core.estimation import estimate_poisson_gaussian, estimate_sigma
from napari_denoise_classify.core.files import find_images, read_image
from napari_denoise_classify.core.noise import add_gaussian, noise_model


def tiles(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    slide = read_image(path).data
    rows, columns = (np.linspace(0, n - 512, 5).astype(int)[1:4] for n in slide.shape[:2])
    return {f"{path.stem} {y}, {x}": slide[y : y + 512, x : x + 512, :3] for y in rows for x in columns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slides", type=Path, nargs="*", default=[])
    parser.add_argument("--sigma", type=float, nargs="+", default=[5, 10, 15, 25, 50])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    groups = {"Set12": {path.stem: read_image(path).data[..., None] for path in find_images([options.folder])}}
    for path in options.slides:
        groups[f"slide {path.stem}"] = tiles(path)
    header = " | ".join(f"σ {s:g}" for s in options.sigma)
    lines, rule = [f"| image | {header} |"], f"|---|{'---|' * len(options.sigma)}"
    summary = [f"| relative error, median / largest | {header} |", rule]
    lines.append(rule)
    for group, images in groups.items():
        errors = np.empty((len(images), len(options.sigma)))
        for i, (name, image) in enumerate(images.items()):
            for k, sigma in enumerate(options.sigma):
                noisy = add_gaussian(image, sigma, np.random.default_rng((options.seed, i, k)))
                errors[i, k] = estimate_sigma(noisy / np.float32(255)) / sigma - 1
            lines.append(f"| {name} | {' | '.join(f'{100 * e:+.1f} %' for e in errors[i])} |")
        cells = (f"{100 * np.median(e):.1f} / {100 * e.max():.1f} %" for e in np.abs(errors).T)
        summary.append(f"| {group} ({len(images)}) | {' | '.join(cells)} |")
    print("\n".join([*lines, "", *summary, "", *poisson_gaussian(groups, options.seed)]))


def poisson_gaussian(groups: dict[str, dict[str, np.ndarray[Any, Any]]], seed: int) -> list[str]:
    lines = ["| gain, read noise | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for gain, read_noise in ((0.5, 1.0), (1.0, 3.0), (2.0, 5.0), (4.0, 8.0), (10.0, 2.0)):
        model = noise_model("poisson_gaussian", gain=gain, offset=0.0, read_noise=read_noise)
        cells = []
        for images in groups.values():
            noisy = [model.apply(image, np.random.default_rng((seed, i))) for i, image in enumerate(images.values())]
            found = np.array([estimate_poisson_gaussian(n / np.float32(255)).gain for n in noisy])
            errors = np.abs(found / gain - 1)
            cells.append(f"{100 * np.median(errors):.1f} / {100 * errors.max():.1f} %")
        lines.append(f"| {gain:g}, {read_noise:g} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
