"""Denoising steps, their networks, weights and training."""
