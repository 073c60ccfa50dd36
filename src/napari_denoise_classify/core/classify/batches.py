"""Many samples of one image in bounded memory: cut, prepared and classified some thousands at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray, Index, IntensityRange, PlaneImage
from ..progress import Progress, Steps, within
from ..recipe import Recipe
from .cutting import cut_iter
from .datasets import Image
from .fields import Sizes
from .preparing import BoolArray, prepare_masked_iter
from .sampling import check_positions
from .scaled import ScaledCrops

if TYPE_CHECKING:
    from .bundle import Classifier

BATCH = 4096
"""At most so many samples are held at a time as float images."""
_BATCH_VALUES = 2**25  # and at most so many values, unless one sample has more


@dataclass(frozen=True, eq=False)
class Samples:
    """What of an image is classified.

    Attributes
    ----------
    source : PlaneImage
    positions : (N, D) array
        Leading axes, Y, X: the centres in pixels.
    sizes : (N,) array of int, or None
        Side of each crop; None for whole planes, of which there is one at each position.
    """

    source: PlaneImage
    positions: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int_] | None

    @classmethod
    def planes(cls, source: PlaneImage) -> Samples:
        """Take every plane as one sample."""
        height, width = source.plane_shape
        centre = ((height - 1) / 2, (width - 1) / 2)
        return cls(source, np.array([(*index, *centre) for index in source.indices()], float), None)

    @classmethod
    def around(cls, source: PlaneImage, centres: npt.ArrayLike, size: Sizes) -> Samples:
        """Take square crops around positions; ``size`` is one for all, or (N,).

        Raises
        ------
        ValueError
            If there are none, one lies outside the image, or the numbers of positions and sizes differ.
        """
        positions = np.asarray(centres, float)
        if len(positions) == 0:
            raise ValueError("There are no positions to classify: add points or objects first.")
        check_positions(source, positions)
        if np.ndim(size) and np.shape(size) != (len(positions),):
            raise ValueError(f"There are {len(positions)} positions, but {np.size(size)} crop sizes: give one for all.")
        if np.min(size) < 1:
            raise ValueError(f"size={np.min(size)} is not allowed: crops need at least 1 pixel.")
        return cls(source, positions, np.broadcast_to(np.asarray(size, int), len(positions)))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def planes_of(self) -> npt.NDArray[np.int_]:
        """The leading index of each, (N, leading axes)."""
        return np.rint(self.positions[:, :-2]).astype(int)

    @property
    def corners(self) -> npt.NDArray[np.int_]:
        """The upper left corner (Y, X) of each; it may lie outside the image."""
        if self.sizes is None:
            return np.zeros((len(self), 2), int)
        whole: npt.NDArray[np.int_] = np.rint(self.positions[:, -2:]).astype(int) - self.sizes[:, None] // 2
        return whole

    def batches(self) -> Iterator[tuple[npt.NDArray[np.intp], list[Image]]]:
        """Cut the samples, some thousands at a time, plane by plane so that each plane is read once.

        Yields
        ------
        rows : (M,) array of int
            Which samples.
        images : list of M arrays
            Each (Y, X) or (Y, X, 3); many are views of the image.
        """
        rows: list[npt.NDArray[np.intp]] = []
        images: list[Image] = []
        values = 0
        for part, cut in self._parts():
            if images and (len(images) + len(cut) > BATCH or values + sum(c.size for c in cut) > _BATCH_VALUES):
                yield np.concatenate(rows), images
                rows, images, values = [], [], 0
            rows.append(part)
            images.extend(cut)
            values += sum(c.size for c in cut)
        yield np.concatenate(rows), images

    def _parts(self) -> Iterator[tuple[npt.NDArray[np.intp], list[Image]]]:
        source = self.source
        if self.sizes is None:
            for row, index in enumerate(self.planes_of.tolist()):
                plane = source.raw_plane(tuple(index))
                yield np.array([row]), [plane[..., :3] if source.rgb else plane]
            return
        most = int(np.clip(_BATCH_VALUES // (int(self.sizes.max()) ** 2 * source.samples), 1, BATCH))
        yield from cut_iter(source, np.rint(self.positions).astype(int), self.sizes, most)


def classify_samples_iter(
    samples: Samples, classifier: Classifier, recipe: Recipe, scale: IntensityRange, keep: bool = False
) -> Steps[tuple[npt.NDArray[np.float64], Mosaic, Sequence[FloatArray]]]:
    """Prepare and classify samples batch by batch.

    Parameters
    ----------
    samples : Samples
    classifier : Classifier
    recipe : Recipe
    scale : IntensityRange
    keep : bool
        Hold what the classifier saw of every sample: to explain it.

    Returns
    -------
    proba : (N, classes) float64
    mosaic : Mosaic
    scaled : sequence of (Y, X, S) float32
        Of every sample if ``keep``, else empty.
    """
    proba = np.empty((len(samples), len(classifier.classes)))
    mosaic = Mosaic(samples, recipe)
    kept: list[Any] = [None] * (len(samples) if keep else 0)
    lazily = isinstance(scale, tuple)  # then the crops are kept in their own dtype
    done = 0
    for rows, images in samples.batches():
        start, end = done / len(samples), (done + len(rows)) / len(samples)
        middle = start + 0.6 * (end - start)
        processed, scaled, masks = yield from within(prepare_masked_iter(images, recipe, scale), start, middle)
        proba[rows] = yield from within(classifier.proba_of_scaled_iter(scaled), middle, end, "classifying")
        mosaic.add(rows, processed, masks)
        if keep:
            for row, one in zip(rows.tolist(), processed if lazily else scaled, strict=True):
                kept[row] = np.array(one)  # no view, which would hold all that was read
        done += len(rows)
        yield Progress(end, "classifying")
    return proba, mosaic, ScaledCrops(kept, scale) if isinstance(scale, tuple) else kept


class Mosaic:
    """What the classifier saw, put back at its places; where crops overlap, one of them shows.

    Parameters
    ----------
    samples : Samples
    recipe : Recipe
        Without steps the image is as it was, and nothing is copied. Nor is it where the image is lazy: see
        `prepared_lazily`.
    """

    def __init__(self, samples: Samples, recipe: Recipe) -> None:
        source = samples.source
        self._samples = samples
        self._pad = 0 if samples.sizes is None else int(samples.sizes.max())
        self._masks, self._kept = recipe.masks, 0.0
        self._planes = samples.planes_of
        self._corners = samples.corners + self._pad
        shape = (*source.lead_shape, *(n + 2 * self._pad for n in source.plane_shape))
        self._canvas: npt.NDArray[Any] | None = None
        self._mask: npt.NDArray[np.bool_] | None = None
        if recipe and recipe.upscale == 1 and not source.lazy:
            n_lead = len(source.lead_shape)
            self._canvas = np.empty((*shape, *source.data.shape[n_lead + 2 :]), source.data.dtype)
            self._inner(self._canvas)[...] = source.data
            self._mask = np.zeros(shape, bool) if recipe.masks else None

    def _inner(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        lead, pad = len(self._samples.source.lead_shape), self._pad
        height, width = self._samples.source.plane_shape
        return array[(slice(None),) * lead + (slice(pad, pad + height), slice(pad, pad + width))]

    def add(self, rows: npt.NDArray[np.intp], images: list[Image], masks: list[BoolArray] | None) -> None:
        """Put prepared samples, and what their masks kept, at the places of ``rows``."""
        if masks is not None:
            self._kept += sum(float(mask.mean()) for mask in masks)
        if self._canvas is None:
            return
        shapes = np.array([image.shape[:2] for image in images])
        keys = np.column_stack([self._planes[rows], shapes])
        groups, inverse = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(inverse.ravel()))
        for key, here in zip(groups.tolist(), np.split(order, ends[:-1]), strict=True):
            index: Index = tuple(key[:-2])
            tops, lefts = self._corners[rows[here]].T
            plane = self._canvas[index]
            plane = plane[..., :3] if self._samples.source.rgb else plane
            stack = np.stack([images[i] for i in here])
            windows = np.lib.stride_tricks.sliding_window_view(plane, key[-2:], axis=(0, 1), writeable=True)
            windows[tops, lefts] = np.moveaxis(stack, -1, 1) if stack.ndim == 4 else stack
            if masks is not None and self._mask is not None:
                kept = np.stack([masks[i] for i in here])
                which, y, x = np.nonzero(kept)
                self._mask[index][tops[which] + y, lefts[which] + x] = True

    @property
    def image(self) -> Any:
        """The image in its own axes."""
        source = self._samples.source
        return source.unwrap(source.data if self._canvas is None else self._inner(self._canvas))

    @property
    def mask(self) -> Any:
        """What the masks kept, in the image's axes without S; None if there are no masks."""
        if self._mask is None:
            return None
        return PlaneImage(self._mask, self._samples.source.axes.replace("S", "")).unwrap(self._inner(self._mask))

    @property
    def kept(self) -> float:
        """The fraction of the samples' pixels that the masks kept."""
        return 1.0 if not self._masks else self._kept / len(self._samples)
