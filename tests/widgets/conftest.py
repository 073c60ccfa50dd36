"""A real viewer and a way to wait for a panel's run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

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
    """Forget the classifiers of other tests."""
    before = dict(session._classifiers)
    yield
    session._classifiers = {name: c for name, c in before.items() if name == EXAMPLE}
    session._paths = {}


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
