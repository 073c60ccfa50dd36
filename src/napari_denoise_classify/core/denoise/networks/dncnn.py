"""DnCNN: a plain chain of convolutions that predicts the noise.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising. IEEE
TIP 26 (2017). Without batch normalisation, which others merge into the convolutions; keys
``model.{0, 2, 4, …}.{weight, bias}`` as in the KAIR collection of checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .network import Network


class DnCNN(Network):
    """DnCNN; the output is the input minus the predicted noise.

    Parameters
    ----------
    samples : int
        1 for gray, 3 for RGB.
    depth : int
        Convolutions, 3 × 3 each.
    features : int
        Width of the hidden layers.
    """

    step = "dncnn"
    multiple = 1
    exact = True
    orthogonal = True  # how it is trained: without batch normalisation, see `make_optimisers`
    upscale = 1

    def __init__(self, samples: int = 1, depth: int = 17, features: int = 64) -> None:
        super().__init__()
        self.samples = samples
        self.depth = depth
        self.halo = depth  # each convolution looks a pixel farther
        layers: list[nn.Module] = [nn.Conv2d(samples, features, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.ReLU(inplace=True)]
        last = nn.Conv2d(features, samples, 3, padding=1)
        self.model = nn.Sequential(*layers, last)
        for name, parameter in self.model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        # Start as the identity: the first steps then learn the noise instead of undoing a random image.
        nn.init.zeros_(last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise (N, S, Y, X)."""
        noise: torch.Tensor = self.model(x)
        return x - noise


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the arguments of `DnCNN` for a checkpoint of these shapes, or None if it is no DnCNN."""
    depth = len(shapes) // 2
    expected = {f"model.{2 * i}.{part}" for i in range(depth) for part in ("weight", "bias")}
    if depth < 3 or set(shapes) != expected:
        return None
    head = shapes["model.0.weight"]
    return {"samples": head[1], "depth": depth, "features": head[0]} if len(head) == 4 else None
