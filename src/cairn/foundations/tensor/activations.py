"""Activations: what makes a network more than one matrix, each calculated so that +-1000 does no harm.

e^x leaves the range of float64 at x = 710. A formula that is right on paper can then be infinity divided by infinity; each
function below is therefore written with e^-|x|, which never leaves it.

>>> import numpy as np
>>> from cairn.foundations.tensor import Tensor
>>> x = Tensor([-1000.0, 0.0, 1000.0], requires_grad=True)
>>> sigmoid(x).data, softplus(x).data.round()
(array([0. , 0.5, 1. ]), array([   0.,    1., 1000.]))
>>> gelu(x).sum().backward()
>>> x.grad
array([0. , 0.5, 1. ])
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.error_function import normal_cdf
from cairn.foundations.tensor.graph import apply, plain


def relu(x: Any) -> Any:
    """max(x, 0). The slope is 1 where x is positive; in the corner at 0 it is taken to be 0."""
    return apply("relu", (x,), lambda x: np.maximum(x, 0), lambda g, y, x: g * (plain(y) > 0))


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where it is positive, else slope * x: a unit that is off still learns a little."""

    def rule(g: Any, y: Any, x: Any) -> Any:
        values = plain(x)
        return g * ((values > 0) + values.dtype.type(slope) * (values <= 0))

    return apply("leaky_relu", (x,), lambda x: np.maximum(x, 0) + slope * np.minimum(x, 0), rule)


def tanh(x: Any) -> Any:
    """(e^x - e^-x) / (e^x + e^-x), of slope 1 - y^2."""
    return apply("tanh", (x,), np.tanh, lambda g, y, x: g * (1 - y * y))


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), of slope y (1 - y). For a negative x it is e^x / (1 + e^x): the same, without a large power."""

    def forward(x: np.ndarray) -> np.ndarray:
        # Two powers are quicker than choosing by a mask, where a processor guesses wrong half of the time.
        return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))

    return apply("sigmoid", (x,), forward, lambda g, y, x: g * (y * (1 - y)))


def silu(x: Any) -> Any:
    """x sigmoid(x), also called swish."""
    return x * sigmoid(x)


def softplus(x: Any) -> Any:
    """log(1 + e^x), a relu with a round corner: max(x, 0) + log(1 + e^-|x|). Its slope is the sigmoid."""

    def forward(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    return apply("softplus", (x,), forward, lambda g, y, x: g * sigmoid(x))


def gelu(x: Any, approximate: bool = False) -> Any:
    """x times the share of normal random numbers below x (Hendrycks & Gimpel 2016).

    approximate: with a tanh in place of the normal distribution, as GPT-2 has it; up to 0.0005 away from the exact one.
    """
    if approximate:
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)  # sqrt(2 / pi); x**3 would call the slow pow
        return 0.5 * x * (1 + tanh(inner))
    return x * normal_cdf(x)
