"""Refusing work that cannot fit into memory, before it begins."""

from __future__ import annotations

from ..device import available_memory


def check_memory(needed: float, what: str, advice: str) -> None:
    """Refuse work for which there is not enough memory.

    Parameters
    ----------
    needed : float
        Bytes that it takes beyond what is taken already, about.
    what : str
        The work, as ``"Training svm on 10,000 crops"``.
    advice : str
        What would need less, as ``"give fewer crops"``.

    Raises
    ------
    ValueError
        If less than that is free.
    """
    free = available_memory()
    if needed > free:
        raise ValueError(
            f"{what} needs about {_gigabytes(needed)} of memory, and {_gigabytes(free)} are free: {advice}."
        )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
