"""What a denoiser is trained on: noisy images with clean ones, clean images alone, or noisy images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..files import find_images, read_image
from ..images import FloatArray, PlaneImage

Images: TypeAlias = Sequence[str | Path] | Mapping[str, Any]
"""Files, folders and globs; or arrays by name, whose last two axes are Y and X (Y, X and 3 samples for RGB)."""

_STRIP = 16  # rows at least of what is held out of a single plane: self-supervision needs some
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Example:
    """One plane to train on.

    Attributes
    ----------
    name : str
        Of the image that it is a plane of; examples of one name are never on both sides of a split.
    input : (Y, X, S) float32 or None
        The noisy plane; None if noise is to be added to the target.
    target : (Y, X, S) float32 or None
        The clean plane, possibly larger than the input; None for self-supervision.
    weight : (Y, X) float32 or None
        How much each pixel of the target counts.
    range : (float, float)
        The intensities that are 0 and 255 where a noise level is given.
    """

    name: str
    input: FloatArray | None = None
    target: FloatArray | None = None
    weight: FloatArray | None = None
    range: tuple[float, float] = (0.0, 1.0)

    @property
    def seen(self) -> FloatArray:
        """The input, or the target where there is none."""
        plane = self.input if self.input is not None else self.target
        assert plane is not None
        return plane

    def crop(self, y: int, x: int, side: int) -> Example:
        """Cut a square of the input, and the same of the rest."""

        def cut(plane: FloatArray | None) -> FloatArray | None:
            if plane is None:
                return None
            k = plane.shape[0] // self.seen.shape[0]
            return plane[y * k : (y + side) * k, x * k : (x + side) * k]

        return replace(self, input=cut(self.input), target=cut(self.target), weight=cut(self.weight))


def load_examples(
    inputs: Images | None,
    targets: Images | None,
    masks: Images | None,
    *,
    samples: int,
    upscale: int = 1,
    raw: bool = False,
) -> list[Example]:
    """Read training images and match them by name.

    Parameters
    ----------
    inputs : files or mapping, optional
        Noisy images.
    targets : files or mapping, optional
        Clean images. Where both are given they are matched by the files' stems.
    masks : files or mapping, optional
        Images of the targets' size, matched likewise; 0 where pixels do not count.
    samples : int
        1 or 3. RGB images become their luminance for 1; gray ones are left out for 3.
    upscale : int
        How many times as large as the inputs the targets are.
    raw : bool
        Keep the images' own intensities; else their intensity range becomes 0..1.

    Raises
    ------
    ValueError
        If an image cannot be read, has no partner (all of them are listed), or a partner of another size, or if none
        is left.
    """
    read = {
        what: None if images is None else _read(images, 1 if what == "masks" else samples, raw or what == "masks")
        for what, images in (("inputs", inputs), ("targets", targets), ("masks", masks))
    }
    first = read["inputs"] if read["inputs"] is not None else read["targets"]
    if first is None:
        raise ValueError("There is nothing to train on: give noisy images, clean images, or both.")
    if inputs is not None and targets is not None:
        _check_partners(first, read["targets"], "clean")
    _check_partners(first, read["masks"], "mask")
    examples: list[Example] = []
    for name in first:
        planes = {what: found[name] for what, found in read.items() if found is not None}
        counts = {what: len(p) for what, p in planes.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} of its {what}" for what, count in counts.items())
            raise ValueError(f"{name}: the numbers of planes differ ({listed}): give as many of each.")
        for k in range(len(next(iter(planes.values())))):
            here = {what: p[k][0] for what, p in planes.items()}
            weight = here.get("masks")
            example = Example(
                name,
                here.get("inputs"),
                here.get("targets"),
                None if weight is None else (weight[..., 0] > 0).astype(np.float32),
                planes["inputs" if "inputs" in planes else "targets"][k][1],
            )
            _check_sizes(example, upscale)
            examples.append(example)
    if not examples:
        raise ValueError("There are no RGB images among the files: train for gray images, or add RGB ones.")
    return examples


def _read(images: Images, samples: int, raw: bool) -> dict[str, list[tuple[FloatArray, tuple[float, float]]]]:
    """Read planes with the intensities that are 0 and 255 where a noise level is given."""
    found: dict[str, list[tuple[FloatArray, tuple[float, float]]]] = {}
    if isinstance(images, Mapping):
        sources = [(name, PlaneImage.wrap(a, rgb=samples == 3 or _is_rgb(a))) for name, a in images.items()]
    else:
        sources = []
        for path in find_images(images):
            file = read_image(path)
            sources.append((_unique(path, {name for name, _ in sources}), PlaneImage.wrap(file.data, file.axes)))
    for name, image in sources:
        if samples == 3 and not image.rgb:
            continue
        ranges, unit = image.ranges("image"), dict.fromkeys(image.indices(), (0.0, 1.0))
        scale = unit if raw else ranges
        planes = [image.planes([index], scale)[0] for index in image.indices()]
        if samples == 1 and image.rgb:
            planes = [(p @ _LUMINANCE)[..., None] for p in planes]
        means = (ranges if raw else unit).values()
        found[name] = list(zip(planes, means, strict=True))
    return found


def _is_rgb(array: Any) -> bool:
    return np.ndim(array) >= 3 and np.shape(array)[-1] in (3, 4) and min(np.shape(array)[-3:-1]) > 4


def _unique(path: Path, taken: set[str]) -> str:
    return path.stem if path.stem not in taken else str(path)


def _check_partners(first: Mapping[str, object], others: Mapping[str, object] | None, what: str) -> None:
    if others is None:
        return
    lonely = sorted(set(first) - set(others)), sorted(set(others) - set(first))
    if any(lonely):
        sides = (f"without a {what} image: ", f"{what} images without a partner: ")
        listed = "; ".join(text + _few(names) for text, names in zip(sides, lonely, strict=True) if names)
        raise ValueError(f"The images are matched by name, and some have no partner ({listed}): rename or remove them.")


def _few(names: list[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _check_sizes(example: Example, upscale: int) -> None:
    height, width = example.seen.shape[:2]
    expected = (height * upscale, width * upscale) if example.input is not None else (height, width)
    for what, plane in (("clean image", example.target), ("mask", example.weight)):
        if plane is not None and plane.shape[:2] != expected:
            raise ValueError(
                f"{example.name}: the {what} has {plane.shape[1]} × {plane.shape[0]} pixels, and should have "
                f"{expected[1]} × {expected[0]}."
            )


def split_examples(examples: list[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Hold out examples for validation: whole images where there are several, else planes, else a strip of the plane.

    Parameters
    ----------
    examples : list of Example
    fraction : float
        Of the images, 0 to 1.
    seed : int

    Returns
    -------
    (training, validation)
    """
    names = sorted({e.name for e in examples})
    if len(names) > 1:
        count = min(max(1, round(fraction * len(names))), len(names) - 1)
        chosen = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
        return [e for e in examples if e.name not in chosen], [e for e in examples if e.name in chosen]
    if len(examples) > 1:  # planes that follow one another are alike: hold out the last ones
        count = min(max(1, round(fraction * len(examples))), len(examples) - 1)
        return examples[:-count], examples[-count:]
    (only,) = examples
    height = only.seen.shape[0]
    cut = height - min(max(_STRIP, round(fraction * height)), height // 2)
    if cut >= height:
        raise ValueError("The image is too small to hold out a part for validation: give a larger one, or several.")

    def part(rows: slice) -> Example:
        def take(plane: FloatArray | None) -> FloatArray | None:
            if plane is None:
                return None
            k = plane.shape[0] // only.seen.shape[0]
            return plane[slice((rows.start or 0) * k, rows.stop * k if rows.stop is not None else None)]

        return replace(only, input=take(only.input), target=take(only.target), weight=take(only.weight))

    return [part(slice(0, cut))], [part(slice(cut, None))]
