"""What the panels Denoise and Mask share: an image layer in, an image layer out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton

from ..core.progress import USER_ERRORS
from ..core.recipe import Processed, Recipe
from ..core.tuning import FAST
from .dock import Dock, layer_box
from .layers import Source, add_image_like, take
from .lazy import is_lazy, lazy_levels_iter, open_stored, render_apart, store_iter
from .saving import ask_path, new_path

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
        """The range, as `Recipe` takes it.

        Raises
        ------
        ValueError
            If it is empty.
        """
        if self.choice.value != "fixed":
            return self.choice.value
        low, high = self.low.value, self.high.value
        if not low < high:
            raise ValueError(
                f"{self.high.label} is {high:g} and {self.low.label} {low:g}: {self.high.label} must be above "
                f"{self.low.label}."
            )
        return low, high


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
        self.lazy = CheckBox(text="Compute only what is shown", name="lazy", value=True, visible=False)
        self.lazy.tooltip = (
            "Add the result at once; its parts are computed when they come into view. Each level of a multiscale image "
            "is processed by itself."
        )
        self.apart = CheckBox(text="Let the window go on meanwhile", name="apart", value=True, visible=False)
        self.apart.tooltip = (
            "Switch napari's preference Experimental ▸ Render Layers Asynchronously on: parts are computed in the "
            "background. Without it the window stands still until all that is shown has been computed."
        )
        self.store_button = PushButton(text="Write to OME-Zarr…", name="store", label="", visible=False)
        self.store_button.tooltip = "Process the whole image block by block, into a .zarr folder that is opened then."
        self.store_button.native.setObjectName("store")
        self.store_button.clicked.connect(self._on_store)
        self.image.changed.connect(self._on_image)
        self.lazy.changed.connect(self._on_image)
        self.add(self.image, self.lazy, self.apart)

    def recipe(self) -> Recipe:
        """Return the recipe that the form describes."""
        raise NotImplementedError

    @property
    def by_parts(self) -> bool:
        """Whether the rows for images that are processed part by part are shown."""
        return is_lazy(self.image.value)

    def start(self) -> None:
        """Apply the recipe to the chosen image."""
        recipe, source, record = self._ready()
        layer = self.image.value
        if self.lazy.value and is_lazy(layer):
            self.launch(
                lazy_levels_iter(recipe, source, layer), lambda levels: self._add_lazy(source, recipe, record, levels)
            )
            return
        self.launch(recipe.apply_iter(source.image), lambda result: self.add_result(source, recipe, record, result))

    def _ready(self) -> tuple[Recipe, Source, dict[str, Any]]:
        """Read the form: the recipe, the image, and the record of what comes out."""
        source, recipe = take(self.image.value), self.recipe()
        self.code = recipe_code(source, recipe)
        return recipe, source, {**recipe.record(source.image.samples), "source": source.name, "python": self.code}

    def _on_image(self) -> None:
        self.lazy.visible = self.store_button.visible = lazy = self.by_parts
        self.apart.visible = lazy and self.lazy.value

    def _add_lazy(self, source: Source, recipe: Recipe, record: dict[str, Any], levels: list[Any]) -> None:
        switched = self.apart.value and render_apart()
        layer = add_image_like(self.viewer, source, levels if len(levels) > 1 else levels[0], recipe.title, record)
        self.say(
            f"Added {layer.name}: its parts are computed when they come into view."
            + (" napari now renders layers asynchronously, see its preferences." if switched else "")
        )

    def _on_store(self) -> None:
        try:
            recipe, source, record = self._ready()
            suggestion = f"{source.name} {recipe.title}.ome.zarr"
            if path := ask_path(self.native, "Write to", suggestion, "OME-Zarr", ".zarr"):
                self.store(path, recipe, source, record)
        except USER_ERRORS as error:
            self.fail(error)

    def store(self, path: Path, recipe: Recipe, source: Source, record: dict[str, Any]) -> None:
        """Write the result to a new OME-Zarr folder, and open it.

        Raises
        ------
        ValueError
            If there is something of that name: no dialog asks whether a whole folder may go.
        """
        path = new_path(path)

        def done(path: Path) -> None:
            layer = open_stored(self.viewer, source, path, recipe.title, record)
            self.say(f"Wrote {path}, and added it as {layer.name}.")

        self.launch(store_iter(recipe, source, self.image.value, path), done)

    def add_result(self, source: Source, recipe: Recipe, record: dict[str, Any], result: Processed) -> None:
        """Add what came out to the viewer."""
        weights = [detail["weights"] for detail in record["details"] if "weights" in detail]
        words = ""
        if weights:
            fast = FAST in self.notes  # which follow in the same line
            record["precision"] = "fast" if fast else "exact"
            words = f" Weights: {', '.join(weights)}{'' if fast else '; exact'}."
        layer = add_image_like(self.viewer, source, result.image, recipe.title, record)
        self.say(f"Added {layer.name}.{words}")
