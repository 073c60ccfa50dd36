"""Variance stabilisation: lets a denoiser for Gaussian noise work on photon noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..parameters import param
from ..progress import Steps, within
from ..steps import Reach, get_step, step

Array: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Literal["bm3d", "nlm", "wavelet", "tv", "bilateral", "dncnn", "drunet"]


@dataclass(frozen=True)
class Anscombe:
    """The generalised Anscombe transform of values z = gain · Poisson(photons) + N(offset, read_noise²).

    Parameters
    ----------
    gain : float
        Grey values per photon, 0 or more. 0 = all noise is Gaussian.
    offset : float
        The grey value without light.
    read_noise : float
        Standard deviation of the Gaussian part in grey values, 0 or more.

    Raises
    ------
    ValueError
        If gain and read noise are both 0, or one is below 0.
    """

    gain: float
    offset: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        if min(self.gain, self.read_noise) < 0 or not self.gain + self.read_noise > 0:
            raise ValueError(
                f"gain={self.gain:g}, read_noise={self.read_noise:g} is not allowed: give numbers of at least 0, "
                "one of them above 0."
            )

    @property
    def _variance(self) -> float:
        """The variance of the read noise in photons²."""
        return (self.read_noise / self.gain) ** 2

    def forward(self, values: Array) -> Array:
        """Stabilise the noise.

        Parameters
        ----------
        values : float64 array
            Grey values.

        Returns
        -------
        float64 array of the same shape
            Noise of standard deviation 1 wherever there is more than a handful of photons.
        """
        if self.gain == 0:
            return (values - self.offset) / self.read_noise
        photons = (values - self.offset) / self.gain
        return 2 * np.sqrt(np.maximum(photons + 3 / 8 + self._variance, 0))

    def inverse(self, stabilised: Array) -> Array:
        """Return from stabilised values to grey values, without bias.

        The square alone would return too little: the mean of a root is less than the root of the mean. This is the
        closed form of the exact unbiased inverse.

        Parameters
        ----------
        stabilised : float64 array
            Denoised.

        Returns
        -------
        float64 array of the same shape
            Never below ``offset``, unless all noise is Gaussian.
        """
        if self.gain == 0:
            return stabilised * self.read_noise + self.offset
        lowest = 2 * np.sqrt(3 / 8)  # where the closed form is 0
        d = np.maximum(stabilised, lowest)
        root = np.sqrt(3 / 2)
        photons = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8 - self._variance
        values: Array = np.maximum(photons, 0) * self.gain + self.offset
        return values


def _transform(
    plane: FloatArray, low: float, high: float, gain: float | None, offset: float | None, read_noise: float | None
) -> Anscombe | None:
    """Make the transform of a plane (Y, X, S); what is not given is estimated. None where there is no noise."""
    if gain is None or offset is None or read_noise is None:
        from ..estimation import estimate_poisson_gaussian

        unit = (high - low) / 255  # the estimate is on a scale of 0 to 255
        line = estimate_poisson_gaussian(plane, None if offset is None else (offset - low) / unit)
        if offset is None:
            offset = low + line.offset * unit
            if read_noise is not None and line.gain > 0:  # the same line of variance over intensity, another point
                offset += (read_noise**2 - (line.read_noise * unit) ** 2) / (line.gain * unit)
        gain = line.gain * unit if gain is None else gain
        read_noise = line.read_noise * unit if read_noise is None else read_noise
        if gain <= 0 and read_noise <= 0:
            return None
    return Anscombe(gain, offset, read_noise)


def _halo(
    samples: int, *, denoiser: str, gain: float | None, offset: float | None, read_noise: float | None
) -> Reach | None:
    """Tell the reach, where nothing is estimated and the denoiser does not mind the scale, which each plane has."""
    if None in (gain, offset, read_noise) or denoiser not in ("bm3d", "nlm", "bilateral"):
        return None
    inner = get_step(denoiser)
    return inner.reach(samples, inner.validate({"sigma": 1.0}))


def _record(samples: int, *, denoiser: str, **_: Any) -> dict[str, Any]:
    inner = get_step(denoiser)
    return {} if inner.record is None else inner.record(samples, **inner.defaults())


@step(
    "anscombe",
    kind="denoise",
    title="Anscombe",
    reference="Mäkitalo & Foi, Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian "
    "noise, IEEE TIP 22 (2013), doi:10.1109/TIP.2012.2202675",
    record=_record,
    halo=_halo,
)
def anscombe(
    planes: FloatArray,
    ranges: Array,
    *,
    denoiser: Annotated[Method, param("What denoises the stabilised image.")] = "bm3d",
    gain: Annotated[
        float | None, param("Grey values of the image per photon; nothing = estimated.", ge=1e-6, le=1e6)
    ] = None,
    offset: Annotated[
        float | None, param("Grey value of the image without light; nothing = estimated.", ge=-1e6, le=1e6)
    ] = None,
    read_noise: Annotated[
        float | None, param("Noise of the camera in grey values of the image; nothing = estimated.", ge=0, le=1e6)
    ] = None,
) -> Steps[FloatArray]:
    """Denoise photon-counting images: make the noise even, remove it with another method, and go back."""
    inner = get_step(denoiser, "denoise")
    out = planes.copy()
    for i, (plane, (low, high)) in enumerate(zip(planes, ranges, strict=True)):
        transform = _transform(plane, low, high, gain, offset, read_noise)
        if transform is None or plane.max() == plane.min():
            continue
        stabilised = transform.forward(plane.astype(np.float64) * (high - low) + low)
        darkest = stabilised.min()
        span = max(float(stabilised.max() - darkest), 1.0)
        scaled = ((stabilised - darkest) / span).astype(np.float32)[None]
        sigma = min(max(255 / span, 0.1), 255.0)  # the noise is 1, and the denoisers count in 255ths of the range
        work = inner.run_iter(scaled, np.array([[0.0, 1.0]]), inner.validate({"sigma": sigma}))
        smooth = yield from within(work, i / len(planes), (i + 1) / len(planes), inner.title)
        out[i] = (transform.inverse(smooth[0].astype(np.float64) * span + darkest) - low) / (high - low)
    return out
