"""Recipes: an ordered list of steps with parameters, applied to an image.

A recipe is what the panels build, what a classifier remembers of its training images, what every output layer
carries, and what "Copy as Python" and the command line replay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._version import __version__
from .blocks.lazy import lazily
from .blocks.memory import check_result
from .blocks.writing import write_iter
from .filling import Outcome
from .images import FloatArray, IntensityRange, PlaneImage, check_intensity_range
from .json_text import as_json, read_json
from .progress import Progress, Steps, run, within
from .steps import Reach, StepSpec, get_step, read_step, write_step

FORMAT = "napari-denoise-classify/recipe"
VERSION = 1
_READING = 0.05  # the part of a run that finding the intensity range counts for


class Processed(NamedTuple):
    """An image that a recipe was applied to.

    Attributes
    ----------
    image : array
        Same axes and dtype as the source, and its shape unless the recipe enlarges.
    mask : array of bool, or None
        The pixels that were kept: the image's axes without S. None if no step of the recipe masks.
    kept : float
        The fraction of pixels kept, 0 to 1.
    """

    image: Any
    mask: Any
    kept: float


@dataclass(frozen=True)
class RecipeStep:
    """One step of a recipe: its id and all of its parameters."""

    id: str
    parameters: Mapping[str, Any]

    @property
    def spec(self) -> StepSpec:
        """The declaration of the step."""
        return get_step(self.id, "denoise", "mask")

    def __hash__(self) -> int:
        return hash((self.id, tuple(sorted(self.parameters.items()))))


@dataclass(frozen=True, init=False)
class Recipe:
    """An immutable, ordered list of denoising and masking steps.

    Parameters
    ----------
    steps : iterable
        Of ``(id, parameters)`` pairs or plain ids. Parameters left out take their defaults.
    intensity_range : {"image", "stack", "plane"} or (float, float), optional
        What maps to the scale on which noise levels are given (see `PlaneImage.ranges`).

    Raises
    ------
    ValueError
        For unknown steps or parameters out of range.

    Examples
    --------
    >>> recipe = Recipe([("gaussian", {"kernel_size": 5}), "centre"])
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    steps: tuple[RecipeStep, ...]
    intensity_range: IntensityRange

    def __init__(self, steps: Iterable[Any] = (), intensity_range: Any = None) -> None:
        checked: list[RecipeStep] = []
        for item in [steps] if isinstance(steps, str) else steps:
            if isinstance(item, RecipeStep):
                id, parameters = item.id, dict(item.parameters)
            elif isinstance(item, str):
                id, parameters = item, {}
            else:
                try:
                    id, parameters = item
                    parameters = dict(parameters)
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{item!r} is not a step: give an id, or a pair (id, {{parameter: value}})."
                    ) from None
            spec = get_step(id, "denoise", "mask")
            checked.append(RecipeStep(id, MappingProxyType(spec.validate(parameters))))
        object.__setattr__(self, "steps", tuple(checked))
        object.__setattr__(self, "intensity_range", check_intensity_range(intensity_range))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ([(s.id, dict(s.parameters)) for s in self.steps], self.intensity_range))

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __repr__(self) -> str:
        listed = ", ".join(f"({s.id!r}, {dict(s.parameters)!r})" for s in self.steps)
        how = "" if self.intensity_range == "image" else f", intensity_range={self.intensity_range!r}"
        return f"Recipe([{listed}]{how})"

    @property
    def title(self) -> str:
        """A short name for layers and files: ``"dncnn + centre"``; ``"raw"`` if there are no steps."""
        return " + ".join(s.id for s in self.steps) or "raw"

    @property
    def upscale(self) -> int:
        """How many times as large as the source the result is, along Y and X."""
        return math.prod(int(s.parameters.get("upscale", 1)) for s in self.steps)

    @property
    def masks(self) -> bool:
        """Whether any step masks."""
        return any(s.spec.kind == "mask" for s in self.steps)

    def reach(self, samples: int = 1) -> Reach | None:
        """Tell how far all steps together look, in pixels of the source; None if one of them needs whole planes.

        Parameters
        ----------
        samples : int
            3 for RGB images, 1 for gray ones.
        """
        halo, multiple, exact, factor = 0, 1, True, 1
        for s in self.steps:
            reach = s.spec.reach(samples, s.parameters)
            if reach is None:
                return None
            multiple = math.lcm(multiple, reach.multiple)
            exact &= reach.exact
            halo += -(-reach.halo // factor)
            factor *= int(s.parameters.get("upscale", 1))
        return Reach(halo, multiple, exact)

    # --- saved form -----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready values."""
        how = self.intensity_range
        return {
            "format": FORMAT,
            "version": VERSION,
            "intensity_range": list(how) if isinstance(how, tuple) else how,
            "steps": [{"step": s.id, "parameters": dict(s.parameters)} for s in self.steps],
        }

    @classmethod
    def from_dict(cls, saved: Any) -> Recipe:
        """Make a recipe from what `to_dict` returned.

        Parameters
        ----------
        saved : dict

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            If it is something else, or written by a newer version.
        """
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ValueError("This is not a recipe: a recipe is JSON written by Recipe.to_json.")
        if not isinstance(saved.get("version"), int) or saved["version"] > VERSION:
            raise ValueError(
                f"This recipe has version {saved.get('version')!r}; this program reads up to {VERSION}. "
                "Update napari-denoise-classify."
            )
        try:
            steps = [(item["step"], item["parameters"]) for item in saved["steps"]]
        except (TypeError, KeyError):
            raise ValueError(
                "This recipe is damaged: 'steps' must list objects with 'step' and 'parameters'."
            ) from None
        return cls(steps, saved.get("intensity_range"))

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe from text as people write it: ``"gaussian:kernel_size=5 + centre"``.

        Parameters
        ----------
        text : str
            Steps separated by plus signs; ``"raw"`` or nothing is a recipe of no steps.

        Raises
        ------
        ValueError
            If it cannot be read, and as for `Recipe`.
        """
        if text.strip() in ("", "raw"):
            return cls()
        return cls([read_step(part) for part in text.split("+")])

    @property
    def text(self) -> str:
        """The recipe as `parse` reads it; parameters at their default are left out."""
        return " + ".join(write_step(s.id, s.parameters) for s in self.steps) or "raw"

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the recipe as JSON, and write it to ``path`` if one is given.

        Parameters
        ----------
        path : str or Path, optional
        """
        return as_json(self.to_dict(), path)

    @classmethod
    def from_json(cls, source: str | Path) -> Recipe:
        """Read a recipe.

        Parameters
        ----------
        source : str or Path
            The JSON text itself, or the path of a file that holds it.

        Raises
        ------
        ValueError
            If it cannot be read or is not a recipe.
        """
        return cls.from_dict(read_json(source, "recipe"))

    def record(self, samples: int = 1) -> dict[str, Any]:
        """Describe how an output was made: recipe, package version, SHA-256 of the weights used.

        Parameters
        ----------
        samples : int
            3 for RGB images, 1 for gray ones; decides which weights are meant by ``"auto"``.
        """
        details = []
        for s in self.steps:
            record = s.spec.record
            details.append(record(samples, **s.parameters) if record is not None else {})
        return {"package_version": __version__, "recipe": self.to_dict(), "details": details}

    def to_python(self, axes: str | None = None, rgb: bool = False, intensity_range: Any = None) -> str:
        """Return Python code that applies this recipe to an array named ``image``.

        Parameters
        ----------
        axes : str, optional
            Of that array, as ``"TCZYX"``.
        rgb : bool
            Whether its last axis holds RGB samples, where ``axes`` is not given.
        intensity_range : {"image", "stack", "plane"} or (float, float), optional
            Instead of the recipe's own.

        Returns
        -------
        str
        """
        how = self._range(intensity_range)
        lines = [f"    ({s.id!r}, {dict(s.parameters)!r})," for s in self.steps]
        arguments = [f"axes={axes!r}"] if axes else (["rgb=True"] if rgb else [])
        head = "recipe = ndc.Recipe(["
        tail = "]" + ("" if how == "image" else f", intensity_range={how!r}") + ")"
        call = ", ".join(["image", *arguments])
        return "\n".join(
            [
                "import napari_denoise_classify as ndc",
                "",
                head,
                *lines,
                tail,
                f"result = recipe.apply({call})",
            ]
        )

    def _range(self, other: Any) -> IntensityRange:
        return self.intensity_range if other is None else check_intensity_range(other)

    # --- applying -------------------------------------------------------------------------------------------------

    def apply(self, image: Any, axes: str | None = None, rgb: bool = False, intensity_range: Any = None) -> Any:
        """Apply the recipe to an image.

        Parameters
        ----------
        image : array-like
            Numpy or dask; dask (or zarr) gives a lazy dask array. Computing a part of it processes the blocks there
            only, where all steps tell how far they look (see `reach`). The intensity range is found at once, which
            reads the whole array, unless it is given or fixed by the dtype.
        axes : str, optional
            As ``"TCZYX"``; S for RGB samples. See `resolve_axes`.
        rgb : bool
            Whether the last axis holds RGB samples, where ``axes`` is not given.
        intensity_range : optional
            Instead of the recipe's own.

        Returns
        -------
        array
            Same axes and dtype; the same shape unless a step enlarges (see `upscale`).

        Raises
        ------
        ValueError
            For empty images, NaN or infinite pixels, and axes that do not fit.
        """
        source = PlaneImage.wrap(image, axes, rgb)
        how = self._range(intensity_range)
        if source.lazy:
            return lazily(self, source, source.ranges(how))
        return run(self.apply_iter(source, intensity_range=how)).image

    def apply_iter(
        self, image: Any, axes: str | None = None, rgb: bool = False, intensity_range: Any = None
    ) -> Steps[Processed]:
        """Apply the recipe plane by plane; a generator of progress that returns `Processed`.

        Parameters
        ----------
        image : array-like or PlaneImage
            Lazy arrays are read a few planes, or a block of one, at a time; the result is in memory.
        axes, rgb, intensity_range
            As for `apply`.
        """
        source = image if isinstance(image, PlaneImage) else PlaneImage.wrap(image, axes, rgb)
        how = self._range(intensity_range)
        yield Progress(0.0, "reading the image")
        ranges = yield from within(source.ranges_iter(how), 0.0, _READING)
        check_result(source, self)
        height, width = (n * self.upscale for n in source.plane_shape)
        n_lead = len(source.lead_shape)
        out = np.empty((*source.lead_shape, height, width, *source.data.shape[n_lead + 2 :]), source.data.dtype)
        mask = np.empty((*source.lead_shape, height, width), bool) if self.masks else None
        fraction = yield from within(write_iter(self, source, ranges, out, mask), _READING, 1.0)
        if mask is not None:
            mask = PlaneImage(mask, source.axes.replace("S", "")).unwrap(mask)
        return Processed(source.unwrap(out), mask, fraction)

    @property
    def only_masks(self) -> bool:
        """Whether pixels that no mask fills stay as they are."""
        return all(s.spec.kind == "mask" or s.id == "none" for s in self.steps)

    def process_iter(self, planes: FloatArray, ranges: npt.NDArray[np.float64]) -> Steps[Outcome]:
        """Run the steps on planes.

        Parameters
        ----------
        planes : (N, Y, X, S) float32
            With 0 and 1 for the ends of their ranges.
        ranges : (N, 2) float64
            The intensities that these stand for.

        Yields
        ------
        Progress

        Returns
        -------
        Outcome
            The planes, and the mask where a step masks.
        """
        done = Outcome.start(planes)
        for i, s in enumerate(self.steps):
            spec = s.spec
            yield Progress(i / len(self.steps), spec.title)
            work = spec.run_iter(done.planes, ranges, s.parameters)
            result: Any = yield from within(work, i / len(self.steps), (i + 1) / len(self.steps), spec.title)
            if spec.kind == "mask":
                done = done.mask(result, s.parameters["fill"], ranges)
            elif result is not done.planes:
                done = done.replace(result)
        return done
