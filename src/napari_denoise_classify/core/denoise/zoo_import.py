"""Weights for the denoising steps out of packages of the BioImage Model Zoo. No code of a package is ever run."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import ZIP_ERRORS, user_path
from .normalisation import Normalisation
from .weights import read_tensors, write_weights
from .zoo import OURS, RANGE, apply_network, import_spec, reason

_TOLERANCE = 2e-3  # of the test output, relative and of its range; computers differ by less than bioimage.io's 1e-3
_LARGEST = 2**32  # bytes of a file in a package


@dataclass(frozen=True)
class _Package:
    """The files of a package on this computer.

    Attributes
    ----------
    path : Path
    inner : str
        Folder in the zip file that holds the description, or empty.
    description : str
        Name of the description.
    """

    path: Path
    inner: str
    description: str

    @classmethod
    def find(cls, path: Path, spec: ModuleType) -> _Package:
        """Find the description in a zip file or folder, or take a YAML file as such."""
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or folder; packages of the web are downloaded first.")
        if path.suffix in (".yaml", ".yml"):
            return cls(path.parent, "", path.name)
        if path.is_dir():
            names = [entry.name for entry in path.iterdir()]
        elif zipfile.is_zipfile(path):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = archive.namelist()
            except ZIP_ERRORS as error:
                raise ValueError(f"{path}: this package is damaged: download it again.") from error
        else:
            raise ValueError(
                f"{path}: this is no package of the BioImage Model Zoo: give its .zip, folder or rdf.yaml."
            )
        fitting = [name for name in names if spec.utils.is_valid_bioimageio_yaml_name(PurePosixPath(name).name)]
        if not fitting:
            raise ValueError(f"{path}: this is no package of the BioImage Model Zoo: no rdf.yaml is in it.")
        inner, _, name = min(fitting, key=lambda name: (name.count("/"), name)).rpartition("/")
        return cls(path, inner, name)

    def read(self, name: str) -> bytes:
        """Read a file of the package, and none outside of it."""
        if "://" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{self.path.name} refers to {name}, which is not in it: download the whole package.")
        try:
            if self.path.is_dir():
                file = self.path / name
                if not file.resolve().is_relative_to(self.path.resolve()):
                    raise ValueError(f"{self.path.name} refers to {name}, which is not in it: download it again.")
                return file.read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(f"{self.inner}/{name}" if self.inner else name)
                if info.file_size > _LARGEST:
                    raise ValueError(f"{self.path.name}: {name} is too large ({info.file_size / 2**30:.0f} GiB).")
                return archive.read(info)
        except ZIP_ERRORS as error:
            raise ValueError(f"{self.path.name}: its file {name} is missing or damaged: download it again.") from error

    def checked(self, entry: Any) -> bytes:
        """Read the file of a description's entry; its SHA-256 must be right."""
        name = str(getattr(entry.source, "path", entry.source))
        content = self.read(str(entry.source) if "://" in str(entry.source) else name)
        if entry.sha256 is not None and hashlib.sha256(content).hexdigest() != str(entry.sha256):
            raise ValueError(f"{self.path.name}: its file {name} is damaged (SHA-256 differs): download it again.")
        return content


def _describe(package: _Package, spec: ModuleType, what: str) -> Any:
    """Read and check the description; nothing is fetched."""
    try:
        content: Any = spec.utils.read_yaml(io.BytesIO(package.read(package.description)))
    except ValueError:
        raise
    except Exception as error:  # the parser's errors have no base that it exports
        raise ValueError(f"{what}: its {package.description} is no valid YAML.") from error
    if not isinstance(content, dict) or content.get("type") != "model":
        kind = content.get("type") if isinstance(content, dict) else None
        raise ValueError(f"{what} is no model, but of type {kind!r}: only models can be imported.")
    version = str(content.get("format_version"))
    if not version.startswith("0.5."):
        raise ValueError(
            f"{what} has the format {version}, and 0.5 is read: update it with 'bioimageio update-format' first."
        )
    inputs = content.get("inputs")
    if isinstance(inputs, list) and any(isinstance(i, dict) and i.get("output_of") for i in inputs):
        raise ValueError(f"{what} works on the output of another model: only single models can be imported.")
    context = spec.ValidationContext(perform_io_checks=False, log_warnings=False)
    # The description of a local package is checked without its files: those that are used are read below.
    model = spec.build_description(content, context=context)
    if isinstance(model, spec.InvalidDescr):
        raise ValueError(f"{what} is not valid: {reason(model)}.")
    return model


def _axes(tensor: Any) -> str:
    letters = {"batch": "b", "channel": "c", "time": "t", "index": "i"}
    return "".join(letters.get(axis.type, str(axis.id)) for axis in tensor.axes)


def _one(tensors: Any, which: str, what: str) -> Any:
    if len(tensors) != 1:
        raise ValueError(f"{what} has {len(tensors)} {which}s: only networks with one input and one output fit.")
    axes = _axes(tensors[0])
    if axes != "bcyx":
        raise ValueError(f"{what} has an {which} with the axes {axes}: only 2D networks with bcyx fit.")
    return tensors[0]


def _scalar(value: Any) -> float | None:
    values = {float(v) for v in value} if isinstance(value, (list, tuple)) else {float(value)}
    return values.pop() if len(values) == 1 else None


def _steps(processing: Any, which: str, what: str) -> list[tuple[str, float, float]]:
    """Return the linear steps as (id, number, number); refuse others."""
    found = []
    for process in processing:
        kwargs = process.kwargs
        if process.id == "ensure_dtype" and kwargs.dtype in ("float32", "float64"):
            continue
        if process.id == "scale_linear":
            pair = _scalar(kwargs.gain), _scalar(kwargs.offset)
        elif process.id == "fixed_zero_mean_unit_variance":
            pair = _scalar(kwargs.std), _scalar(kwargs.mean)
        else:
            raise ValueError(
                f"{what} has the {which} {process.id}, which no step has: scale_linear and "
                "fixed_zero_mean_unit_variance fit."
            )
        if pair[0] is None or pair[1] is None or pair[0] <= 0:
            raise ValueError(f"{what} has a {which} {process.id} that differs between channels, or inverts the image.")
        found.append((process.id, pair[0], pair[1]))
    return found


def _normalisation(noisy: Any, denoised: Any, what: str) -> Normalisation:
    """Turn the processing of a package into the normalisation that is the same; none at all leaves intensities."""
    mean, std, target_mean, target_std = 0.0, 1.0, 0.0, 1.0
    for id, a, b in _steps(noisy.preprocessing, "preprocessing", what):
        mean, std = (mean - b * std / a, std / a) if id == "scale_linear" else (mean + b * std, std * a)
    for id, a, b in _steps(denoised.postprocessing, "postprocessing", what):
        linear = id == "scale_linear"
        target_mean, target_std = (
            (target_mean * a + b, target_std * a) if linear else ((target_mean - b) / a, target_std / a)
        )
    return Normalisation(mean, std, target_mean, target_std)


def _array(package: _Package, tensor: Any, samples: int, what: str) -> npt.NDArray[np.float32]:
    """Read a test image as (Y, X, S)."""
    if tensor.test_tensor is None:
        raise ValueError(f"{what} holds no test images, by which its network could be checked.")
    try:
        array = np.load(io.BytesIO(package.checked(tensor.test_tensor)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{what}: a test image cannot be read ({error}).") from error
    if array.ndim != 4 or array.shape[1] != samples or not array.size or array.dtype.kind not in "uif":
        raise ValueError(f"{what}: a test image of shape {array.shape} does not fit a network of {samples} samples.")
    return np.ascontiguousarray(np.moveaxis(array[0], 0, -1), np.float32)


def import_zoo(package: str | Path, output: str | Path) -> dict[str, Any]:
    """Read a package of the BioImage Model Zoo into weights for one of the denoising steps.

    Only tensors are taken from it; the network is recognised by them, and must turn the package's test input into its
    test output. Nothing is downloaded and no code of the package is run.

    Parameters
    ----------
    package : str or Path
        The ``.zip`` file, its folder, or the ``rdf.yaml`` in it.
    output : str or Path
        The ``.safetensors`` file to write, for the parameter ``weights`` of the step.

    Returns
    -------
    dict
        ``step``, ``samples``, ``upscale``, ``normalisation`` (None where the range of each image counts), ``sigma``,
        ``name``, ``licence`` and ``authors``.

    Raises
    ------
    ImportError
        If bioimageio.core is not installed.
    ValueError
        If it is no such package, or its network, axes or processing are of a kind that no step has.

    Examples
    --------
    >>> import napari_denoise_classify as ndc
    >>> ndc.import_zoo("package.zip", "theirs.safetensors")["step"]  # doctest: +SKIP
    'unet'
    >>> ndc.denoise(image, "unet", weights="theirs.safetensors")  # doctest: +SKIP
    """
    spec = import_spec()
    from .networks import build_from
    from .neural import Loaded

    path, output = user_path(package), user_path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: weights are written as .safetensors; give such a name.")
    what = f"The package {path.name}"
    files = _Package.find(path, spec)
    model = _describe(files, spec, what)
    noisy, denoised = _one(model.inputs, "input", what), _one(model.outputs, "output", what)
    normalisation = _normalisation(noisy, denoised, what)
    entry = model.weights.pytorch_state_dict
    if entry is None:
        held = ", ".join(name for name, weights in model.weights if weights is not None)
        raise ValueError(f"{what} holds weights as {held}: only pytorch_state_dict can be imported.")
    with tempfile.TemporaryDirectory() as temporary:
        suffix = ".safetensors" if str(entry.source).endswith(".safetensors") else ".pt"
        file = Path(temporary) / f"of {path.name}{suffix}"
        file.write_bytes(files.checked(entry))
        state = read_tensors(file)
    network = build_from(state, what).eval()
    if network.step == "drunet":
        raise ValueError(f"{what} holds a DRUNet, which is told the noise level: a package cannot say how.")
    samples = network.samples
    image, expected = (_array(files, tensor, samples, what) for tensor in (noisy, denoised))
    result = apply_network(Loaded(network, None), image, normalisation)
    tolerance = _TOLERANCE * max(float(np.ptp(expected)), 1e-6)
    if result.shape != expected.shape or not np.allclose(result, expected, rtol=_TOLERANCE, atol=tolerance):
        raise ValueError(
            f"{what} holds tensors that fit a step's network ({network.step}), but its test image comes out "
            "differently: it is another network."
        )
    ours = (model.config.model_extra or {}).get(OURS)
    ours = ours if isinstance(ours, dict) else {}
    sigma = ours.get("sigma")
    about = {
        "step": network.step,
        "samples": samples,
        "upscale": network.upscale,
        "sigma": sigma if isinstance(sigma, list) else [0.0, 255.0],
        "normalisation": None if ours.get("normalisation") == RANGE else normalisation.to_dict(),
        "name": model.name,
        "licence": str(model.license) if isinstance(model.license, str) else "unknown",
        "authors": [author.name for author in model.authors],
    }
    tensors = {key: value.contiguous() for key, value in state.items()}
    write_weights(output, tensors, about)
    return about
