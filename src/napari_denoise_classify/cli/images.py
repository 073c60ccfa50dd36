"""The commands ``denoise`` and ``mask``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..core.files import PICTURES, ImageFile, find_images, read_image, write_like
from ..core.images import check_intensity_range
from ..core.recipe import Processed, Recipe
from ..core.steps import Kind
from .common import Inputs, Output, Overwrite, check_new, for_each, guarded, output_names, say, with_bar
from .options import chosen, method_option, with_step_options

Axes = Annotated[
    str | None, typer.Option(help="Axes of the images where the files do not say: TCZYX, S for RGB samples.")
]
RangeOption = Annotated[
    str, typer.Option(help="Intensity range: image, stack, plane, or two numbers with a comma: 0,4095.")
]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="Apply a saved recipe (JSON) instead of --method.")]


def parse_range(text: str) -> Any:
    """Read an intensity range from the command line."""
    return check_intensity_range(text.split(",") if "," in text else text)


def apply(file: ImageFile, recipe: Recipe, axes: str | None, title: str) -> Processed:
    """Apply a recipe to a file's image under a progress bar."""
    return with_bar(recipe.apply_iter(file.data, axes or file.axes), title)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return ".npy" if suffix == ".npy" else ".png" if suffix in PICTURES else ".tif"


def _process(
    kind: Kind,
    inputs: list[str],
    method: str,
    parameters: dict[str, str],
    recipe_file: Path | None,
    output: Path,
    axes: str | None,
    intensity_range: str,
    overwrite: bool,
    save_masks: bool = False,
) -> None:
    def plan() -> tuple[Recipe, list[Path]]:
        if recipe_file is not None:
            if parameters:
                raise ValueError(
                    f"--{next(iter(parameters))} does not go with --recipe: the recipe holds its parameters."
                )
            recipe = Recipe.from_json(recipe_file)
        else:
            spec, checked = chosen(kind, method, parameters)
            recipe = Recipe([(spec.id, checked)], parse_range(intensity_range))
        return recipe, find_images(inputs)

    recipe, paths = guarded(plan)
    title = recipe.title.replace(" + ", "_")
    names = guarded(lambda: output_names(paths, output, lambda path: f"_{title}{_suffix(path)}"))

    def one(path: Path) -> None:
        target = names[path]
        mask_target = target.with_name(f"{target.stem}_mask{target.suffix}")
        file = read_image(path)
        check_new([target, mask_target] if save_masks else [target], overwrite)
        done = apply(file, recipe, axes, path.name)
        used = axes.upper() if axes else file.axes
        write_like(target, np.asarray(done.image), file, used)
        kept = "" if done.mask is None else f"  (kept {done.kept:.1%} of the pixels)"
        if save_masks and done.mask is not None:
            write_like(mask_target, done.mask, file, used.replace("S", ""))
        say(f"{target}{kept}")

    for_each(paths, one)


@with_step_options("denoise")
def denoise(
    images: Inputs,
    method: Annotated[str, method_option("denoise")] = "dncnn",
    recipe: RecipeOption = None,
    output: Output = Path("results"),
    axes: Axes = None,
    intensity_range: RangeOption = "image",
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Denoise images. TIFF stays TIFF with its axes and pixel size; PNG and JPEG become PNG."""
    _process("denoise", images, method, parameters, recipe, output, axes, intensity_range, overwrite)


@with_step_options("mask")
def mask(
    images: Inputs,
    method: Annotated[str, method_option("mask")] = "centre",
    recipe: RecipeOption = None,
    output: Output = Path("results"),
    axes: Axes = None,
    save_masks: Annotated[bool, typer.Option("--save-mask", help="Write the mask itself as well.")] = False,
    overwrite: Overwrite = False,
    *,
    parameters: dict[str, str],
) -> None:
    """Mask images: keep a part of the pixels, fill the others with 0, the plane's mean, or the plane blurred."""
    _process("mask", images, method, parameters, recipe, output, axes, "image", overwrite, save_masks)
