"""Cells of H&E-stained tissue and fluorescent nuclei, drawn with known truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..classify.datasets import Crops
from ..classify.neighbours import Places
from ..classify.sampling import crop_around
from ..images import PlaneImage, from_float
from .drawing import Doubles, Noise, blurred, checked, noisy, outline, texture

if TYPE_CHECKING:
    import pandas as pd

CELL_CLASSES = ("immune", "non-invasive", "invasive")
_CELLS_PER_PIXEL = {"immune": 2.6e-4, "non-invasive": 1.9e-4, "invasive": 1.3e-4}
# Optical densities in red, green and blue: haematoxylin after Ruifrok and Johnston, Anal Quant Cytol Histol 23 (2001);
# an eosin that is pinker than theirs.
_HAEMATOXYLIN, _EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.09, 0.95, 0.28])


@dataclass(frozen=True, eq=False)
class CellField:
    """An image of cells, and where each of them is.

    Attributes
    ----------
    image : (Y, X, 3) uint8 or (Y, X) uint16
    labels : (Y, X) int32
        One number for each nucleus; 0 is background.
    table : pandas.DataFrame
        A row for each nucleus: ``label``, ``class``, centre ``y`` and ``x`` and mean ``radius`` in pixels.
    spots : (N, 2) float64
        Y, X of fluorescent spots; none in H&E.
    name : str
        Of the field, with its seed.
    """

    image: npt.NDArray[Any]
    labels: npt.NDArray[np.int32]
    table: pd.DataFrame
    spots: Doubles
    name: str

    def crops(self, size: int = 32) -> Crops:
        """Cut a crop of so many pixels around every nucleus; the field is their group."""
        centres = self.table[["y", "x"]].to_numpy()
        cut = crop_around(PlaneImage.wrap(self.image, rgb=self.image.ndim == 3), centres, size)
        classes = self.table["class"].to_numpy().astype(np.str_)
        names = [f"{self.name} {i}" for i in self.table["label"]]
        return Crops(cut, classes, np.full(len(cut), self.name), names, places=Places.of(centres, self.name))


def he_cells(
    shape: tuple[int, int] = (512, 512),
    counts: Mapping[str, int] | None = None,
    *,
    noise: Noise = "gaussian:3",
    seed: int = 0,
) -> CellField:
    """Draw a field of H&E-stained tissue with nuclei of three classes.

    Immune nuclei are small, round and dark, non-invasive ones medium, oval and regular, invasive ones large, irregular,
    pale and of many sizes, with nucleoli.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels, of about 0.5 µm.
    counts : dict, optional
        Nuclei of each class of `CELL_CLASSES`; fewer are drawn where there is no room. Default: by area.
    noise : NoiseModel or str, optional
    seed : int

    Returns
    -------
    CellField
        With an (Y, X, 3) uint8 image.

    Raises
    ------
    ValueError
        For unknown classes, shapes and noise that are not allowed.
    """
    height, width = checked(shape)
    rng = np.random.default_rng((seed, 1))
    if counts is None:
        counts = {name: max(1, round(rate * height * width)) for name, rate in _CELLS_PER_PIXEL.items()}
    unknown = [name for name in counts if name not in CELL_CLASSES]
    if unknown:
        raise ValueError(f"There is no class {unknown[0]!r} of cells: choose from {', '.join(CELL_CLASSES)}.")
    labels, rows, cover = _place(rng, (height, width), counts, gap=2)
    # Stroma: eosin in wavy strands, paler between them.
    strands = _warped(rng, texture(rng, (height, width), (1.6, 14))) + 0.8 * texture(rng, (height, width), (22, 22))
    eosin = 0.18 + 0.032 * strands + 0.012 * texture(rng, (height, width), (1.2, 1.2))
    haematoxylin = 0.03 + 0.012 * texture(rng, (height, width), (3, 3))
    around = blurred((labels > 0).astype(float), 5)
    eosin += 0.10 * around
    chromatin = texture(rng, (height, width), (1.2, 1.2))
    for row, (window, inside) in zip(rows, cover, strict=True):
        name, radius = row["class"], row["radius"]
        depth = {"immune": (0.80, 0.95), "non-invasive": (0.50, 0.62), "invasive": (0.30, 0.48)}[name]
        grain = {"immune": 0.05, "non-invasive": 0.04, "invasive": 0.07}[name]
        stain = rng.uniform(*depth) + grain * chromatin[window]
        stain += 0.16 * np.exp(-(((1 - inside[1]) * radius / 1.3) ** 2)) * (name != "immune")  # the membrane
        if name == "invasive":
            for _ in range(rng.integers(1, 4)):
                y, x = rng.uniform(-0.45, 0.45, 2) * radius
                yy, xx = np.ogrid[window]
                stain += 0.35 * np.exp(-(((yy - row["y"] - y) ** 2 + (xx - row["x"] - x) ** 2) / (2 * 1.4**2)))
        haematoxylin[window] += inside[0] * (np.maximum(stain, 0) - haematoxylin[window])
        eosin[window] *= 1 - 0.55 * inside[0]
    density = np.maximum(haematoxylin, 0)[..., None] * _HAEMATOXYLIN + np.maximum(eosin, 0.02)[..., None] * _EOSIN
    clean = 246 * np.exp(-2.3 * blurred(density, (0.6, 0.6, 0)))
    image = from_float(noisy(clean, noise, rng), np.uint8)
    return CellField(image, labels, _table(rows), np.empty((0, 2)), f"H&E {seed}")


def fluorescence(
    shape: tuple[int, int] = (256, 256),
    nuclei: int | None = None,
    spots: int = 4,
    *,
    noise: Noise = "poisson_gaussian:gain=0.4,read_noise=0.6",
    seed: int = 0,
) -> CellField:
    """Draw fluorescent nuclei with brighter spots around and in them, as a 16-bit camera sees them.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    nuclei : int, optional
        Fewer are drawn where there is no room. Default: by area.
    spots : int
        Mean number in each nucleus.
    noise : NoiseModel or str, optional
        A level of 255 stands for 16384, which is about the brightest spot.
    seed : int

    Returns
    -------
    CellField
        With a (Y, X) uint16 image; all nuclei are of the class ``"nucleus"``.

    Raises
    ------
    ValueError
        For shapes, numbers and noise that are not allowed.
    """
    height, width = checked(shape)
    if spots < 0 or (nuclei is not None and nuclei < 0):
        raise ValueError(f"nuclei={nuclei}, spots={spots} is not allowed: give numbers of at least 0.")
    rng = np.random.default_rng((seed, 2))
    wanted = max(1, round(3.2e-4 * height * width)) if nuclei is None else nuclei
    labels, rows, cover = _place(rng, (height, width), {"nucleus": wanted}, gap=1)
    grey = 700 + 150 * texture(rng, (height, width), (40, 40))
    grain = texture(rng, (height, width), (1.6, 1.6))
    found: list[tuple[float, float]] = []
    for row, (window, inside) in zip(rows, cover, strict=True):
        grey[window] += inside[0] * (rng.uniform(2500, 6500) * (1 + 0.14 * grain[window]))
        pixels = np.argwhere(labels == row["label"])
        for y, x in pixels[rng.integers(0, len(pixels), rng.poisson(spots))]:
            found.append((y + rng.uniform(-0.5, 0.5), x + rng.uniform(-0.5, 0.5)))
    grey += 0.12 * blurred(grey, 12)  # light from out of focus
    for y, x in found:
        top, left = max(int(y) - 6, 0), max(int(x) - 6, 0)
        yy, xx = np.mgrid[top : min(int(y) + 7, height), left : min(int(x) + 7, width)]
        spot = rng.uniform(4000, 9000) * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * 1.3**2))
        grey[yy, xx] += spot
    image = from_float(noisy(blurred(grey, 0.9), noise, rng, 16384.0), np.uint16)
    return CellField(image, labels, _table(rows), np.reshape(found, (-1, 2)), f"fluorescence {seed}")


def _warped(rng: np.random.Generator, image: Doubles) -> Doubles:
    """Bend an image."""
    from scipy import ndimage as ndi

    y, x = np.indices(image.shape, float)
    down, across = (texture(rng, (image.shape[0], image.shape[1]), (30, 30)) for _ in range(2))
    return np.asarray(ndi.map_coordinates(image, [y + 22 * down, x + 10 * across], order=1, mode="reflect"))


def _nucleus(rng: np.random.Generator, name: str) -> tuple[float, Doubles]:
    """Draw a mean radius and an outline."""
    if name == "immune":
        return (r := rng.uniform(4.6, 6.0)), outline(rng, r, 0.02, 72)
    if name == "non-invasive":
        return (r := rng.uniform(6.6, 8.2)), outline(rng, r, 0.02, 72, rng.uniform(1.1, 1.25))
    if name == "invasive":
        return (r := rng.uniform(8.5, 13.5)), outline(rng, r, 0.11, 72, rng.uniform(1.0, 1.3))
    return (r := rng.uniform(9.0, 14.0)), outline(rng, r, 0.03, 72, rng.uniform(1.0, 1.25))


_Cover: TypeAlias = tuple[tuple[slice, slice], tuple[Doubles, Doubles]]


def _place(
    rng: np.random.Generator, shape: tuple[int, int], counts: Mapping[str, int], gap: int
) -> tuple[npt.NDArray[np.int32], list[dict[str, Any]], list[_Cover]]:
    """Put nuclei where there is room, the largest first.

    Returns labels, a row of the table for each, and for each its window with the soft cover of the pixels and their
    distance from the centre: 1 on the outline.
    """
    labels = np.zeros(shape, np.int32)
    taken = np.zeros(shape, bool)
    rows: list[dict[str, Any]] = []
    covers: list[_Cover] = []
    drawn = [(*_nucleus(rng, name), name) for name, count in counts.items() for _ in range(count)]
    for radius, edge, name in sorted(drawn, key=lambda nucleus: -nucleus[0]):
        reach = np.ceil(np.abs(edge).max(axis=0)) + gap + 1
        if (2 * reach + 1 >= shape).any():
            continue
        for _ in range(60):
            centre = rng.uniform(reach, np.array(shape) - 1 - reach)
            (top, left), (bottom, right) = (np.floor(centre - reach), np.ceil(centre + reach))
            window = (slice(int(top), int(bottom) + 1), slice(int(left), int(right) + 1))
            y, x = np.ogrid[window]
            y, x = y - centre[0], x - centre[1]
            at = np.interp(np.arctan2(y, x), *_polar(edge), period=2 * np.pi)  # the outline in each pixel's direction
            distance = np.hypot(y, x)
            if taken[window][distance <= at + gap].any():
                continue
            label = len(rows) + 1
            inside = distance <= at
            labels[window][inside] = label
            taken[window] |= distance <= at + gap
            soft = 1 / (1 + np.exp(np.clip((distance - at) / 0.45, -30, 30)))
            rows.append({"label": label, "class": name, "y": centre[0], "x": centre[1], "radius": radius})
            covers.append((window, (soft, distance / at)))
            break
    return labels, rows, covers


def _polar(outline: Doubles) -> tuple[Doubles, Doubles]:
    return np.arctan2(outline[:, 0], outline[:, 1]), np.hypot(outline[:, 0], outline[:, 1])


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows, columns=["label", "class", "y", "x", "radius"])
    return table.astype({"label": int, "y": float, "x": float, "radius": float})
