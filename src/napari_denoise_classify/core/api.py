"""Denoising and masking in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

from .images import PlaneImage
from .progress import run
from .recipe import Recipe
from .steps import get_step


class Masked(NamedTuple):
    """What `mask` returns with ``return_mask=True``.

    Attributes
    ----------
    image : array
        Filled where it is masked: with 0, unless ``fill`` says otherwise.
    mask : array of bool
        True where pixels were kept; the image's axes without S.
    kept : float
        The fraction of pixels that were kept, 0 to 1.
    """

    image: Any
    mask: Any
    kept: float


def denoise(
    image: Any,
    step: str,
    axes: str | None = None,
    intensity_range: Any = None,
    *,
    rgb: bool = False,
    **parameters: Any,
) -> Any:
    """Denoise an image.

    Parameters
    ----------
    image : array-like
        Numpy or dask, integers or floats, of any axes.
    step : str
        Id of a denoising step: ``"none"``, ``"gaussian"``, ``"median"``, ``"dncnn"``; see ``steps()``.
    axes : str, optional
        As ``"TCZYX"``; S for RGB samples. Default: the last two axes are Y and X, all before are independent planes.
    intensity_range : {"image", "stack", "plane"} or (float, float), optional
        Over what the range of intensities is taken, or the range itself; noise levels refer to it as the 0..255 of
        an 8-bit image. Default: once for the image (for each channel of it, where an axis is named C).
    rgb : bool
        Whether the last axis holds RGB samples, where ``axes`` is not given.
    **parameters
        Of the step: ``sigma=25``, ``kernel_size=5``.

    Returns
    -------
    array
        Same dtype, and the same shape unless the step enlarges (``upscale=2``); a lazy dask array for a dask array.

    Raises
    ------
    ValueError
        For unknown steps, parameters or axes, empty images, NaN or infinite pixels.
    MemoryError
        If a plane does not fit into memory.
    ConnectionError
        If official weights cannot be downloaded.

    Examples
    --------
    >>> import numpy as np, napari_denoise_classify as ndc
    >>> noisy = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    >>> ndc.denoise(noisy, "median", kernel_size=3).shape
    (64, 64)
    """
    get_step(step, "denoise")
    return Recipe([(step, parameters)], intensity_range).apply(image, axes, rgb)


def mask(
    image: Any,
    step: str,
    axes: str | None = None,
    *,
    rgb: bool = False,
    return_mask: bool = False,
    **parameters: Any,
) -> Any:
    """Mask an image: keep some of its pixels and fill the others.

    Parameters
    ----------
    image : array-like
    step : str
        Id of a masking step: ``"centre"``, ``"non_centre"``, ``"random"``; see ``steps()``.
    axes, rgb
        As for `denoise`.
    return_mask : bool
        Return the mask and the fraction kept as well; of a dask array, in memory.
    **parameters
        Of the step: ``radius=80``.

    Returns
    -------
    array, or Masked
        Same shape and dtype.

    Raises
    ------
    ValueError
        As `denoise`.

    Examples
    --------
    >>> import numpy as np, napari_denoise_classify as ndc
    >>> masked = ndc.mask(np.ones((224, 224), np.uint8), "centre", return_mask=True)
    >>> round(masked.kept, 3)
    0.401
    """
    get_step(step, "mask")
    recipe = Recipe([(step, parameters)])
    if not return_mask:
        return recipe.apply(image, axes, rgb)
    return Masked(*run(recipe.apply_iter(PlaneImage.wrap(image, axes, rgb))))


def release_memory() -> None:
    """Give back the memory of loaded networks, and what the GPU's allocator keeps.

    After a run the memory of its intermediate results is free already; only the networks stay, for the next run.
    """
    import gc
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        return
    from .compiled import forget
    from .denoise.neural import forget_networks
    from .device import trim

    forget_networks()
    forget()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()
