"""The panel Mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton
from napari.layers import Labels, Shapes

from .._version import __version__
from ..core.images import PlaneImage
from ..core.mask.cluster import METHODS, cluster_iter, cluster_scores_iter
from ..core.mask.given import apply_mask_iter
from ..core.progress import USER_ERRORS, Steps, within
from ..core.recipe import Processed, Recipe
from ..core.steps import get_step
from .dock import keeping, narrow
from .layers import METADATA_KEY, Source, add_image_like, shown_plane, take
from .lazy import is_lazy
from .mask_layers import mask_from_layer
from .parameters import ParameterField, StepFields
from .process import ProcessDock, recipe_code

if TYPE_CHECKING:
    import napari

    from .cluster_scores import ClusterScores

METHOD, LAYER = "method", "layer"


class MaskDock(ProcessDock):
    """Mask an image layer."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Mask", "Keep a part of an image, and fill the rest.")
        self.origin = ComboBox(name="origin", label="Mask from", choices=[("a method", METHOD), ("a layer", LAYER)])
        self.add(self.origin)
        self.method = StepFields(self.form, "mask", "Mask")
        self.layer = keeping(narrow(ComboBox(name="mask_layer", label="Layer", choices=self._layers)))
        self.layer.tooltip = "Labels or shapes; they are mapped into the image through the layers' transforms."
        # magicgui's box for whole numbers cannot show a word for its lowest setting
        self.label_number = FloatSpinBox(name="label", label="Label", min=0, max=2**31 - 1, step=1, value=0)
        self.label_number.native.setDecimals(0)
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
        self.finish()

    def _layers(self, _: object) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self.viewer.layers if isinstance(layer, (Labels, Shapes))]

    @property
    def by_parts(self) -> bool:
        """Whether the rows for images that are processed part by part are shown: not for masks that were drawn."""
        return self.origin.value == METHOD and super().by_parts

    @property
    def _clusters(self) -> bool:
        return self.origin.value == METHOD and self.method.choice.value in METHODS

    def _on_change(self) -> None:
        drawn = self.origin.value == LAYER
        self.method.visible = not drawn
        self._on_image()
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
            self.add_result(source, recipe, record, processed)
            active = self.viewer.layers.selection.active
            # After the image, which would hide them.
            self.viewer.add_labels(
                labels,
                name=f"{source.name} {step.id} clusters",
                metadata={METADATA_KEY: {**record, "python": code}},
                opacity=0.5,
                **source.transform,
            )
            self.viewer.layers.selection.active = active

        self.launch(work(), done)

    def _start_layer(self) -> None:
        image, layer = self.image.value, self.layer.value
        source = take(image)
        if layer is None:
            raise ValueError("There is no Labels or Shapes layer: add one, or choose a method.")
        label = (int(self.label_number.value) or None) if isinstance(layer, Labels) else None
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
        self.say(f"Added {layer.name}: {words} {result.kept:.1%} of the pixels.{_advice(result.kept)}")

    def _on_scores(self) -> None:
        try:
            step = self.method.step
            parameters = (
                {} if step is None else {k: v for k, v in step[1].items() if k not in ("keep", "number", "fill")}
            )
            source = take(self.image.value)
            shown = source.image.data[shown_plane(source, self.image.value, self.viewer)]
            plane = PlaneImage.wrap(shown, "YXS" if source.image.rgb else "YX")
            self.launch(cluster_scores_iter(plane, METHODS, parameters), self._show_scores)
        except USER_ERRORS as error:
            self.fail(error)

    def _show_scores(self, table: Any) -> None:
        """Show table and curves at the bottom of the window, in place of the last ones."""
        from .cluster_scores import ClusterScores

        view = ClusterScores(table, *self.theme_colours())
        self.scores = self.show_below(view, "Cluster scores", self.scores)
        self.scores.fit()
        means = table[table["method"] == "kmeans"]
        if means["silhouette"].notna().any():
            best = means.loc[means["silhouette"].idxmax()]
            self.say(f"K-means has its best silhouette, {best['silhouette']:.2f}, with {best['K']} clusters.")
        else:
            self.say("There are no two clusters to compare: choose a plane with more grey levels, or other features.")


def _advice(kept: float) -> str:
    """Say what to do about a mask that separates nothing."""
    what = {0.0: "nothing is left", 1.0: "nothing is masked"}.get(kept)
    return "" if what is None else f" So {what}: choose another mask or other parameters."


def _how(source: Source) -> str:
    return f"axes={source.axes!r}" if source.axes else f"rgb={source.image.rgb}"
