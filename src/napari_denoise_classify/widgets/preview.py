"""The preview: what is shown of a layer, denoised in a thread whenever the view or the parameters change."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QTimer

from ..core.blocks.parts import part_iter
from ..core.blocks.plan import with_halo
from ..core.images import PlaneImage
from ..core.progress import USER_ERRORS, Steps
from ..core.recipe import Recipe
from ..core.steps import Reach
from .layers import Source, affine_map, data_coordinates, take
from .workers import Job

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

NAME = "preview"
LARGEST, SMALLEST = 512, 128
"""Side of the part that is previewed, in pixels: as large as is done in time."""

_TIME = 0.6  # seconds that a preview may take
_PAUSE = 120  # milliseconds without a change before one starts
_MARGIN = 32  # around the part, for steps that need the whole plane


@dataclass(frozen=True, eq=False)
class _Found:
    """What the thread hands back.

    ``ranges`` are the intensity ranges of an image's planes, with the array and the choice that they are of.
    """

    pixels: npt.NDArray[Any]
    seconds: float
    ranges: tuple[Any, Any, Any]


@dataclass(frozen=True)
class View:
    """What is shown of an image layer.

    Attributes
    ----------
    image : PlaneImage
        The level that is shown.
    index : tuple of int
        The plane.
    rows, columns : slice
        The part.
    factor : (float, float)
        How many pixels of the full resolution one is, along Y and X.
    """

    image: PlaneImage
    index: tuple[int, ...]
    rows: slice
    columns: slice
    factor: tuple[float, float]


def shown(viewer: napari.Viewer, layer: Image, source: Source, side: int) -> View:
    """Find the part of a layer that the viewer shows, at most ``side`` pixels high and wide.

    Raises
    ------
    ValueError
        If the view does not show planes of the image, or nothing of it.
    """
    axes = tuple(viewer.dims.order[-2:])
    if viewer.dims.ndisplay != 2 or axes != (viewer.dims.ndim - 2, viewer.dims.ndim - 1):
        raise ValueError("The preview is of the planes of an image: switch to the 2D view of Y and X.")
    level = layer.data_level if layer.multiscale else 0
    data = layer.data[level] if layer.multiscale else layer.data
    image = PlaneImage.wrap(data, source.image.axes)
    n_lead = len(image.lead_shape)
    at = np.rint(data_coordinates(layer, viewer, viewer.dims.point)[:n_lead])
    if any(not 0 <= i < n for i, n in zip(at, image.lead_shape, strict=True)):
        raise ValueError("Nothing of the image is shown: move the slider to it.")
    factor = layer.downsample_factors[level][n_lead : n_lead + 2] if layer.multiscale else np.ones(2)
    # The corners of a pyramid's view are those of whole tiles: the middle is what the camera looks at.
    looked_at = (*viewer.dims.point[:-2], *camera_of(viewer).center[-2:])
    middle = data_coordinates(layer, viewer, looked_at)[n_lead : n_lead + 2] / factor
    spans = []
    for k, length in enumerate(image.plane_shape):
        low, high = (int(np.clip(edge, 0, length)) for edge in (layer.corner_pixels[:, n_lead + k] + (0, 1)))
        if high - low < 1:
            raise ValueError("Nothing of the image is shown: move it into view.")
        size = min(side, high - low)
        start = int(np.clip(round(float(middle[k]) - size / 2), low, high - size))
        spans.append(slice(start, start + size))
    return View(image, tuple(int(i) for i in at), spans[0], spans[1], (float(factor[0]), float(factor[1])))


def denoise_view_iter(recipe: Recipe, view: View, low_high: tuple[float, float]) -> Steps[npt.NDArray[Any]]:
    """Denoise what is shown, with as many pixels around it as the recipe looks at.

    Returns
    -------
    (Y, X) or (Y, X, S) array
        In the image's dtype; enlarged where the recipe enlarges.
    """
    reach = recipe.reach(view.image.samples) or Reach(_MARGIN)
    step = reach.multiple
    rows, columns = (
        slice(s.start // step * step, min(n, -(-s.stop // step) * step))
        for s, n in zip((view.rows, view.columns), view.image.plane_shape, strict=True)
    )
    tile = with_halo(rows, columns, reach, view.image.plane_shape)
    here = view.image.read([view.index], *tile.outer)
    pixels, _ = yield from part_iter(recipe, here, tile, [low_high])
    y, x = (
        slice((s.start - t.start) * recipe.upscale, (s.stop - t.start) * recipe.upscale)
        for s, t in zip((view.rows, view.columns), (rows, columns), strict=True)
    )
    return pixels[0, y, x]


def camera_of(viewer: napari.Viewer) -> Any:
    """Return a viewer's camera, which newer versions of napari keep in a scene."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


class Preview:
    """Keeps one layer, named preview, on what is shown of an image.

    Parameters
    ----------
    viewer : napari.Viewer
    image : callable
        Returns the layer to denoise, or None.
    recipe : callable
        Returns the recipe; may raise a `ValueError`.
    say : callable
        Shows a line of text.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        image: Callable[[], Image | None],
        recipe: Callable[[], Recipe],
        say: Callable[[str], None],
    ) -> None:
        self._viewer, self._image, self._recipe, self._say = viewer, image, recipe, say
        self.on = False
        self.layer: Image | None = None
        self.seconds = 0.0
        self._side = 256
        self._job: Job | None = None
        self._again = False
        self._ranges: tuple[Any, Any, Any] | None = None
        self._now: tuple[Image, Source, View, Recipe] | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._start)

    def switch(self, on: bool) -> None:
        """Begin, or end: the layer goes away then."""
        if on == self.on:
            return
        self.on = on
        camera, dims = camera_of(self._viewer).events, self._viewer.dims.events
        for emitter in (camera.center, camera.zoom, dims.point, dims.order, dims.ndisplay):
            (emitter.connect if on else emitter.disconnect)(self._on_view)
        if on:
            self._timer.start()
            return
        self.abandon()
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None

    def abandon(self) -> None:
        """Stop, and touch nothing any more: the panel may be gone."""
        self.on = False
        with suppress(RuntimeError):  # at the end of the program, Qt may have deleted it before
            self._timer.stop()
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._ranges = self._now = None  # they hold the image

    def refresh(self, _: object = None) -> None:
        """Do it again soon; many changes shortly after one another count once."""
        if self.on:
            self._timer.start()

    def _on_view(self, _: object = None) -> None:
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether a preview is under way or about to begin."""
        return self._job is not None or self._timer.isActive()

    def _start(self) -> None:
        if not self.on:
            return
        if self._job is not None:
            self._again = True
            return
        try:
            layer = self._image()
            if layer is None or layer is self.layer:
                raise ValueError("There is no image to preview: choose one.")
            recipe, source = self._recipe(), take(layer)
            view = shown(self._viewer, layer, source, self._side)
        except USER_ERRORS as error:
            self._say(str(error))
            return
        whole = layer.data[0] if layer.multiscale else layer.data
        work = self._work(recipe, source, view, whole, self._ranges)
        self._job = Job(work, lambda *_: None, self._on_done, self._on_end)
        self._now = (layer, source, view, recipe)

    @staticmethod
    def _work(
        recipe: Recipe, source: Source, view: View, whole: Any, known: tuple[Any, Any, Any] | None
    ) -> Steps[_Found | str]:
        """Denoise in the thread; what goes wrong is a text, and no notification.

        ``whole`` is the layer's own array, by which the range is ``known`` again: ``source`` has a view of it.
        """
        try:
            how = recipe.intensity_range
            if known is None or known[0] is not whole or known[1] != how:
                known = (whole, how, (yield from source.image.ranges_iter(how)))
            low_high = known[2][view.index]
            recipe.reach(source.image.samples)  # loads the network
            start = time.perf_counter()
            pixels = yield from denoise_view_iter(recipe, view, low_high)
            return _Found(pixels, time.perf_counter() - start, known)
        except USER_ERRORS as error:
            return str(error)

    def _on_end(self, how: str) -> None:
        self._job = None
        if self._again or how == "failed":
            again, self._again = self._again, False
            if again:
                self.refresh()

    def _on_done(self, result: _Found | str) -> None:
        if not self.on:
            return
        if isinstance(result, str):
            self._say(f"No preview: {result}")
            return
        self.seconds, self._ranges = result.seconds, result.ranges
        assert self._now is not None
        layer, source, view, recipe = self._now
        self._show(layer, source, view, result.pixels, recipe.upscale)
        height, width = (s.stop - s.start for s in (view.rows, view.columns))
        self._say(f"Preview of {width} × {height} px in {self.seconds:.1f} s.")
        # As large as is done in time, the next time.
        fitting = int(max(height, width) * (_TIME / max(self.seconds, 1e-3)) ** 0.5)
        side = min(LARGEST, max(SMALLEST, fitting // 32 * 32))
        grows = side > 1.4 * self._side and max(height, width) == self._side
        self._side = side
        if grows:
            self.refresh()

    def _show(self, layer: Image, source: Source, view: View, pixels: npt.NDArray[Any], upscale: int) -> None:
        """Add the layer, or put the new pixels into it."""
        data = pixels.reshape((1,) * len(view.index) + pixels.shape)
        n = layer.ndim
        scale, origin = np.ones(n), np.zeros(n)
        origin[: len(view.index)] = view.index
        scale[-2:] = np.array(view.factor) / upscale
        shift = -(upscale - 1) / (2 * upscale)  # of the first of the new pixels, in old ones
        origin[-2:] = (np.array([view.rows.start, view.columns.start]) + shift) * view.factor
        a, b = affine_map(layer)
        affine = np.eye(n + 1)
        affine[:n, :n], affine[:n, n] = a @ np.diag(scale), a @ origin + b
        if self.layer is None or self.layer not in self._viewer.layers:
            selected = set(self._viewer.layers.selection)
            active = self._viewer.layers.selection.active
            look = {**source.look, "interpolation2d": "nearest"}
            self.layer = self._viewer.add_image(
                data, name=NAME, affine=affine, units=layer.units, axis_labels=layer.axis_labels, **look
            )
            self._viewer.layers.selection = selected  # the image stays chosen
            self._viewer.layers.selection.active = active
            return
        with suppress(RuntimeError):  # it may be on its way out
            if self.layer.rgb != source.image.rgb or self.layer.ndim != n:
                self._viewer.layers.remove(self.layer)
                self.layer = None
                self._show(layer, source, view, pixels, upscale)
                return
            self.layer.data = data
            self.layer.affine = affine
            if not source.image.rgb:
                self.layer.contrast_limits = layer.contrast_limits
                self.layer.colormap = layer.colormap
