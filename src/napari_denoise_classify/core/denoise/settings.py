"""How a denoiser is trained: every setting, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from ..noise import parse_noise
from ..parameters import Parameter, param
from ..steps import get_step
from . import losses

Architecture: TypeAlias = Literal["unet", "dncnn", "irunet", "restormer"]
Data: TypeAlias = Literal["pairs", "clean", "noisy"]

_LEAST_CONVOLUTIONS = 3  # of a DnCNN: the first, the last, and one between them


@dataclass(frozen=True)
class DenoiserTraining:
    """How a denoiser is trained.

    Attributes
    ----------
    network : {"unet", "dncnn", "irunet", "restormer"}
    samples : int
        1 for gray, 3 for RGB. Gray networks trained on RGB files see their luminance.
    upscale : {1, 2}
        How many times as large as the noisy images the clean ones are; 2 only for the U-Net.
    depth, features : int, optional
        Convolutions of a DnCNN or levels of a U-Net, and the width; default: the network's own.
    noise : str
        Of clean images: the noise to add, as ``"gaussian:0-55"``. Of noisy images alone: the kind of noise that they
        have, as ``"gaussian"`` (its level is estimated) or ``"gaussian:25"``; empty = unknown. See `parse_noise`.
    loss : str
        ``"mae"``, ``"mse"`` or ``"charbonnier"`` with clean images; ``"neighbour2neighbour"``, ``"blind_spot"``,
        ``"r2r"`` or ``"sure"`` without. ``"auto"``: MAE, or what fits the noise.
    normalisation : {"auto", "range", "dataset"}
        Whether the network sees each image's intensity range as 0..1, or all images by their common mean and standard
        deviation, which is kept with the weights. ``"auto"``: the range for clean images, the data set for others.
    match_intensities : bool
        Scale each clean image so that it fits its noisy partner best (least squares): for pairs that were exposed or
        stretched differently.
    outside : float
        Weight of the pixels outside of the masks, 0 to 1. Without clean images there are no weights: patches are laid
        around pixels of the mask.
    mask : str
        Id of a masking step that makes the masks from the images, where no mask images are given.
    epochs, steps_per_epoch, batch_size : int
    patch : int
        Side of the training patches, in pixels of the input.
    learning_rate : float
        Peak of the one-cycle schedule.
    seed : int
    mixed_precision : bool, optional
        Convolutions in bfloat16; the weights stay float32. Default: see `device.trains_in_bfloat16`.
    """

    network: Annotated[Architecture, param("The network to train.")] = "unet"
    samples: Annotated[int, param("1 for gray images, 3 for RGB.", ge=1, le=3)] = 1
    upscale: Annotated[int, param("2: the clean images are twice as large.", ge=1, le=2)] = 1
    depth: Annotated[int | None, param("Convolutions, or levels of a U-Net.", ge=1, le=40)] = None
    features: Annotated[int | None, param("Width of the network.", ge=1, le=512)] = None
    noise: Annotated[
        str,
        param(
            "Noise to add to clean images (gaussian:0-55, poisson:10-500, poisson_gaussian:gain=2,read_noise=3, "
            "salt_and_pepper:0.1), or that noisy images have."
        ),
    ] = ""
    loss: Annotated[
        Literal["auto", losses.Supervised, losses.SelfSupervised],
        param(f"auto; with clean images {', '.join(losses.SUPERVISED)}; without {', '.join(losses.SELF_SUPERVISED)}."),
    ] = "auto"
    normalisation: Annotated[
        Literal["auto", "range", "dataset"],
        param(
            "range: the network sees the intensity range of each image as 0 to 1; dataset: all images by their common "
            "mean and deviation; auto: range for clean images, dataset for others."
        ),
    ] = "auto"
    match_intensities: Annotated[bool, param("Fit the brightness of each clean image to its noisy partner.")] = False
    outside: Annotated[float, param("Weight of the pixels outside of the masks.", ge=0, le=1, step=0.1)] = 0.0
    mask: Annotated[str, param("Id of a masking step that makes masks where none are given.")] = ""
    epochs: Annotated[
        int, param("How often the weights are tested and kept if they are the best so far.", ge=1, le=10**6)
    ] = 50
    steps_per_epoch: Annotated[int, param("Batches between two tests.", ge=1, le=10**6, step=10)] = 200
    batch_size: Annotated[int, param("Patches in a step.", ge=1, le=4096)] = 16
    patch: Annotated[int, param("Side of the training patches.", unit="px", ge=8, le=4096, step=8)] = 64
    learning_rate: Annotated[float, param("Peak of the one-cycle schedule.", ge=1e-6, le=1, step=1e-4)] = 5e-4
    seed: Annotated[int, param("Of the patches, the noise and the first weights.", ge=0, le=2**31 - 1)] = 0
    mixed_precision: Annotated[bool | None, param("Convolutions in bfloat16; default: where that is faster.")] = None

    def __post_init__(self) -> None:
        def refuse(name: str, allowed: str) -> None:
            raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give {allowed}.")

        for name, parameter in PARAMETERS.items():
            if not parameter.allows(getattr(self, name)):
                refuse(name, parameter.allowed)
        if self.samples == 2:
            refuse("samples", "1 (gray) or 3 (RGB)")
        if self.upscale == 2 and self.network != "unet":
            refuse("upscale", "1, or 2 with the U-Net")
        if self.network == "dncnn" and self.depth is not None and self.depth < _LEAST_CONVOLUTIONS:
            refuse("depth", f"a whole number of at least {_LEAST_CONVOLUTIONS}")
        if self.mask:
            get_step(self.mask, "mask")
        if self.noise:
            parse_noise(self.noise)
        self.size()

    def size(self) -> dict[str, Any]:
        """Return the arguments with which the network is built."""
        names = {"dncnn": ("depth", "features"), "unet": ("levels", "features"), "irunet": ("", "features")}
        names |= {"restormer": ("", "dim")}
        depth, features = names.get(self.network, ("", ""))
        size: dict[str, Any] = {"samples": self.samples}
        if self.network == "unet":
            size["upscale"] = self.upscale
        for own, name in ((depth, "depth"), (features, "features")):
            value = getattr(self, name)
            if value is not None:
                if not own:
                    raise ValueError(f"{name}={value!r} is not allowed: the network {self.network} has none to choose.")
                size[own] = value
        if self.network == "restormer" and size.get("dim", 2) % 2:
            raise ValueError(f"features={self.features!r} is not allowed: give an even number for a Restormer.")
        return size


PARAMETERS = {
    name: Parameter.declared(name, hint, getattr(DenoiserTraining, name))
    for name, hint in get_type_hints(DenoiserTraining, include_extras=True).items()
}
"""Of a training, by name: what the panel and the command line offer, and what is checked."""


def uses_raw(config: DenoiserTraining, data: Data) -> bool:
    """Tell whether a training sees the images' own intensities."""
    return config.normalisation == "dataset" or (config.normalisation == "auto" and data != "clean")
