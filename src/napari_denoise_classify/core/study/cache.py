"""Processed images on disk, found again by content: a recipe sees each image once, however many classifiers follow."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..classify.datasets import Image
from ..classify.preparing import prepare_iter
from ..device import precision
from ..files import cache_folder
from ..progress import Steps, within
from ..recipe import Recipe
from ..whole import write_whole

_PACK_IMAGES = 256
_PACK_VALUES = 2**22
_PLACES = ("centre", "non_centre", "random")  # masks that depend on the image's shape alone


def split_recipe(recipe: Recipe) -> tuple[Recipe, Recipe]:
    """Cut off the masks at a recipe's end that are laid on anew as fast as they are read from disk.

    Returns
    -------
    head, tail : Recipe
        Applied one after the other, they make the same pixels as the whole.
    """
    n = len(recipe.steps)
    while n and recipe.steps[n - 1].id in _PLACES and recipe.steps[n - 1].parameters["fill"] == "zero":
        n -= 1
    return Recipe(recipe.steps[:n], recipe.intensity_range), Recipe(recipe.steps[n:], recipe.intensity_range)


def recipe_key(recipe: Recipe, samples: int, intensity_range: tuple[float, float]) -> str:
    """Return the SHA-256 of all that decides what a recipe makes of an image.

    Steps, weights, intensity range, version, and whether networks may compute in bfloat16.

    Raises
    ------
    ValueError
        If the recipe names weights that do not exist.
    """
    known = {**recipe.record(samples), "intensity_range": list(intensity_range), "precision": precision()}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


@dataclass
class ImageCache:
    """Processed images in a folder.

    Each recipe (with its weights, the intensity range and the version of this package) has a folder of packs: ``.npz``
    files of the images that were processed together, written whole or not at all, in the images' own dtype. What is
    damaged is made again. Recipes that differ in a geometric mask at their end share what comes before it.

    Attributes
    ----------
    folder : Path
    hits, misses : int
        Images that were found, and that had to be processed.
    seconds : float
        Spent on processing.
    costs : dict
        From recipe key to what processing took, now or when it was done.
    """

    folder: Path
    hits: int = 0
    misses: int = 0
    seconds: float = 0.0
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: str | Path | None) -> ImageCache:
        """Open the cache in a folder; by default beside the downloaded weights.

        Raises
        ------
        ValueError
            If nothing can be written there.
        """
        found = Path(folder) if folder is not None else cache_folder() / "processed"
        existing = next((path for path in (found, *found.absolute().parents) if path.exists()), found)
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(f"The cache {found} cannot be written to: give another folder as cache.")
        return cls(found)

    def add(self, other: ImageCache) -> None:
        """Add what another process found and made in this folder."""
        self.hits += other.hits
        self.misses += other.misses
        self.seconds += other.seconds
        for name, packs in other.costs.items():
            self.costs.setdefault(name, {}).update(packs)

    def process_iter(
        self, images: Sequence[Image], keys: Sequence[str], recipe: Recipe, intensity_range: tuple[float, float]
    ) -> Steps[list[Image]]:
        """Apply a recipe to images, or read what it made of them before.

        Parameters
        ----------
        images : sequence of (Y, X) or (Y, X, 3) arrays
        keys : sequence of str
            Of each, from `image_key`.
        recipe : Recipe
        intensity_range : (float, float)

        Returns
        -------
        list of array
            In the images' dtype.
        """
        recipe, tail = split_recipe(recipe)
        if tail:
            images = yield from within(self.process_iter(images, keys, recipe, intensity_range), 0.0, 0.9)
            return (yield from within(prepare_iter(images, tail, intensity_range), 0.9, 1.0))[0]
        if not recipe:
            return list(images)
        name = recipe_key(recipe, 3 if images[0].ndim == 3 else 1, intensity_range)
        found = self._read(name, set(keys))
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        # Packs are made of the same images each time, whatever is there already: a network's rounding depends on
        # what stands beside an image in a batch, and a study that was interrupted shall give the same numbers.
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i in sorted(first.values()):
            shapes.setdefault(images[i].shape, []).append(i)
        packs = []
        for shape, members in shapes.items():
            size = min(_PACK_IMAGES, max(1, _PACK_VALUES // int(np.prod(shape))))
            packs += [members[k : k + size] for k in range(0, len(members), size)]
        missing = [pack for pack in packs if any(keys[i] not in found for i in pack)]
        new = sum(keys[i] not in found for pack in missing for i in pack)
        self.misses += new
        self.hits += len(first) - new
        for n, pack in enumerate(missing):
            work = self._make(name, [images[i] for i in pack], [keys[i] for i in pack], recipe, intensity_range)
            made = yield from within(work, n / len(missing), (n + 1) / len(missing))
            found.update({keys[i]: image for i, image in zip(pack, made, strict=True) if keys[i] not in found})
        return [found[key] for key in keys]

    def cost(self, recipe: Recipe, samples: int, intensity_range: tuple[float, float]) -> float:
        """Return the seconds that processing the images of this study took, now or when it was done."""
        head, _ = split_recipe(recipe)
        return sum(self.costs.get(recipe_key(head, samples, intensity_range), {}).values()) if head else 0.0

    def _make(
        self,
        name: str,
        images: list[Image],
        keys: list[str],
        recipe: Recipe,
        intensity_range: tuple[float, float],
    ) -> Steps[list[Image]]:
        start = time.perf_counter()
        made, _ = yield from prepare_iter(images, recipe, intensity_range)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        stem = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        arrays: dict[str, Any] = {"keys": np.array(keys), "images": np.stack(made), "seconds": np.array(seconds)}
        with contextlib.suppress(OSError):  # a full disk is no reason to lose what was made
            write_whole(self.folder / name / f"{stem}.npz", lambda path: np.savez(path, **arrays))
        self.costs.setdefault(name, {})[stem] = seconds
        return made

    def _read(self, name: str, wanted: set[str]) -> dict[str, Image]:
        found: dict[str, npt.NDArray[Any]] = {}
        for path in sorted((self.folder / name).glob("[!.]*.npz")):
            try:
                # Opened here: numpy leaves a damaged file open.
                with path.open("rb") as file, np.load(file, allow_pickle=False) as pack:
                    rows = [(i, str(key)) for i, key in enumerate(pack["keys"]) if str(key) in wanted]
                    if rows:
                        images = pack["images"]
                        found.update({key: images[i] for i, key in rows if key not in found})
                        self.costs.setdefault(name, {})[path.stem] = float(pack["seconds"])
            except Exception:  # a damaged file brings about errors of every kind; its images are made again
                continue
        return found
