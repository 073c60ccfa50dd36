"""The panel Workflow: clean, mask, classify and explain with one button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, PushButton
from napari.utils.notifications import show_info

from ..core.files import ImageFile
from ..core.progress import USER_ERRORS
from ..core.recipe import Processed, Recipe
from ..core.results import save_processed, save_result
from .classifying import ClassifierDock
from .explain import ExplainFields, add_explanation
from .layers import add_image_like
from .parameters import StepFields
from .process import recipe_code
from .session import session
from .targets import Target, TargetFields, classify_code, show_classes

if TYPE_CHECKING:
    import napari

    from ..core.classify.bundle import Classifier
    from ..core.workflow import Classified


_UNITS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm"}


class WorkflowDock(ClassifierDock):
    """The whole job."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Run", "Clean an image, classify it and see why: choose, then press Run.")
        self.target = TargetFields(napari_viewer, self.form)
        self.add_classifier_row(nothing="none (only process)")
        self.as_trained = CheckBox(text="Prepare images as in training", name="as_trained", value=True)
        self.as_trained.tooltip = (
            "Denoise and mask as the classifier's training images were. Untick to try something else."
        )
        self.add(self.as_trained)
        self.denoiser = StepFields(self.form, "denoise", "Denoise", default="dncnn")
        self.mask = StepFields(self.form, "mask", "Mask", nothing="None")
        self.explain = ExplainFields(self.form, self.classifier, nothing="None")
        self.save_button = PushButton(text="Save results…", name="save_results", enabled=False)
        self.insert(self.index(self.copy_button), self.save_button)
        self._save: Callable[[Path], dict[str, Path]] | None = None
        self.classifier.choice.changed.connect(self._on_classifier)
        self.as_trained.changed.connect(self._on_classifier)
        self.save_button.clicked.connect(self._on_save)
        self.classifier.choice.value = session.names()[0]
        self._on_classifier()
        self.finish()

    def _on_classifier(self) -> None:
        chosen = bool(self.classifier.name)
        self.as_trained.visible = chosen
        for fields in (self.denoiser, self.mask):
            fields.visible = not (chosen and self.as_trained.value)
        self.explain.visible = chosen
        self.target.where.visible = chosen
        if not chosen:
            self.target.hide()
        else:
            self.target._on_change()

    def recipe(self) -> Recipe | None:
        """Return the recipe of the form; None for the classifier's own."""
        if self.classifier.name and self.as_trained.value:
            return None
        return Recipe([step for step in (self.denoiser.step, self.mask.step) if step is not None])

    def start(self) -> None:
        """Run the whole job."""
        recipe = self.recipe()
        if not self.classifier.name:
            self._process(recipe or Recipe())
            return
        target, name = self.target.read(), self.classifier.chosen()
        method, options = self.explain.explain, self.explain.options

        def done(classifier: Classifier, result: Classified) -> None:
            record = {**result.record, "source": target.source.name, "python": self.code}
            title = (classifier.recipe if recipe is None else recipe).title
            on_disk = target.source.image.lazy
            if title != "raw" and not on_disk:
                add_image_like(self.viewer, target.source, result.image, title, record)
            if method is not None:
                add_explanation(self.viewer, target.source, result, record["explanation"]["method"], record)
            text = show_classes(self.viewer, target, result, classifier.classes, record)
            note = target.note_for(classifier)
            text += f"\n{note}" if note else ""
            if not result.record["recipe_matches_training"]:
                text += "\nNote: prepared otherwise than the training images were."
            if title != "raw" and on_disk:
                text += "\nThe crops of an image that is not in memory are not added; Save results… writes them."
            self._save = lambda folder: save_result(folder, *_file(target), result, classifier.classes)
            self.save_button.enabled = True
            self.say(text)

        self.launch_with_classifier(
            lambda classifier: target.classify_iter(classifier, recipe=recipe, explain=method, **options),
            done,
            lambda classifier: classify_code(target, name, classifier, method, options, recipe),
        )

    def _process(self, recipe: Recipe) -> None:
        target = self.target.read_whole()
        self.code = recipe_code(target.source, recipe)
        record = {**recipe.record(target.source.image.samples), "source": target.source.name, "python": self.code}

        def done(result: Processed) -> None:
            layer = add_image_like(self.viewer, target.source, result.image, recipe.title, record)
            self._save = lambda folder: save_processed(folder, *_file(target), result, record)
            self.save_button.enabled = True
            kept = "" if result.mask is None else f" The mask kept {result.kept:.1%} of the pixels."
            self.say(f"Added {layer.name}.{kept} Choose a classifier to classify and explain.")

        self.launch(recipe.apply_iter(target.source.image), done)

    def _on_save(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        folder = QFileDialog.getExistingDirectory(self.native, "Save results in a folder")
        if folder:
            self.save(Path(folder))

    def save(self, folder: Path) -> None:
        """Write everything that the last run found into a folder; nothing is replaced."""
        if self._save is None:
            self.fail(ValueError("There are no results to save yet: press Run first."))
            return
        try:
            written = self._save(folder)
        except USER_ERRORS as error:
            self.fail(error)
            return
        show_info(f"Saved {len(written)} files in {folder}.")
        self.say(f"Saved {len(written)} files in {folder}.")


def _file(target: Target) -> tuple[str, ImageFile]:
    """Return the stem of the files' names, and the image as if it came from a file."""
    image = target.source.image
    transform = target.source.transform
    sizes = dict(zip(image.axes.replace("S", ""), np.abs(transform["scale"]).tolist(), strict=True))
    units = [_UNITS.get(str(unit), "") for unit in transform["units"]]
    metadata: dict[str, Any] = {}
    if units[-1] and "?" not in image.axes:
        metadata["ome"] = {}
        for letter in "ZYX":
            if letter in sizes:
                metadata["ome"] |= {f"PhysicalSize{letter}": sizes[letter], f"PhysicalSize{letter}Unit": units[-1]}
    # Without a unit, a TIFF keeps how many pixels there are in one.
    resolution = (1 / sizes["Y"], 1 / sizes["X"])
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in target.source.name)
    return stem, ImageFile(image.unwrap(image.data), image.axes, Path(stem), resolution, metadata=metadata)
