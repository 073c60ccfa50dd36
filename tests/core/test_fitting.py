"""The training loop: best state, early stopping, checkpoints that go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_denoise_classify.core.fitting import Fit, fit_iter
from napari_denoise_classify.core.progress import Progress, run

STEPS = 3


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def convolutions() -> torch.nn.Module:
    """Two optimisers train this one."""
    torch.manual_seed(0)
    widths = ((4, 8), (8, 8), (8, 1))
    net = torch.nn.Sequential(torch.nn.Unflatten(1, (4, 1, 1)), *(torch.nn.Conv2d(*w, 1) for w in widths))
    net.append(torch.nn.Flatten())
    net.orthogonal = True
    return net


def batches(epoch: int) -> Iterator[torch.Tensor]:
    rng = np.random.default_rng(epoch)
    for _ in range(STEPS):
        yield torch.from_numpy(rng.standard_normal((16, 4), dtype=np.float32))


def work(net: torch.nn.Module, score: Callable[[], float] | None = None, epochs: int = 4, **options: Any) -> Any:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return (net(x)[:, 0] - x.sum(1)).square().mean()

    def held_out() -> float:
        with torch.inference_mode():
            return -float(loss(next(batches(10_000))))

    return fit_iter(
        net, batches, loss, score or held_out, epochs=epochs, steps_per_epoch=STEPS, learning_rate=0.05, **options
    )


def parameters(net: torch.nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in net.parameters()]


def test_training_learns() -> None:
    net = network()
    fit = run(work(net, epochs=30))
    assert fit.history[-1]["loss"] < fit.history[0]["loss"] / 5
    assert [entry["epoch"] for entry in fit.history] == list(range(1, 31))
    assert not net.training


def test_the_network_is_left_with_its_best_weights() -> None:
    net = network()
    scores = iter([1.0, 5.0, 2.0, 4.0])
    kept: list[list[np.ndarray]] = []

    def score() -> float:
        kept.append(parameters(net))
        return next(scores)

    fit = run(work(net, score))
    assert (fit.best_epoch, fit.best_score) == (2, 5.0)
    for now, then in zip(parameters(net), kept[1], strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(("patience", "min_epochs", "last"), [(2, 0, 4), (2, 7, 7), (None, 0, 10)])
def test_early_stopping(patience: int | None, min_epochs: int, last: int) -> None:
    scores = iter([1.0, 2.0, *[0.0] * 8])
    fit = run(work(network(), lambda: next(scores), 10, patience=patience, min_epochs=min_epochs))
    assert len(fit.history) == last
    assert fit.stopped_early == (patience is not None)
    assert fit.best_epoch == 2


def test_a_score_that_is_not_a_number_never_wins() -> None:
    scores = iter([float("nan"), 1.0, float("nan"), 0.5])
    assert run(work(network(), lambda: next(scores))).best_epoch == 2


def test_progress_and_history_are_reported() -> None:
    seen: list[Progress] = []
    fit = run(work(network()), seen.append)
    assert len(seen) == 4 * (STEPS + 1)
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert seen[-1].fraction == 1
    entries = [p.data for p in seen if p.data is not None]
    assert [{k: v for k, v in entry.items() if k != "improved"} for entry in entries] == fit.history
    best = np.maximum.accumulate([-np.inf, *(entry["score"] for entry in fit.history)])
    assert [entry["improved"] for entry in entries] == (np.diff(best) > 0).tolist()


# --- memory ---------------------------------------------------------------------------------------------------------


def halves(batch: torch.Tensor, parts: int) -> list[tuple[torch.Tensor, float]]:
    return [(part, len(part) / len(batch)) for part in batch.tensor_split(min(parts, len(batch)))]


@pytest.mark.parametrize("most", [1, 5, 8, 16])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_batches_are_split_where_memory_is_full(most: int, error: type[Exception]) -> None:
    def training(net: torch.nn.Module, limit: int) -> Any:
        def loss(x: torch.Tensor) -> torch.Tensor:
            if len(x) > limit:
                raise error("out of memory")
            return (net(x)[:, 0] - x.sum(1)).square().mean()

        return fit_iter(
            net, batches, loss, lambda: 0.0, epochs=2, steps_per_epoch=STEPS, learning_rate=0.05, split=halves
        )

    whole, parts = network(), network()
    seen: list[Progress] = []
    expected = run(training(whole, 16))
    found = run(training(parts, most), seen.append)
    for a, b in zip(parameters(whole), parameters(parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert [e["loss"] for e in found.history] == pytest.approx([e["loss"] for e in expected.history], rel=1e-5)
    count = {1: 16, 5: 4, 8: 2, 16: 1}[most]
    words = f"(batches in {count} parts: the memory does not hold a whole one)"
    assert all((words in p.message) == (most < 16) for p in seen if p.data is None)


def test_the_gradient_of_parts_is_that_of_the_batch() -> None:
    from napari_denoise_classify.core.denoise.losses import supervised
    from napari_denoise_classify.core.denoise.training import _split

    rng = np.random.default_rng(0)
    batch = tuple(rng.random((7, 6, 6, 1), np.float32) for _ in range(3))
    batch[2][:] = batch[2] > 0.7  # masks that differ in size
    batch[2][3] = 0
    for parts in (1, 2, 4, 7, 16):
        gain = torch.tensor(0.3, requires_grad=True)
        pieces = _split(batch, parts)
        assert len(pieces) == min(parts, 7)
        assert sum(share for _, share in pieces) == pytest.approx(1)
        for piece, share in pieces:
            x, y, w = (torch.from_numpy(part).permute(0, 3, 1, 2) for part in piece)
            (supervised("mse", gain * x, y, w) * share).backward()
        if parts == 1:
            expected = float(gain.grad)
        assert float(gain.grad) == pytest.approx(expected, rel=1e-5)


def test_memory_that_never_suffices_is_reported() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    for split in (None, halves):
        work = fit_iter(
            network(), batches, loss, lambda: 0.0, epochs=1, steps_per_epoch=STEPS, learning_rate=0.1, split=split
        )
        with pytest.raises(MemoryError, match=r"not enough memory to train this network: take smaller patches"):
            run(work)


def test_other_errors_are_not_swallowed() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    work = fit_iter(
        network(), batches, loss, lambda: 0.0, epochs=1, steps_per_epoch=STEPS, learning_rate=0.1, split=halves
    )
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(work)


@pytest.mark.parametrize("epochs", range(1, 13))
def test_any_number_of_steps_can_be_trained(epochs: int) -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return net(x).square().mean()

    net = network()
    rates = fit_iter(
        net,
        lambda epoch: [next(batches(epoch))],
        loss,
        lambda: 0.0,
        epochs=epochs,
        steps_per_epoch=1,
        learning_rate=0.1,
    )
    assert len(run(rates).history) == epochs
    assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("make", [network, convolutions])
@pytest.mark.parametrize("stop_after", [1, STEPS, STEPS + 1, STEPS + 2, 3 * (STEPS + 1)])
def test_a_training_taken_up_again_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, stop_after: int, make: Callable[[], torch.nn.Module]
) -> None:
    whole, parts = make(), make()
    expected = run(work(whole, clip_norm=0.5, weight_decay=0.01))
    options: dict[str, Any] = {"clip_norm": 0.5, "weight_decay": 0.01, "checkpoint": tmp_path / "it.checkpoint"}
    interrupted = work(parts, **options)
    for _ in range(stop_after):
        next(interrupted)
    interrupted.close()
    fresh = make()
    found = run(work(fresh, **options))
    assert found == expected
    for a, b in zip(parameters(fresh), parameters(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    checkpoint = tmp_path / "it.checkpoint"
    first = run(work(network(), checkpoint=checkpoint))
    steps: list[Progress] = []
    assert run(work(network(), checkpoint=checkpoint), steps.append) == first
    assert steps == []


def test_cancelling_before_an_epoch_ends_leaves_no_file(tmp_path: Path) -> None:
    unfinished = work(network(), checkpoint=tmp_path / "it.checkpoint")
    for _ in range(STEPS):
        next(unfinished)
    unfinished.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_checkpoints_are_named(tmp_path: Path, content: bytes | None) -> None:
    checkpoint = tmp_path / "it.checkpoint"
    run(work(network(), checkpoint=checkpoint))
    checkpoint.write_bytes(checkpoint.read_bytes()[:500] if content is None else content)
    with pytest.raises(ValueError, match=r"it\.checkpoint"):
        run(work(network(), checkpoint=checkpoint))


def test_checkpoints_of_another_network_are_named(tmp_path: Path) -> None:
    checkpoint = tmp_path / "it.checkpoint"
    run(work(network(), checkpoint=checkpoint))
    with pytest.raises(ValueError, match=r"it\.checkpoint"):
        run(work(torch.nn.Sequential(torch.nn.Linear(4, 1)), checkpoint=checkpoint))


def test_checkpoints_of_a_shorter_training_are_named_or_go_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "it.checkpoint"
    run(work(network(), checkpoint=checkpoint, epochs=2))
    try:
        fit = run(work(network(), checkpoint=checkpoint, epochs=4))
    except ValueError as error:
        assert "it.checkpoint" in str(error)  # noqa: PT017  # either is fine, a message about the schedule is not
    else:
        assert isinstance(fit, Fit)
        assert len(fit.history) == 4
