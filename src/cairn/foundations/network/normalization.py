"""Normalization: outputs of a layer brought to mean 0 and spread 1, then scaled and moved by learned amounts.

    y = weight * (x - mean) / sqrt(variance + eps) + bias

Layer normalization takes mean and variance over the features of each example: the same in learning and in use. Batch
normalization takes them over the examples of a batch, for each feature; in use there may be one example only, so it keeps a
running mean of what it saw. With h = (x - mean) / s and g = dL/dh, mean and s depend on x as well, and so over n values

    dL/dx = (g - mean(g) - h mean(g h)) / s

which has no part along a constant and none along h: moving or stretching all x together changes nothing.

>>> rng = np.random.default_rng(0)
>>> x_BC = rng.normal(5.0, 3.0, size=(64, 4))
>>> layer = BatchNorm(4)
>>> y = layer(Tensor(x_BC)).data
>>> bool(np.allclose(y.mean(0), 0)), bool(np.allclose(y.std(0), 1, atol=1e-5))
(True, True)
>>> bool(np.allclose(layer.running_mean, x_BC.mean(0) / 10))  # a tenth of the way from 0 to this batch's
True
>>> x = Tensor(x_BC, requires_grad=True)
>>> h = LayerNorm(4, eps=0.0)(x)
>>> h.backward(rng.normal(size=(64, 4)))
>>> bool(np.allclose(x.grad.sum(1), 0)), bool(np.allclose((x.grad * h.data).sum(1), 0))
(True, True)
"""

import numpy as np

from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor, batch_norm, layer_norm


class LayerNorm(Layer):
    """Over the last axis, of `features` values: torch.nn.LayerNorm (Ba et al. 2016)."""

    def __init__(self, features: int, eps: float = 1e-5):
        self.weight = Tensor(np.ones(features), requires_grad=True)
        self.bias = Tensor(np.zeros(features), requires_grad=True)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, eps=self.eps)


class BatchNorm(Layer):
    """Of axis 1 over all others: torch.nn.BatchNorm1d and 2d (Ioffe and Szegedy 2015). x: (B, C) or (B, C, H, W).

    momentum: how far the running statistics move towards each batch's.
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.weight = Tensor(np.ones(features), requires_grad=True)
        self.bias = Tensor(np.zeros(features), requires_grad=True)
        self.running_mean, self.running_var = np.zeros(features), np.ones(features)
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        running = self.running_mean, self.running_var
        return batch_norm(x, self.weight, self.bias, running, self.training, eps=self.eps, momentum=self.momentum)
