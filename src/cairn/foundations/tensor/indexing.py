"""Picking values out, and the way back: adding gradients to the places that they were picked from.

A value that was picked twice gets both gradients. That is easy to get wrong: `z[[0, 0]] += 1` adds 1 and not 2, because NumPy
first calculates all the sums and then writes them.

>>> from cairn.foundations.tensor import Tensor
>>> table = Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
>>> embedding(table, np.array([2, 0, 2])).sum().backward()
>>> table.grad
array([[1., 1.],
       [0., 0.],
       [2., 2.]])
"""

import math
from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import apply, plain


def getitem(x: Any, index: Any) -> Any:
    """x[index], with all that NumPy understands: numbers, slices, masks, arrays of numbers, None and an ellipsis."""
    index = plain_index(index)
    return apply("getitem", (x,), lambda x: _pick(x, index), lambda g, y, x: scatter_add(g, index, x.shape))


def _pick(x: np.ndarray, index: Any) -> np.ndarray:
    try:
        return x[index]
    except IndexError as problem:
        raise IndexError(f"tensor of shape {x.shape}: {problem}") from None


def scatter_add(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` to which g is added at `index`: what getitem's rule does, and whose own rule is getitem."""

    def forward(g: np.ndarray) -> np.ndarray:
        out = np.zeros(shape, g.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if not any(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in parts):
            out[index] = g  # slices and masks pick nothing twice
        elif len(parts) == 1:
            add_rows(out, parts[0], g)
        else:
            # One number for each place, so that only a flat array is added to, which NumPy does much faster.
            np.add.at(out.reshape(-1), _places(parts, shape).reshape(-1), np.ascontiguousarray(g).reshape(-1))
        return out

    return apply("scatter_add", (g,), forward, lambda h, y, g: getitem(h, index))


def _places(parts: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Where in memory the values x[parts] of a contiguous x of this shape are."""
    if len(parts) == len(shape) and all(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in parts):
        return np.ravel_multi_index(np.broadcast_arrays(*parts), shape, mode="wrap")  # wrap: -1 is the last
    return np.arange(math.prod(shape)).reshape(shape)[parts]


def add_rows(table_VD: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> None:
    """table[id] += row for each id, also where ids repeat: rows of the same id are brought together and summed at once."""
    flat_N = ids.reshape(-1)
    if not flat_N.size:
        return
    flat_N = flat_N.astype(np.intp)  # the number of rows may be too large for the format of the ids
    flat_N[flat_N < 0] += len(table_VD)
    order_N = flat_N.argsort(kind="stable")
    sorted_N = flat_N[order_N]
    first_U = np.flatnonzero(np.concatenate(([True], sorted_N[1:] != sorted_N[:-1])))
    rows_ND = rows.reshape(flat_N.size, *table_VD.shape[1:])[order_N]
    table_VD[sorted_N[first_U]] += np.add.reduceat(rows_ND, first_U, axis=0)


def take(x: Any, ids: Any) -> Any:
    """Rows x[ids] for an array of numbers of any shape: (V, ...) and (A, B) give (A, B, ...)."""
    ids = np.asarray(plain(ids))
    if not np.ndim(plain(x)):
        raise ValueError("take from a single number: it has no rows")
    if ids.dtype.kind not in "iu":
        raise ValueError(f"ids of type {ids.dtype}: rows are picked by whole numbers, use ids.astype(int)")
    size = plain(x).shape[0]
    if ids.size and not (-size <= ids.min() and ids.max() < size):
        raise ValueError(f"ids from {ids.min()} to {ids.max()}: there are {size} rows, 0 to {size - 1}")
    return getitem(x, ids)


def embedding(weight_VD: Any, ids: Any) -> Any:
    """The vector of each id: (...) ids give (..., D). An id below 0 is a mistake and not one from the end."""
    if (np.asarray(plain(ids)) < 0).any():
        raise ValueError(
            f"ids down to {np.asarray(plain(ids)).min()}: an embedding has ids from 0 to {len(plain(weight_VD)) - 1}"
        )
    return take(weight_VD, ids)


def plain_index(part: Any) -> Any:
    """Tensors and lists as arrays, also in a tuple."""
    if isinstance(part, tuple):
        return tuple(map(plain_index, part))
    if isinstance(part, (slice, type(None), type(Ellipsis))):
        return part
    return np.zeros(0, int) if isinstance(part, list) and not part else plain(part)
