"""Embedding: a table with a row for each word, and a layer that looks rows up.

It is a dense layer on one-hot vectors, without the multiplications by 0. So the gradient of a row is the sum of what arrives
at all its uses, and rows that a batch does not use have none.

>>> layer = Embedding(4, 2, np.random.default_rng(0))
>>> layer(np.array([3, 1, 3])).sum().backward()
>>> layer.weight.grad
array([[0., 0.],
       [1., 1.],
       [0., 0.],
       [2., 2.]])
"""

import numpy as np

from cairn.foundations.network.initialisers import Initialiser, normal
from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor, embedding


class Embedding(Layer):
    """Integers (...) below `rows` -> (..., width). weight (rows, width)."""

    def __init__(self, rows: int, width: int, rng: np.random.Generator, initialiser: Initialiser = normal):
        self.weight = Tensor(initialiser((rows, width), rng), requires_grad=True)

    def forward(self, x: np.ndarray) -> Tensor:
        return embedding(self.weight, x)
