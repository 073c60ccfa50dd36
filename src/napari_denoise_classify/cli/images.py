"""The commands ``denoise`` and ``mask``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..core.blocks.writing import write_iter
from ..core.files import LARGE, PICTURES, find_images, read_image, stem_of
from ..core.images import check_intensity_range
from ..core.ome_zarr.reading import SUFFIX, is_zarr
from ..core.progress import Steps
from ..core.recipe import Recipe
from ..core.steps import Kind
from ..core.storing import Fill, process_file_iter
from .common import Inputs, Output, Overwrite, guarded, output_names
from .options import chosen, method_option, with_step_options
from .scheduler import Scheduler, Workers, run_jobs

Axes = Annotated[
    str | None, typer.Option(help="Axes of the images where the files do not say: TCZYX, S for RGB samples.")
]
RangeOption = Annotated[
    str | None,
    typer.Option(help="Intensity range: image (default), stack, plane, or two numbers with a comma: 0,4095."),
]
FormatOption = Annotated[
    Literal["same", "tif", "zarr"],
    typer.Option(
        "--format", help="Kind of file that is written: same as the image's, tif, or zarr (OME-Zarr), for large images."
    ),
]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="Apply a saved recipe (JSON) instead of --method.")]


def parse_range(text: str | None) -> Any:
    """Read an intensity range from the command line."""
    text = text or "image"
    return check_intensity_range(text.split(",") if "," in text else text)


@dataclass(frozen=True)
class ProcessFile:
    """One file of ``denoise`` or ``mask``: a `Job`.

    Attributes
    ----------
    path, target : Path
    recipe : Recipe
    axes : str or None
        Instead of those that the file tells.
    save_mask : bool
        Write the mask as well.
    """

    path: Path
    target: Path
    recipe: Recipe
    axes: str | None
    save_mask: bool

    @property
    def targets(self) -> list[Path]:
        """The files that are written."""
        stem = stem_of(self.target)
        mask = self.target.with_name(f"{stem}_mask{self.target.name.removeprefix(stem)}")
        return [self.target, mask] if self.save_mask else [self.target]

    @property
    def large(self) -> bool:
        """Whether several workers of a cluster share it: the chunks of a zarr are files of their own."""
        try:
            if self.target.suffix != SUFFIX:
                return False
            file = read_image(self.path, lazy_above=LARGE)
            reach = self.recipe.reach(3 if "S" in (self.axes or file.axes) else 1) if file.lazy else None
            return file.lazy and (reach is None or reach.exact)  # other blocks fade into each other, one by one
        except (ValueError, OSError, ImportError):
            return False  # the sentence comes with the run

    def run_iter(self) -> Steps[str]:
        """Process the file; returns the part of the pixels that was kept, in words."""
        return self.run_with_iter(write_iter)

    def run_with_iter(self, fill: Fill) -> Steps[str]:
        """As `run_iter`, but have ``fill`` process the blocks of a large image."""
        target, *mask = self.targets
        file = read_image(self.path, lazy_above=LARGE)
        mask_target = mask[0] if mask else None
        done = yield from process_file_iter(self.recipe, file, target, mask_target, self.axes, fill=fill)
        return "" if done.kept is None else f"  (kept {done.kept:.1%} of the pixels)"


def _suffix(path: Path, wanted: str) -> str:
    """Return the suffix of the file that is written for an image."""
    if wanted != "same":
        return f".{wanted}"
    if is_zarr(path):
        return ".ome.zarr" if path.name.endswith(".ome.zarr") else ".zarr"
    suffix = path.suffix.lower()
    return ".npy" if suffix == ".npy" else ".png" if suffix in PICTURES else ".tif"


def _process(
    kind: Kind,
    *,
    images: list[str],
    method: str | None,
    default: str,
    parameters: dict[str, str],
    recipe: Path | None,
    output: Path,
    axes: str | None,
    intensity_range: str | None = None,
    overwrite: bool,
    scheduler: str | None,
    workers: int | None,
    format: str,
    save_masks: bool = False,
) -> None:
    """Run a command; the arguments are its options."""

    def plan() -> tuple[Recipe, list[Path]]:
        if recipe is not None:
            own = {"method": method, **parameters, "intensity_range": intensity_range}
            given = [name.replace("_", "-") for name, value in own.items() if value is not None]
            if given:
                raise ValueError(
                    f"--{given[0]} does not go with --recipe: the recipe holds its methods and parameters."
                )
            read = Recipe.from_json(recipe)
            if save_masks and not read.masks:
                raise ValueError(f"--save-mask does not go with {recipe}: no step of that recipe masks.")
            return read, find_images(images)
        spec, checked = chosen(kind, method or default, parameters)
        return Recipe([(spec.id, checked)], parse_range(intensity_range)), find_images(images)

    used, paths = guarded(plan)
    title = used.title.replace(" + ", "_")
    names = guarded(lambda: output_names(paths, output, lambda path: f"_{title}{_suffix(path, format)}"))

    jobs = [ProcessFile(path, names[path], used, axes, save_masks) for path in paths]
    run_jobs(jobs, overwrite, scheduler, workers)


@with_step_options("denoise")
def denoise(
    images: Inputs,
    method: Annotated[str | None, method_option("denoise", "dncnn")] = None,
    recipe: RecipeOption = None,
    output: Output = Path("results"),
    axes: Axes = None,
    intensity_range: RangeOption = None,
    overwrite: Overwrite = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    format: FormatOption = "same",
    *,
    parameters: dict[str, str],
) -> None:
    """Denoise images. TIFF stays TIFF with its axes and pixel size, OME-Zarr OME-Zarr; PNG and JPEG become PNG."""
    _process("denoise", default="dncnn", **locals())


@with_step_options("mask")
def mask(
    images: Inputs,
    method: Annotated[str | None, method_option("mask", "centre")] = None,
    recipe: RecipeOption = None,
    output: Output = Path("results"),
    axes: Axes = None,
    save_masks: Annotated[bool, typer.Option("--save-mask", help="Write the mask itself as well.")] = False,
    overwrite: Overwrite = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    format: FormatOption = "same",
    *,
    parameters: dict[str, str],
) -> None:
    """Mask images: keep a part of the pixels, fill the others with 0, the plane's mean, or the plane blurred."""
    _process("mask", default="centre", **locals())
