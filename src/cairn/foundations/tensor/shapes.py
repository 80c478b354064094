"""Reshape, transpose, expand, concatenate, stack, pad: operations that calculate nothing and move values.

Their rules move the gradient back the same way, and most make no copy: an array is a block of memory, with a note of how many
bytes lie between neighbours along each axis, and a transposed array is the same block with another note.

>>> from cairn.foundations.tensor import Tensor
>>> a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0], requires_grad=True)
>>> joined = concatenate([a, b])
>>> (joined * [10.0, 20.0, 30.0]).sum().backward()
>>> a.grad, b.grad
(array([10., 20.]), array([30.]))
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import Variable, apply, plain, unbroadcast


def reshape(x: Any, shape: int | tuple[int, ...]) -> Any:
    """The same values in the same order in another shape; one size may be -1, which is whatever is left."""
    return apply("reshape", (x,), lambda x: x.reshape(shape), lambda g, y, x: g.reshape(x.shape))


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Any:
    """Axes in another order, reversed when none is given. The gradient is put back in the inverse order."""
    inverse = tuple(np.argsort([axis % len(axes) for axis in axes]).tolist()) if axes else None
    return apply("transpose", (x,), lambda x: x.transpose(axes), lambda g, y, x: g.transpose(inverse))


def swapaxes(x: Any, first: int, second: int) -> Any:
    """Two axes exchanged, and exchanged back."""
    return apply("swapaxes", (x,), lambda x: x.swapaxes(first, second), lambda g, y, x: g.swapaxes(first, second))


def expand(x: Any, shape: tuple[int, ...]) -> Any:
    """Stretch axes of size 1, and add axes in front, without copying. The gradient is summed over what was stretched."""
    return apply("expand", (x,), lambda x: np.broadcast_to(x, shape), lambda g, y, x: unbroadcast(g, x.shape))


def astype(x: Any, dtype: Any) -> Any:
    """The same numbers in another format; the graph turns the gradient back into the old one. Whole numbers and truth
    values are constants: what is rounded does not change when x changes a little."""
    if isinstance(x, Variable) and np.dtype(dtype).kind != "f":
        return type(x)(x.data.astype(dtype))
    return apply("astype", (x,), lambda x: x.astype(dtype), lambda g, y, x: g.astype(x.dtype))


def concatenate(parts: Sequence[Any], axis: int = 0) -> Any:
    """Join along an axis; each part gets its piece of the gradient."""
    sizes = [np.shape(plain(part)) for part in parts]
    if not sizes or not all(-len(size) <= axis < len(size) for size in sizes):
        raise ValueError(
            f"concatenate of shapes {sizes} along axis {axis}: give at least one part, each with this axis; "
            "stack joins along a new one"
        )
    ends = [0, *accumulate(size[axis] for size in sizes)]
    before = (slice(None),) * (axis % len(sizes[0]))

    def piece(start: int, end: int) -> Any:
        return lambda g, y, *parts: g[(*before, slice(start, end))]

    pieces = [piece(start, end) for start, end in pairwise(ends)]
    return apply("concatenate", tuple(parts), lambda *parts: np.concatenate(parts, axis), *pieces)


def stack(parts: Sequence[Any], axis: int = 0) -> Any:
    """Join along a new axis; each part gets its slice of the gradient."""
    if not len(parts):
        raise ValueError("stack of no parts: give at least one")
    before = (slice(None),) * (axis % (np.ndim(plain(parts[0])) + 1))

    def one(i: int) -> Any:
        return lambda g, y, *parts: g[(*before, i)]

    return apply("stack", tuple(parts), lambda *parts: np.stack(parts, axis), *map(one, range(len(parts))))


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """A border of `value`, (before, after) for each axis. The border is constant, so the gradient is cut to the inside."""

    def inside(size: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(before, before + n) for (before, _), n in zip(widths, size))

    def forward(x: np.ndarray) -> np.ndarray:
        if len(widths) != x.ndim or min(map(min, widths), default=0) < 0:
            raise ValueError(f"widths {widths} for {x.ndim} axes: give (before, after) for each axis, 0 or more")
        y = np.full([before + n + after for (before, after), n in zip(widths, x.shape)], value, x.dtype)
        y[inside(x.shape)] = x
        return y

    return apply("pad", (x,), forward, lambda g, y, x: g[inside(x.shape)])
