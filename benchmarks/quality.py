"""Every denoiser side by side: PSNR, SSIM and seconds per megapixel, on fresh noise of stated seeds.

    python benchmarks/quality.py DATA --results results.json            # measure; takes up what is there already
    python benchmarks/quality.py DATA --results results.json --write docs/quality_tables.md   # only write the tables
    python benchmarks/quality.py --figure docs/images/denoisers.png     # example crops, of scikit-image's own images

DATA holds ``set12`` (the 12 test images of the denoising papers), ``histology_wsi`` (an H&E slide that no shipped
network was trained on) and ``w2s_pairs`` (real noisy and clean fluorescence images). Sections:

- ``set12``: the central 160 × 160 pixels, Gaussian noise of σ 10, 15, 25, 50;
- ``he``: six 160 × 160 tiles of the slide's tissue, drawn at random, same noise on each colour;
- ``poisson``: six clean W2S crops of fields that the shipped U-Net never saw, Poisson-Gaussian noise;
- ``w2s``: the real noisy images of the same fields (central 160 × 160, all channels), affine-matched PSNR.

The filters of one parameter (Gaussian, median) get their best one for each row: an advantage nobody has in practice.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import read_image
from napari_denoise_classify.core.noise import parse_noise

HELD_OUT = ("085", "089", "093", "097")
SIDE = 160


class Case(NamedTuple):
    noisy: np.ndarray
    clean: np.ndarray


Method = Callable[[np.ndarray, float | None], np.ndarray]


def step(name: str, **fixed: Any) -> Method:
    """A step, told the noise level if it asks for one."""
    asks = any(p.name == "sigma" for p in next(s for s in ndc.steps("denoise") if s.id == name).parameters)

    def run(image: np.ndarray, sigma: float | None) -> np.ndarray:
        given = {"sigma": sigma} if asks and sigma is not None and name != "dncnn" else {}
        return ndc.denoise(image, name, rgb=image.ndim == 3, intensity_range=(0, 255), **given, **fixed)

    return run


def gaussian(width: float) -> Method:
    return step("gaussian", kernel_size=2 * int(np.ceil(3 * width)) + 1, blur_sigma=width)


def methods(official: Path | None) -> dict[str, list[Method]]:
    """Each method by name; of several variants the best counts."""
    found: dict[str, list[Method]] = {
        "none": [step("none")],
        "Gaussian (best width)": [gaussian(w) for w in (0.5, 0.75, 1, 1.5, 2, 2.5, 3)],
        "median (best size)": [step("median", kernel_size=k) for k in (3, 5, 7)],
        "bilateral": [step("bilateral")],
        "total variation": [step("tv")],
        "wavelet": [step("wavelet")],
        "non-local means": [step("nlm")],
        "BM3D": [step("bm3d")],
        "Anscombe + BM3D": [step("anscombe", denoiser="bm3d")],
        "Anscombe + DnCNN": [step("anscombe", denoiser="dncnn")],
        "DnCNN": [step("dncnn")],
        "IRUNet": [step("irunet")],
        "Restormer (small)": [step("restormer")],
        "U-Net (fluorescence)": [step("unet")],
    }
    for name in ("DnCNN", "IRUNet", "Restormer (small)", "U-Net (fluorescence)"):
        found[f"{name}, self-ensemble"] = [step(name.split()[0].replace("-", "").lower(), self_ensemble=True)]
    if official is not None:
        found["DnCNN (official gray blind)"] = [step("dncnn", weights=str(official))]
    return found


_FILTERS = ("none", "Gaussian", "median", "bilateral", "total", "wavelet", "non-local", "BM3D", "DnCNN")
SECTIONS = {
    "set12": (*_FILTERS, "IRUNet"),
    "he": (*_FILTERS, "IRUNet", "Restormer"),
    "poisson": ("none", "Gaussian", "median", "non-local", "BM3D", "Anscombe", "DnCNN", "U-Net"),
    "w2s": (*_FILTERS, "Anscombe", "U-Net"),
}
SIGMAS = (10, 15, 25, 50)
PHOTONS = (10, 30, 100)


def centre(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    y, x = ((n - side) // 2 for n in image.shape[:2])
    return image[y : y + side, x : x + side]


def tiles(slide: np.ndarray, count: int = 6) -> list[np.ndarray]:
    """Draw tiles of tissue: from a fixed grid, those that vary more than most; the rest is glass."""
    grid = [
        slide[y : y + SIDE, x : x + SIDE]
        for y in range(0, slide.shape[0] - SIDE + 1, SIDE)
        for x in range(0, slide.shape[1] - SIDE + 1, SIDE)
    ]
    spread = [float(t.std(axis=(0, 1)).mean()) for t in grid]
    tissue = [t for t, s in zip(grid, spread, strict=True) if s > np.median(spread)]
    return [tissue[i] for i in np.random.default_rng(0).choice(len(tissue), count, replace=False)]


def cases(section: str, data: Path) -> Iterator[tuple[str, float | None, list[Case]]]:
    """Yield (row label, noise level, images)."""

    def noisy(images: list[np.ndarray], noise: str, seed: int) -> list[Case]:
        model = parse_noise(noise)
        return [Case(model.apply(c, np.random.default_rng((seed, i))), c) for i, c in enumerate(images)]

    if section in ("set12", "he"):
        if section == "set12":
            clean = [centre(read_image(p).data.astype(np.float32)) for p in sorted((data / "set12").glob("*.png"))]
        else:
            slide = read_image(data / "histology_wsi" / "cmu_small_region.svs").data
            clean = [t.astype(np.float32) for t in tiles(slide)]
        for sigma in SIGMAS:
            yield f"σ {sigma}", float(sigma), noisy(clean, f"gaussian:{sigma}", sigma)
        return
    pairs = data / "w2s_pairs"
    names = [p.name for p in sorted((pairs / "clean").glob("*.png")) if p.name[:3] in HELD_OUT]
    clean = [read_image(pairs / "clean" / n).data.astype(np.float32) for n in names]
    if section == "w2s":
        raw = [read_image(pairs / "noisy" / n).data.astype(np.float32) for n in names]
        yield "one shot", None, [Case(centre(a), centre(b)) for a, b in zip(raw, clean, strict=True)]
        return
    crops = [centre(c) for c in clean[::2]]
    for photons in PHOTONS:
        noise = f"poisson_gaussian:gain={255 / photons:.4g},read_noise=2"
        yield f"{photons} photons at white", None, noisy(crops, noise, photons)


def score(section: str, result: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    if section != "w2s":
        result = np.clip(result, 0, 255)
    row = ndc.compare(clean, result, rgb=clean.ndim == 3, value_range=255).iloc[0]
    return float(row["psnr_matched" if section == "w2s" else "psnr"]), float(row["ssim"])


def measure(section: str, data: Path, results: Path, official: Path | None) -> None:
    table = json.loads(results.read_text()) if results.exists() else {}
    for name, variants in methods(official).items():
        if not any(name.startswith(prefix) for prefix in SECTIONS[section]):
            continue
        if section == "he" and "official" in name:
            continue
        for row, sigma, images in cases(section, data):
            key = f"{section}|{row}|{name}"
            if key in table:
                continue
            best: dict[str, float] | None = None
            for variant in variants:
                start = time.perf_counter()
                outs = [variant(case.noisy, sigma) for case in images]
                seconds = time.perf_counter() - start
                scores = np.array([score(section, o, c.clean) for o, c in zip(outs, images, strict=True)])
                megapixels = sum(c.clean.shape[0] * c.clean.shape[1] for c in images) / 1e6
                found = {
                    "psnr": float(scores[:, 0].mean()),
                    "ssim": float(scores[:, 1].mean()),
                    "seconds_per_megapixel": seconds / megapixels,
                }
                if best is None or found["psnr"] > best["psnr"]:
                    best = found
            assert best is not None
            table[key] = best
            print(f"{section:8s} {row:20s} {name:28s} {best['psnr']:6.2f} dB  {best['ssim']:.3f}", flush=True)
            results.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


TITLES = {
    "set12": "Set12, Gaussian noise (PSNR in dB / SSIM)",
    "he": "H&E tiles never trained on, Gaussian noise (PSNR in dB / SSIM)",
    "poisson": "Fluorescence, Poisson-Gaussian noise (PSNR in dB / SSIM)",
    "w2s": "Real widefield fluorescence (W2S), one shot against the mean of 400 (affine-matched PSNR in dB / SSIM)",
}


def tables(results: Path) -> str:
    table = json.loads(results.read_text())
    parts = []
    for section, title in TITLES.items():
        keys = [k.split("|") for k in table if k.startswith(f"{section}|")]
        if not keys:
            continue
        rows = list(dict.fromkeys(k[1] for k in keys))
        names = list(dict.fromkeys(k[2] for k in keys))
        lines = [f"**{title}**", "", f"| method | {' | '.join(rows)} | s per megapixel |"]
        lines.append("|---" * (len(rows) + 2) + "|")
        for name in names:
            found = [table.get(f"{section}|{row}|{name}") for row in rows]
            cells = ["" if f is None else f"{f['psnr']:.2f} / {f['ssim']:.3f}" for f in found]
            speed = float(np.median([f["seconds_per_megapixel"] for f in found if f is not None]))
            lines.append(f"| {name} | {' | '.join(cells)} | {float(f'{speed:.2g}'):g} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def figure(path: Path, sigma: float = 25.0, side: int = 96) -> None:
    """Draw example crops: stained tissue and coins with Gaussian noise, as each method leaves them."""
    import matplotlib.pyplot as plt
    from skimage import data

    images = [
        data.immunohistochemistry()[200 : 200 + side, 60 : 60 + side],
        data.coins()[40 : 40 + side, 40 : 40 + side],
    ]
    columns = [
        "noisy",
        "Gaussian (best width)",
        "non-local means",
        "BM3D",
        "DnCNN",
        "IRUNet",
        "Restormer (small)",
        "clean",
    ]
    known = methods(None)
    drawing, axes = plt.subplots(len(images), len(columns), figsize=(16, 4.6), layout="constrained")
    for row, image in zip(axes, images, strict=True):
        clean = image.astype(np.float32)
        noisy = parse_noise(f"gaussian:{sigma}").apply(clean, np.random.default_rng(0))
        for axis, name in zip(row, columns, strict=True):
            axis.set_axis_off()
            try:
                outs = (
                    [noisy if name == "noisy" else clean]
                    if name not in known
                    else [m(noisy, sigma) for m in known[name]]
                )
            except ValueError:  # there are no shipped weights for this kind of image
                continue
            value, out = max((score("figure", o, clean)[0], -i) for i, o in enumerate(outs))
            shown = np.clip(outs[-int(out)], 0, 255).astype(np.uint8)
            axis.imshow(shown, cmap=None if image.ndim == 3 else "gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_title(name if name == "clean" else f"{name}\n{value:.1f} dB", fontsize=9)
    drawing.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--figure", type=Path, help="draw example crops there, measuring nothing")
    parser.add_argument("--results", type=Path, help="JSON file that grows row by row")
    parser.add_argument("--sections", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--official", type=Path, help="the authors' gray blind DnCNN, for comparison")
    parser.add_argument("--write", type=Path, help="write the tables there as Markdown, measuring nothing")
    arguments = parser.parse_args()
    if arguments.figure is not None:
        figure(arguments.figure)
        return
    if arguments.data is None or arguments.results is None:
        parser.error("give DATA and --results")
    if arguments.write is None:
        for section in arguments.sections:
            measure(section, arguments.data, arguments.results, arguments.official)
        print(tables(arguments.results))
    else:
        arguments.write.write_text(tables(arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
