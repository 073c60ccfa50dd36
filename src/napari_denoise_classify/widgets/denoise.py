"""The panel Denoise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import CheckBox, PushButton

from ..core.api import release_memory
from ..core.estimation import NoiseEstimate, estimate_noise_iter
from ..core.progress import USER_ERRORS
from ..core.recipe import Recipe
from ..core.steps import get_step
from .layers import take
from .parameters import StepFields
from .preview import Preview
from .process import ProcessDock, RangeFields

if TYPE_CHECKING:
    import napari


class DenoiseDock(ProcessDock):
    """Denoise an image layer."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Denoise", "Remove noise from an image; the result is a new layer.")
        self.method = StepFields(self.form, "denoise", "Method", default="dncnn")
        self.range = RangeFields(self.form)
        self.estimate_button = PushButton(text="Estimate noise", name="estimate", label="")
        self.estimate_button.tooltip = "Measure the noise of the image, set the method's sigma, and propose a method."
        self.estimate_button.native.setObjectName("estimate")
        self.estimate_button.clicked.connect(self._on_estimate)
        self.preview_box = CheckBox(text="Preview what is shown", name="preview", value=False)
        self.preview_box.tooltip = (
            "Denoise the middle of the view whenever view or parameters change, into one layer called preview."
        )
        self.preview = Preview(napari_viewer, lambda: self.image.value, self.recipe, self._say_preview)
        self.preview_box.changed.connect(self.preview.switch)
        self.form.changed.connect(self.preview.refresh)
        self.memory_button = PushButton(text="Free memory", name="free_memory", label="")
        self.memory_button.tooltip = "Give back the memory of the networks, which are kept for the next run."
        self.memory_button.native.setObjectName("free_memory")
        self.memory_button.clicked.connect(self._on_free)
        self.add(self.estimate_button, self.preview_box, self.store_button, self.memory_button)
        self._on_image()
        self.finish()

    def recipe(self) -> Recipe:
        """Return the chosen step as a recipe."""
        return Recipe([self.method.step], self.range.value)

    def _on_free(self) -> None:
        try:
            if self.job is not None:
                raise ValueError("A run is under way: wait for it, or cancel it.")
            release_memory()
            self.say("The networks are no longer in memory.")
        except USER_ERRORS as error:
            self.fail(error)

    def _on_closed(self) -> None:
        super()._on_closed()
        self.preview.switch(False)

    def _say_preview(self, text: str) -> None:
        if self.job is None:  # else the line shows its progress
            self.say(text)

    def _on_estimate(self) -> None:
        try:
            source = take(self.image.value)
            self.launch(estimate_noise_iter(source.image, self.range.value), self._on_estimated)
        except USER_ERRORS as error:
            self.fail(error)

    def _on_estimated(self, found: NoiseEstimate) -> None:
        """Set the noise level of the chosen method, if it has one, and tell what was found."""
        step = self.method.step
        words = found.sentence
        if step is not None and "sigma" in step[1]:
            level = next(p for p in get_step(step[0]).parameters if p.name == "sigma")
            lowest = level.minimum if level.minimum is not None else 0.0
            if level.maximum is not None and found.sigma > level.maximum:
                words += (
                    f" That is more than the sigma of {get_step(step[0]).title} can be, {level.maximum:g}: choose an "
                    "intensity range that holds the image."
                )
            else:
                self.method.step = (step[0], {"sigma": max(round(found.sigma, 1), lowest)})
                words += f" Sigma of {get_step(step[0]).title} is set to {self.method.step[1]['sigma']:g}."
        self.say(words)
