"""Addition, multiplication, powers and choices, element by element: the smallest operations and their rules.

Each function calculates forward and says beside it what comes back: for y = f(a, b) with derivative g = dL/dy, the rule of a
is g * df/da. The rules say nothing of shapes, since the graph sums over what was stretched.

>>> from cairn.foundations.tensor import Tensor
>>> a, b = Tensor([[1.0], [2.0]], requires_grad=True), Tensor([3.0, 4.0, 5.0], requires_grad=True)
>>> mul(a, b).sum().backward()  # shapes (2, 1) and (3,) give (2, 3)
>>> a.grad, b.grad
(array([[12.],
       [12.]]), array([3., 3., 3.]))
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import apply, plain


def add(a: Any, b: Any) -> Any:
    """a + b. Whatever a gains, y gains."""
    return apply("add", (a, b), np.add, lambda g, y, a, b: g, lambda g, y, a, b: g)


def sub(a: Any, b: Any) -> Any:
    """a - b."""
    return apply("sub", (a, b), np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: -g)


def mul(a: Any, b: Any) -> Any:
    """a * b. The slope in a is b."""
    return apply("mul", (a, b), np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)


def div(a: Any, b: Any) -> Any:
    """a / b. dy/db = -a / b^2 = -y / b."""
    return apply("div", (a, b), np.true_divide, lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)


def neg(a: Any) -> Any:
    """-a."""
    return apply("neg", (a,), np.negative, lambda g, y, a: -g)


def pow(a: Any, b: Any) -> Any:
    """a to the power b. With a number b: dy/da = b a^(b-1). With a tensor b also dy/db = log(a) y, which is 0 where a is 0
    and b is positive, since there y stays 0."""
    if isinstance(b, (int, float)):
        if b == 2:  # much the most frequent, and NumPy's general power takes longer
            return apply("square", (a,), np.square, lambda g, y, a: g * (2 * a))
        # A power 0 has slope 0 everywhere, also at 0 where 0 * a^-1 would be NaN.
        return apply("pow", (a,), lambda a: a**b, lambda g, y, a: g * (b * pow(a, b - 1)) if b else g * 0.0)

    def by_base(g: Any, y: Any, a: Any, b: Any) -> Any:
        zero = plain(b) == 0
        return g * b * pow(a, where(zero, 0.0, b - 1.0))

    def by_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
        zero = (plain(a) == 0) & (plain(b) >= 0)
        return g * y * apply("log", (where(zero, 1.0, a),), np.log, lambda g, y, a: g / a)

    return apply("pow", (a, b), np.power, by_base, by_exponent)


def abs(a: Any) -> Any:
    """|a|. The slope is the sign of a; at 0, where there is a corner, it is taken to be 0."""
    return apply("abs", (a,), np.abs, lambda g, y, a: g * np.sign(plain(a)))


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b. Each gets the gradient of the places where it was chosen."""
    chosen = np.asarray(plain(condition), bool)
    return apply(
        "where",
        (a, b),
        lambda a, b: np.where(chosen, a, b),
        lambda g, y, a, b: g * chosen,
        lambda g, y, a, b: g * ~chosen,
    )


def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b at each place. Where they are equal, each gets half of the gradient."""
    return apply(
        "maximum",
        (a, b),
        np.maximum,
        lambda g, y, a, b: g * _share(plain(a), plain(b)),
        lambda g, y, a, b: g * _share(plain(b), plain(a)),
    )


def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b at each place. Where they are equal, each gets half of the gradient."""
    return apply(
        "minimum",
        (a, b),
        np.minimum,
        lambda g, y, a, b: g * _share(plain(b), plain(a)),
        lambda g, y, a, b: g * _share(plain(a), plain(b)),
    )


def _share(a: Any, b: Any) -> np.ndarray:
    """1 where a is larger, 1/2 where both are equal, else 0."""
    dtype = np.result_type(a, b, np.float32) if np.result_type(a, b).kind != "f" else np.result_type(a, b)
    return np.where(np.equal(a, b), 0.5, np.greater(a, b)).astype(dtype, copy=False)


def clip(a: Any, low: float | None = None, high: float | None = None) -> Any:
    """a, but not below `low` and not above `high`. Outside nothing moves; on the bounds the slope is taken to be 1."""
    if low is None and high is None:
        raise ValueError("clip without bounds: give low=, high= or both")

    def inside(a: np.ndarray) -> Any:
        return (True if low is None else a >= low) & (True if high is None else a <= high)

    return apply("clip", (a,), lambda a: np.clip(a, low, high), lambda g, y, a: g * inside(plain(a)))
