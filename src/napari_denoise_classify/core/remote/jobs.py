"""What workers do: jobs, whose descriptions travel, and how they ended."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from ..blocks.parts import Target, write_part_iter
from ..blocks.plan import Part
from ..files import user_path
from ..images import PlaneImage
from ..progress import Steps
from ..recipe import Recipe
from ..storing import Fill


class Job(Protocol):
    """What one worker does at a time: a frozen dataclass of paths, recipes and plain values."""

    @property
    def path(self) -> Path:
        """The file that is read."""

    @property
    def targets(self) -> list[Path]:
        """The files that are written."""

    def run_iter(self) -> Steps[Any]:
        """Do it; returns what is to be said after the name of the first target. May be done again from the start."""


@runtime_checkable
class LargeJob(Job, Protocol):
    """A job that may be too large for one worker."""

    @property
    def large(self) -> bool:
        """Whether its blocks are to be shared out."""

    def run_with_iter(self, fill: Fill) -> Steps[Any]:
        """As `run_iter`, but have ``fill`` process the blocks."""


@dataclass(frozen=True)
class Block:
    """A block of a large image, as a job of its own: read, processed and written into its place.

    Attributes
    ----------
    path : Path
        Of the image.
    recipe, source, part, ranges, target, mask
        As for `write_part_iter`.
    """

    path: Path
    recipe: Recipe
    source: PlaneImage
    part: Part
    ranges: list[tuple[float, float]]
    target: Target
    mask: Target | None

    @property
    def targets(self) -> list[Path]:
        """None of its own: the result is there already, and is filled."""
        return []

    def run_iter(self) -> Steps[tuple[int, int]]:
        """Process the block; returns how many pixels masks keep, out of how many."""
        return write_part_iter(self.recipe, self.source, self.part, self.ranges, self.target, self.mask)


@dataclass(frozen=True)
class Finished:
    """How a job ended; the ``data`` of a progress.

    Attributes
    ----------
    number : int
        Of the job.
    result : object
        What `Job.run_iter` returned.
    error : str
        What went wrong, in one sentence, or empty.
    """

    number: int
    result: Any = ""
    error: str = ""


J = TypeVar("J", bound=Job)


def absolute(job: J) -> J:
    """Return a job with absolute paths: workers have other working directories."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(job):  # type: ignore[arg-type]  # a protocol cannot ask for a dataclass
        value = getattr(job, field.name)
        if isinstance(value, Path):
            changes[field.name] = value.absolute()
        elif isinstance(value, Recipe):
            changes[field.name] = _absolute_recipe(value)
    return dataclasses.replace(job, **changes)  # type: ignore[type-var]  # as above


def _absolute_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe with absolute paths."""
    steps = []
    for s in recipe.steps:
        files = {p.name: user_path(str(s.parameters[p.name])) for p in s.spec.parameters if p.file}
        own = {name: str(path.absolute()) for name, path in files.items() if path.is_file()}
        steps.append((s.id, {**s.parameters, **own}))
    return Recipe(steps, recipe.intensity_range)


def relative(error: str, job: Job) -> str:
    """Name the files in an error as they were given."""
    whole = absolute(job)
    for mine, theirs in zip([job.path, *job.targets], [whole.path, *whole.targets], strict=True):
        error = error.replace(str(theirs), str(mine))
    return error
