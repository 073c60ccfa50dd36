"""Synthetic images whose truth is known: H&E-like cells, fluorescence, and collagen. The same seed gives the same.

They look like microscopy from afar and are no substitute for it: what is learnt or measured on them shows that a
method works, not how well it does on tissue.
"""

from .cells import CELL_CLASSES, CellField, fluorescence, he_cells
from .fibres import FibreField, Signature, collagen, fibres

__all__ = ["CELL_CLASSES", "CellField", "FibreField", "Signature", "collagen", "fibres", "fluorescence", "he_cells"]
