"""Distances and kernels of large tables by blocked matrix products, on the best processor there is.

Tables of 8 or 16 bits are turned into wider numbers a block at a time. Their distances are exact, so that equal ones
are found equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[Any]
DoubleArray = npt.NDArray[np.float64]

BLOCK_VALUES = 2**25
"""A block of a table has at most so many values, if it has more than one row: 256 MB of doubles."""
_SMALL = 2**31  # multiplications that are done before torch is imported
_EXACT_FLOATS = 2**10  # products of signed bytes, which float32 adds up without rounding: 2¹⁴ · 2¹⁰ = 2²⁴
_EXACT_INTEGERS = 2**16  # and sums of 32 bits
_KNOWN = 2**10  # rows that are compared with at a time


def blocks(count: int, width: int, most: int = 2**14) -> Iterator[slice]:
    """Yield slices of the rows of a table of such a width, so that no block is too large."""
    size = int(np.clip(BLOCK_VALUES // max(1, width), 1, most))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


# --- products ---------------------------------------------------------------------------------------------------------


def product(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """Return ``a @ b.T`` of two tables of doubles, (N, d) and (M, d)."""
    device = _device(len(a) * len(b) * a.shape[1])
    return np.asarray(a @ b.T if device is None else (_on(a, device) @ _on(b, device).T).cpu().numpy())


def exact_product(a: Table, b: Table) -> DoubleArray:
    """Return ``a @ b.T`` of two tables of int8 or int16, (N, d) and (M, d), without rounding.

    Doubles hold the sums of eight million products of 16 bits.
    """
    if a.dtype == np.int16:
        return product(a.astype(np.float64), b.astype(np.float64))
    device = _device(len(a) * len(b) * a.shape[1])
    bytewise = device is not None and device.type == "cpu" and _multiplies_bytes()
    step = _EXACT_INTEGERS if bytewise else _EXACT_FLOATS
    out = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], step):
        x, y = (np.ascontiguousarray(table[:, start : start + step]) for table in (a, b))
        if bytewise:
            import torch

            out += torch._int_mm(torch.from_numpy(x), torch.from_numpy(y).T).numpy()
            continue
        x, y = x.astype(np.float32), y.astype(np.float32)
        out += x @ y.T if device is None else (_on(x, device) @ _on(y, device).T).cpu().numpy()
    return out


def _on(table: Table, device: Any) -> Any:
    import torch

    return torch.from_numpy(table).to(device)


def _device(multiplications: int) -> Any:
    """Return where to multiply; None: numpy will do."""
    if multiplications < _SMALL:
        return None
    import torch

    from ..device import best_device

    device = best_device()
    return device if device.type == "cuda" else torch.device("cpu")  # Apple's GPUs know no doubles


@cache
def _multiplies_bytes() -> bool:
    """Tell whether the processor adds products of bytes in 32 bits; others are slower so, or saturate."""
    import torch

    # torch has no public question for it, and calls the product itself private.
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)()) and hasattr(torch, "_int_mm")


# --- neighbours -------------------------------------------------------------------------------------------------------


def nearest(known: Table, queries: Table, k: int) -> tuple[DoubleArray, npt.NDArray[np.intp]]:
    """Find the nearest rows of a table; of equally near ones, those that come first.

    Parameters
    ----------
    known : (N, d) array of uint8 or uint16
    queries : (M, d) array of the same dtype
    k : int
        At most N.

    Returns
    -------
    distances : (M, k) float64
        Euclidean, rising.
    indices : (M, k) array of int
    """
    shift = _KNOWN.bit_length() - 1
    lengths = _squares(known)
    distances, indices = np.empty((len(queries), k)), np.empty((len(queries), k), np.intp)
    asked, compared = Room(queries.dtype), Room(known.dtype)
    for rows in blocks(len(queries), known.shape[1], 2**11):
        q = _signed(queries[rows], asked)
        own = _squares(queries[rows])[:, None]
        found = np.empty((len(q), 0), np.int64)
        where = np.empty((len(q), 0), np.intp)
        for part in blocks(len(known), known.shape[1], _KNOWN):
            squared = exact_product(q, _signed(known[part], compared))
            squared *= -2
            squared += lengths[part]
            squared += own
            # One number holds the distance and then the place: equal distances come in the order of their places.
            keys = (squared.astype(np.int64) << shift) + np.arange(squared.shape[1])
            if keys.shape[1] > k:
                keys = np.partition(keys, k - 1, axis=1)[:, :k]
            keys.sort(axis=1)
            found = np.hstack([found, keys >> shift])
            where = np.hstack([where, (keys & (_KNOWN - 1)) + part.start])
            order = np.argsort(found, axis=1, kind="stable")[:, :k]
            found, where = np.take_along_axis(found, order, 1), np.take_along_axis(where, order, 1)
        distances[rows], indices[rows] = np.sqrt(found), where
    return distances, indices


class Room:
    """Memory for blocks, one at a time: what is fresh from the system takes longer to get than to fill."""

    def __init__(self, dtype: npt.DTypeLike = np.float64) -> None:
        self._held = np.empty(0, dtype)

    def __call__(self, shape: tuple[int, ...]) -> Table:
        """Return an array of such a shape; what it held before is lost."""
        size = int(np.prod(shape))
        if size > self._held.size:
            self._held = np.empty(size, self._held.dtype)
        return self._held[:size].reshape(shape)


def _signed(table: Table, room: Room) -> Table:
    """Return whole numbers around 0, whose differences are the same: uint8 as int8, uint16 as int16."""
    half = np.array(1 << (8 * table.dtype.itemsize - 1), table.dtype)
    return np.asarray(np.bitwise_xor(table, half, out=room(table.shape)).view(f"i{table.dtype.itemsize}"))


def _squares(table: Table) -> DoubleArray:
    """Return the squared length of each row, around the middle of the dtype."""
    half = float(1 << (8 * table.dtype.itemsize - 1))
    out, room = np.empty(len(table)), Room()
    for rows in blocks(len(table), 16 * table.shape[1]):
        part = np.subtract(table[rows], half, out=room(table[rows].shape), dtype=np.float64)
        out[rows] = np.einsum("ij,ij->i", part, part)
    return out


# --- kernels ----------------------------------------------------------------------------------------------------------


class Kernel:
    """A kernel of standardised figures, linear or of radial basis functions.

    Parameters
    ----------
    mean, scale : (d,) arrays
        Subtracted from the figures, and what they are then divided by.
    gamma : float, optional
        Of the radial basis functions; None: linear.
    """

    def __init__(self, mean: DoubleArray, scale: DoubleArray, gamma: float | None) -> None:
        self.mean = mean
        self.scale = scale
        self.gamma = gamma

    def standardised(self, table: Table, room: Room | None = None, columns: slice = slice(None)) -> DoubleArray:
        """Return the figures of some columns, standardised; in the room, if there is one."""
        chosen = table[:, columns]
        out: DoubleArray = (Room() if room is None else room)(chosen.shape)
        np.subtract(chosen, self.mean[columns], out=out, dtype=np.float64)
        out /= self.scale[columns]
        return out

    def matrix(self, table: Table) -> DoubleArray:
        """Return the kernel between all rows of a table (N, d): (N, N)."""
        n, d = table.shape
        out = np.zeros((n, n))
        panels, room = list(blocks(n, n, 2**11)), Room()
        for columns in blocks(d, n):
            z = self.standardised(table, room, columns)
            for rows in panels:  # the other half is the same
                out[rows, : rows.stop] += product(z[rows], z[: rows.stop])
        lengths = out.diagonal().copy()
        for rows in panels:
            if self.gamma is not None:
                self._radial(out[rows, : rows.stop], lengths[rows], lengths[: rows.stop])
            out[: rows.start, rows] = out[rows, : rows.start].T
        if self.gamma is not None:
            np.fill_diagonal(out, 1.0)
        return out

    def weighted(self, queries: Table, vectors: Table, weights: DoubleArray) -> DoubleArray:
        """Return the kernel between queries (M, d) and vectors (N, d), times weights (N, p): (M, p)."""
        out = np.zeros((len(queries), weights.shape[1]))
        width = queries.shape[1]
        asked, known = Room(), Room()
        if self.gamma is None:  # then the weighted vectors can be added up first
            normals = np.zeros((weights.shape[1], width))
            for part in blocks(len(vectors), width):
                normals += weights[part].T @ self.standardised(vectors[part], known)
        for rows in blocks(len(queries), width):
            q = self.standardised(queries[rows], asked)
            if self.gamma is None:
                out[rows] = q @ normals.T
                continue
            own = np.einsum("ij,ij->i", q, q)
            for part in blocks(len(vectors), width):
                v = self.standardised(vectors[part], known)
                values = product(q, v)
                self._radial(values, own, np.einsum("ij,ij->i", v, v))
                out[rows] += values @ weights[part]
        return out

    def _radial(self, products: DoubleArray, own: DoubleArray, others: DoubleArray) -> None:
        """Turn products of rows into exp(−γ |a − b|²), in place."""
        assert self.gamma is not None
        products *= -2
        products += own[:, None]
        products += others
        np.maximum(products, 0, out=products)
        products *= -self.gamma
        np.exp(products, out=products)
