"""Sums, means, variances, extremes: many values become one, and the gradient of the one goes back to the many.

Axes are one number, several, or None for all, as in NumPy. A reduction divides its gradient by how much each value counted:
equally for a sum, not at all for those that are not the maximum.

Along the last axis NumPy adds in a tree, along others one after another, which in float32 adds up rounding: of 2 million rows
a sum was wrong by 3e-5 of its value and a variance by 1e-3 (of a batch, by some 1e-7). Sum whole data sets in float64.

>>> from cairn.foundations.tensor import Tensor
>>> x = Tensor([[1.0, 5.0, 5.0], [2.0, 0.0, 1.0]], requires_grad=True)
>>> max(x, axis=1).sum().backward()
>>> x.grad  # two values share the first row's maximum, and so they share its gradient
array([[0. , 0.5, 0.5],
       [1. , 0. , 0. ]])
"""

import math
from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import apply, plain
from cairn.foundations.tensor.shapes import expand, reshape

Axis = int | tuple[int, ...] | None


def restore(y: Any, shape: tuple[int, ...], axis: Axis) -> Any:
    """A reduced value or gradient with the reduced axes back in place, of size 1, so that it stretches over `shape`."""
    return y if y.ndim == len(shape) else reshape(y, kept_shape(shape, axis))


def kept_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape that `keepdims` leaves."""
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, (int, np.integer)) else axis
    reduced = {a % len(shape) for a in axes} if shape else set()
    return tuple(1 if i in reduced else size for i, size in enumerate(shape))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many values each reduced one is made of."""
    return math.prod(size for size, kept in zip(shape, kept_shape(shape, axis)) if kept == 1)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum; every value counted once, so each gets the gradient as it is."""
    return apply(
        "sum",
        (x,),
        lambda x: x.sum(axis, keepdims=keepdims),
        lambda g, y, x: expand(restore(g, x.shape, axis), x.shape),
    )


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean: of n values each counts 1 / n."""
    return apply(
        "mean",
        (x,),
        lambda x: x.mean(axis, keepdims=keepdims),
        lambda g, y, x: expand(restore(g / count(x.shape, axis), x.shape, axis), x.shape),
    )


def var(x: Any, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Any:
    """Mean square distance from the mean, over n - correction (NumPy's default is 0, torch's is 1).

    The mean moves as well when x moves, but that adds 2 (x - mean) summed, which is 0.
    """

    def rule(g: Any, y: Any, x: Any) -> Any:
        spread = 2.0 / (count(x.shape, axis) - correction)
        return restore(g * spread, x.shape, axis) * (x - mean(x, axis, keepdims=True))

    def forward(x: np.ndarray) -> Any:
        values = count(x.shape, axis)
        if values <= correction:
            raise ValueError(
                f"with correction {correction} a variance needs more than {correction} values, not {values}"
            )
        return x.var(axis, ddof=correction, keepdims=keepdims)

    return apply("var", (x,), forward, rule)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest value. The slope is 1 in it and 0 in others; equal ones share it."""
    return apply("max", (x,), lambda x: x.max(axis, keepdims=keepdims), _to_extreme(axis))


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest value. The slope is 1 in it and 0 in others; equal ones share it."""
    return apply("min", (x,), lambda x: x.min(axis, keepdims=keepdims), _to_extreme(axis))


def _to_extreme(axis: Axis) -> Any:
    def rule(g: Any, y: Any, x: Any) -> Any:
        values = plain(x)
        chosen = (values == restore(plain(y), x.shape, axis)).astype(values.dtype)
        chosen /= chosen.sum(axis, keepdims=True)
        return restore(g, x.shape, axis) * chosen

    return rule


def cumsum(x: Any, axis: int = 0) -> Any:
    """Running sum along an axis. A value counts in its own place and all later ones: its gradient is the sum from there on."""

    def rule(g: Any, y: Any, x: Any) -> Any:
        backwards = (slice(None),) * (axis % x.ndim) + (slice(None, None, -1),)
        return cumsum(g[backwards], axis)[backwards]

    return apply("cumsum", (x,), lambda x: x.cumsum(axis), rule)
