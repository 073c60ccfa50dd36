"""Denoising methods, networks, their weights and their training."""

# In this order the methods stand in lists: the simple before the slow, and first of all none.
from . import classical, bm3d, neural, anscombe, self_supervision  # isort: skip

__all__ = ["anscombe", "bm3d", "classical", "neural", "self_supervision"]
