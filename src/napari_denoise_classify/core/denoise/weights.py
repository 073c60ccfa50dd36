"""Weights: what exists, where it comes from, and how it gets onto this computer.

Every entry has an address or is shipped in this package, a SHA-256, a size and a licence. Downloads go through pooch
into the cache folder (see `cache_folder`); nothing is ever downloaded unless a step is asked for those weights by
name. Only tensors are ever read from a file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import cache_folder, user_path
from ..whole import write_whole

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).parent / "weights"
FILE_FILTER = "Weights (*.pth *.pt *.safetensors)"


@dataclass(frozen=True)
class Weights:
    """One set of weights.

    Attributes
    ----------
    name : str
    step : str
        The step that uses them.
    samples : int
        1 for gray, 3 for RGB.
    sigma : tuple of float
        Lowest and highest noise level they were trained for, in grey levels of an 8-bit image.
    sha256, licence : str
    size : int
        In bytes.
    file : str
        Name of the file, in the package or in the cache.
    url : str
        Empty for weights shipped in the package.
    upscale : int
        How many times as large the output is.
    training : dict
        How they were made: the command, data, seed and figures.
    """

    name: str
    step: str
    samples: int
    sigma: tuple[float, float]
    sha256: str
    size: int
    licence: str
    file: str
    url: str = ""
    upscale: int = 1
    training: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def path(self) -> Path:
        """Where the file is, or will be once downloaded."""
        return (cache_folder() if self.url else SHIPPED) / self.file


@lru_cache(maxsize=1)
def registry() -> dict[str, Weights]:
    """Return all known weights by name."""
    listed = json.loads((SHIPPED / "registry.json").read_text(encoding="utf-8"))
    return {item["name"]: Weights(**{**item, "sigma": tuple(item["sigma"])}) for item in listed}


def names(step: str) -> list[str]:
    """List what the ``weights`` parameter of a step may be, files aside."""
    return ["auto", *(entry.name for entry in registry().values() if entry.step == step)]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve(step: str, weights: str, samples: int, upscale: int = 1) -> Weights:
    """Find the weights that a step's ``weights`` parameter means.

    Parameters
    ----------
    step : str
        Id of the step.
    weights : str
        ``"auto"`` for the ones shipped in this package (the official ones, where none are), a name from the registry,
        or the path of a file.
    samples : int
        Of the image: 1 or 3.
    upscale : int
        How many times as large the output shall be.

    Raises
    ------
    ValueError
        If there is neither such a name nor such a file, or an RGB network was chosen for a gray image.
    """
    mine = {name: entry for name, entry in registry().items() if entry.step == step}
    if weights == "auto":
        entry = _automatic(step, samples, upscale)
    elif weights in mine:
        entry = mine[weights]
    else:
        path = user_path(weights)
        if not path.is_file():
            raise ValueError(
                f"{step}: weights={weights!r} is not allowed: there is no such file, and the known names are "
                f"{', '.join(names(step))}."
            )
        digest = sha256_of(path)
        known = next((e for e in mine.values() if e.sha256 == digest), None)
        entry = Weights(
            name=path.name,
            step=step,
            samples=known.samples if known else 0,
            sigma=known.sigma if known else _sigma_of(path),
            sha256=digest,
            size=path.stat().st_size,
            licence=known.licence if known else "unknown",
            file=str(path.resolve()),
        )
    if entry.samples == 3 and samples == 1:
        raise ValueError(
            f"{step}: weights={entry.name!r} are for RGB images, and this image is gray. Choose 'auto' or gray ones."
        )
    return entry


def _automatic(step: str, samples: int, upscale: int) -> Weights:
    """Choose weights: shipped before official ones, of the image's samples before gray ones."""
    fitting = [e for e in registry().values() if e.step == step and e.upscale == upscale and e.samples in (samples, 1)]
    if not fitting:
        kind = "RGB" if samples == 3 else "gray"
        twice = " that enlarge" if upscale > 1 else ""
        raise ValueError(
            f"{step}: there are no weights{twice} for {kind} images: choose a file that was trained for them, or "
            "another method."
        )
    return min(fitting, key=lambda e: (bool(e.url), e.samples != samples))


def locate(entry: Weights) -> Path:
    """Return the path of the weights' file, downloading it if need be.

    Raises
    ------
    ConnectionError
        If the download fails.
    ValueError
        If the file is not the one that the registry means (its SHA-256 differs).
    """
    path = entry.path
    if not entry.url:
        if sha256_of(path) != entry.sha256:
            raise ValueError(f"The weights {path} are damaged: their SHA-256 differs. Install the package again.")
        return path
    import pooch

    pooch.get_logger().setLevel("WARNING")  # who asked for a download need not be told of it on the screen
    try:
        found = pooch.retrieve(
            entry.url,
            known_hash=f"sha256:{entry.sha256}",
            fname=entry.file,
            path=cache_folder(),
            progressbar=False,
        )
    except ValueError as error:  # pooch's word for a wrong hash
        raise ValueError(
            f"The weights {entry.name} that {entry.url} sent are not the expected file (SHA-256 differs); "
            "nothing was kept. Try again, or choose a local file."
        ) from error
    except Exception as error:  # requests, urllib3 and socket errors have no common base
        raise ConnectionError(
            f"The weights {entry.name} ({entry.size / 1e6:.0f} MB) could not be downloaded from {entry.url}. "
            "Connect to the internet, choose a local file, or use weights='auto'."
        ) from error
    return Path(found)


_ABOUT = "napari_denoise_classify"


def about_text(about: dict[str, Any]) -> dict[str, str]:
    """Return what is known of a network as the header of its ``.safetensors`` file; see `read_about`."""
    return {_ABOUT: json.dumps(about)}


def write_weights(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write tensors, and what is known of their network, as ``.safetensors``.

    Raises
    ------
    OSError
        If the folder cannot be written to, or the disk is full.
    """
    from safetensors.torch import save

    content = save(tensors, about_text(about))  # its save_file makes files that nobody else may read
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def read_about(path: Path) -> dict[str, Any]:
    """Read what the header of a ``.safetensors`` file tells of its network; empty for files of others.

    Returns
    -------
    dict
        ``step``, ``samples``, ``sigma`` (lowest and highest noise level) and ``normalisation``.
    """
    if path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    except (SafetensorError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _sigma_of(path: Path) -> tuple[float, float]:
    """Return the noise levels for which a user's weights were made, as far as their file tells."""
    try:
        low, high = (float(v) for v in read_about(path).get("sigma", ()))
    except (TypeError, ValueError, OverflowError):
        return (0.0, float("inf"))
    return (low, high) if 0 <= low <= high else (0.0, float("inf"))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint, and nothing else: no code of the file runs.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a PyTorch file that holds a dict of tensors (or one under a key such as ``params``).

    Raises
    ------
    ValueError
        If the file is damaged, holds anything but tensors, or is of another kind.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has errors of its own for damaged files
        raise ValueError(
            f"The weights {path.name} cannot be read: the file is damaged, or holds more than plain tensors. "
            "Use a .safetensors file, or a .pth file that holds a state dict."
        ) from error
    for key in ("params", "state_dict", "model_state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise ValueError(f"The weights {path.name} hold no state dict: expected a dict of tensors.")
    tensors = list(loaded.values())
    plain = all(isinstance(key, str) for key in loaded) and all(
        t.layout is torch.strided and t.device.type == "cpu" and not (t.is_quantized or t.is_complex()) for t in tensors
    )
    # A tensor may claim to be larger than what the file holds; twice, because two keys may share one tensor.
    if not plain or sum(t.nbytes for t in tensors) > 2 * path.stat().st_size:
        raise ValueError(f"The weights {path.name} hold no state dict: expected plain tensors by name.")
    return loaded
