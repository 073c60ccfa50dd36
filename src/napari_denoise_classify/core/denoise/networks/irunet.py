"""IRUNet: a very small U-shaped network of reduction and inception blocks, for RGB images.

Gil Zuluaga, Gonzalez Obando, Ruiz-Agui, et al.: Blind microscopy image denoising with a deep residual and multiscale
encoder/decoder network. EMBC (2021), arXiv:2105.00273. With 16 base filters it has 123,379 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .network import Network

STAGES = 4


class _Inception(nn.Module):
    """Three branches joined by a 1 × 1 convolution, and added to a shortcut.

    With ``stride`` 2 it is the reduction block: its third branch is an average, its shortcut a 2 × 2 convolution.
    """

    def __init__(self, features: int, stride: int = 1) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(features, features, 3, stride, padding=1)
        self.wide = nn.Conv2d(features, 2 * features, 3, stride, padding=1)
        self.third: nn.Module
        self.shortcut: nn.Module
        if stride == 1:
            self.third = nn.Sequential(nn.Conv2d(features, features, 3, padding=2, dilation=2), nn.ReLU())
            self.shortcut = nn.Identity()
        else:
            self.third = nn.AvgPool2d(stride)
            self.shortcut = nn.Conv2d(features, features, stride, stride)
        self.join = nn.Conv2d(4 * features, features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [torch.relu(self.narrow(x)), torch.relu(self.wide(x)), self.third(x)]
        joined: torch.Tensor = self.join(torch.cat(branches, 1))
        shortcut: torch.Tensor = self.shortcut(x)
        return joined + shortcut


class IRUNet(Network):
    """IRUNet; the output is the image itself, between 0 and 1.

    Parameters
    ----------
    samples : int
        1 for gray, 3 for RGB (as in the paper).
    features : int
        Base filters; the paper's network has 16.
    """

    step = "irunet"
    upscale = 1
    multiple = 2**STAGES
    halo = 112  # a cell of the coarsest stage sees 108 px beyond its edge
    exact = True
    orthogonal = True  # how it is trained: see `make_optimisers`

    def __init__(self, samples: int = 3, features: int = 16) -> None:
        super().__init__()
        self.samples = samples
        self.head = nn.Conv2d(samples, features, 3, padding=1)
        self.reduce = nn.ModuleList(_Inception(features, 2) for _ in range(STAGES))
        self.encode = nn.ModuleList(_Inception(features) for _ in range(STAGES))
        self.up = nn.ModuleList(nn.ConvTranspose2d(features, features, 2, 2) for _ in range(STAGES))
        self.decode = nn.ModuleList(_Inception(features) for _ in range(STAGES))
        self.tail = nn.Conv2d(features, samples, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise (N, S, Y, X) with sides that are multiples of 16."""
        x = torch.relu(self.head(x))
        encoded: list[torch.Tensor] = []
        for reduce, encode in zip(self.reduce, self.encode, strict=True):
            x = encode(reduce(x))
            encoded.append(x)
        skips = {1: encoded[1], 2: encoded[0]}
        for i, (up, decode) in enumerate(zip(self.up, self.decode, strict=True)):
            x = torch.relu(up(x))
            x = decode(x + skips[i] if i in skips else x)
        return torch.sigmoid(self.tail(x))


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the arguments of `IRUNet` for a checkpoint of these shapes, or None if it is no IRUNet."""
    head = shapes.get("head.weight", ())
    return {"samples": head[1], "features": head[0]} if len(head) == 4 and "reduce.0.join.weight" in shapes else None
