"""Masking steps."""
