"""The panels Denoise and Mask: an image layer in, an image layer out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton, SpinBox
from napari.layers import Labels, Shapes
from napari.utils.theme import get_theme

from .._version import __version__
from ..core.api import release_memory
from ..core.estimation import NoiseEstimate, estimate_noise_iter
from ..core.images import PlaneImage
from ..core.mask.cluster import METHODS, cluster_iter, cluster_scores_iter
from ..core.mask.given import apply_mask_iter
from ..core.progress import Steps, within
from ..core.recipe import Processed, Recipe
from ..core.steps import get_step
from ..core.tuning import FAST
from .dock import Dock, layer_box, narrow
from .layers import METADATA_KEY, Source, add_image_like, take
from .lazy import is_lazy, lazy_levels_iter, open_stored, store_iter
from .mask_layers import mask_from_layer
from .parameters import ParameterField, StepFields
from .preview import Preview
from .workers import USER_ERRORS

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from .cluster_scores import ClusterScores

METHOD, LAYER = "method", "layer"


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
        self.lazy = CheckBox(text="Compute only what is shown", name="lazy", value=True, visible=False)
        self.lazy.tooltip = (
            "Add the result at once; its parts are computed when they come into view. Each level of a multiscale image "
            "is processed by itself."
        )
        self.store_button = PushButton(text="Write to OME-Zarr…", name="store", label="", visible=False)
        self.store_button.tooltip = "Process the whole image block by block, into a .zarr folder that is opened then."
        self.store_button.native.setObjectName("store")
        self.store_button.clicked.connect(self._on_store)
        self.image.changed.connect(self._on_image)
        self.add(self.image, self.lazy)

    def recipe(self) -> Recipe:
        """Return the recipe that the form describes."""
        raise NotImplementedError

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
        if self.image.value is None:
            raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
        recipe = self.recipe()
        source = take(self.image.value)
        self.code = recipe_code(source, recipe)
        return recipe, source, {**recipe.record(source.image.samples), "source": source.name, "python": self.code}

    def _on_image(self) -> None:
        self.lazy.visible = self.store_button.visible = is_lazy(self.image.value)

    def _add_lazy(self, source: Source, recipe: Recipe, record: dict[str, Any], levels: list[Any]) -> None:
        layer = add_image_like(self.viewer, source, levels if len(levels) > 1 else levels[0], recipe.title, record)
        self.say(f"Added {layer.name}: its parts are computed when they come into view.")

    def _on_store(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        try:
            recipe, source, record = self._ready()
            name, _ = QFileDialog.getSaveFileName(
                self.native, "Write to", f"{source.name} {recipe.title}.ome.zarr", "OME-Zarr (*.zarr)"
            )
            if name:
                self.store(Path(name), recipe, source, record)
        except USER_ERRORS as error:
            self.fail(error)

    def store(self, path: Path, recipe: Recipe, source: Source, record: dict[str, Any]) -> None:
        """Write the result to an OME-Zarr folder, and open it."""
        path = path if path.suffix == ".zarr" else path.with_name(f"{path.name}.ome.zarr")

        def done(path: Path) -> None:
            layer = open_stored(self.viewer, source, path, recipe.title, record)
            self.say(f"Wrote {path}, and added it as {layer.name}.")

        self.launch(store_iter(recipe, source, self.image.value, path), done)

    def add_result(self, source: Source, recipe: Recipe, record: dict[str, Any], result: Processed) -> None:
        """Add what came out to the viewer."""
        weights = [detail["weights"] for detail in record["details"] if "weights" in detail]
        words = ""
        if weights:
            record["precision"] = "fast" if FAST in self.notes else "exact"
            words = f" Weights: {', '.join(weights)}; {record['precision']}."
        layer = add_image_like(self.viewer, source, result.image, recipe.title, record)
        self.say(f"Added {layer.name}.{words}")


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
        self.native.destroyed.connect(self.preview.abandon)
        self.native_parent_changed.connect(self._on_parent)
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

    def _on_parent(self, parent: object) -> None:
        if parent is None:  # the panel was closed
            self.preview.switch(False)

    def _say_preview(self, text: str) -> None:
        if self.job is None:  # else the line shows its progress
            self.say(text)

    def _on_estimate(self) -> None:
        try:
            if self.image.value is None:
                raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
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
            self.method.step = (step[0], {"sigma": max(round(found.sigma, 1), lowest)})
            words += f" Sigma of {get_step(step[0]).title} is set to {self.method.step[1]['sigma']:g}."
        self.say(words)


class MaskDock(ProcessDock):
    """Mask an image layer."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Mask", "Keep a part of an image, and fill the rest.")
        self.origin = ComboBox(name="origin", label="Mask from", choices=[("a method", METHOD), ("a layer", LAYER)])
        self.add(self.origin)
        self.method = StepFields(self.form, "mask", "Mask")
        self.layer = narrow(ComboBox(name="mask_layer", label="Layer", choices=self._layers))
        self.layer.tooltip = "Labels or shapes; they are mapped into the image through the layers' transforms."
        self.label_number = SpinBox(name="label", label="Label", min=0, max=2**31 - 1, value=0)
        self.label_number.native.setSpecialValueText("all")
        self.label_number.tooltip = "Only this label of the layer is kept."
        self.fill = ParameterField(next(p for p in get_step("centre").parameters if p.name == "fill"))
        self.add_mask = CheckBox(text="Add the mask as a Labels layer", name="add_mask", value=False)
        self.add_clusters = CheckBox(text="Add clusters as a Labels layer", name="add_clusters", value=False)
        self.add_clusters.tooltip = "0 is noise, 1 the darkest cluster."
        self.scores_button = PushButton(text="Show scores", name="scores", label="")
        self.scores_button.tooltip = (
            "Score every method on the plane that is shown, K-means over the number of clusters."
        )
        self.scores_button.native.setObjectName("scores")
        self.scores: ClusterScores | None = None
        self.add(self.layer, self.label_number, self.fill.widget, self.add_mask, self.add_clusters, self.scores_button)
        self.add(self.store_button)
        self.scores_button.clicked.connect(self._on_scores)
        for box in (self.origin, self.layer, self.method.choice):
            box.changed.connect(self._on_change)
        self._on_change()
        self._on_image()
        self.finish()

    def _layers(self, _: object) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self.viewer.layers if isinstance(layer, (Labels, Shapes))]

    @property
    def _clusters(self) -> bool:
        return self.origin.value == METHOD and self.method.choice.value in METHODS

    def _on_change(self) -> None:
        drawn = self.origin.value == LAYER
        self.method.visible = not drawn
        self.layer.visible = self.fill.widget.visible = drawn
        self.label_number.visible = drawn and isinstance(self.layer.value, Labels)
        self.add_clusters.visible = self.scores_button.visible = self._clusters
        if self._clusters:
            for name in ("keep", "features", "clusters"):
                widget = self.form.get_widget(name)
                if widget is not None:
                    widget.changed.connect(self._on_choice, unique=True)
            self._on_choice()

    def _on_choice(self) -> None:
        """Show those parameters of a cluster method that count."""
        chosen = self.method.step
        if not self._clusters or chosen is None:
            return
        values = chosen[1]
        counts = {
            "number": values["keep"] == "number",
            "weight": values["features"] != "intensity",
            "window": values["features"] == "intensity_local",
            "max_clusters": values.get("clusters", 0) is None,
        }
        for name, shown in counts.items():
            widget = self.form.get_widget(name)
            if widget is not None:
                widget.visible = shown

    def recipe(self) -> Recipe:
        """Return the chosen step as a recipe."""
        return Recipe([self.method.step])

    def start(self) -> None:
        """Apply the chosen method, or the chosen layer, to the chosen image."""
        if self.origin.value == LAYER:
            self._start_layer()
        elif self._clusters and self.add_clusters.value and self.image.value is not None:
            self._start_clusters()
        elif self.add_mask.value and self.lazy.value and is_lazy(self.image.value):
            raise ValueError(
                f"The mask is made of the whole image: untick “{self.lazy.text}”, or “{self.add_mask.text}”."
            )
        else:
            super().start()

    def _start_clusters(self) -> None:
        recipe = self.recipe()
        source = take(self.image.value)
        (step,) = recipe.steps
        self.code = recipe_code(source, recipe)
        record = {**recipe.record(source.image.samples), "source": source.name, "python": self.code}
        here = f"image = {source.code}  # in napari's console; elsewhere, load the image here"
        parameters = "".join(f", {name}={value!r}" for name, value in step.parameters.items())
        call = f"found = ndc.cluster(image, {step.id!r}, {_how(source)}{parameters})"
        code = "\n".join(["import napari_denoise_classify as ndc", here, call, "result = found.labels"])

        def work() -> Steps[tuple[Processed, Any]]:
            clusters = cluster_iter(source.image, step.id, step.parameters, scored=False)
            found = yield from within(clusters, 0.0, 0.8)
            fill = step.parameters["fill"]
            return (yield from within(apply_mask_iter(source.image, found.mask, fill), 0.8, 1.0)), found.labels

        def done(result: tuple[Processed, Any]) -> None:
            processed, labels = result
            self.viewer.add_labels(
                labels,
                name=f"{source.name} {step.id} clusters",
                metadata={METADATA_KEY: {**record, "python": code}},
                opacity=0.5,
                **source.transform,
            )
            self.add_result(source, recipe, record, processed)

        self.launch(work(), done)

    def _start_layer(self) -> None:
        image, layer = self.image.value, self.layer.value
        if image is None:
            raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
        if layer is None:
            raise ValueError("There is no Labels or Shapes layer: add one, or choose a method.")
        source = take(image)
        label = (self.label_number.value or None) if isinstance(layer, Labels) else None
        fill = self.fill.value
        mask = mask_from_layer(self.viewer, image, layer, label)
        self.code = "\n".join(
            [
                "import napari_denoise_classify as ndc",
                "from napari_denoise_classify.widgets.mask_layers import mask_from_layer",
                "",
                f"layer, drawn = viewer.layers[{image.name!r}], viewer.layers[{layer.name!r}]",
                f"mask = mask_from_layer(viewer, layer, drawn, label={label!r})",
                f"result = ndc.apply_mask({source.code}, mask, {_how(source)}, fill={fill!r})",
            ]
        )
        record = {
            "package_version": __version__,
            "mask_layer": {"name": layer.name, "type": type(layer).__name__, "label": label},
            "fill": fill,
            "source": source.name,
            "python": self.code,
        }
        work = apply_mask_iter(source.image, mask, fill)
        name = layer.name
        self.launch(work, lambda result: self._add(source, f"masked by {name}", f"{name} kept", record, result))

    def add_result(self, source: Source, recipe: Recipe, record: dict[str, Any], result: Processed) -> None:
        """Add the masked image, and the mask if wanted; tell the fraction kept."""
        title = get_step(recipe.steps[0].id).title
        self._add(source, recipe.title, f"the {title if self._clusters else title.lower()} mask kept", record, result)

    def _add(self, source: Source, name: str, words: str, record: dict[str, Any], result: Processed) -> None:
        record = {**record, "kept": result.kept}
        layer = add_image_like(self.viewer, source, result.image, name, record)
        if self.add_mask.value:
            self.viewer.add_labels(
                result.mask.astype("uint8"),
                name=f"{source.name} {name} mask",
                metadata={METADATA_KEY: record},
                opacity=0.4,
                **source.transform,
            )
        self.viewer.layers.selection.active = layer
        self.say(f"Added {layer.name}: {words} {result.kept:.1%} of the pixels.")

    def _on_scores(self) -> None:
        try:
            if self.image.value is None:
                raise ValueError("There is no image: open one, or take one from File ▸ Open Sample.")
            step = self.method.step
            parameters = (
                {} if step is None else {k: v for k, v in step[1].items() if k not in ("keep", "number", "fill")}
            )
            plane = shown_plane(self.viewer, self.image.value)
            self.launch(cluster_scores_iter(plane, METHODS, parameters), self._show_scores)
        except USER_ERRORS as error:
            self.fail(error)

    def _show_scores(self, table: Any) -> None:
        """Show table and curves at the bottom of the window, in place of the last ones."""
        from .cluster_scores import ClusterScores

        if self.scores is not None:
            with suppress(LookupError, RuntimeError):  # it may have been closed
                self.viewer.window.remove_dock_widget(self.scores)
        theme = get_theme(self.viewer.theme)
        self.scores = ClusterScores(table, theme.background.as_hex(), theme.text.as_hex())
        self.viewer.window.add_dock_widget(self.scores, name="Cluster scores", area="bottom")
        self.scores.fit()
        means = table[table["method"] == "kmeans"]
        if means["silhouette"].notna().any():
            best = means.loc[means["silhouette"].idxmax()]
            self.say(f"K-means has its best silhouette, {best['silhouette']:.2f}, with {best['K']} clusters.")


def _how(source: Source) -> str:
    return f"axes={source.axes!r}" if source.axes else f"rgb={source.image.rgb}"


def shown_plane(viewer: napari.Viewer, image: Image) -> PlaneImage:
    """Return the plane of an image that the viewer shows."""
    source = take(image).image
    n_lead = len(source.lead_shape)
    at = np.rint(image.world_to_data(viewer.dims.point)[:n_lead])
    index = tuple(int(np.clip(i, 0, n - 1)) for i, n in zip(at, source.lead_shape, strict=True))
    return PlaneImage.wrap(source.data[index], "YXS" if source.rgb else "YX")
