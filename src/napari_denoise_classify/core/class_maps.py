"""Class maps: a large image classified tile by tile, lazily.

A tile of ``tile`` × ``tile`` pixels lies around the centre of every cell of a grid with the step ``stride``; the cell
gets the tile's class and probabilities::

      <-stride->
    +---------+---------+
    |  +--tile|--+      |
    |  |  .   |  | .    |      . centre of a cell
    +--|------+--|------+
    |  +------|--+      |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from .classify.cutting import reflected
from .classify.preparing import prepare_masked_iter
from .images import FloatArray, Index, IntensityRange, PlaneImage
from .progress import Progress, Steps, run, within
from .recipe import Recipe

if TYPE_CHECKING:
    from .classify.bundle import Classifier

_BLOCK_VALUES = 2**23
_MOST_TILES = 1024
_RANGE = 0.05  # the part of the first block's work that finding the intensity range counts for


@dataclass(frozen=True, eq=False)
class ClassMap:
    """What `class_map` returns.

    Attributes
    ----------
    labels : (…, y, x) uint8 or uint16 array
        Number of the class of each tile, from 1 on in the order of ``classes``; the image's leading axes before.
    probabilities : (classes, …, y, x) float32 array
    classes : tuple of str
    tile, stride : int
        In pixels of the image.
    translate : float
        Position of the first cell's centre in pixels of the image, along Y and X; the cells are ``stride`` apart.
    record : dict
    """

    labels: Any
    probabilities: Any
    classes: tuple[str, ...]
    tile: int
    stride: int
    record: dict[str, Any] = field(default_factory=dict)
    _blocks: Any = field(default=None, repr=False)

    @property
    def translate(self) -> float:
        """Position of the first cell's centre in pixels of the image, along Y and X."""
        return (self.stride - 1) / 2

    def compute_iter(self, index: Index | None = None) -> Steps[ClassMap]:
        """Classify the tiles now, with progress, and keep the outcome.

        Parameters
        ----------
        index : tuple of int, optional
            Only this plane; the others stay lazy.

        Returns
        -------
        ClassMap
            The same lazy map, of which this part costs nothing any more, if ``index`` is given; else one in memory.
        """
        if self._blocks is None:
            return self
        yield from self._blocks.compute_iter(index)
        if index is not None:
            return self
        labels, probabilities = np.asarray(self.labels), np.asarray(self.probabilities)
        return ClassMap(labels, probabilities, self.classes, self.tile, self.stride, self.record)

    def fractions(self) -> dict[str, float]:
        """Return the part of the tiles that each class has; computes the map."""
        labels = np.asarray(self.labels)
        counts = np.bincount(labels.ravel(), minlength=len(self.classes) + 1)[1:]
        return {name: float(count / labels.size) for name, count in zip(self.classes, counts, strict=True)}


def class_map(
    image: Any,
    classifier: Classifier,
    *,
    tile: int | None = None,
    stride: int | None = None,
    lazy: bool = True,
    axes: str | None = None,
    rgb: bool = False,
    pixel_size: float | None = None,
    recipe: Recipe | None = None,
) -> ClassMap:
    """Classify a large image tile by tile.

    Parameters
    ----------
    image : array-like
        Numpy, dask or zarr; of a lazy one only what a tile needs is read.
    classifier : Classifier
    tile : int, optional
        Side of the tiles in pixels; default: that of the training crops.
    stride : int, optional
        Distance of the tiles in pixels; default: ``tile``. A smaller one gives a finer map of overlapping tiles.
    lazy : bool
        Return dask arrays that are computed where they are looked at, and then kept.
    axes, rgb
        As for `Recipe.apply`.
    pixel_size : float, optional
        Micrometres per pixel: a classifier that was trained on crops of so many µm then takes as many.
    recipe : Recipe, optional
        Instead of the classifier's own.

    Returns
    -------
    ClassMap

    Raises
    ------
    ValueError
        If the image is not of the kind that the classifier knows, or a size is not allowed.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> found = ndc.class_map(slide, clf, tile=64, axes="YXS")  # doctest: +SKIP
    >>> viewer.add_labels(found.labels, scale=(64, 64), translate=(31.5, 31.5))  # doctest: +SKIP
    """
    source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
    classifier.check_samples(source.samples)
    recipe = classifier.recipe if recipe is None else recipe
    tile = classifier.crop_side(pixel_size) if tile is None else tile
    stride = tile if stride is None else stride
    for name, value in (("tile", tile), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name}={value} is not allowed: give at least 1 pixel.")
        if value != int(value):
            raise ValueError(f"{name}={value} is not allowed: give a whole number of pixels.")
    tile, stride = int(tile), int(stride)
    blocks = _Blocks(source, classifier, recipe, tile, stride)
    record = {
        **recipe.record(source.samples),
        "classifier": classifier.record(),
        "recipe_matches_training": recipe == classifier.recipe,
        "tile": tile,
        "stride": stride,
        "colours": dict(classifier.training.get("colours", {})),
    }
    labels, probabilities = blocks.arrays()
    found = ClassMap(labels, probabilities, classifier.classes, tile, stride, record, blocks)
    return found if lazy else run(found.compute_iter())


class _Blocks:
    """The map in blocks of some hundred tiles; each is computed once, whoever asks for it."""

    def __init__(self, source: PlaneImage, classifier: Classifier, recipe: Recipe, tile: int, stride: int) -> None:
        self._source, self._classifier, self._recipe = source, classifier, recipe
        self._tile, self._stride = tile, stride
        self._scale: IntensityRange | None = None
        self._grid = tuple(-(-n // stride) for n in source.plane_shape)
        count = int(np.clip(_BLOCK_VALUES // (tile * tile * source.samples), 1, _MOST_TILES))
        self._side = max(1, int(np.sqrt(count)))
        self._done: dict[Index, FloatArray] = {}
        self._lock = Lock()  # the classifiers use all cores by themselves

    def arrays(self) -> tuple[Any, Any]:
        """Return labels (…, y, x) and probabilities (classes, …, y, x) as dask arrays."""
        import dask.array as da

        lead = self._source.lead_shape
        chunks = tuple((1,) * n for n in lead)
        chunks += tuple(tuple(min(self._side, n - start) for start in range(0, n, self._side)) for n in self._grid)
        n_classes = len(self._classifier.classes)

        def probabilities(block_info: Any = None) -> FloatArray:
            where = block_info[None]["chunk-location"][1:]
            shape = block_info[None]["chunk-shape"]
            return self.block(where).reshape(shape)

        def labels(part: FloatArray) -> npt.NDArray[np.unsignedinteger[Any]]:
            numbers: npt.NDArray[np.unsignedinteger[Any]] = (part.argmax(axis=0) + 1).astype(dtype)
            return numbers

        dtype = np.uint8 if n_classes < 256 else np.uint16
        name = uuid4().hex  # napari keeps what dask computed by name: no two maps may share one
        meta = np.empty((0,) * (len(lead) + 3), np.float32)
        shape = ((n_classes,), *chunks)
        proba = da.map_blocks(probabilities, name=f"p-{name}", chunks=shape, dtype=np.float32, meta=meta)
        found = da.map_blocks(
            labels,
            proba,
            name=f"l-{name}",
            drop_axis=0,
            chunks=chunks,
            dtype=dtype,
            meta=np.empty((0,) * (len(lead) + 2), dtype),
        )
        return found, proba

    def compute_iter(self, index: Index | None) -> Steps[None]:
        """Compute all blocks, or those of one plane."""
        rows, columns = (range(-(-n // self._side)) for n in self._grid)
        planes = list(self._source.indices()) if index is None else [index]
        wanted = [(*plane, i, j) for plane in planes for i in rows for j in columns]
        for k, where in enumerate(wanted):
            yield Progress(k / len(wanted), f"classifying tiles: block {k + 1} of {len(wanted)}")
            if where not in self._done:
                work = self._compute_iter(where)
                self._done[where] = yield from within(work, k / len(wanted), (k + 1) / len(wanted), "tiles")

    def block(self, where: Index) -> FloatArray:
        """Return the probabilities of one block's tiles, (classes, y, x)."""
        with self._lock:
            if where not in self._done:
                self._done[where] = run(self._compute_iter(where))
            return self._done[where]

    def _compute_iter(self, where: Index) -> Steps[FloatArray]:
        *index, i, j = where
        rows, columns = (
            np.arange(k * self._side, min((k + 1) * self._side, n)) for k, n in zip((i, j), self._grid, strict=True)
        )
        if self._scale is None:
            self._scale = yield from within(self._classifier.scale_of_iter(self._source), 0.0, _RANGE)
        tiles = list(self._cut(tuple(index), rows, columns))
        _, scaled, _ = yield from within(prepare_masked_iter(tiles, self._recipe, self._scale), _RANGE, 0.6)
        proba = yield from within(self._classifier.proba_of_scaled_iter(scaled), 0.6, 1.0)
        return proba.T.reshape(-1, len(rows), len(columns)).astype(np.float32)

    def _cut(self, index: Index, rows: npt.NDArray[np.int_], columns: npt.NDArray[np.int_]) -> npt.NDArray[Any]:
        """Cut the tiles around the centres of some cells, (N, tile, tile[, 3]); borders are reflected."""
        starts = [k * self._stride + self._stride // 2 - self._tile // 2 for k in (rows, columns)]
        takes = []
        area: list[slice] = []
        for first, n in zip(starts, self._source.plane_shape, strict=True):
            pixels = reflected(np.arange(first[0], first[-1] + self._tile), n)
            low = int(pixels.min())
            area.append(slice(low, int(pixels.max()) + 1))
            takes.append(pixels - low)
        part = np.asarray(self._source.data[(*index, *area)])
        part = part[..., :3] if self._source.rgb else part
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise ValueError("The image holds NaN or infinite pixels: replace them first, with numpy.nan_to_num say.")
        part = part[np.ix_(*takes)]
        side = (self._tile, self._tile)
        windows = np.lib.stride_tricks.sliding_window_view(part, side, axis=(0, 1))
        chosen = windows[:: self._stride, :: self._stride]
        chosen = np.moveaxis(chosen, 2, -1) if self._source.rgb else chosen
        return np.ascontiguousarray(chosen).reshape(-1, *chosen.shape[2:])
