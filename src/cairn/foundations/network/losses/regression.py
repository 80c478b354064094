"""Losses for numbers: how far off, and how much large misses count. With e = output - target and n values:

    mse     mean of e^2       gradient 2 e / n           of all constants the mean is best; one outlier moves everything
    l1      mean of |e|       gradient sign(e) / n       the median is best; the step is as long near the goal as far away
    huber   e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2): square near the goal, straight beyond, and smooth
            where the two meet; gradient e / n, cut to -delta / n .. delta / n

>>> x = Tensor(np.array([0.5, 3.0]), requires_grad=True)
>>> loss = huber(x, np.zeros(2))
>>> loss.backward()
>>> float(loss.data), x.grad  # (0.125 + 2.5) / 2
(1.3125, array([0.25, 0.5 ]))
"""

from typing import TypeVar

import numpy as np

from cairn.foundations.tensor import Tensor, minimum
from cairn.foundations.tensor import abs as magnitude

Target = TypeVar("Target", np.ndarray, Tensor)


def same_shape(output: Tensor, target: Target) -> Target:
    """The targets, in the outputs' type: a float64 array among float32 tensors would make everything float64."""
    target = target if isinstance(target, Tensor) else np.asarray(target)
    # Broadcasting (B, 1) against (B,) gives B x B differences and a loss that looks right: it is never meant.
    if output.shape != target.shape:
        raise ValueError(f"outputs of shape {output.shape} cannot be compared with targets of shape {target.shape}")
    return target if isinstance(target, Tensor) else target.astype(output.dtype, copy=False)


def mse(output: Tensor, target: Target) -> Tensor:
    """Mean squared error: torch.nn.functional.mse_loss."""
    error = output - same_shape(output, target)
    return (error * error).mean()


def l1(output: Tensor, target: Target) -> Tensor:
    """Mean absolute error: torch.nn.functional.l1_loss. The gradient of an exact hit is 0."""
    return magnitude(output - same_shape(output, target)).mean()


def huber(output: Tensor, target: Target, delta: float = 1.0) -> Tensor:
    """Huber 1964: torch.nn.functional.huber_loss.

    With c = min(|e|, delta) both branches are one formula, c (|e| - c / 2).
    """
    if delta <= 0:
        raise ValueError(f"delta must be positive, got {delta}")
    size = magnitude(output - same_shape(output, target))
    cut = minimum(size, delta)
    return (cut * (size - 0.5 * cut)).mean()
