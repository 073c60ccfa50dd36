"""The one place that imports DeepInverse (the package ``deepinv``)."""

from __future__ import annotations

from typing import Any


def import_deepinv() -> Any:
    """Import ``deepinv``, which takes seconds: call it where it is used.

    Returns
    -------
    module
        With ``deepinv.models``.

    Raises
    ------
    ImportError
        Saying what to install, if it is missing or does not fit the rest.
    """
    try:
        import deepinv
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises a RuntimeError
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ImportError(
            f"DeepInverse cannot be loaded ({reason}): install it with a torch and a torchvision that fit each other, "
            "pip install --upgrade deepinv torch torchvision."
        ) from error
    return deepinv
