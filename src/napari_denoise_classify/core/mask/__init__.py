"""Masking steps."""

from . import geometric as geometric  # these come first in every list of steps
