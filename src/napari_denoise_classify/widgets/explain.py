"""The panel Explain: heat map and critical area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, PushButton

from ..core.progress import USER_ERRORS, Steps
from ..core.steps import get_step
from .classifying import ClassifierDock
from .layers import add_contours, add_heat
from .parameters import ParameterField, StepFields
from .session import session
from .targets import ClassifierFields, TargetFields, classify_code, summary

if TYPE_CHECKING:
    import napari

    from ..core.classify.bundle import Classifier
    from ..core.explain.trust import ExplanationCheck


class ExplainFields:
    """Rows that choose how and what to explain."""

    def __init__(self, form: Any, classifier: ClassifierFields, nothing: str | None = None) -> None:
        self._classifier = classifier
        self._visible = True
        self.method = StepFields(form, "explain", "Explanation", nothing=nothing, default="gradcam")
        self.target = ComboBox(name="target", label="Class", choices=self._classes)
        self.target.tooltip = "What the heat map is about: the class that it shows the evidence for."
        self._area = {p.name: ParameterField(p) for p in get_step("critical_area").parameters}
        self.area, self.fraction = (self._area[name].widget for name in ("mode", "fraction"))
        self.area.label, self.fraction.label = "Critical area", "Part of pixels"
        self.statistics = CheckBox(name="statistics", text="Statistics of the critical areas")
        self.statistics.tooltip = (
            "What the classifier says of each critical area alone and of the rest alone, and how well the area stays "
            "under small noise. Takes six times as long."
        )
        for widget in (self.target, self.area, self.fraction, self.statistics):
            form.append(widget)
        classifier.choice.changed.connect(lambda: self.target.reset_choices())
        self.method.choice.changed.connect(self._on_method)
        self.area.changed.connect(self._on_method)
        self._on_method()

    def _classes(self, _: Any) -> list[tuple[str, str]]:
        name = self._classifier.name
        known = session.classes(name) if name else ()
        return [("the predicted one", ""), *((c, c) for c in known)]

    def _on_method(self) -> None:
        chosen = self._visible and self.method.step is not None
        for widget in (self.target, self.area, self.statistics):
            widget.visible = chosen
        self.fraction.visible = chosen and self.area.value == "top"

    @property
    def visible(self) -> bool:
        """Whether the rows are shown."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        self.method.visible = visible
        self._on_method()

    @property
    def explain(self) -> Any:
        """The method for `classify_iter`: its id, with those parameters that are not as by default; None for none."""
        if self.method.step is None:
            return None
        id, parameters = self.method.step
        defaults = get_step(id).defaults()
        changed = {name: value for name, value in parameters.items() if value != defaults[name]}
        return (id, changed) if changed else id

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `classify_iter` beside ``explain``, as far as they are not the defaults."""
        area, fraction = self._area["mode"], self._area["fraction"]
        options: dict[str, Any] = {"target": self.target.value or None}
        options |= {"fraction": fraction.value} if area.value == "top" else {"area": area.value}
        return options | ({"statistics": True} if self.statistics.value else {})


def add_explanation(viewer: napari.Viewer, source: Any, result: Any, method: str, record: dict[str, Any]) -> None:
    """Add the heat map and the contours."""
    add_heat(viewer, source, result.heat, method, record)
    add_contours(viewer, source, result, "critical area", record)


class ExplainDock(ClassifierDock):
    """Show which pixels speak for a class."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Explain", "Show which pixels made the classifier decide.")
        self.add_classifier_row()
        self.target = TargetFields(napari_viewer, self.form)
        self.target.where.label = "Explain"
        self.explain = ExplainFields(self.form, self.classifier)
        self.check_button = PushButton(text="Check", name="check")
        self.check_button.tooltip = (
            "Test whether heat maps of this method can be trusted, on at most 100 of these samples: they must beat "
            "dummies, and look different where the network's weights are random."
        )
        self.check_button.native.setObjectName("check")
        self.check_button.clicked.connect(self._on_check)
        self.buttons.insert(1, self.check_button)
        self.outcome: Any = None
        self.finish()

    def start(self) -> None:
        """Explain the chosen samples."""
        target, name = self.target.read(), self.classifier.chosen()
        explain, options = self.explain.explain, self.explain.options

        def done(classifier: Classifier, result: Any) -> None:
            record = {**result.record, "source": target.source.name, "python": self.code}
            add_explanation(self.viewer, target.source, result, record["explanation"]["method"], record)
            note = target.note_for(classifier)
            self.say("\n".join(filter(None, [summary(result) + _in_words(result), note])))

        self.launch_with_classifier(
            lambda classifier: target.classify_iter(classifier, explain=explain, **options),
            done,
            lambda classifier: classify_code(target, name, classifier, explain, options, None),
        )

    def _on_check(self) -> None:
        try:
            self._check()
        except USER_ERRORS as error:
            self.fail(error)

    def _check(self) -> None:
        target, method, explained = self.target.read(), self.explain.explain, self.explain.options["target"]

        def work(classifier: Classifier) -> Steps[ExplanationCheck]:
            from ..core.workflow import check_image_iter

            return check_image_iter(
                [target.source.image],
                classifier,
                centres=[target.centres],
                crop_sizes=[target.size_for(classifier)],
                pixel_sizes=[target.pixel_size],
                method=method,
                target=explained,
            )

        self.launch_with_classifier(work, lambda _, check: self._show_check(check))

    def _show_check(self, check: ExplanationCheck) -> None:
        """Show verdict and curves at the bottom of the window, in place of the last ones."""
        from .check_view import CheckView

        view = CheckView(check, *self.theme_colours())
        self.outcome = self.show_below(view, "Explanation check", self.outcome)
        self.outcome.fit()
        self.say(f"Checked {check.samples['sample'].nunique()} samples: the outcome is at the bottom of the window.")


def _in_words(result: Any) -> str:
    """Say what the critical areas came to: those without evidence, and the means of their statistics."""
    words = ""
    empty = int((result.table["critical_px"] == 0).sum())
    if empty:
        words += f"; no evidence found in {empty}"
    if "stability" in result.table:
        mean = result.table[["probability_kept", "probability_removed", "stability"]].mean()
        if mean.notna().all():
            words += (
                f"\nProbability with only the critical area {mean['probability_kept']:.2f}, without it "
                f"{mean['probability_removed']:.2f}; stability {mean['stability']:.2f}"
            )
            words += " (means)" if len(result.table) > 1 else ""
    return words
