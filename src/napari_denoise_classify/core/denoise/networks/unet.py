"""A small residual U-Net for paired training and for self-supervision; it may enlarge the image by two.

Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation. MICCAI (2015). The
enlarging output is the sub-pixel convolution of Shi et al., CVPR (2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from .network import Network


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _halo(levels: int) -> int:
    """Return how far a cell of the coarsest level sees beyond its edge, on the grid of these cells."""
    reach = 1  # the tail
    for _ in range(levels):
        reach = -(-(reach + 2) // 2)  # two convolutions, and up from the next level
    for _ in range(levels):
        reach = 2 * (reach + 2)  # two convolutions, and pooled from the level before
    cell = 1 << levels
    return -(-(reach + 2) // cell) * cell


class UNet(Network):
    """U-Net whose output is added to its (enlarged) input.

    Parameters
    ----------
    samples : int
        1 for gray, 3 for RGB.
    features : int
        Width at full resolution; doubles at each level.
    levels : int
        How often the image is halved.
    upscale : {1, 2}
        How many times as large the output is, along Y and X.
    """

    step = "unet"
    exact = True

    def __init__(self, samples: int = 1, features: int = 32, levels: int = 3, upscale: int = 1) -> None:
        super().__init__()
        self.samples = samples
        self.upscale = upscale
        self.multiple = 1 << levels
        self.halo = _halo(levels)
        widths = [features * 2**i for i in range(levels + 1)]
        self.down = nn.ModuleList([_double(samples, features)])
        self.down.extend(_double(a, b) for a, b in pairwise(widths))
        pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.merge = nn.ModuleList(_double(2 * b, b) for _, b in pairs)
        self.tail = nn.Conv2d(features, samples * upscale**2, 3, padding=1)
        # Start as the identity: the first steps then learn the noise instead of undoing a random image.
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise (N, S, Y, X) with sides that are multiples of `multiple`."""
        base = x
        skips: list[torch.Tensor] = []
        for i, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], 1))
        x = self.tail(x)
        if self.upscale > 1:
            x = nn.functional.pixel_shuffle(x, self.upscale)
            base = nn.functional.interpolate(base, scale_factor=self.upscale, mode="bilinear", align_corners=False)
        return base + x


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the arguments of `UNet` for a checkpoint of these shapes, or None if it is no such U-Net."""
    head, tail = shapes.get("down.0.0.weight", ()), shapes.get("tail.weight", ())
    if len(head) != 4 or len(tail) != 4 or "merge.0.0.weight" not in shapes:
        return None
    levels = sum(key.startswith("merge.") and key.endswith(".0.weight") for key in shapes)
    upscale = {1: 1, 4: 2}.get(tail[0] // head[1] if head[1] else 0)
    return None if upscale is None else {"samples": head[1], "features": head[0], "levels": levels, "upscale": upscale}
