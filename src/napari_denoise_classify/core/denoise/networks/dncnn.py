"""DnCNN: a plain chain of convolutions that predicts the noise.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising. IEEE
TIP 26 (2017). Batch normalisation merged into the convolutions; keys ``model.{0, 2, 4, …}.{weight, bias}`` as in
the KAIR collection of checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class DnCNN(nn.Module):
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
    upscale = 1

    def __init__(self, samples: int = 1, depth: int = 17, features: int = 64) -> None:
        super().__init__()
        self.samples = samples
        self.depth = depth
        layers: list[nn.Module] = [nn.Conv2d(samples, features, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(features, samples, 3, padding=1))
        self.model = nn.Sequential(*layers)
        for layer in self.model:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # these convolutions all have one
        # Start as the identity: the first steps then learn the noise instead of undoing a random image.
        nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]  # the last layer is a convolution

    @property
    def halo(self) -> int:
        """Receptive radius in pixels."""
        return self.depth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise (N, S, Y, X)."""
        noise: torch.Tensor = self.model(x)
        return x - noise


def insert_batch_norm(network: DnCNN, example: torch.Tensor) -> nn.Sequential:
    """Return the network's layers with batch normalisation after every hidden convolution, as the paper trains them.

    Parameters
    ----------
    network : DnCNN
        Its convolutions are shared with the result, their biases move into the normalisation.
    example : (N, S, Y, X) tensor
        The normalisation starts out with the statistics of this batch and undoes itself: the function is unchanged.
    """
    layers: list[nn.Module] = []
    x = example
    last = 2 * (network.depth - 1)
    with torch.no_grad():
        for i, layer in enumerate(network.model):
            x = layer(x.clone())
            layers.append(layer)
            if isinstance(layer, nn.Conv2d) and 0 < i < last:
                norm = nn.BatchNorm2d(layer.out_channels, momentum=0.01).to(x.device)
                variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
                norm.running_mean, norm.running_var = mean.clone(), variance.clone()
                norm.weight.copy_(torch.sqrt(variance + norm.eps))
                norm.bias.copy_(mean)
                layers.append(norm)
    return nn.Sequential(*layers)


def merge_batch_norm(layers: nn.Sequential) -> dict[str, torch.Tensor]:
    """Fold the normalisation of `insert_batch_norm` into the convolutions; return a `DnCNN`'s state dict."""
    state: dict[str, torch.Tensor] = {}
    convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    for k, i in enumerate(convolutions):
        layer: Any = layers[i]
        following = layers[i + 1] if i + 1 < len(layers) else None
        if isinstance(following, nn.BatchNorm2d):
            layer = torch.nn.utils.fusion.fuse_conv_bn_eval(layer.eval(), following.eval())
        state[f"model.{2 * k}.weight"] = layer.weight.detach().contiguous()
        state[f"model.{2 * k}.bias"] = layer.bias.detach().contiguous()
    return state


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the arguments of `DnCNN` for a checkpoint of these shapes, or None if it is no DnCNN."""
    depth = len(shapes) // 2
    expected = {f"model.{2 * i}.{part}" for i in range(depth) for part in ("weight", "bias")}
    if depth < 3 or set(shapes) != expected:
        return None
    head = shapes["model.0.weight"]
    return {"samples": head[1], "depth": depth, "features": head[0]} if len(head) == 4 else None
