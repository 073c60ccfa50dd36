"""Figures in rings around the middle of a crop."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import hed2rgb

from napari_denoise_classify.core.classify.rings import describe_rings, ring_names


@pytest.mark.parametrize("samples", [1, 3])
def test_names_and_figures_agree(samples: int) -> None:
    image = np.random.default_rng(0).random((20, 24, samples), np.float32)
    found = describe_rings(image)
    assert list(found) == ring_names(samples)
    assert len(set(found)) == {1: 10, 3: 14}[samples] * 25
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("samples", [1, 3])
def test_turning_and_mirroring_change_nothing(samples: int) -> None:
    image = np.random.default_rng(1).random((32, 32, samples), np.float32)
    expected = describe_rings(image)
    for other in (np.rot90(image), image[:, ::-1], image[::-1, ::-1]):
        assert describe_rings(other) == pytest.approx(expected, abs=1e-6)


def test_a_stained_nucleus_in_the_middle() -> None:
    y, x = np.mgrid[:32, :32] - 15.5
    amounts = np.zeros((32, 32, 3))
    amounts[..., 0] = np.where(np.hypot(y, x) < 6, 0.2, 0.02)
    amounts[..., 1] = 0.05
    found = describe_rings(hed2rgb(amounts).astype(np.float32))
    assert found["centre_haematoxylin_mean"] == pytest.approx(0.2, abs=0.005)
    assert found["outer_haematoxylin_p50"] == pytest.approx(0.02, abs=0.005)
    assert found["centre_haematoxylin_sd"] == pytest.approx(0, abs=1e-4)
    assert found["outer_eosin_mean"] == pytest.approx(0.05, abs=0.005)
    assert found["centre_blob_5px_mean"] < 0  # a blob: its Laplacian is negative
    assert found["inner_gradient_1px_mean"] > 10 * found["outer_gradient_1px_mean"]


def test_flat_and_tiny_images() -> None:
    flat = describe_rings(np.full((16, 16, 3), 0.5, np.float32))
    assert all(value == pytest.approx(0, abs=1e-6) for name, value in flat.items() if "gradient" in name)
    tiny = describe_rings(np.full((2, 2, 1), 0.5, np.float32))
    assert np.isnan(tiny["centre_intensity_mean"])
    assert tiny["all_intensity_mean"] == pytest.approx(0.5)
