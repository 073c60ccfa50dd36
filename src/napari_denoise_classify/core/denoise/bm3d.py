"""BM3D: groups of like patches, denoised together in three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ..device import best_device, is_out_of_memory
from ..images import FloatArray
from ..progress import Progress, Steps
from ..steps import param, step
from .classical import Sigma, by_parts, from_opponent, noise_levels, opponent

if TYPE_CHECKING:
    import torch

_PATCH = 8
_SMALLEST = 2 * _PATCH  # a shorter side has too few patches for a group
# Distances to all candidates are found for this many groups at once: what fits a CPU's cache, or keeps a GPU busy.
_GROUPS = {"cpu": 256, "cuda": 2048, "mps": 512}
_TILE = {"cpu": 256, "cuda": 1024, "mps": 512}


def _network(device: torch.device, search_distance: int, stride: int) -> torch.nn.Module:
    """Make DeepInverse's BM3D, which is a module without weights.

    Its thresholds are those that came closest to the authors' own program; its groups are always full, so they have
    to be higher than where poor matches are left out.
    """
    import torch

    from ..deepinverse import import_deepinv

    class BM3D(import_deepinv().models.BM3D):  # type: ignore[misc]  # imported late
        """Without holes: where all candidates are equal, a patch need not be in its own group, nor in any other."""

        def _patch_tensor(self, img: torch.Tensor) -> torch.Tensor:
            self.seen = img
            return super()._patch_tensor(img)  # type: ignore[no-any-return]  # imported late

        def _aggregate(self, w: int, c: int, accum: torch.Tensor, weight: torch.Tensor, *groups: torch.Tensor) -> None:
            self.weight = weight
            super()._aggregate(w, c, accum, weight, *groups)

        def _estimate(self, *args: Any) -> torch.Tensor:
            estimate: torch.Tensor = super()._estimate(*args)
            return torch.where(self.weight.reshape(estimate.shape) > 0, estimate, self.seen)

    return BM3D(
        use_legacy=False,
        device=device,
        patch_size=_PATCH,
        search_radius=search_distance,
        ref_stride=stride,
        chunk_size=_GROUPS.get(device.type, 256),
        hard_threshold=3.2,
        wiener_mu2=0.5,
    )


@step(
    "bm3d",
    kind="denoise",
    title="BM3D",
    reference="Dabov et al., Image denoising by sparse 3-D transform-domain collaborative filtering, IEEE TIP 16 "
    "(2007), doi:10.1109/TIP.2007.901238; DeepInverse BM3D",
)
def bm3d(
    planes: FloatArray,
    *,
    sigma: Sigma = None,
    search_distance: Annotated[
        int, param("How far away to look for like patches; time grows with its square.", unit="px", ge=5, le=40)
    ] = 19,
    stride: Annotated[int, param("Distance between groups; 1 = best, 6 = fastest.", unit="px", ge=1, le=6)] = 3,
) -> Steps[FloatArray]:
    """Filter groups of patches that look alike together; the best of the classical methods, slow.

    Colour images are taken apart into luminance and colour differences; patches are matched by luminance.
    """
    import torch

    yield Progress(0.0, "loading DeepInverse")
    device = best_device()
    network = _network(device, search_distance, stride)

    def denoise(plane: FloatArray, level: float) -> FloatArray:
        nonlocal device, network
        height, width = plane.shape[:2]
        border = ((0, max(0, _SMALLEST - height)), (0, max(0, _SMALLEST - width)), (0, 0))
        x = torch.from_numpy(np.pad(opponent(plane), border, mode="symmetric")).permute(2, 0, 1)[None]
        with torch.inference_mode():
            try:
                y = network(x.to(device), level)
            except RuntimeError as error:
                if device.type == "cpu" or not is_out_of_memory(error):
                    raise
                device = torch.device("cpu")
                network = _network(device, search_distance, stride)
                y = network(x, level)
        result: FloatArray = y[0].permute(1, 2, 0).to("cpu", torch.float32).numpy()
        return from_opponent(result[:height, :width])

    # A pixel's groups reach this far; what their pixels' own groups saw beyond it hardly counts.
    halo = search_distance + 2 * _PATCH
    levels = noise_levels(planes, sigma)
    return (yield from by_parts(planes, levels, denoise, tile=_TILE.get(device.type, 256), halo=halo))
