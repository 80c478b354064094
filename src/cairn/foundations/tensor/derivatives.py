"""Derivatives checked and collected: gradcheck by finite differences, Jacobian and Hessian.

Whoever writes a rule proves it with `gradcheck`: a derivative is the limit of (f(x + eps) - f(x - eps)) / (2 eps), and that needs
no rule. Central differences are off by about f''' eps^2 / 6, and by the rounding of f over eps; in float64 both are smallest,
some 1e-10, near eps = 1e-6 (`cairn foundations demo tensor-gradcheck` draws it).

>>> from cairn.foundations.tensor import Tensor
>>> x = Tensor([1.0, 2.0], requires_grad=True)
>>> hessian(lambda x: (x**3).sum() + x[0] * x[1], x)
array([[ 6.,  1.],
       [ 1., 12.]])
>>> gradcheck(lambda x: x.exp().log(), [x])
>>> gradcheck(lambda x: x * x.detach(), [x])  # of one factor nothing comes back
Traceback (most recent call last):
ValueError: gradient of input 0 at (0,) is 1.137, but by finite differences 2.274: its rule is wrong, or f is not smooth there
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cairn.foundations.tensor.tensor import Tensor, check_tensors, grad


def gradcheck(
    f: Callable[..., Tensor], inputs: Sequence[Tensor], eps: float = 1e-6, atol: float = 1e-7, rtol: float = 1e-6
) -> None:
    """ValueError unless the gradients of f(*inputs) by all inputs that require one agree with central differences.

    A tensor of results is checked through one random weighted sum of them, in which no error hides. Those inputs must be
    float64: float32 has too few digits for a difference. atol and rtol: what may differ, plus that share of the value.
    """
    check_tensors(inputs)
    if not any(x.requires_grad for x in inputs):
        raise ValueError("gradcheck of inputs of which none has requires_grad=True: there is nothing to check")
    for i, x in enumerate(inputs):
        if x.requires_grad and x.dtype != np.float64:
            raise ValueError(
                f"gradcheck of input {i} of type {x.dtype}: differences need float64, use astype(np.float64)"
            )
    # The caller's tensors stay as they are, gradients included.
    own = [Tensor(x.data.copy(), x.requires_grad) for x in inputs]
    weights = None

    def weighted() -> Tensor:
        nonlocal weights
        y = f(*own)
        if weights is None:
            weights = np.random.default_rng(0).uniform(0.5, 1.5, y.shape)
        return (y * weights).sum()

    checked = [x for x in own if x.requires_grad]
    analytic = iter(grad(weighted(), checked, allow_unused=True))
    for i, x in enumerate(own):
        if not x.requires_grad:
            continue
        gradient = next(analytic).data
        for place in np.ndindex(x.shape):
            numeric = _slope(weighted, x.data, place, eps)
            if not abs(gradient[place] - numeric) <= atol + rtol * abs(numeric):
                raise ValueError(
                    f"gradient of input {i} at {place} is {gradient[place]:.4g}, but by finite differences {numeric:.4g}: "
                    "its rule is wrong, or f is not smooth there"
                )


def _slope(f: Callable[[], Tensor], array: np.ndarray, place: tuple[int, ...], eps: float) -> float:
    """Central difference of f() by one value of `array`, which is changed and put back."""
    value = array[place]
    array[place] = value + eps
    above = f().item()
    array[place] = value - eps
    below = f().item()
    array[place] = value
    return (above - below) / (2 * eps)


def gradgradcheck(
    f: Callable[..., Tensor], inputs: Sequence[Tensor], eps: float = 1e-6, atol: float = 1e-6, rtol: float = 1e-5
) -> None:
    """`gradcheck` of the gradients themselves: of the function that gives all gradients of f, times a gradient that comes in."""
    check_tensors(inputs)
    checked = [i for i, x in enumerate(inputs) if x.requires_grad]
    y = f(*inputs)
    incoming = Tensor(np.random.default_rng(1).uniform(0.5, 1.5, y.shape), requires_grad=True)

    def gradients(*own: Tensor) -> Tensor:
        *originals, g = own
        found = grad(f(*originals), [originals[i] for i in checked], g, create_graph=True, allow_unused=True)
        rng = np.random.default_rng(2)
        total = Tensor(0.0)
        for part in found:
            total = total + (part * rng.uniform(0.5, 1.5, part.shape)).sum()
        return total

    gradcheck(gradients, [*inputs, incoming], eps, atol, rtol)


def jacobian(f: Callable[[Tensor], Tensor], x: Any) -> np.ndarray:
    """All dy_i/dx_j of y = f(x): shape (*y.shape, *x.shape). One walk through the graph for each y_i."""
    x = Tensor(x, requires_grad=True)
    return _rows(_result(f, x), x)


def hessian(f: Callable[[Tensor], Tensor], x: Any) -> np.ndarray:
    """All d2y/dx_i dx_j of a number y = f(x), shape (*x.shape, *x.shape): the Jacobian of the gradient."""
    x = Tensor(x, requires_grad=True)
    y = _result(f, x)
    if y.size != 1:
        raise ValueError(f"hessian of a function whose result has shape {y.shape}: it must be one number, sum() it")
    if not y.requires_grad:
        return np.zeros((*x.shape, *x.shape))
    (g,) = grad(y, [x], create_graph=True, allow_unused=True)
    return _rows(g, x)


def _result(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    y = f(x)
    if not isinstance(y, Tensor):
        raise ValueError(f"a function that returns {type(y).__name__}: without a Tensor nothing is known of its slope")
    return y


def _rows(y: Tensor, x: Tensor) -> np.ndarray:
    result = np.zeros((*y.shape, *x.shape), x.dtype)
    if y.requires_grad:
        for place in np.ndindex(y.shape):
            chosen = np.zeros_like(y.data)
            chosen[place] = 1
            (row,) = grad(y, [x], chosen, retain_graph=True, allow_unused=True)
            result[place] = row.data
    return result
