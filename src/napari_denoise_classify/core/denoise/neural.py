"""Denoising steps that run a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..parameters import param
from ..progress import Progress, Steps, within
from ..steps import Reach, step
from . import weights as weights_registry
from .normalisation import Normalisation

if TYPE_CHECKING:
    from .networks.network import Network
    from .weights import Weights

_Sigma = Annotated[
    float | None,
    param(
        "Noise level of the image on a scale of 0 to 255; nothing = blind. Weights made for one level see the image "
        "rescaled so that its noise matches.",
        unit="grey levels",
        ge=0.1,
        le=255,
        step=1,
    ),
]
_GivenSigma = Annotated[
    float | None,
    param(
        "Noise level on a scale of 0 to 255; nothing = estimated for each plane.",
        unit="grey levels",
        ge=0.1,
        le=255,
        step=1,
    ),
]
_SelfEnsemble = Annotated[
    bool,
    param(
        "Average what the network makes of the image's eight orientations: a little better, and eight times as long."
    ),
]


def _weights(step: str) -> Any:
    shipped = [entry.name for entry in weights_registry.registry().values() if entry.step == step and not entry.url]
    auto = "auto = shipped with this program, gray or RGB as the image" if shipped else "auto = the official ones"
    return param(
        f"{auto}; or a name from the list (official weights are downloaded once); or a file.",
        file=weights_registry.FILE_FILTER,
        suggestions=lambda: weights_registry.names(step),
    )


@dataclass(frozen=True)
class Loaded:
    """A network with what its file tells of it.

    Attributes
    ----------
    network : Network
    normalisation : Normalisation or None
        None for networks that see the intensity range as 0..1.
    """

    network: Network
    normalisation: Normalisation | None


@lru_cache(maxsize=4)
def _load(path: Path, sha256: str, name: str) -> Loaded:
    """Load a network; kept for the next call, the SHA-256 in the key sees a file that changed."""
    from .networks import build_from

    network = build_from(weights_registry.read_tensors(path), f"The file {name}").eval()
    saved = weights_registry.read_about(path).get("normalisation")
    try:
        return Loaded(network, None if saved is None else Normalisation.from_dict(saved))
    except ValueError as error:
        raise ValueError(f"The weights {name} cannot be used: {error}.") from None


def forget_networks() -> None:
    """Drop the networks that are kept for the next call."""
    _load.cache_clear()


def open_network(step: str, weights: str, samples: int, upscale: int = 1) -> tuple[Loaded, Weights]:
    """Find, fetch and load the weights that a step's parameters mean.

    Raises
    ------
    ValueError
        If they do not exist, are damaged, or are of another network than the step's.
    ConnectionError
        If they cannot be downloaded.
    """
    from .networks import TITLES

    entry = weights_registry.resolve(step, weights, samples, upscale)
    loaded = _load(weights_registry.locate(entry), entry.sha256, entry.name)
    network = loaded.network
    if network.step != step:
        raise ValueError(
            f"The file {entry.name} holds the network {TITLES[network.step]}, not {TITLES[step]}: choose the method "
            f"{TITLES[network.step]} for it."
        )
    if network.samples == 3 and samples == 1:
        raise ValueError(
            f"{step}: weights={weights!r} are for RGB images, and this image is gray. Choose 'auto' or gray ones."
        )
    if network.upscale != upscale:
        raise ValueError(f"{step}: weights={weights!r} are for upscale={network.upscale}: set that, or choose others.")
    return loaded, entry


def _recorder(step: str) -> Callable[..., dict[str, Any]]:
    def record(samples: int, *, weights: str, upscale: int = 1, **_: Any) -> dict[str, Any]:
        entry = weights_registry.resolve(step, weights, samples, upscale)
        return {"weights": entry.name, "sha256": entry.sha256}

    return record


def _halo(step: str, *, estimates: bool = False) -> Callable[..., Reach | None]:
    """Declare the reach of a network: its own. One that ``estimates`` a noise level needs one to be given."""

    def halo(samples: int, *, weights: str, upscale: int = 1, sigma: float | None = None, **_: Any) -> Reach | None:
        if estimates and sigma is None:
            return None
        network = open_network(step, weights, samples, upscale)[0].network
        return Reach(network.halo, network.multiple, network.exact)

    return halo


def run_network(
    loaded: Loaded,
    planes: FloatArray,
    ranges: npt.NDArray[np.float64],
    *,
    scale: float = 1.0,
    level: float | None = None,
    self_ensemble: bool = False,
) -> Steps[FloatArray]:
    """Run a network over planes (N, Y, X, S), on the scale that it was trained on.

    Parameters
    ----------
    loaded : Loaded
    planes, ranges
        As a step gets them.
    scale : float
        Multiplies the planes before the network, and is undone after it.
    level : float, optional
        The noise level, for a network that is told it.
    self_ensemble : bool
        As for `predict_iter`.
    """
    from ..inference import predict_iter

    network, samples = loaded.network, planes.shape[-1]
    per_sample = network.samples == 1 and samples == 3
    if per_sample:
        planes, ranges = _split_samples(planes), ranges.repeat(3, axis=0)
    x = planes if loaded.normalisation is None else loaded.normalisation.of_planes(planes, ranges)
    y = yield from predict_iter(
        network,
        x * np.float32(scale) if scale != 1 else x,
        network.halo,
        multiple=network.multiple,
        upscale=network.upscale,
        blend=not network.exact,
        level=level,
        self_ensemble=self_ensemble,
    )
    if scale != 1:
        y /= np.float32(scale)
    if loaded.normalisation is not None:
        y = loaded.normalisation.to_planes(y, ranges)
    return _join_samples(y, samples) if per_sample else y


def _split_samples(planes: FloatArray) -> FloatArray:
    """(N, Y, X, S) → (N · S, Y, X, 1): a gray network sees each colour sample by itself."""
    return np.ascontiguousarray(np.moveaxis(planes, -1, 1)).reshape(-1, *planes.shape[1:3], 1)


def _join_samples(planes: FloatArray, samples: int) -> FloatArray:
    return np.moveaxis(planes.reshape(-1, samples, *planes.shape[1:3]), 1, -1)


@step(
    "dncnn",
    kind="denoise",
    title="DnCNN",
    reference="Zhang et al., Beyond a Gaussian denoiser, IEEE TIP 26 (2017), doi:10.1109/TIP.2017.2662206",
    record=_recorder("dncnn"),
    halo=_halo("dncnn"),
)
def dncnn(
    planes: FloatArray,
    ranges: npt.NDArray[np.float64],
    *,
    sigma: _Sigma = None,
    weights: Annotated[str, _weights("dncnn")] = "auto",
    self_ensemble: _SelfEnsemble = False,
) -> Steps[FloatArray]:
    """Convolutional network that predicts and removes Gaussian noise."""
    yield Progress(0.0, "loading the weights")
    loaded, entry = open_network("dncnn", weights, planes.shape[-1])
    scale = 1.0 if sigma is None else float(np.clip(sigma, *entry.sigma)) / sigma
    return (yield from run_network(loaded, planes, ranges, scale=scale, self_ensemble=self_ensemble))


@step(
    "drunet",
    kind="denoise",
    title="DRUNet",
    reference="Zhang et al., Plug-and-play image restoration with deep denoiser prior, IEEE TPAMI 44 (2022), "
    "doi:10.1109/TPAMI.2021.3088914",
    record=_recorder("drunet"),
    halo=_halo("drunet", estimates=True),
)
def drunet(
    planes: FloatArray,
    ranges: npt.NDArray[np.float64],
    *,
    sigma: _GivenSigma = None,
    weights: Annotated[str, _weights("drunet")] = "auto",
    self_ensemble: _SelfEnsemble = False,
) -> Steps[FloatArray]:
    """Deep residual U-Net that is told the noise level; its official weights (131 MB) are downloaded once."""
    from ..estimation import estimate_sigma

    yield Progress(0.0, "loading the weights")
    loaded, _ = open_network("drunet", weights, planes.shape[-1])
    out = np.empty_like(planes)
    for i, plane in enumerate(planes):
        level = (estimate_sigma(plane) if sigma is None else sigma) / 255
        work = run_network(loaded, planes[i : i + 1], ranges[i : i + 1], level=level, self_ensemble=self_ensemble)
        out[i] = (yield from within(work, i / len(planes), (i + 1) / len(planes)))[0]
    return out


@step(
    "restormer",
    kind="denoise",
    title="Restormer",
    reference="Zamir et al., Restormer, CVPR (2022), doi:10.1109/CVPR52688.2022.00564",
    record=_recorder("restormer"),
    halo=_halo("restormer"),
)
def restormer(
    planes: FloatArray,
    ranges: npt.NDArray[np.float64],
    *,
    weights: Annotated[str, _weights("restormer")] = "auto",
    self_ensemble: _SelfEnsemble = False,
) -> Steps[FloatArray]:
    """Blind transformer; the shipped one is small, the official one is better and slower."""
    yield Progress(0.0, "loading the weights")
    loaded, _ = open_network("restormer", weights, planes.shape[-1])
    return (yield from run_network(loaded, planes, ranges, self_ensemble=self_ensemble))


@step(
    "irunet",
    kind="denoise",
    title="IRUNet",
    reference="Gil Zuluaga et al., Blind microscopy image denoising with a deep residual and multiscale "
    "encoder/decoder network, EMBC (2021), arXiv:2105.00273",
    record=_recorder("irunet"),
    halo=_halo("irunet"),
)
def irunet(
    planes: FloatArray,
    ranges: npt.NDArray[np.float64],
    *,
    weights: Annotated[str, _weights("irunet")] = "auto",
    self_ensemble: _SelfEnsemble = False,
) -> Steps[FloatArray]:
    """Very small and fast network for stained tissue, blind to the noise level."""
    yield Progress(0.0, "loading the weights")
    loaded, _ = open_network("irunet", weights, planes.shape[-1])
    return (yield from run_network(loaded, planes, ranges, self_ensemble=self_ensemble))


@step(
    "unet",
    kind="denoise",
    title="U-Net",
    reference="Ronneberger et al., U-Net, MICCAI (2015), doi:10.1007/978-3-319-24574-4_28; Weigert et al., "
    "Content-aware image restoration, Nature Methods 15 (2018), doi:10.1038/s41592-018-0216-7",
    record=_recorder("unet"),
    halo=_halo("unet"),
)
def unet(
    planes: FloatArray,
    ranges: npt.NDArray[np.float64],
    *,
    upscale: Annotated[int, param("2 = also enlarge the image to twice its size.", ge=1, le=2)] = 1,
    weights: Annotated[str, _weights("unet")] = "auto",
    self_ensemble: _SelfEnsemble = False,
) -> Steps[FloatArray]:
    """U-Net trained on pairs of noisy and clean images; the shipped one is for fluorescence, better train your own."""
    yield Progress(0.0, "loading the weights")
    loaded, _ = open_network("unet", weights, planes.shape[-1], upscale)
    return (yield from run_network(loaded, planes, ranges, self_ensemble=self_ensemble))
