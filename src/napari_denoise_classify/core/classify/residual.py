"""A small residual network for crops.

He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR (2016). It ends in global average pooling and
one linear layer, so that its Grad-CAM is exact (it equals CAM).
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..device import place

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
N = TypeVar("N", bound=nn.Module)
WIDTH = 32


class _Pointwise(nn.Conv2d):
    """A 1 × 1 convolution that leaves out what its stride skips before it multiplies, not after.

    The result is the same. With fewer than 16 channels last, the gradient of PyTorch's own on several threads (2.13, by
    oneDNN) writes beyond its memory, and the program dies then or later.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        rows, columns = self.stride
        return nn.functional.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(_Pointwise(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(shortcut(x) + residual(x))."""
        both: torch.Tensor = self.residual(x).add_(self.shortcut(x)).relu_()  # in place: memory is what takes time here
        return both


class SmallResNet(nn.Module):
    """Stem, three residual stages, global average pooling, linear.

    Parameters
    ----------
    samples : int
        1 or 3.
    n_classes : int
    input_size : int
        Decides the stride of the stem, so that the last map has 8 to 16 cells along each side: 4 from 128 pixels on,
        2 from 64 on, else 1.
    width : int
        Maps of the first stage; the second has twice and the third four times as many.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, samples: int, n_classes: int, input_size: int, width: int = WIDTH) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if samples == 3 else ((0.449,), (0.226,))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        stride = 2 if input_size >= 64 else 1
        stem: list[nn.Module] = [
            nn.Conv2d(
                samples,
                widths[0],
                7 if input_size >= 128 else 3,
                stride,
                3 if input_size >= 128 else 1,
                bias=False,
            ),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        if input_size >= 128:
            stem.append(nn.MaxPool2d(3, 2, 1))
        self.stem = nn.Sequential(*stem)
        self.stages = nn.Sequential(
            ResidualBlock(widths[0], widths[0], 1),
            ResidualBlock(widths[0], widths[1], 2),
            ResidualBlock(widths[1], widths[2], 2),
        )
        self.head = nn.Linear(widths[2], n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (N, S, Y, X) in 0..1 to (N, classes) scores."""
        scores: torch.Tensor = self.head(self.embed(x))
        return scores

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the last linear layer sees, (N, width)."""
        return self.features(x).mean((2, 3))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last stage's maps (N, width, y, x)."""
        maps: torch.Tensor = self.stages(self.stem((x - self.mean) / self.std))
        return maps


def activations(network: nn.Module, samples: int, side: int) -> int:
    """Return how many values all layers of a network put out for one image (samples, side, side)."""
    ghost = copy.deepcopy(network).to("meta").eval()  # knows shapes and computes nothing
    total = 0

    def count(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel()

    for part in ghost.modules():
        if not list(part.children()):
            part.register_forward_hook(count)
    with torch.inference_mode():
        ghost(torch.empty(1, samples, side, side, device="meta"))
    return total


def fused(network: N) -> N:
    """Return a copy of a network, for prediction, whose batch normalisations are part of the convolutions before."""
    network = copy.deepcopy(network).eval()
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            for k in range(len(part) - 1):
                convolution, norm = part[k], part[k + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    part[k], part[k + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return place(network, next(network.parameters()).device)
