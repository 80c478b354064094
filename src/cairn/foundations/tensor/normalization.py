"""Layer, batch and RMS normalization: values brought to mean 0 and spread 1, then scaled and shifted as was learned.

All of them are one operation over different axes. With r = 1 / sqrt(var + eps) and y = (x - mean) r, a change of x moves the
mean and the spread too; collecting the three ways gives dL/dx = r (g - mean(g) - y mean(g y)). The gradient has no
part along the mean and none along y: what normalization takes out of x cannot be learned through it.

>>> from cairn.foundations.tensor import Tensor
>>> x = Tensor([[1.0, 2.0, 3.0, 6.0]], requires_grad=True)
>>> y = layer_norm(x, np.ones(4), np.zeros(4))
>>> y.data.round(3)
array([[-1.069, -0.535,  0.   ,  1.604]])
>>> y[0, 3].backward()
>>> abs(float(x.grad.sum())) < 1e-12
True
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import Variable, apply, plain
from cairn.foundations.tensor.reductions import mean, var
from cairn.foundations.tensor.shapes import reshape

Axes = int | tuple[int, ...]


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """Each vector along the last axis normalized by itself (Ba et al. 2016). weight, bias: (D,), or None."""
    return _scale(_standardize(x, -1, eps), weight, bias)


def batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    running: tuple[np.ndarray, np.ndarray] | None = None,
    training: bool = True,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> Any:
    """Each channel (axis 1 of (B, C) or (B, C, H, W)) normalized over the batch (Ioffe & Szegedy 2015).

    In training by this batch's mean and variance, of which `running` (mean, variance) takes the share `momentum`, in place,
    the variance with n - 1; otherwise by `running` itself.
    """
    values = plain(x)
    if values.ndim < 2:
        raise ValueError(f"batch_norm of shape {values.shape}: axis 0 is the batch and axis 1 the channels")
    if running is not None and any(getattr(part, "shape", None) != values.shape[1:2] for part in running):
        raise ValueError(
            f"running mean and variance of shapes {[np.shape(part) for part in running]}: each is an array of shape "
            f"{values.shape[1:2]}, one number for each channel of {values.shape}"
        )
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    channel = (1, -1, *(1,) * (values.ndim - 2))
    if not training:
        if running is None:
            raise ValueError("batch_norm outside of training normalizes by running=(mean, variance): give both")
        # In the format of x: running values in float64 would make all that follows float64.
        shift, spread = (part.astype(np.result_type(values, 0.0), copy=False).reshape(channel) for part in running)
        y = (x - shift) * (1 / np.sqrt(spread + eps))
    else:
        count = values.size // values.shape[1]
        if count < 2:
            raise ValueError(f"batch_norm of shape {values.shape} in training: one value a channel has no spread")
        y = _standardize(x, axes, eps)
        if running is not None:
            running[0][...] += momentum * (values.mean(axes) - running[0])
            running[1][...] += momentum * (values.var(axes, ddof=1) - running[1])
    return _scale(
        y, None if weight is None else reshape(weight, channel), None if bias is None else reshape(bias, channel)
    )


def rms_norm(x: Any, weight: Any, eps: float = 1e-6) -> Any:
    """x over its root mean square along the last axis (Zhang & Sennrich 2019): dL/dx = r (g - y mean(g y))."""

    def forward(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(_mean_square(x, -1) + eps)

    def rule(g: Any, y: Any, x: Any) -> Any:
        size = (mean(x * x, -1, keepdims=True) + eps) ** 0.5
        return (g - y * mean(g * y, -1, keepdims=True)) / size

    return _scale(apply("rms_norm", (x,), forward, rule), weight, None)


def _scale(y: Any, weight: Any, bias: Any) -> Any:
    scaled = y if weight is None else y * weight
    scaled = scaled if bias is None else scaled + bias
    if scaled.shape != y.shape:
        raise ValueError(
            f"normalization of shape {y.shape} with weight of shape {np.shape(plain(weight))} and bias of shape "
            f"{np.shape(plain(bias))}: each has one number for each value along the normalized axis, or for each channel"
        )
    return scaled


def _mean_square(x: np.ndarray, axes: Axes) -> np.ndarray:
    """Of the last axis as inner products, which take no memory for the squares."""
    if axes == -1:
        return np.vecdot(x, x)[..., None] / x.shape[-1]
    return np.square(x).mean(axes, keepdims=True)


def _standardize(x: Any, axes: Axes, eps: float) -> Any:
    """(x - mean) / sqrt(var + eps) over the axes."""
    size: Any = None

    def forward(x: np.ndarray) -> np.ndarray:
        nonlocal size
        y = x - x.mean(axes, keepdims=True)
        size = np.sqrt(_mean_square(y, axes) + eps)
        y /= size
        return y

    def rule(g: Any, y: Any, x: Any) -> Any:
        # The number that forward found, or, to derive it again, the same number as a calculation from x.
        divisor = (var(x, axes, keepdims=True) + eps) ** 0.5 if isinstance(x, Variable) else size
        return (g - mean(g, axes, keepdims=True) - y * mean(g * y, axes, keepdims=True)) / divisor

    return apply("standardize", (x,), forward, rule)
