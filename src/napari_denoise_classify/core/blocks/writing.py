"""Process an image block by block, and write the result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..images import PlaneImage, from_float
from ..inference import enlarged
from ..progress import Progress, Steps, within
from .parts import Ranges, Target, part_iter, write_part_iter
from .plan import BLOCK, CHUNK, blocks_of, fade_of, parts_of, with_halo

if TYPE_CHECKING:
    from ..recipe import Recipe


def write_iter(
    recipe: Recipe,
    source: PlaneImage,
    ranges: Ranges,
    target: Target,
    mask: Target | None = None,
    block: int = BLOCK,
    chunk: int = CHUNK,
) -> Steps[float]:
    """Process an image block by block.

    Parameters
    ----------
    recipe : Recipe
    source : PlaneImage
        Read block by block.
    ranges : dict
        From `PlaneImage.ranges`.
    target : Target
        Of the image's canonical axes, enlarged where the recipe enlarges.
    mask : Target, optional
        Without S; takes what masks keep.
    block, chunk : int
        As for `plan_blocks`.

    Returns
    -------
    float
        The fraction of the pixels that masks keep.

    Raises
    ------
    MemoryError
        If planes have to be processed whole and are too large.
    ValueError
        For NaN or infinite pixels.
    """
    rows, columns, reach = blocks_of(source, recipe, block, chunk)
    if reach is not None and not reach.exact:
        return (yield from _write_fading_iter(recipe, source, ranges, target, rows, columns))
    parts = parts_of(source, recipe, block, chunk)
    blocks = len(parts) > 1 and parts[0].tile.shape != source.plane_shape
    kept = total = 0
    for i, part in enumerate(parts):
        note = f"block {i + 1} of {len(parts)}" if blocks else ""
        yield Progress(i / len(parts), note)
        work = write_part_iter(recipe, source, part, [ranges[index] for index in part.indices], target, mask)
        some, all_ = yield from within(work, i / len(parts), (i + 1) / len(parts), note)
        kept += some
        total += all_
    return kept / total


def _write_fading_iter(
    recipe: Recipe, source: PlaneImage, ranges: Ranges, target: Target, rows: list[slice], columns: list[slice]
) -> Steps[float]:
    """As `write_iter`, but let blocks fade into each other: first those of a row, then the rows."""
    reach = recipe.reach(source.samples)
    assert reach is not None
    fade, factor = fade_of(reach, rows, columns), recipe.upscale
    ramp = ((np.arange(fade * factor) + 0.5) / (fade * factor))[:, None]
    total = len(rows) * len(columns) * math.prod(source.lead_shape)
    done = 0
    for index in source.indices():
        lead = tuple(slice(n, n + 1) for n in index)
        for y in rows:
            top = fade if y.start else 0
            above: list[npt.NDArray[np.float64]] = []  # what this row's blocks say of the last lines of the row before
            for x in columns:
                note = f"block {done + 1} of {total}"
                left = fade if x.start else 0
                grown = slice(y.start - top, y.stop), slice(x.start - left, x.stop)
                tile = with_halo(*grown, reach, source.plane_shape)
                here = source.read([index], *tile.outer)
                work = part_iter(recipe, here, tile, [ranges[index]])
                pixels, _ = yield from within(work, done / total, (done + 1) / total, note)
                values = pixels[0].astype(np.float64).reshape(*pixels.shape[1:3], -1)
                upper, lower = values[: top * factor], values[top * factor :]
                if left:
                    n = left * factor
                    strip = (*lead, *enlarged((y, slice(grown[1].start, x.start)), factor))
                    before = _plain(target, strip, source.rgb)
                    lower[:, :n] = before + ramp * (lower[:, :n] - before)
                    if top:
                        above[-1][:, -n:] += ramp * (upper[:, :n] - above[-1][:, -n:])
                above.append(upper[:, left * factor :])
                _put(target, (*lead, *enlarged((y, grown[1]), factor)), lower, source)
                done += 1
            if top:
                strip = (*lead, slice((y.start - top) * factor, y.start * factor), slice(0, None))
                before = _plain(target, strip, source.rgb)
                _put(target, strip, before + ramp[:, :, None] * (np.concatenate(above, axis=1) - before), source)
    return 1.0


def _plain(target: Target, region: tuple[slice, ...], rgb: bool) -> npt.NDArray[np.float64]:
    """Read a region of one plane, (Y, X, samples)."""
    values = np.asarray(target[(*region, slice(None)) if rgb else region], np.float64)
    return values.reshape(*values.shape[len(region) - 2 : len(region)], -1)


def _put(target: Target, region: tuple[slice, ...], values: npt.NDArray[np.float64], source: PlaneImage) -> None:
    colour = (slice(None),) if source.rgb else ()
    shape = (*(1 for _ in region[2:]), *values.shape[:2], *(values.shape[2:] if source.rgb else ()))
    target[(*region, *colour)] = from_float(values, source.data.dtype).reshape(shape)
