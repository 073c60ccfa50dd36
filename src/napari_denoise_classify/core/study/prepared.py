"""The images of a study as classifiers see them: noise put on, the recipe applied, scaled; each of it once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ..classify.copies import image_key
from ..classify.datasets import Crops, Image
from ..classify.preparing import dataset_range, prepare_iter
from ..device import available_memory
from ..images import FloatArray, from_float
from ..noise import parse_noise
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from .cache import ImageCache

Range = tuple[float, float]
_MEMORY = 1_500_000_000  # bytes of scaled images that are kept
_SHARE = 4  # of what is free, no more than the fourth part


class Prepared:
    """Images of a study under any noise and recipe, kept in memory as far as there is room.

    Parameters
    ----------
    data : Crops
    cache : ImageCache
    intensity_range : (float, float), optional
        What maps to 0..1.
    seed : int
        Of the noise. Each image has a draw of its own, which noise levels share.
    """

    def __init__(self, data: Crops, cache: ImageCache, intensity_range: Range | None, seed: int) -> None:
        self.data = data
        self.cache = cache
        self.seed = seed
        self.given = intensity_range
        self.keys = [image_key(image) for image in data.images]
        self.seconds = 0.0
        self._noisy: dict[str, tuple[list[Image], list[str]]] = {}
        self._ranges: dict[str, list[Range]] = {}
        self._scaled: dict[tuple[str, Recipe, Range], Sequence[FloatArray]] = {}

    def noisy(self, noise: str) -> tuple[list[Image], list[str]]:
        """Return all images with noise on them, in their own dtype, and their keys.

        The noise is in grey levels of 0 to 255 over the intensity range of all images, which is simulated here and
        not fitted.
        """
        if not noise:
            return self.data.images, self.keys
        if noise not in self._noisy:
            model = parse_noise(noise)
            low, high = self.noise_range
            images = []
            for i, image in enumerate(self.data.images):
                rng = np.random.default_rng((self.seed, 5, i))
                values = model.apply(image.astype(np.float64) - low, rng, high - low).astype(np.float64) + low
                images.append(from_float(values, image.dtype))
            self._noisy = {noise: (images, [image_key(image) for image in images])}  # only the latest is kept
        return self._noisy[noise]

    def add(self, cache: ImageCache, seconds: float) -> None:
        """Take note of what another process found and made in the cache, and of its seconds for all that."""
        self.cache.add(cache)
        self.seconds += seconds

    @property
    def noise_range(self) -> Range:
        """The intensity range that 0 and 255 grey levels of noise stand for."""
        return self.given or self.range_of("", range(len(self.data)))

    def range_of(self, noise: str, indices: Sequence[int] | range | np.ndarray) -> Range:
        """Return the intensity range over some of the images."""
        if self.given is not None:
            return self.given
        if noise not in self._ranges:
            self._ranges[noise] = [dataset_range([image]) for image in self.noisy(noise)[0]]
        lows, highs = np.array([self._ranges[noise][i] for i in indices]).T
        return float(lows.min()), float(highs.max())

    def processed_iter(
        self, noise: str, recipe: Recipe, intensity_range: Range, indices: Sequence[int] | None = None
    ) -> Steps[list[Image]]:
        """Return what a recipe makes of all images, or of some, in their own dtype."""
        images, keys = self.noisy(noise)
        if indices is not None:
            images, keys = [images[i] for i in indices], [keys[i] for i in indices]
        return (yield from self.cache.process_iter(images, keys, recipe, intensity_range))

    def scaled_iter(self, noise: str, recipe: Recipe, intensity_range: Range) -> Steps[Sequence[FloatArray]]:
        """Return all images as (Y, X, S) float32 from 0 to 1."""
        key = (noise, recipe, intensity_range)
        if key not in self._scaled:
            start = time.perf_counter()
            yield Progress(0.0, "preparing")
            images = yield from within(self.processed_iter(noise, recipe, intensity_range), 0.0, 0.9)
            _, scaled = yield from within(prepare_iter(images, Recipe(), intensity_range), 0.9, 1.0)
            self._scaled[key] = scaled
            room = min(_MEMORY, available_memory() / _SHARE)
            while len(self._scaled) > 1 and sum(_size(images) for images in self._scaled.values()) > room:
                del self._scaled[next(iter(self._scaled))]
            self.seconds += time.perf_counter() - start
        return self._scaled[key]


def _size(images: Sequence[FloatArray]) -> int:
    return sum(image.nbytes for image in getattr(images, "images", images))  # those in their own dtype, if they are
