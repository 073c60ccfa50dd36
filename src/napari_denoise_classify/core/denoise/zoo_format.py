"""What packages of the BioImage Model Zoo say of a network, as the plain values of their description."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..._version import __version__
from ..steps import get_step
from .normalisation import Normalisation


def citations(step: str) -> list[dict[str, str]]:
    """Return the papers of a step's reference with their DOIs."""
    entries = []
    for text in get_step(step).reference.split(";"):
        found = re.search(r"doi:(\S+)|arXiv:(\S+)", text)
        if found:
            entries.append({"text": text.strip(), "doi": found[1] or f"10.48550/arXiv.{found[2]}"})
    return entries


def readme(name: str, description: str, facts: list[str], training: dict[str, Any]) -> str:
    """Return the documentation, in Markdown."""
    figures = training.get("figures") or {}
    shown = ", ".join(f"{key} {value}" for key, value in figures.items()) or "none were recorded"
    lines = [f"# {name}", "", description, "", *(f"- {fact}" for fact in facts), ""]
    if training:
        kept = {key: training[key] for key in ("data", "loss", "command", "files") if training.get(key)}
        lines += ["## Training", "", *(f"- {key}: {value}" for key, value in kept.items()), ""]
    lines += [
        "## Validation",
        "",
        f"Figures on held-out images at the end of the training: {shown}. Compare results with clean images of your "
        "own (PSNR, SSIM) before you rely on them. Denoised intensities are not for quantification unless checked.",
        "",
    ]
    return "\n".join(lines)


def environment(path: Path) -> None:
    """Write the conda environment in which other programs find the architecture."""
    path.write_text(
        "channels:\n- conda-forge\ndependencies:\n- python>=3.11\n- pytorch>=2.3\n- pip\n- pip:\n"
        f"  - napari-denoise-classify>={__version__}\n",
        encoding="utf-8",
    )


def _axes(samples: int) -> list[dict[str, Any]]:
    names = ["red", "green", "blue"] if samples == 3 else ["intensity"]
    return [{"type": "batch"}, {"type": "channel", "channel_names": names}]


def noisy_tensor(normalisation: Normalisation, samples: int, least: int, step: int) -> dict[str, Any]:
    """Describe the input: sides of ``least`` + n · ``step``, and the normalisation."""
    sides = [
        {"type": "space", "id": letter, "size": {"min": least, "step": step}, "concatenable": True} for letter in "yx"
    ]
    gain, offset = 1 / normalisation.std, -normalisation.mean / normalisation.std
    return {
        "id": "noisy",
        "description": "Noisy image in its own intensities",
        "axes": [*_axes(samples), *sides],
        "data": {"type": "float32"},
        "test_tensor": {"source": "test_input.npy"},
        "preprocessing": _linear(gain, offset),
    }


def denoised_tensor(normalisation: Normalisation, samples: int, halo: int, upscale: int) -> dict[str, Any]:
    """Describe the output; ``halo`` is in pixels of the input."""
    sides = [
        {
            "type": "space",
            "id": letter,
            "size": {"tensor_id": "noisy", "axis_id": letter},
            "scale": 1 / upscale,
            "halo": halo * upscale,
        }
        for letter in "yx"
    ]
    return {
        "id": "denoised",
        "description": "Denoised image, in the intensities of the input",
        "axes": [*_axes(samples), *sides],
        "data": {"type": "float32"},
        "test_tensor": {"source": "test_output.npy"},
        "postprocessing": _linear(normalisation.target_std, normalisation.target_mean),
    }


def _linear(gain: float, offset: float) -> list[dict[str, Any]]:
    """Scale linearly; fixed_zero_mean_unit_variance would add 1e-6 to the standard deviation."""
    if gain == 1 and offset == 0:  # which the format forbids to say
        return []
    return [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": offset}}]
