"""The panel Classify: train a classifier, load one, apply it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox, FloatSpinBox, PushButton, SpinBox

from ..core.progress import USER_ERRORS, Progress, Steps, within
from ..core.recipe import Recipe
from ..core.steps import get_step
from .class_layers import add_class_map, recolour, table_of
from .classifying import ClassifierDock
from .labelled import LabelledFields
from .parameters import StepFields
from .saving import ask_path
from .session import session
from .tables import ColourButtons
from .targets import Target, TargetFields, add_classes, classify_code, summary

if TYPE_CHECKING:
    import napari

    from ..core.class_maps import ClassMap
    from ..core.classify.bundle import Classifier

APPLY, TRAIN = "Apply a classifier", "Train a classifier"


class ClassifyDock(ClassifierDock):
    """Train, load and apply classifiers."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Classify", "Name cells or fields, or teach a classifier to.")
        self.task = ComboBox(name="task", label="Task", choices=[APPLY, TRAIN])
        self.task.value = APPLY
        self.add(self.task)
        # apply
        self.add_classifier_row()
        self.target = TargetFields(napari_viewer, self.form, tiles=True)
        self.save_button = PushButton(text="Save this classifier…", name="save_classifier")
        self.colours = ColourButtons(session.set_colour)
        self.add(self.colours)
        self.table_button = PushButton(text="Save table…", name="save_table")
        self.table_button.tooltip = "Write the features of the selected layer of classes, or of the last run, as CSV."
        # train
        self.labelled = LabelledFields(napari_viewer, self.form)
        self.denoiser = StepFields(self.form, "denoise", "Denoise first", default="none")
        self.mask = StepFields(self.form, "mask", "Mask first", nothing="None")
        self.method = StepFields(self.form, "classifier", "Classifier")
        self.test_fraction = FloatSpinBox(
            name="test_fraction", label="Test fraction", min=0.05, max=0.9, step=0.05, value=0.25
        )
        self.seed = SpinBox(name="seed", label="Seed", min=0, max=2**31 - 1, value=0)
        self.context = SpinBox(name="context", label="Context (px)", min=0, max=10_000, step=10, value=0)
        self.context.tooltip = (
            "Cells within about this distance have a say in a cell's class: tissue is no mixture. 0: each by itself.\n"
            "For points, objects, and tables of crops with columns image, y and x. A CNN trains four times as long."
        )
        self.add(self.context, self.test_fraction, self.seed)
        for button in (self.table_button, self.save_button):
            self.insert(self.index(self.copy_button), button)
        self._last: Any = None
        self.task.changed.connect(self._on_task)
        self.save_button.clicked.connect(self._on_save)
        self.table_button.clicked.connect(self._on_save_table)
        self.labelled.keep_button.clicked.connect(self._on_keep)
        self.classifier.choice.changed.connect(self._on_classifier)
        session.recoloured.connect(self._on_recoloured)
        self.colours.native.destroyed.connect(self._forget)
        self._on_task()
        self._on_classifier()
        self.finish()

    def _on_task(self) -> None:
        training = self.task.value == TRAIN
        applying = (self.classifier.row, self.target.image, self.target.where, self.colours)
        for widget in (*applying, self.save_button, self.table_button):
            widget.visible = not training
        for number in (self.context, self.test_fraction, self.seed):
            number.visible = training
        for fields in (self.labelled, self.denoiser, self.mask, self.method):
            fields.visible = training
        if training:
            self.target.hide()
        else:
            self.target._on_change()
        self.run_button.text = "Train" if training else "Classify"

    # --- colours --------------------------------------------------------------------------------------------------

    def _on_classifier(self) -> None:
        self.colours.show_classes(session.colours(session.classes(self.classifier.name)))

    def _on_recoloured(self, name: str, colour: str) -> None:
        recolour(self.viewer, name, colour)
        self._on_classifier()

    def _forget(self) -> None:
        session.recoloured.disconnect(self._on_recoloured, missing_ok=True)

    def start(self) -> None:
        """Train or apply, as chosen."""
        if self.task.value == TRAIN:
            self._train()
        else:
            self._apply()

    # --- apply ----------------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        target, name = self.target.read(), self.classifier.chosen()

        def code(classifier: Classifier) -> str:
            return classify_code(target, name, classifier, None, {}, None)

        if target.tiles:
            self._map_tiles(target, code)
            return

        def done(classifier: Classifier, result: Any) -> None:
            record = {**result.record, "source": target.source.name, "python": self.code}
            self._last, more = add_classes(self.viewer, target, result, classifier.classes, record)
            note = target.note_for(classifier)
            self.say(summary(result, "\n".join(text for text in (note, more) if text)))

        self.launch_with_classifier(lambda clf: target.classify_iter(clf, groups=target.groups), done, code)

    def _map_tiles(self, target: Target, code: Callable[[Classifier], str]) -> None:
        def work(classifier: Classifier) -> Steps[ClassMap]:
            from ..core.class_maps import class_map

            size = target.size_for(classifier)
            tile = None if size is None else int(np.median(size))
            found = class_map(target.source.image, classifier, tile=tile, stride=target.stride)
            yield from found.compute_iter(target.plane)
            return found

        def done(classifier: Classifier, found: ClassMap) -> None:
            record = {**found.record, "source": target.source.name, "python": self.code}
            labels, _ = add_class_map(self.viewer, target.source, found, record)
            shown = np.asarray(labels.data[target.plane])
            parts = [f"{name}: {(shown == k + 1).mean():.1%}" for k, name in enumerate(found.classes)]
            more = "" if not target.plane else "Other planes are computed when you look at them."
            text = f"{shown.size} tiles of {found.tile} px. " + ", ".join(parts)
            self.say("\n".join(line for line in (text, more, target.note_for(classifier)) if line))

        self.launch_with_classifier(work, done, code)

    def save_table(self, path: Path) -> None:
        """Write the table of the selected layer of classes, or of the last run.

        Raises
        ------
        ValueError
            If there is none.
        """
        from ..core.whole import write_whole

        active = self.viewer.layers.selection.active
        try:
            table = table_of(active)
        except ValueError:
            if self._last is None or self._last not in self.viewer.layers:
                raise
            table = table_of(self._last)
        write_whole(path, lambda temporary: table.to_csv(temporary, index=False))
        self.say(f"Saved {len(table)} rows in {path}.")

    def _on_save_table(self) -> None:
        try:
            if path := ask_path(self.native, "Save the table", "classes.csv", "Tables", ".csv"):
                self.save_table(path)
        except USER_ERRORS as error:
            self.fail(error)

    def _on_save(self) -> None:
        try:
            classifier = self.classifier.read()
            if path := ask_path(self.native, "Save the classifier", "model.ndc", "Classifiers", ".ndc"):
                classifier.training["colours"] = session.colours(classifier.classes)
                classifier.save(path)
                session.saved(self.classifier.name, path)
                self.say(f"Saved {path}.")
        except USER_ERRORS as error:
            self.fail(error)

    # --- train ----------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        recipe = Recipe([step for step in (self.denoiser.step, self.mask.step) if step and step[0] != "none"])
        method, parameters = self.method.step or ("cnn", {})
        get_step(method, "classifier").validate(parameters)
        load = self.labelled.load()
        how = (method, parameters, recipe, self.context.value)
        work = _train_iter(load, *how, self.test_fraction.value, self.seed.value)
        name = " + ".join([*(s.id for s in recipe.steps), method])

        def done(result: Any) -> None:
            classifier, evaluation, note = result
            self.task.value = APPLY
            kept = session.add(name, classifier)
            self.classifier.choose(kept)
            self.say(
                f"Trained {kept}. On {evaluation.n} samples held out: macro-F1 {evaluation.macro_f1:.3f}, "
                f"balanced accuracy {evaluation.balanced_accuracy:.3f}."
                + ("" if classifier.training["groups"] else " No groups were given, which flatters.")
                + (f" {note}" if note else "")
            )

        self.code = ""
        self.launch(work, done)

    def _on_keep(self) -> None:
        try:
            self.say(self.labelled.keep())
        except USER_ERRORS as error:
            self.fail(error)


def _train_iter(
    load: Any, method: str, parameters: dict[str, Any], recipe: Recipe, context: float, fraction: float, seed: int
) -> Steps[Any]:
    """Load samples, train on a part, evaluate on the rest."""
    from ..core.classify.training import train_classifier_iter

    yield Progress(0.0, "reading samples")
    crops, note = load()
    train, test, copies = crops.split_with_note(fraction, seed)
    fitting = train_classifier_iter(train, method, recipe, seed, context, **parameters)
    classifier = yield from within(fitting, 0.05, 0.9)
    evaluation = yield from within(classifier.evaluate_iter(test), 0.9, 1.0, "testing")
    classifier.training["evaluation"] = evaluation.to_dict()
    return classifier, evaluation, " ".join(filter(None, [note, copies]))
