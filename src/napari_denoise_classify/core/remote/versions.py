"""Whether client, scheduler and workers have the same versions."""

from __future__ import annotations

from typing import Any

from ..._version import __version__

PACKAGE = "napari_denoise_classify"
NOT_INSTALLED = f"{{}} lacks napari-denoise-classify: install version {__version__} of it there."
OTHER_VERSION = "{} has version {} of {}, and this program {}: install the same everywhere."


def check_versions(client: Any) -> None:
    """Compare the versions of what decides whether jobs can travel, and what comes out of them."""
    found = client.get_versions(packages=[PACKAGE])
    mine = found["client"]["packages"]
    others = {f"The worker {name}": about for name, about in found["workers"].items()}
    for name, about in {"The scheduler": found["scheduler"], **others}.items():
        theirs = about["packages"]
        for package in ("python", "distributed", PACKAGE):
            if package == PACKAGE and name == "The scheduler":
                continue  # it only hands on what it does not read
            if theirs[package] is None:
                raise ValueError(NOT_INSTALLED.format(name))
            digits = 2 if package == "python" else 99
            one, other = (".".join(found[package].split(".")[:digits]) for found in (theirs, mine))
            if one != other:
                raise ValueError(OTHER_VERSION.format(name, one, package, other))
