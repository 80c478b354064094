"""Two networks for small pictures: one that does not know what a picture is, and one that does.

The MLP gets the pixels as a list; it would do as well if they were shuffled. The CNN looks through small windows that slide
over the picture, and pools: neighbourhood is built in, and a digit's stroke is learned once for all places.

>>> from cairn.foundations.tensor import Tensor
>>> rng = np.random.default_rng(0)
>>> for build in (mlp, cnn):
...     model = build((1, 8, 8), 10, rng)
...     print(sum(w.size for w in model.parameters().values()), model(Tensor(np.zeros((2, 1, 8, 8)))).shape)
85002 (2, 10)
21482 (2, 10)
"""

import math

import numpy as np

from cairn.foundations.network import BatchNorm, Conv2d, Dense, Dropout, Flatten, Layer, MaxPool2d, ReLU, Sequential

Shape = tuple[int, int, int]  # channels, height, width


def mlp(shape: Shape, classes: int, rng: np.random.Generator, width: int = 256, dropout: float = 0.2) -> Sequential:
    """Two hidden layers of ReLUs on the flat picture."""
    return Sequential(
        Flatten(),
        Dense(math.prod(shape), width, rng),
        ReLU(),
        Dropout(dropout, rng),
        Dense(width, width, rng),
        ReLU(),
        Dropout(dropout, rng),
        Dense(width, classes, rng),
    )


def cnn(shape: Shape, classes: int, rng: np.random.Generator, filters: int = 32, dropout: float = 0.2) -> Sequential:
    """Convolution, normalization, ReLU, pooling; each time half the size and twice the filters, until 2 or 3 pixels are
    left; then one dense layer."""
    channels, height, width = shape
    layers: list[Layer] = []
    while min(height, width) >= 4:
        layers += [Conv2d(channels, filters, 3, rng, padding=1, bias=False), BatchNorm(filters), ReLU(), MaxPool2d(2)]
        channels, filters, height, width = filters, 2 * filters, height // 2, width // 2
    return Sequential(*layers, Flatten(), Dropout(dropout, rng), Dense(channels * height * width, classes, rng))
