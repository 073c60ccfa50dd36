"""What every network tells of itself."""

from __future__ import annotations

from torch import nn


class Network(nn.Module):
    """Base of the denoising networks, or the type of deepinv's, which are given the same attributes.

    Attributes
    ----------
    step : str
        The id of the step that runs it.
    samples : int
        1 for gray, 3 for RGB.
    halo : int
        How many pixels around a tile its result depends on.
    exact : bool
        Whether tiles with that halo give the same as the whole image.
    multiple : int
        The sides of what it is given must be multiples of this.
    upscale : int
        How many times as large its output is, along Y and X.
    """

    step: str
    samples: int
    halo: int
    exact: bool
    multiple: int
    upscale: int
