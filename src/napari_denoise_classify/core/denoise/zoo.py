"""Packages of the BioImage Model Zoo: written from this program's networks, and read into weights for its steps.

The format is the model description 0.5 of bioimage.io: Ouyang et al., BioImage Model Zoo: a community-driven resource
for accessible deep learning in bioimage analysis. bioRxiv (2022), doi:10.1101/2022.06.07.495102.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._version import __version__
from ..files import read_image, user_path
from ..images import FloatArray, PlaneImage
from ..progress import run
from ..whole import write_whole
from .normalisation import Normalisation
from .weights import locate, read_about, read_tensors, registry, sha256_of
from .zoo_format import citations, denoised_tensor, environment, noisy_tensor, readme

if TYPE_CHECKING:
    from .networks.network import Network
    from .neural import Loaded

OURS = "napari_denoise_classify"
RANGE = "range"  # the normalisation of networks that see the intensity range of each image as 0..1
_SIDE = 128  # pixels of the test image, where the network does not need more


@lru_cache(maxsize=1)
def import_spec() -> ModuleType:
    """Import bioimageio.spec, which needs an extra.

    Raises
    ------
    ImportError
        If it is not installed, or does not work beside the pydantic that is.
    """
    install = 'pip install "napari-denoise-classify[zoo]"'
    try:
        import bioimageio.spec.generic.v0_3
        import bioimageio.spec.model.v0_5
        import bioimageio.spec.utils
    except ImportError as error:
        raise ImportError(f"Packages of the BioImage Model Zoo need bioimageio.core: {install}.") from error
    spec: ModuleType = bioimageio.spec
    try:  # bioimageio.spec 0.5.12 cannot write any description with pydantic 2.14
        with spec.ValidationContext(perform_io_checks=False):
            spec.model.v0_5.TorchscriptWeightsDescr(source="a.pt", pytorch_version="2.3").model_dump(mode="json")
    except ValueError as error:
        raise ImportError(
            f"The installed bioimageio.spec does not work with pydantic {version('pydantic')}: {install}."
        ) from error
    return spec


@dataclass(frozen=True)
class _Source:
    """Weights with what is known of them."""

    loaded: Loaded
    sha256: str
    licence: str
    about: dict[str, Any]
    training: dict[str, Any]


def _open_weights(weights: str | Path) -> _Source:
    from .networks import build_from
    from .neural import Loaded

    entry = registry().get(str(weights))
    path = locate(entry) if entry else user_path(weights)
    if not path.is_file():
        raise ValueError(
            f"weights={str(weights)!r} is not allowed: there is no such file, and the known names are "
            f"{', '.join(registry())}."
        )
    network = build_from(read_tensors(path), f"The file {path.name}").eval()
    about, digest = read_about(path), sha256_of(path)
    try:
        saved = about.get("normalisation")
        loaded = Loaded(network, None if saved is None else Normalisation.from_dict(saved))
    except ValueError as error:
        raise ValueError(f"The weights {path.name} cannot be used: {error}.") from None
    if entry:
        about = {"sigma": list(entry.sigma), **about}
        return _Source(loaded, digest, entry.licence, about, entry.training)
    record: Any = {}
    with suppress(OSError, ValueError):
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("sha256") != digest:  # another file's
        record = {}
    training = record.get("training")
    licence = record.get("licence") or about.get("licence") or ""
    return _Source(loaded, digest, str(licence), about, training if isinstance(training, dict) else {})


def apply_network(loaded: Loaded, image: FloatArray, normalisation: Normalisation) -> FloatArray:
    """Run a network as its step does on (Y, X, S), and from intensities to intensities."""
    from .neural import run_network

    planes = run(run_network(replace(loaded, normalisation=normalisation), image[None], np.array([[0.0, 1.0]])))
    return np.asarray(planes[0])


def _test_image(image: Any, samples: int, low: float, high: float, side: int) -> FloatArray:
    """Return (Y, X, S) with equal sides: the middle of an image, or of a photograph with noise."""
    if image is None:
        from skimage import data

        plane: Any = np.asarray(data.astronaut() if samples == 3 else data.camera(), np.float32)
        plane = plane + np.random.default_rng(0).normal(0, 25, plane.shape).astype(np.float32)
        plane = plane / 255 * (high - low) + low
    elif isinstance(image, (str, Path)):
        file = read_image(user_path(image))
        wrapped = PlaneImage.wrap(file.data, file.axes)
        plane = wrapped.raw_plane(next(wrapped.indices()))
    else:
        plane = np.asarray(image)
    if plane.ndim == 2:
        plane = plane[..., None]
    if plane.ndim != 3 or plane.shape[2] not in (1, 3, 4) or (plane.shape[2] == 1) != (samples == 1):
        kind = "RGB: (Y, X, 3)" if samples == 3 else "gray: (Y, X)"
        raise ValueError(f"test_image of shape {np.shape(plane)} is not allowed: these weights are for {kind}.")
    plane = np.asarray(plane[..., :samples], np.float32)
    if not plane.size or not np.isfinite(plane).all():
        raise ValueError("test_image is empty, or holds NaN or infinite pixels: give another one.")
    missing = [max(0, side - n) for n in plane.shape[:2]]
    plane = np.pad(plane, (*((0, n) for n in missing), (0, 0)), mode="symmetric")
    y, x = ((n - side) // 2 for n in plane.shape[:2])
    return np.ascontiguousarray(plane[y : y + side, x : x + side])


def _cover(image: FloatArray, result: FloatArray, path: Path) -> None:
    """Draw the test image and its result side by side, on one scale."""
    import imageio.v3 as iio

    factor = result.shape[0] // image.shape[0]
    both = np.concatenate([image.repeat(factor, 0).repeat(factor, 1), result], axis=1)
    low, high = np.percentile(both, (0.5, 99.5))
    shown = (np.clip((both - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    iio.imwrite(path, shown if shown.shape[2] == 3 else shown[..., 0])


def _channels_first(image: FloatArray) -> FloatArray:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0)[None])


def _script(network: Network, side: int, step: int, path: Path) -> bool:
    """Write TorchScript; False where tracing does not give the same function for other sizes and batches."""
    import torch

    generator = torch.Generator().manual_seed(0)
    first, other = (
        torch.rand((batch, network.samples, side + step, side + n * step), generator=generator)
        for batch, n in ((1, 0), (2, 3))
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit calls itself deprecated; what tracing misses is checked here
        try:
            traced = torch.jit.trace(network, first, check_trace=False)
            exact = torch.allclose(traced(other), network(other), rtol=1e-4, atol=1e-5)
        except RuntimeError:
            return False
        if exact:
            torch.jit.save(traced, str(path))
    return exact


def export_zoo(
    weights: str | Path,
    output: str | Path,
    *,
    name: str,
    authors: Sequence[str | Mapping[str, str]],
    description: str = "",
    licence: str = "",
    test_image: Any = None,
    intensity_range: tuple[float, float] = (0.0, 255.0),
    documentation: str = "",
    tags: Sequence[str] = (),
) -> Path:
    """Write a package for the BioImage Model Zoo from the weights of a network.

    It holds the tensors as a PyTorch state dict and, where it is exact, TorchScript, which runs without this program.

    Parameters
    ----------
    weights : str or Path
        A file, or the name of known weights. Not those of DRUNet, which is told the noise level.
    output : str or Path
        The ``.zip`` file to write.
    name : str
        At least 5 letters, digits, spaces and ``_+-()``.
    authors : sequence of str or mapping
        Names, or mappings with ``name`` and ``affiliation``, ``email``, ``github_user``, ``orcid``.
    description : str
        One sentence.
    licence : str
        SPDX identifier, ``"CC-BY-4.0"`` say. Default: the one that came with the weights.
    test_image : (Y, X) or (Y, X, 3) array, or file, optional
        A noisy image of the kind that the network is for, in its own intensities. Default: a photograph with noise.
    intensity_range : (float, float)
        The intensities that networks without a normalisation of their own see as 0 and 1: a package cannot measure
        it on each image as the step does. 8-bit images have the default.
    documentation : str
        Markdown, instead of one that is made from what is known.
    tags : sequence of str
        Added to those that follow from the network.

    Returns
    -------
    Path
        Of the package.

    Raises
    ------
    ImportError
        If bioimageio.core is not installed.
    ValueError
        If the weights, or what is told of them, do not fit the format.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> ndc.export_zoo("mine.safetensors", "mine.zip", name="My denoiser", authors=["Me"])  # doctest: +SKIP
    """
    spec = import_spec()
    from .networks import TITLES, recognise

    output = user_path(output)
    if output.suffix != ".zip":
        raise ValueError(f"{output}: packages are written as .zip; give such a name.")
    low, high = (float(v) for v in intensity_range)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"intensity_range={intensity_range!r} is not allowed: give two numbers, low < high.")
    if isinstance(authors, (str, Mapping)) or not authors:
        raise ValueError(f"authors={authors!r} is not allowed: give a list of at least one name.")
    source = _open_weights(weights)
    loaded, step = source.loaded, str(source.loaded.network.step)
    if step == "drunet":
        raise ValueError("A DRUNet is told the noise level of each image, which a package cannot hold: export another.")
    licence = licence or source.licence
    try:
        spec.generic.v0_3.LicenseId(licence)
    except ValueError:
        raise ValueError(f"licence={licence!r} is not allowed: give an SPDX identifier such as 'CC-BY-4.0'.") from None
    normalisation = loaded.normalisation or Normalisation(low, high - low, low, high - low)
    network = loaded.network
    multiple, samples, upscale = int(network.multiple), int(network.samples), int(network.upscale)
    halo = -(-int(network.halo) // multiple) * multiple
    least = 2 * halo + multiple
    side = least + max(0, -(-(_SIDE - least) // multiple) * multiple)
    centre, spread = normalisation.mean, normalisation.std
    bounds = (centre - 2 * spread, centre + 2 * spread) if loaded.normalisation else (low, high)
    image = _test_image(test_image, samples, *bounds, side)
    result = apply_network(loaded, image, normalisation)

    state = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    found = recognise({key: tuple(value.shape) for key, value in state.items()})
    assert found is not None  # it has just been built from these tensors
    title, kind = TITLES[step], "RGB" if samples == 3 else "gray"
    task = "Denoises" if upscale == 1 else f"Denoises and enlarges ({upscale} times)"
    description = description or f"{task} {kind} microscopy images with a {title}."
    facts = [
        f"{title} for {kind} images, exported by napari-denoise-classify {__version__}.",
        f"The network sees (intensity - {normalisation.mean:.6g}) / {normalisation.std:.6g}.",
        f"The sides of an image are multiples of {multiple}; {halo} pixels around a tile matter to it.",
    ]
    enlarging = ["super-resolution"] if upscale > 1 else []
    about = {
        "sigma": source.about.get("sigma"),
        "normalisation": loaded.normalisation.to_dict() if loaded.normalisation else RANGE,
        "version": __version__,
    }
    # bioimageio.spec leaves files open, which Windows then does not delete.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        import torch

        folder = Path(temporary)
        np.save(folder / "test_input.npy", _channels_first(image))
        np.save(folder / "test_output.npy", _channels_first(result))
        torch.save(state, folder / "weights.pt")
        scripted = _script(network.cpu(), least, multiple, folder / "weights_torchscript.pt")
        text = documentation or readme(name, description, facts, source.training)
        (folder / "README.md").write_text(text, encoding="utf-8")
        environment(folder / "environment.yaml")
        _cover(image, result, folder / "cover.png")
        v = torch.__version__.split("+")[0]
        entries: dict[str, Any] = {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "pytorch_version": v,
                "architecture": {
                    "import_from": "napari_denoise_classify.core.denoise.networks",
                    "callable": "build",
                    "kwargs": {"architecture": found[0], **json.loads(json.dumps(found[1]))},
                },
                "dependencies": {"source": "environment.yaml"},
            }
        }
        if scripted:
            entries["torchscript"] = {
                "source": "weights_torchscript.pt",
                "pytorch_version": v,
                "parent": "pytorch_state_dict",
            }
        content = {
            "type": "model",
            "format_version": spec.model.v0_5.ModelDescr.implemented_format_version,
            "name": name,
            "description": description,
            "authors": [{"name": a} if isinstance(a, str) else dict(a) for a in authors],
            "license": licence,
            "cite": citations(step),
            "tags": sorted({"2d", "denoising", "image-restoration", "pytorch", step, *enlarging, *tags}),
            "documentation": {"source": "README.md"},
            "covers": [{"source": "cover.png"}],
            "inputs": [noisy_tensor(normalisation, samples, least, multiple)],
            "outputs": [denoised_tensor(normalisation, samples, halo, upscale)],
            "weights": entries,
            "config": {OURS: about, "bioimageio": {"architecture_type": title, "task": "denoising"}},
        }
        write_whole(output, lambda path: _package(spec, content, folder, path))
    return output


def _package(spec: ModuleType, content: dict[str, Any], folder: Path, path: Path) -> None:
    context = spec.ValidationContext(root=folder, log_warnings=False)
    model = spec.build_description(content, context=context)
    if isinstance(model, spec.InvalidDescr):
        raise ValueError(f"This does not make a valid package: {reason(model)}.")
    with context, path.open("wb") as file:
        spec.save_bioimageio_package_to_stream(model, output_stream=file)


def reason(model: Any) -> str:
    """Say in a few words why a description is invalid."""
    lines = [line.strip() for line in str(model.get_reason()).splitlines() if line.strip()]
    return "; ".join(lines[:2]).rstrip(".")
