"""Pooling: an image made smaller, by the largest or the mean of each window.

The largest value gets the whole gradient of its window (of equal ones the first, as in torch); a mean divides it equally. As
in convolution, the images of a batch lie beside each other in memory, so that each step is one over whole runs of it.

>>> from cairn.foundations.tensor import Tensor
>>> x = Tensor([[[[1.0, 2.0, 0.0, 1.0], [4.0, 3.0, 1.0, 0.0]]]], requires_grad=True)
>>> y = max_pool2d(x, 2)
>>> y.data.ravel()
array([4., 1.])
>>> y.sum().backward()
>>> x.grad[0, 0]
array([[0., 0., 0., 1.],
       [1., 0., 0., 0.]])
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.convolution import batch_first, batch_last, check_whole
from cairn.foundations.tensor.graph import apply, plain

Corners = list[tuple[slice, slice]]


def max_pool2d(x_BCHW: Any, size: int, stride: int | None = None) -> Any:
    """Largest value of each window of size x size: (B, C, H', W') with H' = (H - size) // stride + 1. stride: size."""
    corners = _corners(x_BCHW, size, stride)

    def forward(x: np.ndarray) -> np.ndarray:
        seen = _seen(batch_last(x), corners)
        y = seen[0].copy()
        for values in seen[1:]:
            np.maximum(y, values, out=y)
        return batch_first(y)

    def rule(g: Any, y: Any, x: Any) -> Any:
        largest = batch_last(plain(y))
        left = np.ones(largest.shape, bool)
        shares = []
        for values in _seen(batch_last(plain(x)), corners):
            hit = values == largest
            hit &= left
            left ^= hit
            shares.append(hit)
        return _spread(g, shares, corners, x.shape)

    return apply("max_pool2d", (x_BCHW,), forward, rule)


def avg_pool2d(x_BCHW: Any, size: int, stride: int | None = None) -> Any:
    """Mean of each window of size x size: (B, C, H', W') with H' = (H - size) // stride + 1. stride: size."""
    corners = _corners(x_BCHW, size, stride)
    return _gather(x_BCHW, [1 / size**2] * len(corners), corners)


def _gather(x: Any, shares: list[Any], corners: Corners) -> Any:
    """Each window's values times their shares (numbers, or arrays (C, H', W', B)), summed."""

    def forward(x: np.ndarray) -> np.ndarray:
        seen = _seen(batch_last(x), corners)
        y = seen[0] * shares[0]
        for values, share in zip(seen[1:], shares[1:]):
            y += values * share
        return batch_first(y)

    return apply("pool", (x,), forward, lambda g, y, x: _spread(g, shares, corners, x.shape))


def _spread(g: Any, shares: list[Any], corners: Corners, shape: tuple[int, ...]) -> Any:
    """The way back of `_gather`, whose rule it is and whose derivative it has."""

    def forward(g: np.ndarray) -> np.ndarray:
        g_CHWB = batch_last(g)
        dx_CHWB = np.zeros((*shape[1:], shape[0]), g.dtype)
        for target, share in zip(_seen(dx_CHWB, corners), shares):
            target += g_CHWB * share
        return batch_first(dx_CHWB)

    return apply("unpool", (g,), forward, lambda h, y, g: _gather(h, shares, corners))


def _seen(x_CHWB: np.ndarray, corners: Corners) -> list[np.ndarray]:
    """For each corner of the window the values that it meets, one for each window."""
    return [x_CHWB[:, rows, columns] for rows, columns in corners]


def _corners(x: Any, size: int, stride: int | None) -> Corners:
    stride = size if stride is None else stride
    check_whole(size=size, stride=stride)
    shape = np.shape(plain(x))
    if len(shape) != 4 or size < 1 or stride < 1 or min(shape[2:]) < size:
        raise ValueError(
            f"pooling of windows {size} x {size}, stride {stride}, in shape {shape}: "
            "images are (batch, channels, height, width), and a window must fit into one"
        )
    height, width = ((n - size) // stride + 1 for n in shape[2:])
    return [
        (slice(i, i + stride * height, stride), slice(j, j + stride * width, stride))
        for i in range(size)
        for j in range(size)
    ]
