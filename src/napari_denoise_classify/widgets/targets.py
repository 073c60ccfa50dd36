"""Rows that Classify, Explain and Workflow share: what is classified, and by which classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from magicgui.widgets import ComboBox, Container, FloatSpinBox, PushButton

from .dock import layer_box, narrow
from .layers import Source, add_objects, add_points, positions_in, take
from .session import session

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels

    from ..core.classify.bundle import Classifier
    from ..core.workflow import Classified

WHOLE, POINTS, OBJECTS = "whole", "points", "objects"


@dataclass(frozen=True)
class Target:
    """What a run classifies.

    Attributes
    ----------
    source : Source
    centres : (N, D) array or None
        In pixels of the image; None for whole planes.
    crop_size : int or None
    objects : Labels layer and (N,) ids, or None
    """

    source: Source
    centres: npt.NDArray[np.float64] | None
    crop_size: int | None
    objects: tuple[Labels, npt.NDArray[Any]] | None

    @property
    def ids(self) -> npt.NDArray[Any] | None:
        """The numbers of the objects, if they are objects."""
        return None if self.objects is None else self.objects[1]


class TargetFields:
    """Rows that choose an image and what of it is a sample."""

    def __init__(self, viewer: napari.Viewer, form: Any) -> None:
        self._viewer = viewer
        self.image = layer_box("Image", "Image", "image")
        self.where = ComboBox(
            name="where",
            label="Classify",
            choices=[
                ("the whole image", WHOLE),
                ("crops around points", POINTS),
                ("objects of a label image", OBJECTS),
            ],
        )
        self.points = layer_box("Points", "Points", "points")
        self.objects = layer_box("Label image", "Labels", "objects")
        # magicgui's box for whole numbers cannot show a word for its lowest setting
        self.crop_size = FloatSpinBox(name="crop_size", label="Crop size (px)", min=0, max=4096, step=2, value=0)
        self.crop_size.native.setDecimals(0)
        self.crop_size.native.setSpecialValueText("as in training")
        self.crop_size.tooltip = "Side of the square that is cut around each position."
        for widget in (self.image, self.where, self.points, self.objects, self.crop_size):
            form.append(widget)
        self.where.changed.connect(self._on_change)
        self._on_change()

    def _on_change(self) -> None:
        self.points.visible = self.where.value == POINTS
        self.objects.visible = self.where.value == OBJECTS
        self.crop_size.visible = self.where.value != WHOLE

    def read(self) -> Target:
        """Read the rows.

        Raises
        ------
        ValueError
            If a layer is missing or holds no positions.
        """
        image = self.image.value
        if image is None:
            raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
        source = take(image)
        if self.where.value == WHOLE:
            return Target(source, None, None, None)
        size = int(self.crop_size.value) or None
        if self.where.value == POINTS:
            layer = self.points.value
            if layer is None or len(layer.data) == 0:
                raise ValueError("There are no points: add a Points layer and click on the cells.")
            return Target(source, positions_in(image, layer, layer.data, self._viewer), size, None)
        from ..core.classify.sampling import object_centres

        layer = self.objects.value
        if layer is None:
            raise ValueError("There is no label image: add a Labels layer whose objects are the cells.")
        ids, centres = object_centres(layer.data[0] if layer.multiscale else layer.data)
        return Target(source, positions_in(image, layer, centres, self._viewer), size, (layer, ids))


class ClassifierFields:
    """Rows that choose a classifier of this session, or load one."""

    def __init__(self, form: Any, nothing: str | None = None) -> None:
        first = [(nothing, "")] if nothing is not None else []
        self.choice = narrow(
            ComboBox(name="classifier", label="", choices=lambda _: [*first, *((n, n) for n in session.names())])
        )
        self.load_button = PushButton(text="Load…", name="load")
        self.load_button.max_width = 64
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

    def _on_new(self, name: str) -> None:
        self.choice.reset_choices()
        self.choice.value = name

    def _browse(self) -> None:
        from napari.utils.notifications import show_error
        from qtpy.QtWidgets import QFileDialog

        path, _ = QFileDialog.getOpenFileName(self.row.native, "Load a classifier", "", "Classifiers (*.ndc)")
        if path:
            try:
                session.load(path)
            except ValueError as error:
                show_error(str(error))

    @property
    def name(self) -> str:
        """The chosen name, empty for none."""
        return str(self.choice.value or "")

    def read(self) -> Classifier:
        """Return the chosen classifier.

        Raises
        ------
        ValueError
            If none is chosen or its file cannot be read.
        """
        if not self.name:
            raise ValueError("There is no classifier: train one in the panel Classify, or load one.")
        return session.get(self.name)


def show_classes(
    viewer: napari.Viewer, target: Target, result: Classified, classes: tuple[str, ...], record: dict[str, Any]
) -> str:
    """Add the layer of classes, and return the outcome in words."""
    if target.objects is not None:
        layer, ids = target.objects
        add_objects(viewer, layer, ids, result.table, classes, record)
    else:
        size = max(2.0, 0.2 * result.crop_size) if result.crop_size else 0.05 * min(target.source.image.plane_shape)
        add_points(viewer, target.source, result.table, classes, size, record)
    return summary(result)


def summary(result: Classified) -> str:
    """Say what was found: the class and all probabilities of one sample, or how many there are of each class."""
    if len(result.table) == 1:
        row = result.table.iloc[0]
        names = [c for c in result.table.columns if c.startswith("p_")]
        listed = ", ".join(f"{name[2:]} {row[name]:.2f}" for name in sorted(names, key=lambda n: -row[n]))
        return f"{row['class']}  ({listed})"
    counts = result.table["class"].value_counts()
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def classify_code(
    target: Target, classifier_name: str, explain: str | None, options: dict[str, Any], record_recipe: Any
) -> str:
    """Return Python that classifies the same samples again, to the same numbers."""
    lines = ["import napari_denoise_classify as ndc", ""]
    lines.append(f"image = {target.source.code}  # in napari's console; elsewhere, load the image here")
    lines.append(session.code(classifier_name))
    arguments = [f"axes={target.source.image.axes!r}"]
    if target.centres is not None:
        lines.append(f"centres = {target.centres.tolist()!r}")
        arguments.append("centres=centres")
        if target.crop_size:
            arguments.append(f"crop_size={target.crop_size}")
    if record_recipe is not None:
        lines.append(f"recipe = {_recipe_expression(record_recipe)}")
        arguments.append("recipe=recipe")
    if explain:
        arguments += [f"explain={explain!r}", *(f"{key}={value!r}" for key, value in options.items())]
    lines.append(f"result = ndc.classify(image, clf, {', '.join(arguments)})")
    lines.append("result.table")
    return "\n".join(lines)


def _recipe_expression(recipe: Any) -> str:
    return "ndc." + repr(recipe)
