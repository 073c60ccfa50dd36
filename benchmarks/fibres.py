"""Errors of the fibre descriptors on fibres with known truth, and a figure of skeletons coloured by orientation.

    python benchmarks/fibres.py [--figure PNG] [--images FILE ...]

Without images the figure shows synthetic collagen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import ndimage as ndi

from napari_denoise_classify.core.classify.fibres import DESCRIPTORS, fibre_map
from napari_denoise_classify.core.figures import save, show
from napari_denoise_classify.core.files import read_image
from napari_denoise_classify.core.synthetic import collagen, fibres


def straight(angle: float, width: float, off: np.ndarray, length: float = 60.0, side: int = 96) -> np.ndarray:
    y, x = np.indices((side, side)) - (side / 2 + off[:, None, None])
    along = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    t = np.clip(y * along[0] + x * along[1], -length / 2, length / 2)
    return np.clip(width / 2 + 0.5 - np.hypot(y - t * along[0], x - t * along[1]), 0, 1)


def errors(blur: float, noise: float) -> list[str]:
    rng = np.random.default_rng(0)
    cells: dict[str, list[str]] = {"orientation, largest, °": [], "diameter, mean / largest, %": [], "length": []}
    for width in (3, 4, 6, 8, 10, 12):
        found = []
        for angle in range(0, 180, 15):
            image = ndi.gaussian_filter(straight(angle, width, rng.uniform(-0.5, 0.5, 2)), blur)
            described = fibre_map(image + noise * rng.standard_normal(image.shape), blur=blur).describe()
            turned = (described["orientation_mean"] - angle + 90) % 180 - 90
            diameter, length = described["diameter_mean"] / width - 1, described["length_max"] / (60 + width) - 1
            found.append(np.abs((turned, 100 * diameter, 100 * length)))
        mean, largest = np.mean(found, axis=0), np.max(found, axis=0)
        cells["orientation, largest, °"].append(f"{largest[0]:.2f}")
        cells["diameter, mean / largest, %"].append(f"{mean[1]:.1f} / {largest[1]:.1f}")
        cells["length"].append(f"{mean[2]:.1f} / {largest[2]:.1f}")
    cells["length, mean / largest, %"] = cells.pop("length")
    title = f"blur {blur:g} px, noise {100 * noise:g} %"
    return [f"| {title}: {name} | {' | '.join(values)} |" for name, values in cells.items()]


def alignment() -> list[str]:
    spreads = (0, 5, 10, 20, 30, 45)
    rows = []
    for name in ("alignment", "orientation_sd"):
        found = [
            np.mean([fibre_map(fibres(60, s, count=14, seed=k).image).describe()[name] for k in range(4)])
            for s in spreads
        ]
        rows.append(f"| {name} | {' | '.join(f'{v:.2f}' if name == 'alignment' else f'{v:.1f}' for v in found)} |")
    head = " | ".join(f"{s}°" for s in spreads)
    return [f"| spread of the drawn directions | {head} |", f"|---|{'---|' * len(spreads)}", *rows]


def draw(path: Path, images: dict[str, np.ndarray]) -> None:
    figure = Figure(figsize=(2.7 * len(images) + 0.6, 5.8), layout="constrained")
    axs = figure.subplots(2, len(images), squeeze=False)
    for (name, image), (above, below) in zip(images.items(), axs.T, strict=True):
        show(above, image, name)
        show(below, image)
        found = fibre_map(image)
        below.imshow(found.overlay(3), interpolation="nearest")
        d = found.describe()
        text = (
            f"{d['orientation_mean']:.0f}°, alignment {d['alignment']:.2f}, straightness {d['straightness_mean']:.2f}"
        )
        below.set_title(text, fontsize=7)
    colours = ScalarMappable(Normalize(0, 180), "hsv")
    figure.colorbar(colours, ax=axs[1], label="orientation, °", ticks=range(0, 181, 45))
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    if options.images:
        images = {path.stem: read_image(path).data for path in options.images}
        images = {
            name: i[len(i) // 2] if i.ndim == 3 and i.shape[-1] not in (3, 4) else i for name, i in images.items()
        }
        names = [d.name for d in DESCRIPTORS]
        print(f"| image | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for name, image in images.items():
            described = fibre_map(image).describe()
            print(f"| {name} | {' | '.join(f'{described[n]:.4g}' for n in names)} |")
    else:
        images = {name: collagen(name, seed=1).image for name in ("TACS-1", "TACS-2", "TACS-3")}
        print("| width, px | 3 | 4 | 6 | 8 | 10 | 12 |\n|---|---|---|---|---|---|---|")
        print("\n".join([*errors(0, 0), *errors(0, 0.1), *errors(1, 0.05), "", *alignment()]))
    if options.figure:
        draw(options.figure, images)


if __name__ == "__main__":
    main()
