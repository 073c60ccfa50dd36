"""Restormer: a transformer whose attention runs across channels, so that it fits large images.

Zamir, Arora, Khan, Hayat, Khan, Yang: Restormer: efficient transformer for high-resolution image restoration. CVPR
(2022), doi:10.1109/CVPR52688.2022.00564. The network is deepinv's; official checkpoints fit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...deepinverse import import_deepinv
from .network import Network

_LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")

SMALL: dict[str, Any] = {
    "dim": 12,
    "num_blocks": (1, 1, 1, 2),
    "num_refinement_blocks": 1,
    "heads": (1, 2, 4, 8),
    "ffn_expansion_factor": 2.0,
}
"""The size of the shipped network: half a million parameters instead of 26 million."""


def build(samples: int = 3, **size: Any) -> Network:
    """Build a Restormer.

    Parameters
    ----------
    samples : int
        1 for gray, 3 for RGB.
    **size
        Of deepinv's Restormer; default: `SMALL`.
    """
    network: Network = import_deepinv().models.Restormer(samples, samples, **{**SMALL, **size}, pretrained=None)
    network.step, network.samples, network.upscale, network.multiple = "restormer", samples, 1, 8
    network.halo = 32
    network.exact = False  # its attention sees the whole tile: no halo would be exact
    return network


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the arguments of `build` for a checkpoint of these shapes, or None if it is no Restormer."""
    head = shapes.get("patch_embed.proj.weight", ())
    expand = shapes.get("latent.0.ffn.project_in.weight", ())
    if len(head) != 4 or not expand or not all(f"{level}.0.attn.temperature" in shapes for level in _LEVELS):
        return None
    dim = head[0]

    def blocks(level: str) -> int:
        return sum(key.startswith(f"{level}.") and key.endswith(".attn.temperature") for key in shapes)

    return {
        "samples": head[1],
        "dim": dim,
        "num_blocks": tuple(blocks(level) for level in _LEVELS),
        "num_refinement_blocks": blocks("refinement"),
        "heads": tuple(shapes[f"{level}.0.attn.temperature"][0] for level in _LEVELS),
        # Widths are int(dim · factor): the widest level tells the factor best, and a little more survives rounding.
        "ffn_expansion_factor": (expand[0] // 2 + 0.01) / (8 * dim),
        "bias": "encoder_level1.0.attn.qkv.bias" in shapes,
        "LayerNorm_type": "WithBias" if "encoder_level1.0.norm1.body.bias" in shapes else "BiasFree",
    }
