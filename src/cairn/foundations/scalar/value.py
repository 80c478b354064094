"""Reverse-mode automatic differentiation on single numbers: what every framework does, small enough to read at once.

A `Value` is a number that remembers how it was made: by which operation, from which values, and how steeply it follows
each of them. That steepness is the *local derivative*, d out / d left and d out / d right, and it is known as soon as the
operation runs, so it is stored then. `backward` walks from a result to what it was made from and applies the chain rule
at each step,

    d result / d left  +=  (d out / d left) * (d result / d out)

where `+=` is essential: a value that is used in several places has the sum over all paths as its gradient. A node must
have its whole gradient before it passes it on, so nodes are visited in reverse topological order.

>>> a, b = Value(2.0), Value(-3.0)
>>> out = a * b + a ** 2  # = -2;  d/da = b + 2a,  d/db = a
>>> out.backward()
>>> out.data, a.grad, b.grad
(-2.0, 1.0, 2.0)
"""

import math
from collections.abc import Iterable
from typing import SupportsFloat, Union

Operand = Union["Value", SupportsFloat]


class Value:
    """A number, `data`, with the gradient of the last result that was differentiated, `grad`.

    A *leaf* is made from a plain number; the result of an operation has one or two inputs, `left` and `right`, and the
    local derivatives `left_slope` and `right_slope`. That is all that the chain rule needs: no node keeps a function.
    """

    __slots__ = ("data", "grad", "left", "left_slope", "operation", "right", "right_slope")
    __array_ufunc__ = None  # numpy's numbers leave `numpy_number * value` to us

    def __init__(
        self,
        data: SupportsFloat,
        operation: str = "",
        left: "Value | None" = None,
        left_slope: float = 0.0,
        right: "Value | None" = None,
        right_slope: float = 0.0,
    ):
        self.data = float(data)
        self.grad = 0.0
        self.operation = operation
        self.left = left
        self.left_slope = left_slope
        self.right = right
        self.right_slope = right_slope

    def __repr__(self) -> str:
        return f"Value(data={self.data:.6g}, grad={self.grad:.6g})"

    # --- operations: the value, then how steeply it follows each input

    def __add__(self, other: Operand) -> "Value":
        """d(a + b) = da + db"""
        if not isinstance(other, Value):
            other = Value(other)
        return Value(self.data + other.data, "+", self, 1.0, other, 1.0)

    def __sub__(self, other: Operand) -> "Value":
        """d(a - b) = da - db"""
        if not isinstance(other, Value):
            other = Value(other)
        return Value(self.data - other.data, "-", self, 1.0, other, -1.0)

    def __mul__(self, other: Operand) -> "Value":
        """d(a b) = b da + a db"""
        if not isinstance(other, Value):
            other = Value(other)
        return Value(self.data * other.data, "*", self, other.data, other, self.data)

    def __truediv__(self, other: Operand) -> "Value":
        """d(a / b) = da / b - a / b^2 db"""
        if not isinstance(other, Value):
            other = Value(other)
        if other.data == 0.0:
            raise ValueError(f"{self.data} is divided by 0: keep the divisor away from 0, for instance add 1e-8 to it")
        out = self.data / other.data
        return Value(out, "/", self, 1.0 / other.data, other, -out / other.data)

    def __pow__(self, exponent: Operand) -> "Value":
        """d(a^n) = n a^(n-1) da for a number n; with a value as exponent, a^b = exp(b log a)."""
        if isinstance(exponent, Value):
            return (exponent * self.log()).exp()
        a, n = self.data, float(exponent)
        if a < 0.0 and not n.is_integer():
            raise ValueError(
                f"{a} to the power {n} is not a real number: raise a number of at least 0, or to an integer"
            )
        if a == 0.0 and n < 0.0:
            raise ValueError(f"0 to the power {n} is 1 / 0: keep the base away from 0")
        try:
            out = a**n
            slope = n * a ** (n - 1.0) if a or n >= 1.0 else math.inf if n else 0.0
        except OverflowError:
            raise ValueError(
                f"{a} to the power {n}, or its derivative, is larger than any float: bring the base nearer to 1"
            ) from None
        return Value(out, f"**{exponent}", self, slope)

    def __neg__(self) -> "Value":
        """d(-a) = -da"""
        return Value(-self.data, "neg", self, -1.0)

    def exp(self) -> "Value":
        """d exp(a) = exp(a) da"""
        try:
            out = math.exp(self.data)
        except OverflowError:
            raise ValueError(f"exp({self.data}) is larger than any float: scale its argument down") from None
        return Value(out, "exp", self, out)

    def log(self) -> "Value":
        """d log(a) = da / a"""
        if self.data <= 0.0:
            raise ValueError(f"log({self.data}) is not a real number: its argument must be above 0")
        return Value(math.log(self.data), "log", self, 1.0 / self.data)

    def tanh(self) -> "Value":
        """d tanh(a) = (1 - tanh(a)^2) da"""
        out = math.tanh(self.data)
        return Value(out, "tanh", self, 1.0 - out * out)

    def sigmoid(self) -> "Value":
        """1 / (1 + exp(-a)); its derivative is s (1 - s)"""
        out = _sigmoid(self.data)
        return Value(out, "sigmoid", self, out * (1.0 - out))

    def softplus(self) -> "Value":
        """log(1 + exp(a)), a smooth relu; its derivative is sigmoid(a)"""
        a = self.data
        # max(a, 0) is taken out of the logarithm, so that a large argument does not overflow
        return Value(max(a, 0.0) + math.log1p(math.exp(-abs(a))), "softplus", self, _sigmoid(a))

    def relu(self) -> "Value":
        """max(a, 0); its derivative is 1 above 0, else 0"""
        if self.data <= 0.0:
            return Value(0.0, "relu", self, 0.0)
        return Value(self.data, "relu", self, 1.0)

    def __radd__(self, other: SupportsFloat) -> "Value":
        return Value(other) + self

    def __rsub__(self, other: SupportsFloat) -> "Value":
        return Value(other) - self

    def __rmul__(self, other: SupportsFloat) -> "Value":
        return Value(other) * self

    def __rtruediv__(self, other: SupportsFloat) -> "Value":
        return Value(other) / self

    def __rpow__(self, other: SupportsFloat) -> "Value":
        return Value(other) ** self

    # --- the chain rule

    def backward(self) -> None:
        """Add d self / d leaf to the gradient of each leaf, and leave d self / d node in each node between.

        Leaves accumulate over calls, as parameters do over the losses of a batch, until `zero_grad`. The nodes between
        start at 0 in each call: what an earlier call left in them must not be passed on twice.
        """
        order = topological_order(self)
        for node in order:
            node.grad = 0.0
        self.grad += 1.0
        for node in reversed(order):
            grad, left, right = node.grad, node.left, node.right
            if left is not None:
                left.grad += node.left_slope * grad
            if right is not None:
                right.grad += node.right_slope * grad


def topological_order(output: Value) -> list[Value]:
    """All operations that `output` was made by, each after its inputs; leaves are left out.

    Depth-first with a stack of its own: a recursive function would break off in a graph of some 1000 nodes in a row.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    stack: list[Value | None] = [output]
    while stack:
        node = stack.pop()
        if node is None:  # everything above the node that lies below this mark has been placed
            order.append(stack.pop())  # type: ignore[arg-type]
        elif node.left is not None and node not in seen:
            seen.add(node)
            stack += (node, None, node.left, node.right) if node.right is not None else (node, None, node.left)
    return order


def zero_grad(values: Iterable[Value]) -> None:
    """Forget the gradients, before those of the next step are added up."""
    for value in values:
        value.grad = 0.0


def _sigmoid(a: float) -> float:
    small = math.exp(-abs(a))  # at most 1: exp never overflows
    return (1.0 if a >= 0.0 else small) / (1.0 + small)
