"""Softmax and its relatives: scores become probabilities, and no score is too large for it.

softmax(x) does not change when the same number is added to all scores of a row, so the largest is subtracted first: every
power is then at most 1. log(softmax(x)) is x - logsumexp(x); taking the logarithm afterwards would give log(0) as soon as a
probability is too small for the number format.

>>> from cairn.foundations.tensor import Tensor
>>> scores = Tensor([[1000.0, 999.0, -1000.0]], requires_grad=True)
>>> softmax(scores).data.round(4)
array([[0.7311, 0.2689, 0.    ]])
>>> log_softmax(scores)[0, 2].backward()
>>> scores.grad.round(4)  # one more for its own score, less what each is likely
array([[-0.7311, -0.2689,  1.    ]])
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.elementary import exp
from cairn.foundations.tensor.graph import apply
from cairn.foundations.tensor.reductions import Axis, restore, sum


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x over its sum along the axis. A row of -inf alone, of which nothing may be chosen, gives zeros.

    dy_i/dx_j = y_i (1[i = j] - y_j); summed over i with the gradient g: y (g - sum(g y)).
    """
    return apply("softmax", (x,), lambda x: _softmax(x, axis), lambda g, y, x: (g - sum(g * y, axis, True)) * y)


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    x = _real(x)
    y = x - _largest(x, axis)
    np.exp(y, out=y)
    total = y.sum(axis, keepdims=True)
    total += total == 0
    y /= total
    return y


def _real(x: Any) -> np.ndarray:
    """Whole numbers as float64; there is no room for a share in them."""
    return np.asarray(x, np.result_type(x, 0.0))


def _largest(x: np.ndarray, axis: int) -> np.ndarray:
    """What is subtracted before e^x: 0 where all are -inf, since -inf - -inf is not a number."""
    top = x.max(axis, keepdims=True)
    return np.where(np.isneginf(top), 0, top)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - logsumexp(x): logarithms of probabilities. dy_i/dx_j = 1[i = j] - e^(y_j)."""

    def forward(x: np.ndarray) -> np.ndarray:
        x = _real(x)
        y = x - x.max(axis, keepdims=True)
        y -= np.log(np.exp(y).sum(axis, keepdims=True))
        return y

    return apply("log_softmax", (x,), forward, lambda g, y, x: g - exp(y) * sum(g, axis, True))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(e^x)): a smooth maximum, whose slopes are the softmax."""

    def forward(x: np.ndarray) -> np.ndarray:
        top = x.max(axis, keepdims=True)
        top = np.where(np.isinf(top), 0, top)  # inf - inf is not a number
        with np.errstate(divide="ignore"):  # log(0) is the -inf that it should be
            y = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
        return y if keepdims else y.reshape(np.sum(x, axis).shape)

    def rule(g: Any, y: Any, x: Any) -> Any:
        return restore(g, x.shape, axis) * exp(x - restore(y, x.shape, axis))

    return apply("logsumexp", (x,), forward, rule)
