"""The panel Classify: train a classifier, load one, apply it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, FileEdit, FloatSpinBox, LineEdit, PushButton, SpinBox

from ..core.progress import Progress, Steps, within
from ..core.recipe import Recipe
from ..core.steps import get_step
from .dock import Dock, layer_box
from .layers import positions_in, take
from .parameters import StepFields
from .session import session
from .targets import ClassifierFields, TargetFields, classify_code, show_classes

if TYPE_CHECKING:
    import napari

    from ..core.classify.datasets import Crops

APPLY, TRAIN = "Apply a classifier", "Train a classifier"
FILES, POINTS = "files", "points"


class ClassifyDock(Dock):
    """Train, load and apply classifiers."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Classify", "Name cells or fields, or teach a classifier to.")
        self.task = ComboBox(name="task", label="Task", choices=[APPLY, TRAIN])
        self.task.value = APPLY
        self.add(self.task)
        # apply
        self.classifier = ClassifierFields(self.form)
        self.target = TargetFields(napari_viewer, self.form)
        self.save_button = PushButton(text="Save this classifier…", name="save_classifier")
        # train
        self.samples = ComboBox(
            name="samples", label="Samples", choices=[("a folder or table of crops", FILES), ("a Points layer", POINTS)]
        )
        self.folder = FileEdit(
            name="folder", label="Folder or CSV", mode=FileDialogMode.EXISTING_FILE, filter="Tables (*.csv *.tsv)"
        )
        self.folder.tooltip = "A CSV with the columns path and class; or type a folder with a subfolder for each class."
        self.group = LineEdit(name="group", label="Group column")
        self.group.tooltip = "Column with the patient, slide or field: a group is never in training and test at once."
        self.train_image = layer_box("Image", "Image", "train_image")
        self.train_points = layer_box("Points", "Points", "train_points")
        self.class_column = LineEdit(name="class_column", label="Class feature", value="class")
        self.class_column.tooltip = "The points' feature that holds the class; one named group holds the group."
        self.train_crop = SpinBox(name="train_crop", label="Crop size (px)", min=4, max=4096, value=32)
        self.add(
            self.samples,
            self.folder,
            self.group,
            self.train_image,
            self.train_points,
            self.class_column,
            self.train_crop,
        )
        self.denoiser = StepFields(self.form, "denoise", "Denoise first", default="none")
        self.mask = StepFields(self.form, "mask", "Mask first", nothing="None")
        self.method = StepFields(self.form, "classifier", "Classifier")
        self.test_fraction = FloatSpinBox(
            name="test_fraction", label="Test fraction", min=0.05, max=0.9, step=0.05, value=0.25
        )
        self.seed = SpinBox(name="seed", label="Seed", min=0, max=2**31 - 1, value=0)
        self.add(self.test_fraction, self.seed)
        self.insert(self.index(self.copy_button), self.save_button)
        self.task.changed.connect(self._on_task)
        self.samples.changed.connect(self._on_task)
        self.save_button.clicked.connect(self._on_save)
        self._on_task()
        self.finish()

    def _on_task(self) -> None:
        training = self.task.value == TRAIN
        files = self.samples.value == FILES
        self._show(not training, self.classifier.row, self.target.image, self.target.where, self.save_button)
        self._show(training, self.samples, self.test_fraction, self.seed)
        self._show(training and files, self.folder, self.group)
        self._show(training and not files, self.train_image, self.train_points, self.class_column, self.train_crop)
        for fields in (self.denoiser, self.mask, self.method):
            fields.visible = training
        if training:
            self._show(False, self.target.points, self.target.objects, self.target.crop_size)
        else:
            self.target._on_change()
        self.run_button.text = "Train" if training else "Classify"

    @staticmethod
    def _show(visible: bool, *widgets: Any) -> None:
        for widget in widgets:
            widget.visible = visible

    def start(self) -> None:
        """Train or apply, as chosen."""
        if self.task.value == TRAIN:
            self._train()
        else:
            self._apply()

    # --- apply ----------------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        from ..core.workflow import classify_iter

        classifier, target = self.classifier.read(), self.target.read()
        code = classify_code(target, self.classifier.name, None, {}, None)
        work = classify_iter(
            target.source.image, classifier, centres=target.centres, ids=target.ids, crop_size=target.crop_size
        )

        def done(result: Any) -> None:
            record = {**result.record, "source": target.source.name, "python": code}
            self.say(show_classes(self.viewer, target, result, classifier.classes, record))

        self.code = code
        self.launch(work, done)

    def _on_save(self) -> None:
        from napari.utils.notifications import show_error, show_info
        from qtpy.QtWidgets import QFileDialog

        try:
            classifier = self.classifier.read()
            path, _ = QFileDialog.getSaveFileName(
                self.native, "Save the classifier", "model.ndc", "Classifiers (*.ndc)"
            )
            if path:
                target = Path(path if path.endswith(".ndc") else f"{path}.ndc")
                if str(target) != path and target.exists():
                    raise ValueError(f"{target} exists already: choose another name.")
                classifier.save(target)
                session.saved(self.classifier.name, target)
                show_info(f"Saved {target}.")
        except (ValueError, OSError) as error:
            show_error(str(error))

    # --- train ----------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        recipe = Recipe([step for step in (self.denoiser.step, self.mask.step) if step and step[0] != "none"])
        method, parameters = self.method.step or ("cnn", {})
        get_step(method, "classifier").validate(parameters)
        load = self._load_files() if self.samples.value == FILES else self._load_points()
        work = _train_iter(load, method, parameters, recipe, self.test_fraction.value, self.seed.value)
        name = " + ".join([*(s.id for s in recipe.steps), method])

        def done(result: Any) -> None:
            classifier, evaluation = result
            self.task.value = APPLY
            kept = session.add(name, classifier)
            self.say(
                f"Trained {kept}. On {evaluation.n} samples held out: macro-F1 {evaluation.macro_f1:.3f}, "
                f"balanced accuracy {evaluation.balanced_accuracy:.3f}."
                + ("" if classifier.training["groups"] else " No groups were given, which flatters.")
            )

        self.code = ""
        self.launch(work, done)

    def _load_files(self) -> Any:
        from ..core.classify.datasets import load_crops

        path, group = Path(str(self.folder.value)), self.group.value.strip() or None
        if str(path) in ("", "."):
            raise ValueError("Choose a CSV, or type the folder with a subfolder for each class.")
        return lambda: load_crops(path, group)

    def _load_points(self) -> Any:
        from ..core.classify.datasets import Crops
        from ..core.classify.sampling import crop_around

        image, points = self.train_image.value, self.train_points.value
        if image is None or points is None:
            raise ValueError("Training on points needs an image and a Points layer with a class for each point.")
        column, size = self.class_column.value, self.train_crop.value
        features = points.features.copy()
        if column not in features.columns:
            has = ", ".join(map(str, features.columns)) or "none"
            raise ValueError(f"The points have no feature {column!r}; they have: {has}.")
        for name in (column, *(["group"] if "group" in features.columns else [])):
            empty = features[name].isna() | (features[name].astype(str).str.strip() == "")
            if empty.any():
                raise ValueError(f"{int(empty.sum())} points have no {name}: give them one in the points' features.")
        source = take(image)
        centres = positions_in(image, points, points.data, self.viewer)
        labels = features[column].astype(str).to_numpy(dtype=np.str_)
        groups = features["group"].astype(str).to_numpy(dtype=np.str_) if "group" in features.columns else None

        def load() -> Crops:
            crops = crop_around(source.image, centres, size)
            return Crops(crops, labels, groups, [f"point {i}" for i in range(len(crops))])

        return load


def _train_iter(
    load: Any, method: str, parameters: dict[str, Any], recipe: Recipe, fraction: float, seed: int
) -> Steps[Any]:
    """Load samples, train on a part, evaluate on the rest."""
    from ..core.classify.training import train_classifier_iter

    yield Progress(0.0, "reading samples")
    crops = load()
    train, test = crops.split(fraction, seed)
    classifier = yield from within(train_classifier_iter(train, method, recipe, seed, **parameters), 0.05, 0.95)
    yield Progress(0.95, "testing")
    evaluation = classifier.evaluate(test)
    classifier.training["evaluation"] = evaluation.to_dict()
    return classifier, evaluation
