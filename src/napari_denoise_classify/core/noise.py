"""Noise models. Every draw is fresh and comes from the generator that is passed in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .images import FloatArray


def add_gaussian(
    image: npt.NDArray[Any], sigma: float, rng: np.random.Generator | int, value_range: float = 255.0
) -> FloatArray:
    """Add white Gaussian noise.

    Parameters
    ----------
    image : array
    sigma : float
        Standard deviation in grey levels of an 8-bit image.
    rng : numpy.random.Generator or int
        Or a seed for one.
    value_range : float
        The intensity range of the image: 255 for 8-bit values, 1 for values from 0 to 1.

    Returns
    -------
    float32 array of the same shape, not clipped
    """
    rng = np.random.default_rng(rng)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image, np.float32) + noise * np.float32(sigma * value_range / 255.0)


def psnr(reference: npt.NDArray[Any], image: npt.NDArray[Any], value_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB.

    Parameters
    ----------
    reference, image : arrays of the same shape
    value_range : float
        The peak.
    """
    from skimage.metrics import peak_signal_noise_ratio

    return float(
        peak_signal_noise_ratio(
            np.asarray(reference, np.float64), np.asarray(image, np.float64), data_range=value_range
        )
    )
