"""How a denoiser is trained: every setting, checked."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypeAlias, get_args

from ..noise import parse_noise
from ..steps import get_step
from . import losses

Architecture: TypeAlias = Literal["unet", "dncnn", "irunet", "restormer"]
Data: TypeAlias = Literal["pairs", "clean", "noisy"]

_WHOLE = {"depth": 3, "features": 1, "epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "patch": 8, "seed": 0}


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

    network: Architecture = "unet"
    samples: int = 1
    upscale: int = 1
    depth: int | None = None
    features: int | None = None
    noise: str = ""
    loss: str = "auto"
    normalisation: Literal["auto", "range", "dataset"] = "auto"
    match_intensities: bool = False
    outside: float = 0.0
    mask: str = ""
    epochs: int = 50
    steps_per_epoch: int = 200
    batch_size: int = 16
    patch: int = 64
    learning_rate: float = 5e-4
    seed: int = 0
    mixed_precision: bool | None = None

    def __post_init__(self) -> None:
        def refuse(name: str, allowed: str) -> None:
            raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give {allowed}.")

        if self.network not in get_args(Architecture):
            refuse("network", f"one of {', '.join(get_args(Architecture))}")
        if self.samples not in (1, 3):
            refuse("samples", "1 (gray) or 3 (RGB)")
        if self.upscale not in (1, 2) or (self.upscale == 2 and self.network != "unet"):
            refuse("upscale", "1, or 2 with the U-Net")
        if self.loss not in ("auto", *losses.SUPERVISED, *losses.SELF_SUPERVISED):
            refuse("loss", f"auto, {', '.join((*losses.SUPERVISED, *losses.SELF_SUPERVISED))}")
        if self.normalisation not in ("auto", "range", "dataset"):
            refuse("normalisation", "auto, range or dataset")
        for name, minimum in _WHOLE.items():
            value = getattr(self, name)
            least = 1 if name == "depth" and self.network == "unet" else minimum
            optional = value is None and name in ("depth", "features")
            if not optional and (not isinstance(value, Integral) or value < least):
                refuse(name, f"a whole number of at least {least}")
        if not 0 < self.learning_rate < float("inf"):
            refuse("learning_rate", "a number above 0")
        if not 0 <= self.outside <= 1:
            refuse("outside", "a number from 0 to 1")
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


def uses_raw(config: DenoiserTraining, data: Data) -> bool:
    """Tell whether a training sees the images' own intensities."""
    return config.normalisation == "dataset" or (config.normalisation == "auto" and data != "clean")
