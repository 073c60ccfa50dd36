"""The panel Explain: heat map and critical area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, FloatSpinBox

from .dock import Dock
from .layers import add_contours, add_heat
from .parameters import StepFields
from .session import session
from .targets import ClassifierFields, TargetFields, classify_code, summary

if TYPE_CHECKING:
    import napari


class ExplainFields:
    """Rows that choose how and what to explain."""

    def __init__(self, form: Any, classifier: ClassifierFields, nothing: str | None = None) -> None:
        self._classifier = classifier
        self.method = StepFields(form, "explain", "Explanation", nothing=nothing, default="gradcam")
        self.target = ComboBox(name="target", label="Class", choices=self._classes)
        self.fraction = FloatSpinBox(name="fraction", label="Critical area", min=0.01, max=0.99, step=0.05, value=0.2)
        self.fraction.tooltip = "Part of the pixels that the contour encloses: the most influential ones."
        form.append(self.target)
        form.append(self.fraction)
        classifier.choice.changed.connect(lambda: self.target.reset_choices())
        self.method.choice.changed.connect(self._on_method)

    def _classes(self, _: Any) -> list[tuple[str, str]]:
        name = self._classifier.name
        known = session.classes(name) if name else ()
        return [("the predicted one", ""), *((c, c) for c in known)]

    def _on_method(self) -> None:
        self.target.visible = self.fraction.visible = self.method.step is not None

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `classify_iter` beside ``explain``."""
        return {"target": self.target.value or None, "fraction": self.fraction.value}


def add_explanation(viewer: napari.Viewer, source: Any, result: Any, method: str, record: dict[str, Any]) -> None:
    """Add the heat map and the contours."""
    add_heat(viewer, source, result.heat, method, record)
    add_contours(viewer, source, result, "critical area", record)


class ExplainDock(Dock):
    """Show which pixels speak for a class."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Explain", "Show which pixels made the classifier decide.")
        self.classifier = ClassifierFields(self.form)
        self.target = TargetFields(napari_viewer, self.form)
        self.target.where.label = "Explain"
        self.explain = ExplainFields(self.form, self.classifier)
        self.finish()

    def start(self) -> None:
        """Explain the chosen samples."""
        from ..core.workflow import classify_iter

        classifier, target = self.classifier.read(), self.target.read()
        method, _ = self.explain.method.step or ("gradcam", {})
        options = self.explain.options
        self.code = code = classify_code(target, self.classifier.name, method, options, None)
        work = classify_iter(
            target.source.image,
            classifier,
            centres=target.centres,
            ids=target.ids,
            crop_size=target.crop_size,
            explain=method,
            **options,
        )

        def done(result: Any) -> None:
            record = {**result.record, "source": target.source.name, "python": code}
            add_explanation(self.viewer, target.source, result, method, record)
            empty = len(result.table) - len({row for row, _ in result.contours})
            self.say(summary(result) + (f"; no evidence found in {empty}" if empty else ""))

        self.launch(work, done)
