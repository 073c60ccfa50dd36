"""The training loop that every network here shares: schedule, best state, early stopping, checkpoints."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import is_out_of_memory
from .optimisers import make_optimisers
from .progress import Progress, Steps
from .whole import write_whole

if TYPE_CHECKING:
    import torch


class _OtherSettingsError(ValueError):
    """A checkpoint that is whole, but of another training."""


@dataclass
class Fit:
    """What training came to.

    Attributes
    ----------
    best_epoch : int
        Counted from 1; the network holds its weights.
    best_score : float
    history : list of dict
        ``epoch``, ``loss`` and ``score`` of each epoch.
    stopped_early : bool
    """

    best_epoch: int = 0
    best_score: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_early: bool = False


def fit_iter(
    network: torch.nn.Module,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[Any], torch.Tensor],
    score: Callable[[], float],
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    min_epochs: int = 0,
    patience: int | None = None,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    checkpoint: Path | None = None,
    split: Callable[[Any, int], list[tuple[Any, float]]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Steps[Fit]:
    """Train a network and leave it with the weights of its best epoch.

    One-cycle schedule: the learning rate rises over the first tenth and then falls to nothing. See `make_optimisers`.

    Parameters
    ----------
    network : torch.nn.Module
        On its device already.
    batches : callable
        Given the epoch from 0, yields that epoch's batches: they must depend on nothing else, so that a training
        that is taken up again goes on as if it had not stopped.
    loss : callable
        From a batch to a scalar tensor.
    score : callable
        The validation score after an epoch; higher is better.
    epochs, steps_per_epoch : int
    learning_rate : float
        The peak.
    min_epochs : int
        Early stopping waits at least so long: a score under a rising learning rate says little.
    patience : int, optional
        Stop after so many epochs without a better score.
    weight_decay : float
    clip_norm : float, optional
        Largest norm of the gradient.
    checkpoint : Path, optional
        Written after every epoch and taken up if it exists.
    split : callable, optional
        ``split(batch, parts)`` cuts a batch into at most so many parts of about equal size, each with its share of
        the batch's loss; the shares add up to 1. Where the memory does not hold a whole batch, its parts go through
        the network one by one, and their gradients are added up.
    settings : mapping, optional
        Of plain values, kept in the checkpoint: one that was begun with others is not taken up.

    Yields
    ------
    Progress
        After each batch; after an epoch its ``data`` is the epoch's history entry, and whether it is the best so far
        as ``improved``.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If the checkpoint is damaged, or of a training with other settings.
    MemoryError
        If not even a part of a batch fits.
    """
    import torch

    optimisers = make_optimisers(network, learning_rate, weight_decay)
    total_steps = max(epochs * steps_per_epoch, 11)  # one-cycle with a tenth of 10 steps divides by zero
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            [group["lr"] for group in optimiser.param_groups],
            total_steps=total_steps,
            pct_start=0.1,
            final_div_factor=100,
        )
        for optimiser in optimisers
    ]
    moving: list[Any] = [*optimisers, *schedules]
    kept = None if checkpoint is None else _Checkpoint(checkpoint, network, moving, total_steps, settings or {})
    fit, start, best = Fit(), 0, copy.deepcopy(network.state_dict())
    if kept is not None and kept.path.exists():
        fit, start, best = kept.read()
    gradient = _Gradient(network, loss, split)
    for epoch in range(start, epochs):
        if fit.stopped_early:
            break
        network.train()
        total, count = 0.0, 0
        for batch in batches(epoch):
            total, count = total + gradient.of(batch), count + 1
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
            for one in moving:
                one.step()
            done = epoch + min(count / steps_per_epoch, 1)
            yield Progress(done / epochs, f"epoch {epoch + 1} of {epochs}, loss {total / count:.4g}{gradient.note}")
        network.eval()
        entry = {"epoch": float(epoch + 1), "loss": total / max(count, 1), "score": score()}
        fit.history.append(entry)
        improved = entry["score"] > fit.best_score
        if improved:
            fit.best_score, fit.best_epoch = entry["score"], epoch + 1
            best = copy.deepcopy(network.state_dict())
        elif patience is not None and epoch + 1 >= max(min_epochs, fit.best_epoch + patience):
            fit.stopped_early = True
        if kept is not None:
            kept.write(fit, epoch + 1, best)
        message = f"epoch {epoch + 1} of {epochs}, loss {entry['loss']:.4g}, score {entry['score']:.4g}"
        yield Progress((epoch + 1) / epochs, message, {**entry, "improved": improved})
    network.load_state_dict(best)
    network.eval()
    return fit


class _Gradient:
    """The gradient of a batch, in as many parts as the memory asks for.

    Attributes
    ----------
    note : str
        Says it to people if there are several; kept for the batches that follow.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        loss: Callable[[Any], torch.Tensor],
        split: Callable[[Any, int], list[tuple[Any, float]]] | None,
    ) -> None:
        self._network, self._loss, self._split = network, loss, split
        self._parts = 1
        self.note = ""

    def of(self, batch: Any) -> float:
        """Leave the gradient in the network; returns the loss.

        Raises
        ------
        MemoryError
            If not even a part fits.
        """
        import torch

        while True:
            try:
                return self._backward(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(self._cut(batch, 2 * self._parts)) <= len(self._cut(batch, self._parts)):
                    raise MemoryError(
                        "There is not enough memory to train this network: take smaller patches or a smaller "
                        "batch, or close other programs."
                    ) from error
            self._parts *= 2
            self.note = f" (batches in {self._parts} parts: the memory does not hold a whole one)"
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _cut(self, batch: Any, parts: int) -> list[tuple[Any, float]]:
        return [(batch, 1.0)] if self._split is None or parts == 1 else self._split(batch, parts)

    def _backward(self, batch: Any) -> float:
        self._network.zero_grad(set_to_none=True)
        value = 0.0
        for chunk, share in self._cut(batch, self._parts):
            part = self._loss(chunk) * share
            part.backward()
            value += float(part.detach())
        return value


class _Checkpoint:
    """Where a training stands, in a file from which it can be taken up.

    Parameters
    ----------
    path : Path
    network : torch.nn.Module
    moving : list
        Optimisers and schedules.
    total_steps : int
    settings : mapping
        Of plain values.
    """

    def __init__(
        self, path: Path, network: torch.nn.Module, moving: list[Any], total_steps: int, settings: Mapping[str, Any]
    ) -> None:
        self.path = path
        self._network, self._moving, self._total_steps = network, moving, total_steps
        self._settings = {key: json.dumps(value) for key, value in settings.items()}

    def read(self) -> tuple[Fit, int, dict[str, torch.Tensor]]:
        """Bring the network and what moves it to where it stood; returns the fit, the epoch and the best weights.

        Raises
        ------
        ValueError
            If the file is damaged, or of a training with other settings.
        """
        import torch

        try:
            saved = torch.load(self.path, weights_only=True)
            before = saved["settings"]
            other = [f"{key}={before.get(key)}" for key, value in self._settings.items() if before.get(key) != value]
            if other:
                raise _OtherSettingsError(
                    f"{self.path} was begun with other settings: set {', '.join(other)} to go on, or choose another "
                    "name for the weights."
                )
            if saved["total_steps"] != self._total_steps:
                raise ValueError("it is of a training of another length")
            self._network.load_state_dict(saved["network"])
            for one, state in zip(self._moving, saved["moving"], strict=True):
                one.load_state_dict(state)
            return Fit(**saved["fit"]), saved["epoch"], saved["best"]
        except _OtherSettingsError:
            raise
        except Exception as error:  # torch's errors for damaged files have no common base
            raise ValueError(
                f"{self.path} cannot be taken up: it is damaged, or of a training with other settings. "
                "Delete it to start anew, or give the settings of then."
            ) from error

    def write(self, fit: Fit, epoch: int, best: dict[str, torch.Tensor]) -> None:
        """Keep where the training stands after ``epoch`` epochs."""
        import torch

        state = {
            "network": self._network.state_dict(),
            "moving": [one.state_dict() for one in self._moving],
            "best": best,
            "fit": asdict(fit),
            "epoch": epoch,
            "total_steps": self._total_steps,
            "settings": self._settings,
        }
        write_whole(self.path, lambda path: torch.save(state, path))
