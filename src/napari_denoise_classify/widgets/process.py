"""The panels Denoise and Mask: an image layer in, an image layer out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton
from napari.utils.notifications import show_error

from ..core.estimation import NoiseEstimate, estimate_noise_iter
from ..core.recipe import Processed, Recipe
from ..core.steps import get_step
from .dock import Dock, layer_box
from .layers import METADATA_KEY, Source, add_image_like, take
from .parameters import StepFields
from .workers import USER_ERRORS

if TYPE_CHECKING:
    import napari


class RangeFields:
    """Rows that choose the intensity range."""

    def __init__(self, form: Any) -> None:
        self.choice = ComboBox(
            name="intensity_range",
            label="Intensity range",
            choices=[
                ("of the image", "image"),
                ("of each stack", "stack"),
                ("of each plane", "plane"),
                ("fixed", "fixed"),
            ],
        )
        self.choice.tooltip = "What stands for 0 to 255 when a noise level is given. 8-bit images always have 0 to 255."
        limit = 2.0**32
        self.low = FloatSpinBox(name="low", label="Lowest", min=-limit, max=limit, value=0, visible=False)
        self.high = FloatSpinBox(name="high", label="Highest", min=-limit, max=limit, value=1, visible=False)
        for widget in (self.choice, self.low, self.high):
            form.append(widget)
        self.choice.changed.connect(self._on_change)
        self._on_change()

    def _on_change(self) -> None:
        self.low.visible = self.high.visible = self.choice.value == "fixed"

    @property
    def value(self) -> Any:
        """The range, as `Recipe` takes it."""
        return (self.low.value, self.high.value) if self.choice.value == "fixed" else self.choice.value


def recipe_code(source: Source, recipe: Recipe) -> str:
    """Return Python that applies a recipe to a layer's image."""
    first, *rest = recipe.to_python(source.axes or None, source.image.rgb).splitlines()
    here = f"image = {source.code}  # in napari's console; elsewhere, load the image here"
    return "\n".join([first, here, *rest])


class ProcessDock(Dock):
    """Base of Denoise and Mask."""

    def __init__(self, viewer: napari.Viewer, run_text: str, intro: str) -> None:
        super().__init__(viewer, run_text, intro)
        self.image = layer_box("Image", "Image", "image")
        self.add(self.image)

    def recipe(self) -> Recipe:
        """Return the recipe that the form describes."""
        raise NotImplementedError

    def start(self) -> None:
        """Apply the recipe to the chosen image."""
        if self.image.value is None:
            raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
        recipe = self.recipe()
        source = take(self.image.value)
        self.code = recipe_code(source, recipe)
        record = {**recipe.record(source.image.samples), "source": source.name, "python": self.code}
        self.launch(recipe.apply_iter(source.image), lambda result: self.add_result(source, recipe, record, result))

    def add_result(self, source: Source, recipe: Recipe, record: dict[str, Any], result: Processed) -> None:
        """Add what came out to the viewer."""
        layer = add_image_like(self.viewer, source, result.image, recipe.title, record)
        weights = [detail["weights"] for detail in record["details"] if "weights" in detail]
        self.say(f"Added {layer.name}." + (f" Weights: {', '.join(weights)}." if weights else ""))


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
        self.add(self.estimate_button)
        self.finish()

    def recipe(self) -> Recipe:
        """Return the chosen step as a recipe."""
        return Recipe([self.method.step], self.range.value)

    def _on_estimate(self) -> None:
        try:
            if self.image.value is None:
                raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
            source = take(self.image.value)
            self.launch(estimate_noise_iter(source.image, self.range.value), self._on_estimated)
        except USER_ERRORS as error:
            show_error(str(error))

    def _on_estimated(self, found: NoiseEstimate) -> None:
        """Set the noise level of the chosen method, if it has one, and tell what was found."""
        step = self.method.step
        words = found.sentence
        if step is not None and "sigma" in step[1]:
            level = next(p for p in get_step(step[0]).parameters if p.name == "sigma")
            lowest = level.minimum if level.minimum is not None else 0.0
            self.method.step = (step[0], {"sigma": max(round(found.sigma, 1), lowest)})
            words += f" Sigma of {get_step(step[0]).title} is set to {self.method.step[1]['sigma']:g}."
        self.say(words)


class MaskDock(ProcessDock):
    """Mask an image layer."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Mask", "Keep a part of an image and set the rest to 0.")
        self.method = StepFields(self.form, "mask", "Mask")
        self.add_mask = CheckBox(text="Add the mask as a Labels layer", name="add_mask", value=False)
        self.add(self.add_mask)
        self.finish()

    def recipe(self) -> Recipe:
        """Return the chosen step as a recipe."""
        return Recipe([self.method.step])

    def add_result(self, source: Source, recipe: Recipe, record: dict[str, Any], result: Processed) -> None:
        """Add the masked image, and the mask if wanted; tell the fraction kept."""
        record = {**record, "kept": result.kept}
        layer = add_image_like(self.viewer, source, result.image, recipe.title, record)
        if self.add_mask.value:
            self.viewer.add_labels(
                result.mask.astype("uint8"),
                name=f"{source.name} {recipe.title} mask",
                metadata={METADATA_KEY: record},
                opacity=0.4,
                **source.transform,
            )
            self.viewer.layers.selection.active = layer
        title = get_step(recipe.steps[0].id).title.lower()
        self.say(f"Added {layer.name}: the {title} mask kept {result.kept:.1%} of the pixels.")
