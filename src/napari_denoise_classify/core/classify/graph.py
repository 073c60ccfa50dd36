"""The residual network as an OpenVINO graph, built layer by layer: see `compiled` for why it is not traced."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from openvino import Model
from openvino import opset13 as op
from torch import nn

from .residual import ResidualBlock, SmallResNet


def embedding_graph(network: nn.Module) -> Model:
    """Return the graph of ``network.embed``, in evaluation mode.

    Raises
    ------
    TypeError
        For networks and layers that are not known here.
    """
    if type(network) is not SmallResNet:  # one with a denoiser has parts of any kind
        raise TypeError(f"{type(network).__name__} is not known here.")
    images = op.parameter([-1, network.mean.shape[1], -1, -1], np.float32, name="images")
    y = op.divide(op.subtract(images, _constant(network.mean)), _constant(network.std))
    maps = _after(network.stages, _after(network.stem, y))
    return Model([op.reduce_mean(maps, op.constant(np.array([2, 3])), False)], [images])


def _after(layer: nn.Module, x: Any) -> Any:
    """Return what a layer makes of its input."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = _after(part, x)
        return x
    if isinstance(layer, ResidualBlock):
        return op.relu(op.add(_after(layer.shortcut, x), _after(layer.residual, x)))
    if isinstance(layer, nn.Conv2d):
        pads = list(layer.padding)
        return op.convolution(x, _constant(layer.weight), list(layer.stride), pads, pads, list(layer.dilation))
    if isinstance(layer, nn.BatchNorm2d):  # which OpenVINO makes part of the convolution before
        values = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        return op.batch_norm_inference(x, *(_constant(value) for value in values), layer.eps)
    if isinstance(layer, nn.ReLU):
        return op.relu(x)
    if isinstance(layer, nn.MaxPool2d):
        side, stride, pad = layer.kernel_size, layer.stride, layer.padding
        return op.max_pool(x, [stride] * 2, [1, 1], [pad] * 2, [pad] * 2, [side] * 2).output(0)
    if isinstance(layer, nn.Identity):
        return x
    raise TypeError(f"{type(layer).__name__} is not known here.")


def _constant(tensor: torch.Tensor | None) -> Any:
    assert tensor is not None
    return op.constant(tensor.detach().numpy())
