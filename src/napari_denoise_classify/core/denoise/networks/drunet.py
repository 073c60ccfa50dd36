"""DRUNet: a deep residual U-Net that is told the noise level.

Zhang, Li, Zuo, Zhang, Van Gool, Timofte: Plug-and-play image restoration with deep denoiser prior. IEEE TPAMI 44
(2022), doi:10.1109/TPAMI.2021.3088914. The network is deepinv's; the authors' checkpoints fit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...deepinverse import import_deepinv
from .network import Network


def build(samples: int = 1, nc: tuple[int, ...] = (64, 128, 256, 512), nb: int = 4) -> Network:
    """Build a DRUNet; ``forward(x, sigma)`` takes the noise level on the image's own scale of 0..1.

    Parameters
    ----------
    samples : int
        1 for gray, 3 for RGB.
    nc : tuple of int
        Widths of the four levels.
    nb : int
        Residual blocks per level.
    """
    architecture = import_deepinv().models.DRUNet

    class Told(architecture):  # type: ignore[misc,valid-type]  # importing deepinv takes seconds: its class is a value here
        step, upscale, multiple = "drunet", 1, 8
        # Less than the radius, which is about 190 px and would make tiles of 512 px cost three times as much: tiles are
        # not exact here. The authors' own tiling overlaps by as much.
        halo = 64
        exact = False

        def forward(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
            # deepinv's own forward writes the batch's size down where it is compiled.
            level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)
            out: torch.Tensor = self.forward_unet(torch.cat((x, level * torch.ones_like(x[:, :1])), 1))
            return out

    network: Network = Told(samples, samples, nc=nc, nb=nb, pretrained=None)
    network.samples = samples
    return network


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the arguments of `build` for a checkpoint of these shapes, or None if it is no DRUNet."""
    head, tail = shapes.get("m_head.weight", ()), shapes.get("m_tail.weight", ())
    if len(head) != 4 or len(tail) != 4 or head[1] != tail[0] + 1:
        return None
    nb = sum(key.startswith("m_body.") and key.endswith(".res.0.weight") for key in shapes)
    widths = [head[0]]
    for i in (1, 2, 3):
        down = shapes.get(f"m_down{i}.{nb}.weight", ())
        if len(down) != 4:
            return None
        widths.append(down[0])
    return {"samples": tail[0], "nc": tuple(widths), "nb": nb}
