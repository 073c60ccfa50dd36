"""What Classify, Explain and Workflow share: they use a classifier, and read it in the thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..core.progress import Progress, Steps
from .dock import Dock
from .session import session
from .targets import ClassifierFields

if TYPE_CHECKING:
    from ..core.classify.bundle import Classifier

V = TypeVar("V")


@dataclass(frozen=True)
class _Code:
    """The Python of a run, which can be written once the classifier is known."""

    text: str


class ClassifierDock(Dock):
    """Base of the panels that use a classifier.

    The first that is read brings PyTorch or scikit-learn along, which takes seconds: in the main thread, the window
    would stand still.
    """

    classifier: ClassifierFields

    def add_classifier_row(self, nothing: str | None = None) -> None:
        """Append the row of the classifier; ``nothing`` as for `ClassifierFields`."""
        self.classifier = ClassifierFields(self.form, self.load_classifier, nothing)

    def launch_with_classifier(
        self,
        work: Callable[[Classifier], Steps[V]],
        done: Callable[[Classifier, V], None],
        code: Callable[[Classifier], str] | None = None,
    ) -> None:
        """Read the chosen classifier and run the work that it is for, in a thread.

        Parameters
        ----------
        work : callable
            Called in the thread.
        done : callable
            Called with the classifier and the result, in the main thread.
        code : callable, optional
            Writes the Python of the run, in the thread; what is copied stays as it is without.

        Raises
        ------
        ValueError
            If none is chosen, or a run is under way.
        """
        name = self.classifier.chosen()

        def steps() -> Steps[tuple[Classifier, V]]:
            loading = "loading the classifier"
            yield Progress(0.0, loading)
            classifier = session.get(name)
            if code is not None:
                yield Progress(0.0, loading, _Code(code(classifier)))
            return classifier, (yield from work(classifier))

        self.launch(steps(), lambda found: done(*found))
        if code is not None:
            self.code = ""  # that of the last run is not of this one

    def show_data(self, data: object) -> None:
        """Keep the Python of the run."""
        if isinstance(data, _Code):
            self.code = data.text

    def load_classifier(self, path: Path) -> None:
        """Read a classifier from a file in a thread, and choose it."""

        def steps() -> Steps[Classifier]:
            yield Progress(0.0, f"loading {path.name}")
            return session.read(path)

        def done(classifier: Classifier) -> None:
            name = session.add(path.stem, classifier, path)
            self.classifier.choose(name)
            self.say(f"Loaded {name}: {', '.join(classifier.classes)}.")

        try:
            self.launch(steps(), done)
        except ValueError as error:  # a run is under way
            self.fail(error)
