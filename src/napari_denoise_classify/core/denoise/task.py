"""The data of a training on the scale of the network, and how it is drawn, held out and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..images import FloatArray
from ..noise import GaussianNoise, NoiseModel, parse_noise, psnr
from ..progress import run
from ..steps import get_step
from . import losses
from .normalisation import Normalisation
from .pairs import Example
from .settings import Data, DenoiserTraining, uses_raw

Batch: TypeAlias = tuple[FloatArray, FloatArray, FloatArray]
_VALIDATION_SIGMAS = (15.0, 25.0, 50.0)
_VALIDATION_SIDE = 128
_VALIDATION_CROPS = 16


class Task:
    """The data of a training, on the scale of the network, and how batches of it become a loss.

    With ``unit``, that is the scale of a network which was trained on images from 0 to 1 before.
    """

    def __init__(
        self,
        training: list[Example],
        validation: list[Example],
        config: DenoiserTraining,
        data: Data,
        unit: bool = False,
    ) -> None:
        self.config, self.data = config, data
        self.normalisation: Normalisation | None = None
        if uses_raw(config, data):
            inputs, targets = [e.seen for e in training], [e.target for e in training if e.target is not None]
            measure = Normalisation.onto_unit if unit else Normalisation.of
            self.normalisation = measure(inputs, targets if data == "pairs" else [])
        self.training = [self._scaled(e) for e in training]
        self.big = [e for e in self.training if min(e.seen.shape[:2]) >= config.patch]
        if not self.big:
            raise ValueError(
                f"patch={config.patch} is not allowed: no training image is that large. Give a smaller one."
            )
        self.crops = self._validation_crops([self._scaled(e) for e in validation])
        if data == "clean":  # noise levels and PSNR then speak of the same range
            self.low, self.high = (float(v) for v in np.median([c.range for c in self.crops], axis=0))
        elif self.normalisation is None:
            self.low, self.high = 0.0, 1.0
        else:
            judged = np.concatenate([(c.seen if c.target is None else c.target).ravel() for c in self.crops])
            self.low, self.high = float(judged.min()), float(judged.max())
        self.peak = max(self.high - self.low, 1e-6)
        self.noise = parse_noise(config.noise) if config.noise else None
        if data == "clean" and self.noise is None:
            raise ValueError("Clean images need noise to be added: give noise='gaussian:0-55', for example.")
        if data == "noisy":
            self.loss_name, self.self_supervised, self.held_out_loss = self._choose_loss()
        else:
            self.loss_name = "mae" if config.loss == "auto" else config.loss
            if self.loss_name not in losses.SUPERVISED:
                raise ValueError(
                    f"loss={self.loss_name!r} is for noisy images alone: give one of {', '.join(losses.SUPERVISED)}."
                )

    def _scaled(self, example: Example) -> Example:
        scale = self.normalisation
        if scale is None:
            return example
        target = example.target
        if target is not None:
            target = scale.forward_target(target) if example.input is not None else scale.forward(target)
        low, high = ((value - scale.mean) / scale.std for value in example.range)
        noisy = None if example.input is None else scale.forward(example.input)
        return replace(example, input=noisy, target=target, range=(low, high))

    def _choose_loss(self) -> tuple[str, losses.Loss, losses.Loss]:
        """Choose the loss for training and for held-out images, with the noise level on the scale of the network."""
        if self.config.loss in losses.SUPERVISED:
            raise ValueError(
                f"loss={self.config.loss!r} needs clean images: give them, or one of "
                f"{', '.join(losses.SELF_SUPERVISED)}."
            )
        kind = self.noise.id if self.noise is not None else ""
        name = losses.choose(kind) if self.config.loss == "auto" else self.config.loss
        sigma = gain = 0.0
        if name in ("r2r", "sure"):
            sigma, gain = self._noise_level(name)
        training, scoring = (losses.self_supervised(name, sigma=sigma, gain=gain, scoring=s) for s in (False, True))
        return name, training, scoring

    def _noise_level(self, name: str) -> tuple[float, float]:
        """Return the width of the Gaussian part and the gain of the Poisson part that a loss is told."""
        from ..estimation import estimate_poisson_gaussian, estimate_sigma

        if isinstance(self.noise, GaussianNoise) and ":" in self.config.noise:
            width = float(np.median([high - low for low, high in (e.range for e in self.training)]))
            return float(np.mean(self.noise.sigma)) * width / 255, 0.0
        planes = [e.seen for e in self.big[:8]]
        if name == "sure" and not isinstance(self.noise, GaussianNoise):
            # The variance is gain · (x - offset) + read_noise²: SURE wants what is left of it at x = 0.
            found = [estimate_poisson_gaussian(p) for p in planes]
            # It is told in grey levels, of which 255 make 1 on the network's scale.
            rest = [max(f.read_noise**2 - f.gain * f.offset, 0.0) for f in found]
            return float(np.median(rest)) ** 0.5 / 255, float(np.median([f.gain for f in found])) / 255
        return float(np.median([estimate_sigma(p) for p in planes])) / 255, 0.0

    # --- batches --------------------------------------------------------------------------------------------------

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Draw an epoch's batches of (input, target, weight); they depend on the seed and the epoch alone."""
        import torch

        config = self.config
        rng = np.random.default_rng((config.seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))  # for losses that hide or corrupt pixels at random
        areas = np.array([e.seen.shape[0] * e.seen.shape[1] for e in self.big], float)
        weights = np.sqrt(areas / areas.sum())  # large images count more, but do not drown the others
        weights /= weights.sum()
        for _ in range(config.steps_per_epoch):
            chosen = rng.choice(len(self.big), config.batch_size, p=weights)
            patches = [self._patch(self.big[k], rng) for k in chosen]
            yield self._stack(patches, rng)

    def _patch(self, example: Example, rng: np.random.Generator) -> Example:
        side = self.config.patch
        y, x = (int(rng.integers(n - side + 1)) for n in example.seen.shape[:2])
        if self.data == "noisy" and example.weight is not None and example.weight.any():
            # These losses know no weights: the patches are laid around pixels of the mask instead.
            inside = np.flatnonzero(example.weight)
            at = divmod(int(rng.choice(inside)), example.weight.shape[1])
            y, x = (min(max(0, c - side // 2), n - side) for c, n in zip(at, example.weight.shape, strict=True))
        turns, flip = int(rng.integers(4)), rng.random() < 0.5

        def turn(plane: FloatArray | None) -> FloatArray | None:
            if plane is None:
                return None
            turned = np.rot90(plane, turns)
            return turned[:, ::-1] if flip else turned

        cut = example.crop(y, x, side)
        return replace(cut, input=turn(cut.input), target=turn(cut.target), weight=turn(cut.weight))

    def _stack(self, patches: Sequence[Example], rng: np.random.Generator) -> Batch:
        targets = np.stack([p.target if p.target is not None else p.seen for p in patches])
        if self.data == "clean":
            assert self.noise is not None
            inputs = np.stack([_put(self.noise, p, rng) for p in patches])
        else:
            inputs = np.stack([p.seen for p in patches])
        inside = [
            np.ones(t.shape[:2], np.float32) if p.weight is None else p.weight
            for p, t in zip(patches, targets, strict=True)
        ]
        weight = np.maximum(np.stack(inside), np.float32(self.config.outside))[..., None]
        return inputs.astype(np.float32), targets, weight

    # --- validation -----------------------------------------------------------------------------------------------

    def _validation_crops(self, examples: list[Example]) -> list[Example]:
        """Cut the same few crops of held-out images for every epoch."""
        rng = np.random.default_rng(self.config.seed)
        crops = []
        for k in rng.choice(len(examples), _VALIDATION_CROPS, replace=len(examples) < _VALIDATION_CROPS):
            example = examples[k]
            side = min(_VALIDATION_SIDE, *example.seen.shape[:2])
            y, x = (int(rng.integers(n - side + 1)) for n in example.seen.shape[:2])
            crops.append(example.crop(y, x, side))
        return crops

    def variants(self) -> dict[str, NoiseModel | None]:
        """Name the noise with which held-out images are tested: a few fixed levels, if it was trained on a range."""
        if self.data != "clean":
            return {"psnr": None}
        if isinstance(self.noise, GaussianNoise):
            low, high = levels(self.noise)
            tested = [s for s in _VALIDATION_SIGMAS if low <= s <= high] or [(low + high) / 2]
            return {f"psnr_{s:g}": GaussianNoise(s) for s in tested}
        return {"psnr": self.noise}

    def noisy(self, k: int, noise: NoiseModel | None) -> FloatArray:
        """Return the input of a held-out crop, with the same noise at every call."""
        crop = self.crops[k]
        if noise is None:
            return crop.seen
        rng = np.random.default_rng((self.config.seed, k))
        return _put(noise, crop, rng)

    def psnr(self, k: int, output: FloatArray) -> float:
        """Compare an output with the held-out crop's clean image."""
        target = self.crops[k].target
        assert target is not None
        return psnr(target, np.clip(output, self.low, self.high), self.peak)

    def shown(self, plane: FloatArray) -> FloatArray:
        """Scale a plane to 0..1 for the eye."""
        return np.asarray(np.clip((plane - self.low) / self.peak, 0, 1), np.float32)


def _put(noise: NoiseModel, example: Example, rng: np.random.Generator) -> FloatArray:
    """Put noise on a clean example, on the scale of its intensity range."""
    low, high = example.range
    return np.asarray(noise.apply(example.seen - np.float32(low), rng, high - low) + np.float32(low), np.float32)


def levels(noise: NoiseModel | None) -> list[float]:
    """Return the range of Gaussian noise levels of a network, 0 and 255 where it was not trained for any."""
    if not isinstance(noise, GaussianNoise):
        return [0.0, 255.0]
    return list(noise.sigma) if isinstance(noise.sigma, tuple) else [noise.sigma, noise.sigma]


def matched(example: Example) -> Example:
    """Scale the target to its input by least squares; the mean of a noisy image is that of the clean one."""
    assert example.input is not None
    assert example.target is not None
    k = example.target.shape[0] // example.input.shape[0]
    height, width, samples = example.input.shape
    coarse = example.target.reshape(height, k, width, k, samples).mean(axis=(1, 3))
    if np.ptp(coarse) == 0:  # a blank image has no scale to be fitted
        return example
    slope, offset = np.polyfit(coarse.ravel(), example.input.ravel(), 1)
    return replace(example, target=example.target * np.float32(slope) + np.float32(offset))


def masked(example: Example, mask: str) -> Example:
    """Weigh the pixels of an example by a masking step at its defaults."""
    spec = get_step(mask, "mask")
    plane = example.target if example.target is not None else example.seen
    low, high = float(plane.min()), float(plane.max())
    scaled = (plane - low) / ((high - low) or 1.0)
    kept = run(spec.run_iter(scaled[None], np.array([[low, high]]), spec.defaults()))[0]
    return replace(example, weight=np.asarray(kept, np.float32))
