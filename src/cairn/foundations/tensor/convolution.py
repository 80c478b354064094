"""Convolution of images: the same small filter at every place, calculated as matrix products.

Every place sees a window of the image. Written as columns of a matrix (C KH KW rows, one column a place; "im2col"), all
windows meet all filters in one product, which is what a processor does best. Making the columns is copying, and that is
quick when it copies long runs: so the images of a batch lie beside each other in memory, (C, H, W, B), and what one corner
of the filter sees along a row is one run of W' B values. The result has the same order, for the next operation to use; its
shape is (B, C, H, W) as everywhere. Columns are made for a few rows of places at a time and used while they are in the cache.

Convolution is linear in the image x and in the filter w, so it has three faces, each the derivative of the others: y from
(x, w), dL/dx from (dL/dy, w), dL/dw from (dL/dy, x). Their rules call one another, to any order.

Shapes: B images, C and O channels in and out, H and W height and width, K of a filter.

>>> from cairn.foundations.tensor import Tensor
>>> x = Tensor(np.arange(16.0).reshape(1, 1, 4, 4))
>>> w = Tensor([[[[-1.0, 1.0]]]], requires_grad=True)  # a difference to the neighbour on the left
>>> y = conv2d(x, w)
>>> y.data[0, 0, 0]
array([1., 1., 1.])
>>> y.sum().backward()
>>> w.grad.ravel()
array([84., 96.])
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cairn.foundations.tensor.graph import apply, plain
from cairn.foundations.tensor.shapes import reshape

_BLOCK = 1 << 17  # values of the columns made at a time


class Geometry(NamedTuple):
    """How a filter moves over images: all sizes in values."""

    channels: int
    height: int
    width: int
    filter_height: int
    filter_width: int
    stride: int
    padding: int

    @property
    def result(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        rows, columns = self.height + 2 * self.padding, self.width + 2 * self.padding
        return (rows - self.filter_height) // self.stride + 1, (columns - self.filter_width) // self.stride + 1

    @property
    def window(self) -> int:
        """Values that a place sees."""
        return self.channels * self.filter_height * self.filter_width

    def blocks(self, batch: int) -> Iterator[slice]:
        """Rows of places, so many at a time that their columns are about `_BLOCK` values."""
        height, width = self.result
        step = max(1, _BLOCK // max(1, self.window * width * batch))
        return (slice(row, min(row + step, height)) for row in range(0, height, step))

    def seen(self, padded: np.ndarray, rows: slice) -> list[np.ndarray]:
        """For each value of the filter, the view (C, rows, W', B) of the padded images that it meets at these places."""
        stride, width = self.stride, self.result[1]
        return [
            padded[:, i + rows.start * stride : i + rows.stop * stride : stride, j : j + width * stride : stride][
                :, : rows.stop - rows.start
            ]
            for i in range(self.filter_height)
            for j in range(self.filter_width)
        ]

    def inside(self) -> tuple[slice, slice, slice]:
        """The images in their border of zeros."""
        p = self.padding
        return slice(None), slice(p, p + self.height), slice(p, p + self.width)

    def padded(self, batch: int, dtype: Any) -> np.ndarray:
        p = 2 * self.padding
        return np.zeros((self.channels, self.height + p, self.width + p, batch), dtype)


def batch_last(x_BCHW: np.ndarray) -> np.ndarray:
    """As (C, H, W, B) in one piece of memory; no copy if it came from an operation that left it so."""
    return np.ascontiguousarray(x_BCHW.transpose(1, 2, 3, 0))


def batch_first(x_CHWB: np.ndarray) -> np.ndarray:
    """The shape (B, C, H, W) again, without moving anything."""
    return x_CHWB.transpose(3, 0, 1, 2)


def check_whole(**numbers: Any) -> None:
    """ValueError for what is not one whole number, such as a pair."""
    for name, number in numbers.items():
        if not isinstance(number, (int, np.integer)):
            raise ValueError(f"{name}={number!r}: give one whole number, which is used for height and width")


def conv2d(x_BCHW: Any, w_OCKK: Any, bias_O: Any = None, stride: int = 1, padding: int = 0) -> Any:
    """(B, C, H, W) images and (O, C, KH, KW) filters give (B, O, H', W') with H' = (H + 2 padding - KH) // stride + 1.

    Cross-correlation, as all libraries call convolution: the filter is not mirrored. padding: zeros around the image.
    """
    check_whole(stride=stride, padding=padding)
    x_shape, w_shape = np.shape(plain(x_BCHW)), np.shape(plain(w_OCKK))
    if len(x_shape) != 4 or len(w_shape) != 4 or x_shape[1] != w_shape[1] or 0 in w_shape:
        raise ValueError(
            f"conv2d of shapes {x_shape} and {w_shape}: images are (batch, channels, height, width) and filters "
            "(channels out, channels, height, width), none of them 0, with as many channels as the images"
        )
    geometry = Geometry(*x_shape[1:], *w_shape[2:], stride, padding)
    if stride < 1 or padding < 0 or min(geometry.result) < 1:
        raise ValueError(
            f"conv2d of stride {stride} and padding {padding}: a filter of {w_shape[2:]} does not fit into images of "
            f"{x_shape[2:]}; the stride is at least 1, and padding makes an image larger"
        )
    y = _convolve(x_BCHW, w_OCKK, geometry)
    return y if bias_O is None else y + reshape(bias_O, (-1, 1, 1))


def _convolve(x: Any, w: Any, geometry: Geometry) -> Any:
    """y: filters times columns."""

    def forward(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        filters = w.reshape(len(w), -1)
        y_OHWB = np.empty((len(w), *geometry.result, len(x)), np.result_type(x, w))
        for rows, columns in _columns(x, geometry):
            np.matmul(filters, columns, out=_flat(y_OHWB, rows))
        return batch_first(y_OHWB)

    return apply(
        "conv2d",
        (x, w),
        forward,
        lambda g, y, x, w: _to_input(g, w, geometry),
        lambda g, y, x, w: _to_filter(g, x, geometry),
    )


def _to_filter(g: Any, x: Any, geometry: Geometry) -> Any:
    """dL/dw: the gradient at each place times the window seen there, summed over places."""

    def forward(g: np.ndarray, x: np.ndarray) -> np.ndarray:
        g_OHWB = batch_last(g)
        total = np.zeros((len(g_OHWB), geometry.window), np.result_type(g, x))
        for rows, columns in _columns(x, geometry):
            total += _flat(g_OHWB, rows) @ columns.T
        return total.reshape(-1, geometry.channels, geometry.filter_height, geometry.filter_width)

    return apply(
        "conv2d_filter",
        (g, x),
        forward,
        lambda h, y, g, x: _convolve(x, h, geometry),
        lambda h, y, g, x: _to_input(g, h, geometry),
    )


def _to_input(g: Any, w: Any, geometry: Geometry) -> Any:
    """dL/dx: every place sends its gradient, weighted by the filter, to all that it saw ("col2im")."""

    def forward(g: np.ndarray, w: np.ndarray) -> np.ndarray:
        g_OHWB = batch_last(g)
        filters = w.reshape(len(w), -1)
        padded = geometry.padded(len(g), np.result_type(g, w))
        for rows in geometry.blocks(len(g)):
            targets = geometry.seen(padded, rows)
            sent = (filters.T @ _flat(g_OHWB, rows)).reshape(geometry.channels, len(targets), *targets[0].shape[1:])
            for number, target in enumerate(targets):
                target += sent[:, number]
        return batch_first(padded[geometry.inside()])

    return apply(
        "conv2d_input",
        (g, w),
        forward,
        lambda h, y, g, w: _convolve(h, w, geometry),
        lambda h, y, g, w: _to_filter(g, h, geometry),
    )


def _flat(y_OHWB: np.ndarray, rows: slice) -> np.ndarray:
    """Rows of places as a view (O, places)."""
    return y_OHWB[:, rows].reshape(len(y_OHWB), -1)


def _columns(x: np.ndarray, geometry: Geometry) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of places, and for each the columns (C KH KW, places); they are overwritten by the next ones."""
    padded = geometry.padded(len(x), x.dtype)
    padded[geometry.inside()] = x.transpose(1, 2, 3, 0)
    memory = np.empty(0, x.dtype)
    for rows in geometry.blocks(len(x)):
        sources = geometry.seen(padded, rows)
        size = geometry.channels * len(sources) * sources[0][0].size
        memory = memory if memory.size >= size else np.empty(size, x.dtype)
        columns = memory[:size].reshape(geometry.channels, len(sources), *sources[0].shape[1:])
        for number, source in enumerate(sources):
            columns[:, number] = source
        yield rows, columns.reshape(geometry.window, -1)
