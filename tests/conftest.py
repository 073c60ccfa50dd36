"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from napari_denoise_classify import Classifier, Crops, train_classifier

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Results to the last digit are the CPU's; name another device in the environment to test that one.
os.environ.setdefault("NAPARI_DENOISE_CLASSIFY_DEVICE", "cpu")

# Processes beside one another would write the same settings of napari.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and "NAPARI_CONFIG" in os.environ:
    settings_file = Path(os.environ["NAPARI_CONFIG"])
    os.environ["NAPARI_CONFIG"] = str(settings_file.with_name(f"{worker}_{settings_file.name}"))

# The fixtures that property tests use here do not change from one example to the next.
settings.register_profile(
    "suite",
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds (leave out with -m 'not slow')")


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"The shared {name} (../shared/{name} beside the repository) are not here.")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; tests that need it are skipped without it."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of published checkpoints; tests that need it are skipped without it."""
    return _shared("weights")


@pytest.fixture
def resident() -> Callable[[], int]:
    """A function that tells how many bytes of memory this process takes."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("This system does not tell what a process takes.")

    def taken() -> int:
        gc.collect()
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    return taken


@pytest.fixture
def growth(resident: Callable[[], int]) -> Callable[[Callable[[], object], int], int]:
    """A function that tells by how many bytes the process grows while something is done so many times, after a warm-up.

    The least of three rounds: what is kept makes each of them grow, but what the allocator and the libraries keep for
    later, in a process that has run other tests before, makes some of them grow.
    """

    def least(one: Callable[[], object], runs: int) -> int:
        def over(runs: int) -> int:
            before = resident()
            for _ in range(runs):
                one()
            return resident() - before

        over(runs // 4 + 1)
        return min(over(runs) for _ in range(3))

    return least


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for downloaded weights."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NAPARI_DENOISE_CLASSIFY_CACHE", str(folder))
    return folder


def _make_crops(samples: int = 1, n: int = 24, side: int = 16, seed: int = 0, dtype: str = "uint8") -> Crops:
    """Draw noise ("empty"), half of it with a bright square in one of the corners ("spot"), from six fields."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    images, labels, groups = [], [], []
    for i in range(2 * n):
        image = rng.uniform(0.1, 0.4, (side, side, samples))
        if i % 2:
            y, x = (corner * side // 2 for corner in divmod(i // 2 % 4, 2))
            image[y : y + side // 2, x : x + side // 2] += 0.5
        image = np.rint(image * top).astype(dtype)
        images.append(image if samples == 3 else image[..., 0])
        labels.append("spot" if i % 2 else "empty")
        groups.append(f"field {i // 8 % 6}")
    return Crops(images, np.array(labels), np.array(groups), [f"crop {i}" for i in range(2 * n)])


@pytest.fixture(scope="session")
def make_crops() -> Callable[..., Crops]:
    """Call with ``samples``, ``n`` per class, ``side``, ``seed``, ``dtype`` for crops of two classes in groups."""
    return _make_crops


@pytest.fixture(scope="session")
def crops() -> Crops:
    """Gray crops of two classes that can be told apart, in groups."""
    return _make_crops()


@pytest.fixture(scope="session")
def cnn(crops: Crops) -> Classifier:
    """A small CNN that was trained on `crops` for a moment."""
    return train_classifier(crops, "cnn", input_size=16, epochs=3, batch_size=8, learning_rate=0.01)


@pytest.fixture(scope="session")
def forest(crops: Crops) -> Classifier:
    """A small random forest that was trained on `crops`."""
    return train_classifier(crops, "random_forest", trees=10)
