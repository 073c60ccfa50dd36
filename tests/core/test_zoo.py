"""Packages of the BioImage Model Zoo, tested with the zoo's own library; no network is used."""

from __future__ import annotations

import gc
import importlib.util
import socket
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import napari_denoise_classify as ndc
from napari_denoise_classify.cli import app
from napari_denoise_classify.core.denoise.networks import build
from napari_denoise_classify.core.denoise.weights import about_text, read_about, registry
from napari_denoise_classify.core.denoise.zoo import export_zoo, import_spec
from napari_denoise_classify.core.denoise.zoo_import import import_zoo


def _why_not() -> str:
    if importlib.util.find_spec("bioimageio") is None or importlib.util.find_spec("bioimageio.core") is None:
        return "bioimageio.core is not installed."
    try:
        import_spec()
    except ImportError as error:
        return str(error)
    return ""


pytestmark = [  # bioimageio leaves files open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
WHY_NOT = _why_not()
needs_zoo = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

NORMALISATION = {"mean": 1000.0, "std": 150.0, "target_mean": 990.0, "target_std": 120.0}
SMALL: dict[str, tuple[str, dict[str, Any], dict[str, float] | None]] = {
    "dncnn": ("dncnn", {"depth": 4, "features": 4}, None),
    "irunet": ("irunet", {"samples": 3, "features": 2}, None),
    "unet": ("unet", {"features": 2, "levels": 2}, NORMALISATION),
    "enlarging unet": ("unet", {"features": 2, "levels": 1, "upscale": 2}, NORMALISATION),
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Let go of the files that bioimageio leaves open, where the warning of it is not an error."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("The network was used.")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_weights(path: Path, case: str) -> Path:
    architecture, arguments, normalisation = SMALL[case]
    torch.manual_seed(1)
    network = build(architecture, **arguments)
    for parameter in network.parameters():  # networks that start as the identity would hide errors
        torch.nn.init.normal_(parameter, 0, 0.1)
    about = {"step": architecture, "samples": network.samples, "sigma": [3.0, 50.0], "normalisation": normalisation}
    save_file(network.state_dict(), path, metadata=about_text(about))
    return path


def export(path: Path, case: str = "unet", **options: Any) -> Path:
    weights = write_weights(path / "small.safetensors", case)
    options = {"name": "A small model", "authors": ["Ada Lovelace"], "licence": "CC-BY-4.0"} | options
    return export_zoo(weights, path / "small.zip", **options)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("zoo"))


def unpacked(package: Path, folder: Path, change: Callable[[dict[str, Any]], Any] = lambda content: None) -> Path:
    from bioimageio.spec.utils import read_yaml, write_yaml

    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    content: Any = read_yaml(folder / "rdf.yaml")
    change(content)
    (folder / "rdf.yaml").unlink()
    write_yaml(content, folder / "rdf.yaml")
    return folder


@needs_zoo
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated")  # by the library that is tested with
@pytest.mark.parametrize("case", SMALL)
def test_the_zoo_library_runs_what_is_exported_and_it_comes_back_equal(case: str, tmp_path: Path) -> None:
    from bioimageio.core import load_description, predict, test_model

    architecture, arguments, normalisation = SMALL[case]
    package = export(tmp_path, case)
    summary = test_model(package)
    assert summary.status == "passed", summary.errors
    model = load_description(package)
    assert {"pytorch_state_dict", "torchscript"} <= set(model.weights.model_fields_set)

    # The library pads by the halo with the mirror image, so that the step's result equals its own where that is so.
    samples, upscale = arguments.get("samples", 1), arguments.get("upscale", 1)
    low, high = (600, 1400) if normalisation else (0, 255)
    size = model.inputs[0].axes[2].size
    image = np.random.default_rng(0).uniform(low, high, (size.min, size.min + 3 * size.step, samples))
    image = image.astype(np.float32)
    halo = model.outputs[0].axes[2].halo // upscale
    padded = np.pad(image, ((halo, halo), (halo, halo), (0, 0)), mode="symmetric")
    options: dict[str, Any] = {"rgb": samples == 3, "intensity_range": (0, 255)}
    options |= {"upscale": upscale} if upscale > 1 else {}

    def denoised(weights: Path) -> np.ndarray:
        wanted = ndc.denoise(padded if samples == 3 else padded[..., 0], architecture, weights=str(weights), **options)
        cut = slice(halo * upscale, -halo * upscale)
        return np.asarray(wanted[cut, cut])

    found = predict(model=package, inputs={"noisy": np.moveaxis(image, -1, 0)[None]}).members["denoised"].data.values
    expected = denoised(tmp_path / "small.safetensors")
    assert np.ptp(expected) > 0.01 * (high - low)
    np.testing.assert_allclose(np.squeeze(np.moveaxis(found[0], 0, -1)), expected, rtol=1e-5, atol=1e-5 * high)

    about = import_zoo(package, tmp_path / "back.safetensors")
    assert (about["step"], about["samples"], about["upscale"]) == (architecture, samples, upscale)
    assert about["normalisation"] == (normalisation and pytest.approx(normalisation))
    assert (about["licence"], about["authors"], about["sigma"]) == ("CC-BY-4.0", ["Ada Lovelace"], [3, 50])
    assert read_about(tmp_path / "back.safetensors") == about
    before, after = load_file(tmp_path / "small.safetensors"), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    np.testing.assert_allclose(denoised(tmp_path / "back.safetensors"), expected, rtol=1e-6)


@needs_zoo
def test_a_package_says_what_is_known_of_the_weights(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(1000, 100, (150, 140))
    options = {"test_image": image, "tags": ["nuclei"], "authors": [{"name": "Ada", "affiliation": "London"}]}
    with zipfile.ZipFile(export(tmp_path, **options)) as archive:
        names = set(archive.namelist())
        (tmp_path / "in.npy").write_bytes(archive.read("test_input.npy"))
        text = archive.read("rdf.yaml").decode()
        readme = archive.read("README.md").decode()
    assert {"cover.png", "weights.pt", "weights_torchscript.pt", "test_output.npy"} <= names
    np.testing.assert_allclose(np.load(tmp_path / "in.npy")[0, 0], image[11:139, 6:134], rtol=1e-6)
    for fact in ("10.1038/s41592-018-0216-7", "nuclei", "unet", "London", "CC-BY-4.0"):
        assert fact in text
    assert "## Validation" in readme


@needs_zoo
def test_known_weights_are_exported_by_name_with_their_licence_and_figures(tmp_path: Path) -> None:
    path = export_zoo("dncnn_gray_blind", tmp_path / "dncnn.zip", name="DnCNN gray", authors=["Us"])
    with zipfile.ZipFile(path) as archive:
        assert "license: BSD-3-Clause" in archive.read("rdf.yaml").decode()
        figure = registry()["dncnn_gray_blind"].training["figures"]["psnr_25"]
        assert f"psnr_25 {figure}" in archive.read("README.md").decode()


@needs_zoo
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"licence": "mine"}, "licence='mine' is not allowed: give an SPDX identifier"),
        ({"licence": ""}, "licence='' is not allowed"),
        ({"name": "a/b"}, "does not make a valid package: name"),
        ({"authors": "Ada"}, "give a list of at least one name"),
        ({"authors": []}, "give a list of at least one name"),
        ({"test_image": np.zeros((64, 64, 3))}, r"these weights are for gray: \(Y, X\)"),
        ({"test_image": np.full((64, 64), np.nan)}, "NaN or infinite"),
        ({"intensity_range": (5, 5)}, "give two numbers, low < high"),
    ],
)
def test_what_does_not_fit_the_format_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export(tmp_path, **options)
    assert not (tmp_path / "small.zip").exists()


@needs_zoo
def test_a_drunet_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    about: dict[str, Any] = {"name": "A model", "authors": ["Ada"], "licence": "MIT"}
    save_file(build("drunet", nc=(2, 2, 2, 2), nb=1).state_dict(), tmp_path / "drunet.safetensors")
    with pytest.raises(ValueError, match="A DRUNet is told the noise level"):
        export_zoo(tmp_path / "drunet.safetensors", tmp_path / "a.zip", **about)
    with pytest.raises(ValueError, match="there is no such file, and the known names are dncnn_gray_blind"):
        export_zoo("nothing", tmp_path / "a.zip", **about)
    with pytest.raises(ValueError, match=r"packages are written as \.zip"):
        export_zoo("dncnn_gray_blind", tmp_path / "a.tar", **about)


@needs_zoo
def test_zip_folder_and_description_are_the_same_package(package: Path, tmp_path: Path) -> None:
    folder = unpacked(package, tmp_path / "folder")
    abouts = [
        import_zoo(source, tmp_path / f"{i}.safetensors")
        for i, source in enumerate((package, folder, folder / "rdf.yaml"))
    ]
    assert abouts[0] == abouts[1] == abouts[2]
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    (tmp_path / "other.txt").touch()
    assert (tmp_path / "0.safetensors").stat().st_mode == (tmp_path / "other.txt").stat().st_mode


@needs_zoo
def test_the_normalisation_may_be_said_in_other_words(package: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["inputs"][0]["preprocessing"] = [
            {"id": "scale_linear", "kwargs": {"gain": 0.1, "offset": -40}},
            {"id": "fixed_zero_mean_unit_variance", "kwargs": {"axis": "channel", "mean": [60], "std": [15]}},
        ]
        content.pop("config")

    about = import_zoo(unpacked(package, tmp_path / "folder", change), tmp_path / "out.safetensors")
    assert about["normalisation"] == pytest.approx(NORMALISATION)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Change one entry of a description; sums of changed files are left out."""

    def change(content: dict[str, Any]) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        place: Any = content
        for key in parents:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
        if last == "source":
            del place["sha256"]

    return change


STATE = "weights.pytorch_state_dict"
DEEP = {"type": "space", "id": "z", "size": 8}


def _deep(content: dict[str, Any]) -> None:
    content["inputs"][0]["axes"].insert(2, DEEP)


def _script_only(content: dict[str, Any]) -> None:
    del content["weights"]["pytorch_state_dict"], content["weights"]["torchscript"]["parent"]


@needs_zoo
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_script_only, "holds weights as torchscript: only pytorch_state_dict"),
        (_deep, "an input with the axes bczyx: only 2D networks"),
        (_set("inputs.0.preprocessing", [{"id": "scale_range", "kwargs": {}}]), "the preprocessing scale_range"),
        (_set("outputs.0.postprocessing", [{"id": "sigmoid"}]), "the postprocessing sigmoid"),
        (_set("outputs.0.postprocessing.0.kwargs.gain", -2.0), "inverts the image"),
        (_set("outputs.0.postprocessing.0.kwargs.gain", 500.0), "it is another network"),
        (_set(f"{STATE}.source", "https://example.com/weights.pt"), "which is not in it: download the whole package"),
        (_set(f"{STATE}.source", "../small.safetensors"), "not"),
        (_set(f"{STATE}.source", "nothing.pt"), "its file nothing.pt is missing"),
        (_set(f"{STATE}.source", "code.pt"), "damaged, or holds more than plain tensors"),
        (_set(f"{STATE}.source", "other.pt"), "holds no network that is known here .* begin with a.weight"),
        (_set(f"{STATE}.sha256", "0" * 64), r"weights.pt is damaged \(SHA-256 differs\)"),
        (_set("inputs.0.test_tensor", None), "holds no test images"),
        (_set("inputs.0.output_of", "affable-shark"), "works on the output of another model"),
        (_set("format_version", "0.4.10"), "has the format 0.4.10, and 0.5 is read"),
        (_set("type", "dataset"), "is no model, but of type 'dataset'"),
        (_set("weights", {}), "is not valid"),
    ],
)
def test_what_no_step_can_run_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, package: Path, tmp_path: Path
) -> None:
    folder = unpacked(package, tmp_path / "folder", change)
    torch.save({"a.weight": torch.zeros(3)}, folder / "other.pt")
    torch.save(_Code(tmp_path / "ran"), folder / "code.pt")
    with pytest.raises(ValueError, match=message):
        import_zoo(folder, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "ran").exists()


class _Code:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@needs_zoo
def test_what_is_no_package_is_refused(package: Path, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("affable-shark", "there is no such file or folder; packages of the web are downloaded first"),
        (tmp_path / "text.zip", "this is no package of the BioImage Model Zoo: give"),
        (tmp_path / "empty", r"no rdf.yaml is in it"),
    ):
        with pytest.raises(ValueError, match=message):
            import_zoo(source, tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match=r"written as \.safetensors"):
        import_zoo(package, tmp_path / "out.pt")


@needs_zoo
@pytest.mark.parametrize("part", ["streams", "directory"])
def test_a_damaged_package_is_refused_in_a_sentence(package: Path, tmp_path: Path, part: str) -> None:
    deflated = tmp_path / "deflated.zip"
    with zipfile.ZipFile(package) as archive, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as again:
        for name in archive.namelist():
            again.writestr(name, archive.read(name))
        streams = [info.header_offset + 30 + len(info.filename) for info in again.infolist()]
    whole = deflated.read_bytes()
    with zipfile.ZipFile(deflated) as archive:
        directory = range(archive.start_dir, len(whole))
    places = [start + k for start in streams for k in range(8)] if part == "streams" else list(directory)
    rng = np.random.default_rng(0)
    path, out, said = tmp_path / "damaged.zip", tmp_path / "out.safetensors", []
    for where in rng.choice(places, min(len(places), 150), replace=False):
        damaged = bytearray(whole)
        damaged[where] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            import_zoo(path, out)
        except ValueError as error:
            said.append(str(error))
        out.unlink(missing_ok=True)
    assert len(said) > 20
    assert all("damaged.zip" in sentence for sentence in said)


@needs_zoo
def test_the_command_line_writes_and_reads_packages(tmp_path: Path) -> None:
    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result.output

    weights = write_weights(tmp_path / "small.safetensors", "enlarging unet")
    command = ("export-model", weights, "-o", tmp_path / "a.zip", "--name", "A model", "--author", "Ada")
    assert "a.zip" in run(*command, "--licence", "MIT")
    assert "exists already: add --overwrite" in run(*command, "--licence", "MIT", code=1)
    told = run("import-model", tmp_path / "a.zip", "-o", tmp_path / "b.safetensors")
    assert f"denoise --method unet --upscale 2 --weights {tmp_path / 'b.safetensors'}" in told
    assert "exists already" in run("import-model", tmp_path / "a.zip", "-o", tmp_path / "b.safetensors", code=1)
    assert "give an SPDX identifier" in run(*command, "--overwrite", code=1)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_spec.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "bioimageio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bioimageio", None)
    with pytest.raises(ImportError, match=r'pip install "napari-denoise-classify\[zoo\]"'):
        export_zoo("dncnn_gray_blind", tmp_path / "a.zip", name="A model", authors=["Ada"])
    with pytest.raises(ImportError, match=r'pip install "napari-denoise-classify\[zoo\]"'):
        import_zoo(tmp_path, tmp_path / "a.safetensors")
    import_spec.cache_clear()
