"""Denoising without networks."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from ..images import FloatArray
from ..steps import ODD, param, step


@step("none", kind="denoise", title="None", reference="")
def none(planes: FloatArray) -> FloatArray:
    """Leave the image as it is."""
    return planes


@step(
    "gaussian",
    kind="denoise",
    title="Gaussian",
    reference="OpenCV GaussianBlur",
)
def gaussian(
    planes: FloatArray,
    *,
    kernel_size: Annotated[int, param("Side of the square kernel.", unit="px", ge=1, le=101, step=2), ODD] = 5,
    blur_sigma: Annotated[
        float | None,
        param("Width of the Gaussian; nothing = taken from the kernel size.", unit="px", ge=0.1, le=50),
    ] = None,
) -> FloatArray:
    """Weighted mean of the neighbourhood; fast, blurs edges."""
    from ..opencv import cv2

    # OpenCV derives the width from the kernel size (0.3 ((k - 1) / 2 - 1) + 0.8) where it is given as 0.
    blurred = [
        cv2.GaussianBlur(p, (kernel_size, kernel_size), blur_sigma or 0, borderType=cv2.BORDER_REFLECT_101)
        for p in planes
    ]
    return np.stack(blurred).reshape(planes.shape)


@step("median", kind="denoise", title="Median", reference="OpenCV medianBlur; scipy.ndimage.median_filter")
def median(
    planes: FloatArray,
    *,
    kernel_size: Annotated[int, param("Side of the square neighbourhood.", unit="px", ge=1, le=51, step=2), ODD] = 5,
) -> FloatArray:
    """Median of the neighbourhood; removes single bad pixels, keeps edges."""
    from ..opencv import cv2

    if kernel_size <= 5:  # all that OpenCV does on floats
        return np.stack([cv2.medianBlur(p, kernel_size) for p in planes]).reshape(planes.shape)
    from scipy.ndimage import median_filter

    size = (1, kernel_size, kernel_size, 1)
    filtered: FloatArray = median_filter(planes, size=size, mode="nearest")
    return filtered
