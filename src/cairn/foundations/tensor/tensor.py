"""`Tensor`: a NumPy array with operators that remember, so that gradients can be calculated.

All that it does stands in other chapters: the graph in `graph`, each operation with its rule in `arithmetic`, `products`,
`reductions` and their neighbours. Here they get their signs and their names as methods.

>>> x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
>>> loss = ((x @ x - 1) ** 2).mean()
>>> loss.item()
188.5
>>> loss.backward()
>>> x.grad
array([[ 36.,  63.],
       [ 62., 114.]])
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cairn.foundations.tensor import (
    activations,
    arithmetic,
    elementary,
    graph,
    indexing,
    products,
    reductions,
    shapes,
    softmaxes,
)
from cairn.foundations.tensor.graph import Variable, own, plain, touch, walk_back
from cairn.foundations.tensor.reductions import Axis


class Tensor(Variable):
    """An array of numbers; with `requires_grad`, one by which derivatives are taken.

    data: anything of which NumPy makes an array; an array is used as it is, not copied, and so are those that a tensor
    meets in an operation: write into them after `backward`. Only real numbers with a fraction
    (float64, float32) can require a gradient. Tensors, arrays and numbers mix in all operations.
    """

    __slots__ = ()
    __array_ufunc__ = None  # array + tensor is left to the tensor

    def __init__(self, data: Any, requires_grad: bool = False):
        data = np.asarray(data.data if isinstance(data, Variable) else data)
        if data.dtype.kind not in "fiub":
            raise ValueError(f"a tensor of type {data.dtype}: give real numbers, whole numbers or truth values")
        if requires_grad and data.dtype.kind != "f":
            raise ValueError(
                f"values of type {data.dtype} have no gradient, since they cannot change a little: "
                "give real numbers, for instance data.astype(float)"
            )
        super().__init__(data, requires_grad)

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    def item(self) -> float:
        """The one number of a tensor that has no more."""
        return self.data.item()

    def numpy(self) -> np.ndarray:
        """The values; the same memory."""
        return self.data

    def detach(self) -> "Tensor":
        """The same values without their history: a constant."""
        return Tensor(self.data)

    def __repr__(self) -> str:
        made = f", made by {self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.data, separator=', ', prefix='Tensor(')}{made})"

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self.data.item())

    def __int__(self) -> int:
        return int(self.data.item())

    def __bool__(self) -> bool:
        return bool(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise ValueError("NumPy does not record what it does: use functions of cairn.foundations.tensor, or x.data")
        return np.array(self.data, dtype, copy=copy)

    __hash__ = object.__hash__  # a tensor is a key by being itself, since == compares values

    # Comparisons give arrays: they have no slope.

    def __eq__(self, other: Any) -> np.ndarray:  # type: ignore[override]
        return self.data == plain(other)

    def __ne__(self, other: Any) -> np.ndarray:  # type: ignore[override]
        return self.data != plain(other)

    def __lt__(self, other: Any) -> np.ndarray:
        return self.data < plain(other)

    def __le__(self, other: Any) -> np.ndarray:
        return self.data <= plain(other)

    def __gt__(self, other: Any) -> np.ndarray:
        return self.data > plain(other)

    def __ge__(self, other: Any) -> np.ndarray:
        return self.data >= plain(other)

    # Operators

    def __add__(self, other: Any) -> "Tensor":
        return arithmetic.add(self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return arithmetic.add(other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return arithmetic.sub(self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return arithmetic.sub(other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return arithmetic.mul(self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return arithmetic.mul(other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return arithmetic.div(self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return arithmetic.div(other, self)

    def __pow__(self, other: Any) -> "Tensor":
        return arithmetic.pow(self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return arithmetic.pow(other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return products.matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return products.matmul(other, self)

    def __neg__(self) -> "Tensor":
        return arithmetic.neg(self)

    def __abs__(self) -> "Tensor":
        return arithmetic.abs(self)

    def __getitem__(self, index: Any) -> "Tensor":
        return indexing.getitem(self, index)

    # Writing in place: only where the graph does not notice, or is told.

    def __setitem__(self, index: Any, value: Any) -> None:
        self._may_change("x[...] = y", "use where or concatenate")
        if isinstance(value, Variable) and value.requires_grad and graph.recording():
            raise ValueError(
                "x[...] = y of a y that has a gradient would lose it: collect the parts in a list and stack or "
                "concatenate them, or write y.detach() for the values alone"
            )
        self.data[indexing.plain_index(index)] = plain(value)
        touch(self)

    def __iadd__(self, other: Any) -> "Tensor":
        return self._in_place("+=", np.add, arithmetic.add, other)

    def __isub__(self, other: Any) -> "Tensor":
        return self._in_place("-=", np.subtract, arithmetic.sub, other)

    def __imul__(self, other: Any) -> "Tensor":
        return self._in_place("*=", np.multiply, arithmetic.mul, other)

    def __itruediv__(self, other: Any) -> "Tensor":
        return self._in_place("/=", np.true_divide, arithmetic.div, other)

    def _in_place(self, sign: str, write: Any, calculate: Any, other: Any) -> "Tensor":
        """Only a parameter is written to, inside no_grad; of anything else `x += y` makes a new tensor, x + y."""
        if self.node is not None or not self.requires_grad:
            return calculate(self, other)
        self._may_change(f"x {sign} y", f"write x = x {sign[0]} y for a new tensor")
        write(self.data, plain(other), out=self.data)
        touch(self)
        return self

    def _may_change(self, what: str, instead: str) -> None:
        if self.requires_grad and graph.recording():
            raise ValueError(
                f"{what} in a tensor that requires a gradient would change what its graph remembers: {instead}, "
                "or, to update a parameter, do it inside `with no_grad():`"
            )

    # Shapes

    @property
    def T(self) -> "Tensor":  # noqa: N802 (NumPy's name)
        return shapes.transpose(self)

    @property
    def mT(self) -> "Tensor":  # noqa: N802
        """Matrices transposed: the last two axes exchanged."""
        return shapes.swapaxes(self, -1, -2)

    def reshape(self, *shape: Any) -> "Tensor":
        return shapes.reshape(self, _unpack(shape))

    def transpose(self, *axes: Any) -> "Tensor":
        """In the order given as transpose(2, 0, 1) or transpose((2, 0, 1)); without one, or with None, reversed."""
        return shapes.transpose(self, None if axes in ((), (None,)) else _unpack(axes))

    def swapaxes(self, first: int, second: int) -> "Tensor":
        return shapes.swapaxes(self, first, second)

    def expand(self, *shape: Any) -> "Tensor":
        return shapes.expand(self, _unpack(shape))

    def astype(self, dtype: Any) -> "Tensor":
        """The same numbers in another format; the gradient comes back in the old one."""
        return shapes.astype(self, dtype)

    # Reductions

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return reductions.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return reductions.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> "Tensor":
        return reductions.var(self, axis, keepdims, correction)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return reductions.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return reductions.min(self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Any:
        """Where the largest value is: an array or number, since a place has no slope."""
        return self.data.argmax(axis)

    def cumsum(self, axis: int = 0) -> "Tensor":
        return reductions.cumsum(self, axis)

    # Functions

    def exp(self) -> "Tensor":
        return elementary.exp(self)

    def log(self) -> "Tensor":
        return elementary.log(self)

    def sqrt(self) -> "Tensor":
        return elementary.sqrt(self)

    def sin(self) -> "Tensor":
        return elementary.sin(self)

    def cos(self) -> "Tensor":
        return elementary.cos(self)

    def abs(self) -> "Tensor":
        return arithmetic.abs(self)

    def clip(self, low: float | None = None, high: float | None = None) -> "Tensor":
        return arithmetic.clip(self, low, high)

    def tanh(self) -> "Tensor":
        return activations.tanh(self)

    def sigmoid(self) -> "Tensor":
        return activations.sigmoid(self)

    def relu(self) -> "Tensor":
        return activations.relu(self)

    def softmax(self, axis: int = -1) -> "Tensor":
        return softmaxes.softmax(self, axis)

    def log_softmax(self, axis: int = -1) -> "Tensor":
        return softmaxes.log_softmax(self, axis)

    def logsumexp(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return softmaxes.logsumexp(self, axis, keepdims)


def check_tensors(inputs: Any) -> None:
    """ValueError unless `inputs` is a list or tuple of tensors."""
    if not isinstance(inputs, (list, tuple)) or not all(isinstance(x, Tensor) for x in inputs):
        found = [type(x).__name__ for x in inputs] if isinstance(inputs, (list, tuple)) else type(inputs).__name__
        raise ValueError(f"inputs are {found}: give a list of tensors, also of one, as in [x]")


def _unpack(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) of both f(2, 3) and f((2, 3))."""
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)) else arguments


def grad(
    output: Tensor,
    inputs: Sequence[Tensor],
    gradient: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> list[Tensor]:
    """Derivatives of `output` by each input, returned and not added to `.grad`; only ways to the inputs are walked.

    create_graph: the derivatives can be derived again. allow_unused: an input that the output does not depend on gets zeros;
    otherwise it is an error, because it is mostly a mistake.
    """
    check_tensors(inputs)
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise ValueError(
                f"input {i}, of shape {x.shape}, does not require a gradient: make it with requires_grad=True"
            )
    if output.requires_grad or not allow_unused:
        keep = create_graph if retain_graph is None else retain_graph
        found = walk_back(output, gradient, inputs, create_graph, keep)
    else:
        found = {}
    results = []
    given = {id(plain(gradient))}
    for i, x in enumerate(inputs):
        if x not in found and not allow_unused:
            raise ValueError(
                f"the output does not depend on input {i}, of shape {x.shape}: it was detached on the way, or is another "
                "tensor than the one used; allow_unused=True gives zeros"
            )
        g = found.get(x, np.zeros_like(x.data))
        results.append(g if isinstance(g, Tensor) else Tensor(own(g, given)))
    return results
