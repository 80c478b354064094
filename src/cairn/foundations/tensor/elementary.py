"""Exponential, logarithm, root, sine and cosine: functions of one number whose derivatives are known by heart.

Several are cheapest by their own result: y = e^x has the slope y, y = sqrt(x) has 1 / (2 y).

>>> from cairn.foundations.tensor import Tensor, grad
>>> x = Tensor([0.0, 1.0], requires_grad=True)
>>> (first,) = grad(sin(x).sum(), [x], create_graph=True)
>>> (second,) = grad(first.sum(), [x])  # the derivative of cos is -sin
>>> second.data.round(6) + 0.0
array([ 0.      , -0.841471])
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import apply


def exp(x: Any) -> Any:
    """e^x, which is its own slope."""
    return apply("exp", (x,), np.exp, lambda g, y, x: g * y)


def log(x: Any) -> Any:
    """Natural logarithm, of slope 1 / x."""
    return apply("log", (x,), np.log, lambda g, y, x: g / x)


def sqrt(x: Any) -> Any:
    """Square root: from y^2 = x follows 2 y dy = dx."""
    return apply("sqrt", (x,), np.sqrt, lambda g, y, x: g / (2 * y))


def sin(x: Any) -> Any:
    """Sine of radians, of slope cos x."""
    return apply("sin", (x,), np.sin, lambda g, y, x: g * cos(x))


def cos(x: Any) -> Any:
    """Cosine of radians, of slope -sin x."""
    return apply("cos", (x,), np.cos, lambda g, y, x: g * -sin(x))
