"""Rows that Classify, Explain and Workflow share: what is classified, and by which classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from magicgui.widgets import ComboBox, Container, FloatSpinBox, PushButton

from ..core.classify.fields import CropField, Sizes, field_of
from ..core.classify.objects import Objects, measure_objects
from ..core.progress import Steps
from .class_layers import LARGEST_COLOURED, add_objects, add_points
from .crop_size import CropSize
from .dock import hug, layer_box, narrow
from .layers import (
    Source,
    label_axes,
    object_numbers,
    pixel_size_of,
    positions_in,
    shown_plane,
    size_factor,
    take,
    whole_data,
)
from .session import session

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer

    from ..core.classify.bundle import Classifier
    from ..core.workflow import Classified

WHOLE, POINTS, OBJECTS, TILES = "whole", "points", "objects", "tiles"
_MUCH_LARGER = 2  # times the side of the training images: a whole image shows another field
_MOST_WRITTEN = 2000  # more positions than that are not written into the Python that is copied


@dataclass(frozen=True, eq=False)
class Target:
    """What a run classifies.

    Attributes
    ----------
    source : Source
    centres : (N, D) array or None
        In pixels of the image; None for whole planes and tiles.
    field : CropField or None
        How much a sample shows; None for as much as in training.
    objects : Labels layer, its axes, and its objects, or None
    sides : (N,) array or None
        The objects' sizes in pixels of the image.
    groups : (N,) array of str or None
    pixel_size : float or None
        Micrometres per pixel of the image, where it is known.
    tiles : bool
        Whether tiles of the whole image are classified.
    stride : int or None
        Of the tiles, in pixels; None for their side.
    plane : tuple of int
        The plane that the viewer shows.
    """

    source: Source
    centres: npt.NDArray[np.float64] | None = None
    field: CropField | None = None
    objects: tuple[Labels, str, Objects] | None = None
    sides: npt.NDArray[np.float64] | None = None
    groups: npt.NDArray[np.str_] | None = None
    pixel_size: float | None = None
    tiles: bool = False
    stride: int | None = None
    plane: tuple[int, ...] = ()

    @property
    def ids(self) -> npt.NDArray[Any] | None:
        """The numbers of the objects, if they are objects."""
        return None if self.objects is None else self.objects[2].numbers

    def size_for(self, classifier: Classifier) -> Sizes | None:
        """Return the side of crops or tiles in pixels, one or (N,); None for that of the training crops."""
        if self.centres is None and not self.tiles:
            return None
        field = self.field
        if field is None:
            field = field_of(classifier.training, classifier.crop_size)
            unknown = {"px": True, "µm": self.pixel_size is None, "object": self.sides is None}[field.unit]
            if unknown:
                return None
        return field.pixels(self.pixel_size, self.sides)

    def note_for(self, classifier: Classifier) -> str:
        """Say that samples show another field than in training, or count once in several planes; empty if not so."""
        if self.centres is None and not self.tiles:
            trained, (height, width) = classifier.crop_size, self.source.image.plane_shape
            if min(height, width) <= _MUCH_LARGER * trained:
                return ""
            return (
                f"Note: the classifier learned from images of {trained} px, and this one has {width} × {height}: "
                "choose points or objects, to classify its parts."
            )
        notes = [] if self.objects is None else [self.objects[2].note]
        if self.field is None:
            trained_on = field_of(classifier.training, classifier.crop_size)
            notes.append(trained_on.note(self.pixel_size, self.sides is not None))
        return " ".join(note for note in notes if note)

    def classify_iter(self, classifier: Classifier, **how: Any) -> Steps[Classified]:
        """Classify these samples; ``how`` as for `core.workflow.classify_iter`."""
        from ..core.workflow import classify_iter

        size = self.size_for(classifier)
        where: dict[str, Any] = {
            "centres": self.centres,
            "ids": self.ids,
            "crop_size": size,
            "pixel_size": self.pixel_size,
        }
        return classify_iter(self.source.image, classifier, **where, **how)


class TargetFields:
    """Rows that choose an image and what of it is a sample.

    Parameters
    ----------
    viewer : napari.Viewer
    form : Form
    tiles : bool
        Whether tiles of the image are offered.
    """

    def __init__(self, viewer: napari.Viewer, form: Any, tiles: bool = False) -> None:
        self._viewer = viewer
        self.image = layer_box("Image", "Image", "image")
        choices = [
            ("the whole image", WHOLE),
            ("crops around points", POINTS),
            ("objects of a label image", OBJECTS),
        ]
        self.where = ComboBox(
            name="where", label="Classify", choices=choices + ([("tiles of the image", TILES)] if tiles else [])
        )
        self.points = layer_box("Points", "Points", "points")
        self.objects = layer_box("Label image", "Labels", "objects")
        self.crop_size = CropSize("crop_size", trained=True)
        # magicgui's box for whole numbers cannot show a word for its lowest setting
        self.stride = FloatSpinBox(name="stride", label="Tiles every (px)", min=0, max=100_000, step=8, value=0)
        self.stride.native.setDecimals(0)
        self.stride.native.setSpecialValueText("side by side")
        self.stride.tooltip = "Distance of the tiles: less than their side gives a finer map of overlapping tiles."
        for widget in (self.image, self.where, self.points, self.objects, self.crop_size, self.stride):
            form.append(widget)
        self.where.changed.connect(self._on_change)
        self._on_change()

    def _on_change(self) -> None:
        where = self.where.value
        self.points.visible = where == POINTS
        self.objects.visible = where == OBJECTS
        self.stride.visible = where == TILES
        self.crop_size.visible = where != WHOLE
        self.crop_size.offer(objects=where == OBJECTS)
        if where != WHOLE:
            self.crop_size.label = "Tile size" if where == TILES else "Crop size"

    def hide(self) -> None:
        """Hide all rows but the image's and the choice."""
        for widget in (self.points, self.objects, self.crop_size, self.stride):
            widget.visible = False

    def read_whole(self) -> Target:
        """Read the image alone, whatever the other rows say.

        Raises
        ------
        ValueError
            If there is none.
        """
        image = self.image.value
        return Target(take(image), pixel_size=pixel_size_of(image))

    def read(self) -> Target:
        """Read the rows.

        Raises
        ------
        ValueError
            If a layer is missing or holds no positions.
        """
        target = self.read_whole()
        if self.where.value == WHOLE:
            return target
        image: Image = self.image.value
        source, pixel_size = target.source, target.pixel_size
        field = self.crop_size.field(pixel_size)
        if self.where.value == TILES:
            return Target(
                source,
                field=field,
                pixel_size=pixel_size,
                tiles=True,
                stride=int(self.stride.value) or None,
                plane=shown_plane(source, image, self._viewer),
            )
        if self.where.value == POINTS:
            layer = self.points.value
            if layer is None or len(layer.data) == 0:
                raise ValueError("There are no points: add a Points layer and click on the cells.")
            centres = positions_in(image, layer, layer.data, self._viewer)
            groups = layer.features["group"].to_numpy(str) if "group" in layer.features.columns else None
            return Target(source, centres, field, groups=groups, pixel_size=pixel_size)
        layer = self.objects.value
        if layer is None:
            raise ValueError("There is no label image: add a Labels layer whose objects are the cells.")
        axes = label_axes(layer, image)
        found = measure_objects(whole_data(layer), axes)
        return Target(
            source,
            positions_in(image, layer, found.centres, self._viewer),
            field,
            objects=(layer, axes, found),
            sides=found.sides * size_factor(image, layer, self._viewer),
            groups=_groups_of(layer, found.numbers),
            pixel_size=pixel_size,
        )


def _groups_of(layer: Labels, ids: npt.NDArray[Any]) -> npt.NDArray[np.str_] | None:
    """Return the group of each object, where the layer's features tell it."""
    if "group" not in layer.features.columns:
        return None
    known = dict(zip(object_numbers(layer).tolist(), layer.features["group"].astype(str), strict=True))
    return np.array([known.get(i, "") for i in ids.tolist()], dtype=np.str_)


class ClassifierFields:
    """Rows that choose a classifier of this session, or load one.

    Parameters
    ----------
    form : Form
    load : callable
        Reads a file that the user picked, and chooses what is in it.
    nothing : str, optional
        The words for no classifier, where there may be none.
    """

    def __init__(self, form: Any, load: Callable[[Path], None], nothing: str | None = None) -> None:
        self._load = load
        first = [(nothing, "")] if nothing is not None else []
        self.choice = narrow(
            ComboBox(name="classifier", label="", choices=lambda _: [*first, *((n, n) for n in session.names())])
        )
        self.load_button = hug(PushButton(text="Load…", name="load"))
        self.row: Container[Any] = Container(
            widgets=[self.choice, self.load_button],
            layout="horizontal",
            labels=False,
            label="Classifier",
            name="classifier_row",
        )
        self.row.margins = (0, 0, 0, 0)
        form.append(self.row)
        self.load_button.clicked.connect(self._browse)
        session.changed.connect(self._on_new)
        # The panel may be closed long before the session ends.
        self.choice.native.destroyed.connect(self._forget)

    def _forget(self) -> None:
        session.changed.disconnect(self._on_new, missing_ok=True)

    def _on_new(self, _: str) -> None:
        """Offer a new classifier; what is chosen stays: it may have come from another panel."""
        self.choice.reset_choices()

    def choose(self, name: str) -> None:
        """Choose a classifier that this panel trained or loaded."""
        self.choice.value = name

    def _browse(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        path, _ = QFileDialog.getOpenFileName(self.row.native, "Load a classifier", "", "Classifiers (*.ndc)")
        if path:
            self._load(Path(path))

    @property
    def name(self) -> str:
        """The chosen name, empty for none."""
        return str(self.choice.value or "")

    def chosen(self) -> str:
        """Return the chosen name.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self.name:
            raise ValueError("There is no classifier: train one in the panel Classify, or load one.")
        return self.name

    def read(self) -> Classifier:
        """Return the chosen classifier; the first one takes seconds.

        Raises
        ------
        ValueError
            If none is chosen or its file cannot be read.
        """
        return session.get(self.chosen())


def show_classes(
    viewer: napari.Viewer, target: Target, result: Classified, classes: tuple[str, ...], record: dict[str, Any]
) -> str:
    """Add the layer of classes, and return the outcome in words."""
    return summary(result, add_classes(viewer, target, result, classes, record)[1])


def add_classes(
    viewer: napari.Viewer, target: Target, result: Classified, classes: tuple[str, ...], record: dict[str, Any]
) -> tuple[Layer, str]:
    """Add the layer of classes; return the one that holds each sample's figures, and a note for people."""
    size = max(2.0, 0.2 * result.crop_size) if result.crop_size else 0.05 * min(target.source.image.plane_shape)
    if target.objects is None:
        return add_points(viewer, target.source, result.table, classes, size, record), ""
    layer, axes, found = target.objects
    objects = add_objects(viewer, layer, axes, found, result.table, classes, record)
    if int(found.ids.max()) <= LARGEST_COLOURED:
        return objects, ""
    points = add_points(viewer, target.source, result.table, classes, size, record)
    points.visible = False
    return points, "The numbers of the objects are too large for napari's colours: each object's figures are in points."


def summary(result: Classified, note: str = "") -> str:
    """Say what was found: the class and all probabilities of one sample, or how many there are of each class."""
    if note:
        return f"{summary(result)}\n{note}"
    if len(result.table) == 1:
        row = result.table.iloc[0]
        names = [c for c in result.table.columns if c.startswith("p_")]
        listed = ", ".join(f"{name[2:]} {row[name]:.2f}" for name in sorted(names, key=lambda n: -row[n]))
        return f"{row['class']}  ({listed})"
    counts = result.table["class"].value_counts()
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def classify_code(
    target: Target, name: str, classifier: Classifier, explain: Any, options: dict[str, Any], record_recipe: Any
) -> str:
    """Return Python that classifies the same samples again, to the same numbers; ``name`` is the classifier's."""
    lines = ["import napari_denoise_classify as ndc", ""]
    lines.append(f"image = {target.source.code}  # in napari's console; elsewhere, load the image here")
    lines.append(session.code(name))
    arguments = [f"axes={target.source.image.axes!r}"]
    size = target.size_for(classifier)
    if target.centres is not None:
        arguments.append("centres=centres")
        many = len(target.centres) > _MOST_WRITTEN
        columns = [*target.source.image.lead_names, "y", "x"]
        if many:
            lines.append("table = __import__('pandas').read_csv('classes.csv')  # that the button Save table… wrote")
        lines.append(f"centres = {f'table[{columns!r}].to_numpy()' if many else repr(target.centres.tolist())}")
        if size is not None and not (many and np.ndim(size)):
            arguments.append(f"crop_size={np.asarray(size).tolist()}")
        if classifier.context is not None and target.pixel_size is not None:
            arguments.append(f"pixel_size={target.pixel_size!r}")
    if record_recipe is not None:
        lines.append(f"recipe = {_recipe_expression(record_recipe)}")
        arguments.append("recipe=recipe")
    if explain:
        arguments += [f"explain={explain!r}", *(f"{key}={value!r}" for key, value in options.items())]
    if target.tiles:
        arguments += [] if size is None else [f"tile={size}"]
        arguments += [] if target.stride is None else [f"stride={target.stride}"]
        lines += [f"result = ndc.class_map(image, clf, {', '.join(arguments)})", "result.labels"]
        return "\n".join(lines)
    lines.append(f"result = ndc.classify(image, clf, {', '.join(arguments)})")
    lines.append("result.table")
    return "\n".join(lines)


def _recipe_expression(recipe: Any) -> str:
    return "ndc." + repr(recipe)
