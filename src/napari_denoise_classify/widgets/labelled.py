"""The rows that say what a classifier learns from: files, points, objects or whole images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, LineEdit, PushButton

from .crop_size import CropSize
from .dock import layer_box
from .layers import (
    column_of,
    filled_column,
    label_axes,
    object_numbers,
    painted_in,
    pixel_size_of,
    positions_in,
    size_factor,
    take,
    whole_data,
)
from .tables import NameTable, default_names

if TYPE_CHECKING:
    import napari

    from ..core.classify.datasets import Crops

FILES, POINTS, OBJECTS, IMAGES = "files", "points", "objects", "images"
PAINTED, CLICKED, LISTED = "painted", "clicked", "listed"
_MOST_PIXELS = 2**26  # of a larger painted layer, only the numbers that are painted from now on are listed

Load = Callable[[str | None], "tuple[Crops, str]"]
"""Cuts the samples; takes the group of those that have none, and returns them with a note for people."""


class _Kept(NamedTuple):
    """Samples of an image that are kept: its layer, its name, and what cuts them."""

    layer: ReferenceType[Any]
    name: str
    load: Load


class LabelledFields:
    """Rows that choose samples with a class.

    Parameters
    ----------
    viewer : napari.Viewer
    form : Form
    """

    def __init__(self, viewer: napari.Viewer, form: Any) -> None:
        self._viewer = viewer
        self._kept: list[_Kept] = []
        self._visible = True
        self._shown: list[Any] = []
        self.samples = ComboBox(
            name="samples",
            label="Samples",
            choices=[
                ("a folder or table of crops", FILES),
                ("a Points layer", POINTS),
                ("objects of a label image", OBJECTS),
                ("whole image layers", IMAGES),
            ],
        )
        self.folder = FileEdit(
            name="folder", label="Folder or CSV", mode=FileDialogMode.EXISTING_FILE, filter="Tables (*.csv *.tsv)"
        )
        self.folder.tooltip = "A CSV with the columns path and class; or type a folder with a subfolder for each class."
        self.group = LineEdit(name="group", label="Group column")
        self.group.tooltip = "Column with the patient, slide or field: a group is never in training and test at once."
        self.image = layer_box("Image", "Image", "train_image")
        self.objects = layer_box("Label image", "Labels", "train_objects")
        self.marked = ComboBox(
            name="marked",
            label="Classes",
            choices=[
                ("painted in a Labels layer", PAINTED),
                ("clicked as points", CLICKED),
                ("in the objects' features", LISTED),
            ],
        )
        self.painted = layer_box("Painted in", "Labels", "painted")
        self.names = NameTable("painted_names", "Names", ("painted", "class"))
        self.points = layer_box("Points", "Points", "train_points")
        self.class_column = LineEdit(name="class_column", label="Class feature", value="class")
        self.class_column.tooltip = "The layer's feature that holds the class; one named group holds the group."
        self.images = NameTable("image_classes", "Class of each", ("image layer", "class"))
        self.crop = CropSize("train_crop")
        self.keep_button = PushButton(text="Keep these", name="keep_samples")
        self.keep_button.tooltip = "Train on these samples and on those of other images; each is a group by itself."
        self.forget_button = PushButton(text="Forget kept", name="forget_samples")
        self.more: Container[Any] = Container(
            widgets=[self.keep_button, self.forget_button],
            layout="horizontal",
            labels=False,
            label="Several images",
            name="more_images",
        )
        self.more.margins = (0, 0, 0, 0)
        self.rows = (
            *(self.samples, self.folder, self.group, self.image, self.objects, self.marked, self.painted, self.names),
            *(self.points, self.class_column, self.images, self.crop, self.more),
        )
        for widget in self.rows:
            form.append(widget)
        self.samples.changed.connect(self.refresh)
        self.marked.changed.connect(self.refresh)
        self.painted.changed.connect(self._on_painted)
        self._listened: Any = None
        self._listed: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # the image layers, and their names until now
        for event in self._layer_events():
            event.connect(self._on_layers)
        self.forget_button.clicked.connect(self.forget)
        self.samples.native.destroyed.connect(self._disconnect)
        self.refresh()

    @property
    def visible(self) -> bool:
        """Whether the rows are shown."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        self.refresh()

    def refresh(self) -> None:
        """Show the rows that matter to the chosen source."""
        source, mark = self.samples.value, self.marked.value
        objects = source == OBJECTS
        self._shown = [
            self.samples,
            *([self.folder, self.group] if source == FILES else []),
            *([self.image, self.crop, self.more] if source in (POINTS, OBJECTS) else []),
            *([self.objects, self.marked] if objects else []),
            *([self.painted, self.names] if objects and mark == PAINTED else []),
            *([self.points] if source == POINTS or (objects and mark == CLICKED) else []),
            *([self.class_column] if source == POINTS or (objects and mark != PAINTED) else []),
            *([self.images] if source == IMAGES else []),
        ]
        for widget in self.rows:
            widget.visible = self._visible and self._is_shown(widget)
        self.crop.offer(objects=objects)
        self._on_painted()
        self._on_layers()
        self._show_kept()

    def _is_shown(self, widget: Any) -> bool:
        """Say whether a row matters to the chosen source, be the panel on the screen or not."""
        return any(widget is shown for shown in self._shown)

    # --- tables of names ------------------------------------------------------------------------------------------

    def _on_painted(self) -> None:
        layer = self.painted.value
        if layer is not self._listened:
            self._ignore()
            self._listened = layer
            if layer is not None:
                layer.events.paint.connect(self._on_paint)
                layer.events.set_data.connect(self._on_painted)
        if not self._visible or not self._is_shown(self.names) or layer is None:
            return
        data = whole_data(layer)
        if np.prod(data.shape) > _MOST_PIXELS:  # too many to look through: the names that were typed stay
            return
        numbers = np.unique(np.asarray(data)).tolist()
        known = self.names.texts
        self.names.names = default_names(
            [n for n in numbers if n > 0][:50], {n: known[n] for n in known if n in numbers}
        )

    def _on_paint(self) -> None:
        number, known = int(self._listened.selected_label), self.names.texts
        if number > 0 and number not in known:
            self.names.names = default_names([number], known)

    def _on_layers(self) -> None:
        if self._is_shown(self.images):
            known = self.images.names
            layers = [layer for layer in self._viewer.layers if type(layer).__name__ == "Image"]
            texts = {layer.name: known.get(self._listed.get(layer, layer.name), "") for layer in layers}
            self._listed = WeakKeyDictionary((layer, layer.name) for layer in layers)
            self.images.names = texts

    def _layer_events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.renamed]

    def _disconnect(self) -> None:
        for event in self._layer_events():
            event.disconnect(self._on_layers)
        self._ignore()

    def _ignore(self) -> None:
        if self._listened is not None:
            self._listened.events.paint.disconnect(self._on_paint)
            self._listened.events.set_data.disconnect(self._on_painted)

    # --- several images -------------------------------------------------------------------------------------------

    def keep(self) -> str:
        """Keep the chosen samples for training, and return what is kept in words."""
        load = self._load()
        crops, note = load(None)
        self._kept = self._with(load)
        self._show_kept()
        name, names = self._kept[-1].name, ", ".join(kept.name for kept in self._kept)
        text = f"Kept {len(crops)} samples of {name}. Choose the next image; Train learns from it and from {names}."
        return f"{text} {note}".strip()

    def _with(self, load: Load) -> list[_Kept]:
        """Return what is kept and the samples of the chosen image, once: they replace those kept of it before."""
        layer: Any = self.image.value
        others = [kept for kept in self._kept if kept.layer() is not layer]
        taken, name, n = {kept.name for kept in others}, layer.name, 1
        while name in taken:  # of an image that was closed since: each is a group by itself
            n += 1
            name = f"{layer.name} ({n})"
        return [*others, _Kept(ref(layer), name, load)]

    def forget(self) -> None:
        """Forget the kept samples."""
        self._kept = []
        self._show_kept()

    def _show_kept(self) -> None:
        self.forget_button.visible = bool(self._kept) and self._visible
        self.forget_button.text = f"Forget {len(self._kept)} kept"

    def load(self) -> Callable[[], tuple[Crops, str]]:
        """Read the rows; return what cuts all the samples, with a note for people, and may run in a thread.

        Raises
        ------
        ValueError
            If something is missing.
        """
        from ..core.classify.sampling import join_crops

        if not self._is_shown(self.more) or not self._kept:
            only = self._load()
            return lambda: only(None)
        layer = self.image.value
        known = next((kept for kept in self._kept if layer is not None and kept.layer() is layer), None)
        now: Load | None = None
        if known is None:
            parts_of = self._with(self._load())
        else:
            parts_of = list(self._kept)
            with suppress(ValueError):  # the rows may be those of another image by now
                now = self._load()

        def cut() -> tuple[Crops, str]:
            parts = [kept.load(kept.name) for kept in parts_of]
            notes = [note for _, note in parts if note]
            if known is not None and now is not None:
                kept, marked = len(parts[parts_of.index(known)][0]), len(now(None)[0])
                if kept != marked:
                    notes.append(
                        f"Note: {kept} samples of {known.name} are kept, and {marked} are marked now: press Keep these "
                        "to learn from those."
                    )
            return join_crops([crops for crops, _ in parts]), " ".join(notes)

        return cut

    # --- reading --------------------------------------------------------------------------------------------------

    def _load(self) -> Load:
        source = self.samples.value
        if source == FILES:
            return self._load_files()
        if source == IMAGES:
            return self._load_images()
        if self.image.value is None:
            raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
        return self._load_points() if source == POINTS else self._load_objects()

    def _load_files(self) -> Load:
        from ..core.classify.datasets import load_crops

        path, group = Path(str(self.folder.value)), self.group.value.strip() or None
        if str(path) in ("", "."):
            raise ValueError("Choose a CSV, or type the folder with a subfolder for each class.")
        return lambda _: (load_crops(path, group), "")

    def _load_images(self) -> Load:
        from ..core.classify.datasets import Crops

        chosen = [(self._viewer.layers[name], text) for name, text in self.images.names.items()]
        if not chosen:
            raise ValueError("Give at least some image layers a class in the table: each of their planes is a sample.")
        taken = [(take(layer), text) for layer, text in chosen]

        def load(_: str | None) -> tuple[Crops, str]:
            images, labels, groups, names = [], [], [], []
            for source, text in taken:
                for index in source.image.indices():
                    images.append(source.image.raw_plane(index)[..., : 3 if source.image.rgb else None])
                    labels.append(text)
                    groups.append(source.name)
                    names.append(f"{source.name} {index}")
            return Crops(images, np.array(labels, np.str_), np.array(groups, np.str_), names), ""

        return load

    def _load_points(self) -> Load:
        from ..core.classify.sampling import crops_from_points

        image, layer = self.image.value, self.points.value
        if layer is None:
            raise ValueError("Training on points needs an image and a Points layer with a class for each point.")
        classes = filled_column(layer.features, self.class_column.value, "points")
        groups = filled_column(layer.features, "group", "points") if "group" in layer.features.columns else None
        source = take(image)
        field = self.crop.field(pixel_size_of(image))
        centres = positions_in(image, layer, layer.data, self._viewer)

        def load(group: str | None) -> tuple[Crops, str]:
            own = groups if groups is not None or group is None else np.full(len(classes), group)
            name = f"{source.name} point"
            return crops_from_points(source.image, centres, classes, crop=field, groups=own, name=name), ""

        return load

    def _load_objects(self) -> Load:
        from ..core.classify.objects import Objects, clicked_classes, listed_classes, measure_objects, painted_classes
        from ..core.classify.sampling import crops_from_objects

        image, layer = self.image.value, self.objects.value
        if layer is None:
            raise ValueError("There is no label image: add a Labels layer whose objects are the cells.")
        labels, axes = np.asarray(whole_data(layer)), label_axes(layer, image)
        if self.marked.value == LISTED:  # by number alone: times are planes like others
            axes = axes.replace("T", "?").replace("C", "?")
        found = measure_objects(labels, axes)
        labels = found.renumbered(labels, axes)
        column = self.class_column.value
        groups: dict[int, str] = {}
        if "group" in layer.features.columns:
            known = dict(zip(object_numbers(layer).tolist(), layer.features["group"].astype(str), strict=True))
            groups = {i: known.get(k, "") for i, k in zip(found.ids.tolist(), found.numbers.tolist(), strict=True)}
        if self.marked.value == PAINTED:
            if self.painted.value is None or self.painted.value is layer:
                raise ValueError("Choose a second Labels layer in which classes are painted over the objects.")
            self._on_painted()
            marks = painted_classes(labels, painted_in(layer, self.painted.value, self._viewer), self.names.names)
        elif self.marked.value == CLICKED:
            points = self.points.value
            if points is None or len(points.data) == 0:
                raise ValueError("There are no points: add a Points layer and click into the objects.")
            classes = filled_column(points.features, column, "points")
            marks = clicked_classes(labels, positions_in(layer, points, points.data, self._viewer), classes)
        else:
            numbers = object_numbers(layer)
            values = column_of(layer.features, column, "objects").to_numpy(object)
            marks = listed_classes(numbers[numbers > 0], values[numbers > 0])
        source = take(image)
        field = self.crop.field(pixel_size_of(image))
        where = positions_in(image, layer, found.centres, self._viewer)
        objects = Objects(found.ids, where, found.sides * size_factor(image, layer, self._viewer))

        def load(group: str | None) -> tuple[Crops, str]:
            own = groups or (None if group is None else dict.fromkeys(marks.ids.tolist(), group))
            name = f"{source.name} object"
            note = " ".join(text for text in (marks.note, found.note) if text)
            return crops_from_objects(source.image, objects, marks, crop=field, groups=own, name=name), note

        return load
