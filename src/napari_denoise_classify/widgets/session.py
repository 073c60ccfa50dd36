"""The classifiers of this napari session: trained or loaded in one panel, offered in all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from psygnal import Signal

from ..core.figures import class_colours

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier

EXAMPLE = "Example: IHC nuclei"
EXAMPLE_CLASSES = ("DAB-negative", "DAB-positive")


class Session:
    """The classifiers by name; a signal tells when there are more."""

    changed = Signal(str)
    recoloured = Signal(str, str)

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}
        self._classifiers: dict[str, Classifier] = {}
        self._reading = Lock()
        self._paths: dict[str, Path] = {}

    def names(self) -> list[str]:
        """List the names, newest first; the shipped example is last."""
        return [*reversed([name for name in self._classifiers if name != EXAMPLE]), EXAMPLE]

    def add(self, name: str, classifier: Classifier, path: Path | None = None) -> str:
        """Keep a classifier under a name that is not taken yet, and return it."""
        unique, k = name, 2
        while unique in self._classifiers:
            unique, k = f"{name} [{k}]", k + 1
        self._classifiers[unique] = classifier
        self._adopt(classifier)
        if path is not None:
            self._paths[unique] = path
        self.changed.emit(unique)
        return unique

    def get(self, name: str) -> Classifier:
        """Return a classifier; the example is read when it is first asked for, in whatever thread that is."""
        with self._reading:  # once, also where two panels ask for it
            if name == EXAMPLE and name not in self._classifiers:
                from ..core.classify.storage import example_classifier

                self._classifiers[name] = self.read(example_classifier())
        classifier = self._classifiers[name]
        if any(c in self._colours for c in classifier.classes):
            classifier.training["colours"] = self.colours(classifier.classes)
        return classifier

    # --- colours --------------------------------------------------------------------------------------------------

    def colours(self, classes: Sequence[str]) -> dict[str, str]:
        """Return the colour ``#rrggbb`` of each class: the chosen one, or else one of the palette."""
        return class_colours(classes, self._colours)

    def set_colour(self, name: str, colour: str) -> None:
        """Choose the colour of a class, in all layers and classifiers of this session."""
        if self._colours.get(name) != colour:
            self._colours[name] = colour
            self.recoloured.emit(name, colour)

    def _adopt(self, classifier: Classifier) -> None:
        """Take over the colours that a classifier was saved with."""
        chosen = classifier.training.get("colours")
        if chosen:
            for name, colour in class_colours(classifier.classes, chosen).items():
                self.set_colour(name, colour)

    def classes(self, name: str) -> tuple[str, ...]:
        """Return the classes of a classifier, without reading the example just for that."""
        known = self._classifiers.get(name)
        return known.classes if known is not None else EXAMPLE_CLASSES if name == EXAMPLE else ()

    @staticmethod
    def read(path: Path) -> Classifier:
        """Read a classifier from a file, for `add`.

        Raises
        ------
        ValueError
            If it cannot be read.
        """
        from ..core.classify.storage import load_classifier

        return load_classifier(path)

    def saved(self, name: str, path: Path) -> None:
        """Remember where a classifier was saved."""
        self._paths[name] = path

    def code(self, name: str) -> str:
        """Return Python that gets a classifier."""
        if name in self._paths:
            return f"clf = ndc.load_classifier({str(self._paths[name])!r})"
        if name == EXAMPLE:
            return "clf = ndc.load_classifier(ndc.example_classifier())"
        return f"clf = ndc.load_classifier({f'{name}.ndc'!r})  # save it first, in the panel Classify"


session = Session()
