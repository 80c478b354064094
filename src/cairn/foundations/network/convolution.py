"""Convolution, pooling, flattening: layers for pictures.

A convolution is one small dense layer that looks through a window, and the window slides over the picture: what it learns
about an edge in one corner holds in all of them, and it needs 9 weights where a dense layer would need one for each pixel.
Pooling keeps the strongest (or the mean) of each block, so that the next layer sees further.

>>> edge = Conv2d(1, 1, 3, np.random.default_rng(0), padding=1, bias=False)
>>> edge.weight.data[...] = np.array([[0, 0, 0], [-1, 1, 0], [0, 0, 0]])  # a pixel less its left neighbour
>>> picture = np.zeros((1, 1, 3, 4)); picture[..., 2:] = 1
>>> edge(Tensor(picture)).data[0, 0]
array([[0., 0., 1., 0.],
       [0., 0., 1., 0.],
       [0., 0., 1., 0.]])
"""

import numpy as np

from cairn.foundations.network.initialisers import Initialiser, he_normal
from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor, avg_pool2d, conv2d, max_pool2d


class Conv2d(Layer):
    """(B, channels, H, W) -> (B, filters, H', W') with H' = (H + 2 padding - size) // stride + 1.

    weight (filters, channels, size, size), as torch.nn.Conv2d; the bias begins at 0.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        rng: np.random.Generator,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        initialiser: Initialiser = he_normal,
    ):
        self.weight = Tensor(initialiser((filters, channels, size, size), rng), requires_grad=True)
        self.bias = Tensor(np.zeros(filters), requires_grad=True) if bias else None
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


class MaxPool2d(Layer):
    """The largest of each block of size x size; the gradient goes to that one alone."""

    def __init__(self, size: int):
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, self.size)


class AvgPool2d(Layer):
    """The mean of each block of size x size; the gradient is shared out evenly."""

    def __init__(self, size: int):
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.size)


class Flatten(Layer):
    """(B, ...) -> (B, values)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1)
