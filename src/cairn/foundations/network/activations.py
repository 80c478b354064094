"""Activations: the bend between two layers, without which any number of them would be one matrix.

    ReLU        max(x, 0)               gradient 1 or 0: cheap, never saturates above, and can die below
    leaky ReLU  max(x, slope x)         cannot die
    sigmoid     1 / (1 + e^-x)          gradient s (1 - s), at most 1/4: a few layers of it and little is left
    tanh        2 sigmoid(2 x) - 1      gradient 1 - t^2: centred on 0, saturates as well
    GELU        x Phi(x)                ReLU with a soft corner: x weighted by the chance that a normal number lies below
    SiLU        x sigmoid(x)            about the same, cheaper
    softplus    log(1 + e^x)            a soft ReLU, whose gradient is the sigmoid
    softmax     e^x_i / sum_j e^x_j     probabilities over the last axis

>>> import numpy as np
>>> x = Tensor(np.array([-2.0, 0.5, 3.0]), requires_grad=True)
>>> LeakyReLU(0.1)(x).data
array([-0.2,  0.5,  3. ])
>>> Sigmoid()(x).sum().backward()
>>> s = 1 / (1 + np.exp(-x.data))
>>> bool(np.allclose(x.grad, s * (1 - s)))
True
"""

from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor, gelu, leaky_relu, relu, sigmoid, silu, softmax, softplus, tanh


class ReLU(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class LeakyReLU(Layer):
    def __init__(self, slope: float = 0.01):
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.slope)


class Sigmoid(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Tanh(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class GELU(Layer):
    """approximate: the tanh formula of Hendrycks and Gimpel 2016, which GPT-2 uses."""

    def __init__(self, approximate: bool = False):
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, approximate=self.approximate)


class SiLU(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class Softplus(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return softplus(x)


class Softmax(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, axis=-1)
