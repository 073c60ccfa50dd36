"""Grad-CAM: the stages of a network that speak for a class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from ..classify.scaled import shapes_of
from ..images import FloatArray
from ..parameters import param
from ..progress import Progress, Steps
from ..steps import step

if TYPE_CHECKING:
    import torch

    from ..classify.bundle import Classifier


@step(
    "gradcam",
    kind="explain",
    title="Grad-CAM",
    reference="Selvaraju et al., Grad-CAM, ICCV (2017), doi:10.1109/ICCV.2017.74",
)
def gradcam(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    targets: npt.NDArray[np.intp],
    *,
    layer: Annotated[
        Literal["last", "stage3", "stage2", "stage1", "stem"],
        param("Stage of the network; earlier ones show finer detail that says less about the class."),
    ] = "last",
) -> Steps[list[FloatArray]]:
    """Class-weighted activation of a stage of the network; for the CNN."""
    side = getattr(classifier.estimator, "input_size", 0)
    maps = yield from cell_maps_iter(classifier, scaled, targets, layer)
    shapes = shapes_of(scaled)
    return [placed(cells, side, (shape[0], shape[1])) for cells, shape in zip(maps, shapes, strict=True)]


def cell_maps_iter(
    classifier: Classifier, scaled: Sequence[FloatArray], targets: npt.NDArray[np.intp], layer: str
) -> Steps[list[FloatArray]]:
    """Compute the maps as the stage has them, a value for each of its cells: (y, x) float32."""
    estimator = classifier.estimator
    if not hasattr(estimator, "network_"):
        raise ValueError(
            f"Grad-CAM needs a network with gradients, and this classifier has none ({classifier.method}): take "
            "method 'occlusion', or train a CNN."
        )
    from ..device import best_device, with_room_iter

    return (yield from with_room_iter(best_device(), partial(_cell_maps_iter, estimator, scaled, targets, layer)))


def _cell_maps_iter(
    estimator: Any, scaled: Sequence[FloatArray], targets: npt.NDArray[np.intp], layer: str, device: torch.device
) -> Steps[list[FloatArray]]:
    import torch

    network = estimator.network_.to(device).eval()
    module = layers_of(network)[layer]
    maps: list[FloatArray] = []
    for x, chosen in estimator.batches(scaled, np.arange(len(scaled)), device):
        wanted = torch.from_numpy(targets[chosen]).to(device)
        cam = _weighted_activation(network, module, x, wanted)
        if cam.shape[1:] == (1, 1):
            raise ValueError(
                f"layer={layer!r} has a map of one pixel only, which shows no place: choose an earlier layer, or train "
                "with a larger input_size."
            )
        maps.extend(cam.float().cpu().numpy())
        yield Progress(len(maps) / len(scaled), f"{len(maps)} of {len(scaled)} crops")
    return maps


def placed(cells: FloatArray, side: int, shape: tuple[int, int]) -> FloatArray:
    """Enlarge a map of cells to an image, with every cell where it looks.

    With odd kernels and as much padding on either side, cell i of a stage looks at pixel stride · i of the network's
    input, and its neighbours are spread evenly around that. To stretch the map over the image, as is usual, would put
    it (stride - 1) / 2 pixels farther down and to the right: 7.5 of 224.

    Parameters
    ----------
    cells : (y, x) float32
    side : int
        Of the network's input, to which the image was resized.
    shape : (int, int)
        Of the image.
    """
    from scipy.ndimage import affine_transform

    steps, starts = [], []
    for length, n in zip(shape, cells.shape, strict=True):
        stride = 2.0 ** round(np.log2(side / n))
        steps.append(side / length / stride)
        starts.append((0.5 * side / length - 0.5) / stride)
    large: FloatArray = affine_transform(cells, steps, starts, output_shape=shape, order=1, mode="nearest")
    return large


def layers_of(network: Any) -> dict[str, torch.nn.Module]:
    """Name the stages of a network, in the order of the computation; ``"last"`` is the last one once more."""
    stages = {f"stage{i}": stage for i, stage in enumerate(network.stages, 1)}
    return {"stem": network.stem, **stages, "last": network.stages}


def _weighted_activation(
    network: torch.nn.Module, module: torch.nn.Module, x: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return relu(sum over channels of mean gradient × activation), (N, y, x)."""
    import torch

    held: list[torch.Tensor] = []

    def cut(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(True)  # nothing before it needs a gradient, or the memory for one
        held.append(output.detach().requires_grad_(True))
        return held[0]

    handle = module.register_forward_hook(cut)
    try:
        with torch.inference_mode(False), torch.no_grad():
            scores = network(x.clone())
            (gradient,) = torch.autograd.grad(scores.gather(1, targets[:, None]).sum(), held)
    finally:
        handle.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * held[0].detach()).sum(1).relu()
