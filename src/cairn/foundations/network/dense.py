"""The fully connected layer: y = x W^T + b, each output a weighted sum of all inputs.

With g = dL/dy for a batch of rows, the chain rule gives each product its partner:

    dL/dW = g^T x        dL/db = the sum of g over the rows        dL/dx = g W

which is three matrix products where the forward pass has one.

>>> layer = Dense(3, 2, np.random.default_rng(0))
>>> x_BI = Tensor(np.arange(12.0).reshape(4, 3), requires_grad=True)
>>> y_BO = layer(x_BI)
>>> g_BO = np.ones((4, 2))
>>> y_BO.backward(g_BO)
>>> W, b = layer.weight, layer.bias
>>> [bool(np.allclose(*pair)) for pair in ((W.grad, g_BO.T @ x_BI.data), (b.grad, g_BO.sum(0)), (x_BI.grad, g_BO @ W.data))]
[True, True, True]
"""

import numpy as np

from cairn.foundations.network.initialisers import Initialiser, he_normal
from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor


class Dense(Layer):
    """(..., inputs) -> (..., outputs). weight (outputs, inputs), as torch.nn.Linear; the bias begins at 0."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: np.random.Generator,
        bias: bool = True,
        initialiser: Initialiser = he_normal,
    ):
        self.weight = Tensor(initialiser((outputs, inputs), rng), requires_grad=True)
        self.bias = Tensor(np.zeros(outputs), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias
