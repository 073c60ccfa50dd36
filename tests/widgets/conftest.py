"""A real viewer and a way to wait for a panel's run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.widgets.session import EXAMPLE, session


@pytest.fixture
def wait(qtbot) -> Callable[[Any], None]:
    """Wait until a panel's run is over."""

    def until_over(dock: Any, timeout: int = 120_000) -> None:
        qtbot.waitUntil(lambda: dock.job is None, timeout=timeout)

    return until_over


@pytest.fixture
def open_dock(make_napari_viewer):
    """Open a panel of the plugin in a viewer, the way the Plugins menu does."""
    viewer = make_napari_viewer()

    def open_one(name: str) -> Any:
        return viewer, viewer.window.add_plugin_dock_widget("napari-denoise-classify", name)[1]

    return open_one


@pytest.fixture(autouse=True)
def fresh_session():
    """Forget the classifiers and colours of other tests."""
    before = dict(session._classifiers)
    yield
    session._classifiers = {name: c for name, c in before.items() if name == EXAMPLE}
    session._paths = {}
    session._colours = {}


@pytest.fixture
def errors(monkeypatch) -> list[str]:
    """Collect the notifications of errors instead of showing them."""
    from napari_denoise_classify.widgets import dock, workers

    shown: list[str] = []
    for module in (dock, workers):
        monkeypatch.setattr(module, "show_error", shown.append)
    return shown


@pytest.fixture
def gray() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)


@pytest.fixture
def field() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of bright and dark squares, their centres, their classes and their labels."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 110, (160, 160)).astype(np.uint8)
    labels = np.zeros((160, 160), np.int32)
    centres, classes = [], []
    for k in range(64):
        y, x = 10 + 20 * (k // 8), 10 + 20 * (k % 8)
        bright = k % 3 == 0
        image[y - 4 : y + 5, x - 4 : x + 5] = 200 if bright else 20
        labels[y - 4 : y + 5, x - 4 : x + 5] = k + 1
        centres.append((y, x))
        classes.append("bright" if bright else "dark")
    return image, np.array(centres, float), np.array(classes), labels


@pytest.fixture
def classifier(field) -> str:
    """Train a small CNN on the field and put it into the session."""
    from napari_denoise_classify.core.classify.sampling import crop_around
    from napari_denoise_classify.core.images import PlaneImage

    image, centres, classes, _ = field
    crops = crop_around(PlaneImage.wrap(image), centres, 16)
    data = ndc.Crops(crops, classes, None, [str(i) for i in range(len(crops))])
    clf = ndc.train_classifier(data, "cnn", input_size=16, epochs=8, batch_size=16, learning_rate=0.005)
    return session.add("squares", clf)
