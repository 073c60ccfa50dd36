"""The panel Study: whether denoising or masking helps a classification."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, FileEdit, FloatSpinBox, LineEdit, PushButton, SpinBox, TextEdit

from ..core.progress import USER_ERRORS, Steps
from ..core.recipe import Recipe
from ..core.steps import write_step
from ..core.study.text import named_classifiers, named_recipes
from .dock import Dock
from .parameters import StepFields
from .saving import ask_path

if TYPE_CHECKING:
    import napari

    from .study_table import StudyTable

CUSTOM = "custom"
_PRESETS = (
    ("denoising: denoisers × classifiers", "denoising"),
    ("masking: masks × classifiers", "masking"),
    ("robustness: noise × denoisers × masks", "robustness"),
    ("signatures: collagen fibres", "signatures"),
    ("my own recipes", CUSTOM),
)
_DESIGNS = (
    ("as the preset says", ""),
    ("train on half, test on ten parts", "partitions"),
    ("5 folds", "cross-validation:folds=5"),
    ("5 folds, 3 times", "cross-validation:folds=5,repeats=3"),
    ("train on 80 %, test on 20 %", "holdout:test_fraction=0.2"),
)
_FILES, _CELLS, _FIBRES = "files", "synthetic:cells", "synthetic:signatures"


class StudyDock(Dock):
    """Compare recipes and classifiers on the same splits."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Run the study", "Does denoising or masking help this classification?")
        self.source = ComboBox(
            name="source",
            label="Data",
            choices=[
                ("a folder or table of crops", _FILES),
                ("synthetic cells", _CELLS),
                ("synthetic fibres", _FIBRES),
            ],
        )
        self.data = FileEdit(
            name="data", label="Folder or CSV", mode=FileDialogMode.EXISTING_FILE, filter="Tables (*.csv *.tsv)"
        )
        self.data.tooltip = "A CSV with the columns path and class; or type a folder with a subfolder for each class."
        self.group = LineEdit(name="group", label="Group column")
        self.group.tooltip = "Patient, slide or field: a group is never in training and test at once."
        self.preset = ComboBox(name="preset", label="Question", choices=_PRESETS)
        self.recipes = TextEdit(name="recipes", label="Recipes", value="raw")
        self.recipes.tooltip = (
            "One a line: [name =] step:parameter=value + step. The first is what others are compared with."
        )
        self.recipes.native.setFixedHeight(84)
        self.recipes.native.setTabChangesFocus(True)
        self.add(self.source, self.data, self.group, self.preset, self.recipes)
        self.denoiser = StepFields(self.form, "denoise", "Denoise", default="none")
        self.mask = StepFields(self.form, "mask", "Mask", nothing="None")
        self.add_button = PushButton(text="Add this recipe", name="add_recipe")
        self.classifiers = LineEdit(name="classifiers", label="Classifiers")
        self.classifiers.tooltip = (
            "Separated by semicolons: cnn:epochs=20; svm; random_forest; knn. Values with slashes are tuned over: "
            "svm:C=0.1/1/10. Nothing = as the preset says."
        )
        self.design = ComboBox(name="design", label="Splits", choices=_DESIGNS)
        self.training = ComboBox(
            name="training",
            label="Training",
            choices=[("matched (as in the test)", "matched"), ("mismatched (on clean)", "mismatched")],
        )
        self.training.tooltip = (
            "Matched: training and test images are noisy and processed alike. Mismatched: the classifier was trained "
            "on clean images, and is tested on degraded and restored ones."
        )
        self.noise = LineEdit(name="noise", label="Added noise")
        self.noise.tooltip = "Nothing, or gaussian:25; several, separated by semicolons, are compared side by side."
        self.input_size = SpinBox(name="input_size", label="Input size (px)", min=8, max=512, value=32)
        self.input_size.tooltip = "Side to which classifiers resize the crops: 32 is enough for small cells."
        self.margin = FloatSpinBox(name="margin", label="Margin (points)", min=0, max=50, step=0.5, value=2)
        self.margin.tooltip = "The smallest difference in macro-F1 that matters to you, in points of 100."
        self.seed = SpinBox(name="seed", label="Seed", min=0, max=2**31 - 1, value=0)
        self.workers = SpinBox(name="workers", label="Processes", min=1, max=max(os.cpu_count() or 1, 1), value=1)
        self.workers.tooltip = "So many share the work, each with its part of the processor and memory of its own."
        self.folder = FileEdit(name="folder", label="Save in", mode=FileDialogMode.EXISTING_DIRECTORY)
        self.folder.tooltip = "Folder for tables, figures and report; a study that was interrupted goes on there."
        self.add(
            self.add_button,
            self.classifiers,
            self.design,
            self.training,
            self.noise,
            self.input_size,
            self.margin,
            self.seed,
            self.workers,
            self.folder,
        )
        self.workers.visible = find_spec("distributed") is not None
        self.report_button = PushButton(text="Save report…", name="save_report", enabled=False)
        self.insert(self.index(self.copy_button), self.report_button)
        self.report_button.native.setObjectName("save_report")
        for row, words in (
            (self.classifiers, "as the preset says; else all four"),
            (self.noise, "none"),
            (self.group, "group, if there is such a column"),
        ):
            row.native.setPlaceholderText(words)
        self.table: StudyTable | None = None
        self.result: Any = None
        self.add_button.clicked.connect(self._on_add)
        self.report_button.clicked.connect(self._on_save_report)
        for box in (self.source, self.preset):
            box.changed.connect(self._on_choice)
        self._on_choice()
        self.finish()

    def _on_choice(self) -> None:
        own = self.preset.value == CUSTOM
        files = self.source.value == _FILES
        self.data.visible = self.group.visible = files
        self.recipes.visible = self.add_button.visible = own
        self.denoiser.visible = self.mask.visible = own

    def _on_add(self) -> None:
        steps = [step for step in (self.denoiser.step, self.mask.step) if step and step[0] != "none"]
        try:
            text = " + ".join(write_step(id, parameters) for id, parameters in steps) or "raw"
            Recipe.parse(text)
        except ValueError as error:
            self.fail(error)
            return
        lines = [line for line in self.recipes.value.splitlines() if line.strip()]
        if text not in lines:
            self.recipes.value = "\n".join([*lines, text])

    # --- running --------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Read the rows: the arguments of `study`.

        Raises
        ------
        ValueError
            If a row is not as it should be.
        """
        # The text itself: an empty one would be read as the current folder.
        data = self.source.value if self.source.value != _FILES else self.data.line_edit.value.strip()
        if data in ("", "."):
            raise ValueError("Choose a CSV, or type the folder with a subfolder for each class.")
        found: dict[str, Any] = {"data": data, "preset": self.preset.value}
        if self.preset.value == CUSTOM:
            found["recipes"] = named_recipes(self.recipes.value.splitlines())
            if not found["recipes"]:
                raise ValueError("There are no recipes: write one a line, or choose steps and press Add this recipe.")
        classifiers = named_classifiers(self.classifiers.value.split(";"))
        if classifiers or self.preset.value == CUSTOM:
            found["classifiers"] = classifiers or ["cnn", "svm", "random_forest", "knn"]
        noises = [text.strip() for text in self.noise.value.split(";") if text.strip()]
        found |= {"noise": noises} if noises else {}
        found |= {"design": self.design.value} if self.design.value else {}
        group = self.group.value.strip()
        found |= {"group": group} if group and self.source.value == _FILES else {}
        return {
            **found,
            "training": self.training.value,
            "input_size": self.input_size.value,
            "margin": self.margin.value,
            "seed": self.seed.value,
        }

    def start(self) -> None:
        """Run the study, or go on with it."""
        settings = self.settings()
        folder = self.folder.line_edit.value.strip()
        chosen = Path(folder) if folder not in ("", ".") else None
        workers = self.workers.value if self.workers.value > 1 else None
        self.code = code_of_study({**settings, **({"workers": workers} if workers else {})}, chosen)
        self.launch(_study_iter(settings, chosen, workers), lambda result: self._done(result, chosen))
        self.result = None
        self.report_button.enabled = False

    def show_data(self, data: object) -> None:
        """Fill the table as cells finish."""
        from ..core.study.run import Checked, FinishedCell

        if isinstance(data, Checked):
            self._open_table(data)
        elif isinstance(data, FinishedCell) and self.table is not None:
            with suppress(RuntimeError):  # it may have been closed
                self.table.add(data)

    def _open_table(self, checked: Any) -> None:
        from .study_table import StudyTable

        table = StudyTable(checked.study, checked.notes, *self.theme_colours())
        self.table = self.show_below(table, "Study results", self.table)
        self.table.detach(self.native)

    def _done(self, result: Any, folder: Path | None) -> None:
        self.result = result
        self.report_button.enabled = True
        if self.table is not None:
            with suppress(RuntimeError):
                self.table.finish(result)
        failed = int((result.cells["status"] == "failed").sum())
        words = f"{failed} of {len(result.cells)} cells failed. " if failed else ""
        sentences = list(result.tests.get("sentence", ()))
        shown = [s for s in sentences if not s.startswith("No effect")][:3] or sentences[:1]
        where = f" Report: {folder / 'report.html'}" if folder is not None else ""
        self.say(words + " ".join(shown) + where)

    def _on_save_report(self) -> None:
        try:
            if path := ask_path(self.native, "Save the report", "report.html", "Reports", ".html"):
                self.save_report(path)
        except USER_ERRORS as error:
            self.fail(error)

    def save_report(self, path: Path) -> None:
        """Write the report of the last study."""
        self.result.report(path)
        self.say(f"Saved {path}.")


def _study_iter(settings: dict[str, Any], folder: Path | None, workers: int | None) -> Steps[Any]:
    """Declare the study and run it; with a folder, write everything there."""
    from ..core.study.declaring import declare
    from ..core.study.files import save_all_iter
    from ..core.study.run import study_iter

    settings = dict(settings)
    declared, crops = declare(settings.pop("data"), **settings)
    work = study_iter(declared, crops=crops, folder=folder, workers=workers)
    return (yield from (work if folder is None else save_all_iter(work, folder)))


def code_of_study(settings: dict[str, Any], folder: Path | None) -> str:
    """Return the Python that runs the same study."""
    arguments = [repr(settings["data"])]
    for name, value in settings.items():
        if name == "recipes":
            listed = ", ".join(f"{key!r}: ndc.{recipe!r}" for key, recipe in value.items())
            arguments.append(f"recipes={{{listed}}}")
        elif name != "data":
            arguments.append(f"{name}={value!r}")
    if folder is not None:
        arguments.append(f"folder={str(folder)!r}")
    inner = "".join(f"    {argument},\n" for argument in arguments)
    return f"import napari_denoise_classify as ndc\n\nresult = ndc.study(\n{inner})\nresult.table\n"
