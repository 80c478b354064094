"""The graph: what was calculated from what, and the walk back through it that gives every derivative.

Reverse mode. A result remembers the operation's inputs and, for each input x, a **rule**: given the derivative g = dL/dy of a
number L by the result y, the rule gives dL/dx (a vector-Jacobian product, the chain rule for one step). Beginning with
dL/dL = 1 and going from the latest result to the earliest, each rule is called once, and what arrives at the same input
over several ways is added.

A rule is `rule(g, y, *inputs)`, written once, with operators and functions that take arrays and tensors alike. Normally
it is called with NumPy arrays and nothing of the walk is recorded. For a derivative of a derivative (`create_graph`) it
is called with the tensors themselves: then the walk is a calculation like any other, with a graph of its own.

>>> import numpy as np
>>> class Number(Variable):
...     __slots__ = ()
>>> def square(x):
...     return apply("square", (x,), lambda x: x * x, lambda g, y, x: g * 2 * x)
>>> x = Number(np.array([1.0, 2.0, 3.0]), requires_grad=True)
>>> square(square(x)).backward(np.ones(3))  # the derivative of x^4
>>> x.grad
array([  4.,  32., 108.])
>>> square(np.array([1.0, 2.0]))  # of arrays alone: an array, and no graph
array([1., 4.])
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import local
from typing import Any

import numpy as np

_clock = count(1)  # each recorded result and each write in place has its time: inputs are always earlier than results
_BROADCASTING = "counted from the last, axes must be equally long, or one of them 1; reshape one to add axes of 1"


class _Mode(local):
    """Of each thread its own: a model that is used in one does not stop the training in another."""

    recording = True


_mode = _Mode()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, results remember nothing: for updates of weights, and for models that are only used. Also a decorator."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


def recording() -> bool:
    """False inside no_grad."""
    return _mode.recording


class Node:
    """How a result was made. `arrays` are the inputs' values at that time; `rules` has one rule for each input."""

    __slots__ = ("arrays", "inputs", "name", "rules", "time")

    def __init__(self, name: str, inputs: Sequence[Any], arrays: list[Any], rules: Sequence[Callable[..., Any]]):
        assert len(inputs) == len(rules), f"{name}: one rule for each input"
        self.name, self.inputs, self.arrays, self.rules = name, inputs, arrays, rules
        self.time = next(_clock)


_FREED = Node("freed", (), [], ())


class Variable:
    """An array that remembers how it was made: what `Tensor` is before it has operators.

    data: the values. grad: after `backward`, dL/d(self) for a variable that requires it and was not calculated itself (a
    leaf); it accumulates until it is set to None. node: how it was made, None for a leaf. written: time of the last write
    in place.
    """

    __slots__ = ("data", "grad", "node", "requires_grad", "written")

    data: np.ndarray
    grad: Any

    def __init__(self, data: Any, requires_grad: bool = False):
        self.data = np.asarray(data)
        self.grad = None
        self.node: Node | None = None
        self.requires_grad = requires_grad
        self.written = 0

    def backward(self, gradient: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
        """Add dL/dx to `x.grad` of every leaf x that requires it; self is L, or `gradient` is dL/d(self).

        The graph is freed on the way, unless it is retained or `create_graph` makes gradients that can be derived again.
        """
        found = walk_back(self, gradient, None, create_graph, create_graph if retain_graph is None else retain_graph)
        given = {id(plain(gradient))}
        for leaf, g in found.items():
            if create_graph:
                leaf.grad = g if leaf.grad is None else leaf.grad + g
            elif isinstance(leaf.grad, np.ndarray):
                leaf.grad += g
            elif leaf.grad is not None:
                leaf.grad = leaf.grad + g
            else:
                leaf.grad = own(g, given)


def own(g: Any, given: set[int]) -> np.ndarray:
    """g as an array that nobody else holds; `given` are the ids of those that somebody does.

    Rules return something fresh, the g that they got, or a view of it; a gradient that is clipped or scaled in place must not
    change another one.
    """
    g = np.asarray(g)
    if g.base is not None or id(g) in given:
        g = g.copy()
    given.add(id(g))
    return g


def apply(name: str, inputs: Sequence[Any], forward: Callable[..., Any], *rules: Callable[..., Any]) -> Any:
    """forward(*arrays of the inputs) as a variable that remembers `rules`, one for each input.

    The rules need not think of broadcasting: a gradient is summed over the axes along which its input was stretched.
    Without a variable among the inputs the result is the plain array.
    """
    kind = None
    recorded = False
    for x in inputs:
        if isinstance(x, Variable):
            kind = type(x)
            if x.requires_grad:
                recorded = _mode.recording
    if kind is None:
        return forward(*inputs)
    arrays = [x.data if isinstance(x, Variable) else plain(x) for x in inputs]
    try:
        y = forward(*arrays)
    except ValueError as problem:
        shapes = " and ".join(str(np.shape(x)) for x in arrays)
        hint = _BROADCASTING if "broadcast" in str(problem) else str(problem)
        raise ValueError(f"{name} of shapes {shapes} is not possible: {hint}") from None
    result = kind.__new__(kind)
    result.data = y if type(y) is np.ndarray else np.asarray(y)
    result.grad = None
    result.requires_grad = recorded
    result.node = Node(name, inputs, arrays, rules) if recorded else None
    result.written = 0
    return result


def plain(x: Any) -> Any:
    """The array or number behind x. NumPy's numbers become Python's, which do not turn float32 into float64."""
    if isinstance(x, Variable):
        return x.data
    if isinstance(x, np.generic):
        return x.item()
    return x if isinstance(x, (np.ndarray, int, float)) else np.asarray(x)


def walk_back(
    output: Variable, gradient: Any, wanted: Iterable[Variable] | None, create_graph: bool, retain_graph: bool
) -> dict[Variable, Any]:
    """Derivatives of `output` (times `gradient`) by the variables in `wanted`, or by all leaves; missing: not reached."""
    g = _first_gradient(output, gradient)
    if create_graph:
        g = gradient if isinstance(gradient, Variable) else type(output)(g)
    order = _calculated(output)
    goals = set() if wanted is None else set(wanted)
    needed = None if wanted is None else _towards(order, goals)
    found: dict[Variable, Any] = {output: g}
    summed: set[Variable] = set()  # those whose gradient is a sum made here, to which can be added in place
    results = {}
    before, _mode.recording = _mode.recording, create_graph
    try:
        while order:
            y = order.pop()
            g = found.pop(y, None)
            if g is None:  # on no way to what is wanted
                continue
            if y in goals:
                results[y] = g
            node = _usable(y, create_graph)
            values, y_value = (node.inputs, y) if create_graph else (node.arrays, y.data)
            for x, rule in zip(node.inputs, node.rules):
                if not isinstance(x, Variable) or not x.requires_grad or not (needed is None or x in needed):
                    continue
                dx = rule(g, y_value, *values)
                if dx.shape != x.data.shape:
                    dx = unbroadcast(dx, x.data.shape)
                if dx.dtype is not x.data.dtype and dx.dtype != x.data.dtype:
                    dx = dx.astype(x.data.dtype)
                if x not in found:
                    found[x] = dx
                elif x in summed:
                    found[x] += dx
                else:
                    found[x] = found[x] + dx
                    if not create_graph:
                        summed.add(x)
            if not retain_graph:
                y.node = _FREED
    finally:
        _mode.recording = before
    return found if wanted is None else results | found


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which an input of `shape` was stretched: one value went to many places, so the derivatives
    of all these places belong to it."""
    added = g.ndim - len(shape)
    if added:
        g = g.sum(tuple(range(added)))
    stretched = tuple(i for i, (size, wanted) in enumerate(zip(g.shape, shape)) if size != wanted)
    return g.sum(stretched, keepdims=True) if stretched else g


def _first_gradient(output: Variable, gradient: Any) -> np.ndarray:
    if not output.requires_grad:
        raise ValueError(
            "backward of a tensor that depends on nothing with requires_grad=True: "
            "make the parameters Tensor(data, requires_grad=True), and calculate outside of no_grad"
        )
    if gradient is None:
        if output.data.size != 1:
            raise ValueError(
                f"backward of a tensor of shape {output.data.shape}: only one number has a gradient; "
                "sum() or mean() it, or give gradient=, an array of the same shape"
            )
        return np.ones_like(output.data)
    values = np.asarray(plain(gradient), output.data.dtype)
    if values.shape != output.data.shape:
        raise ValueError(
            f"gradient has shape {values.shape}, but the tensor has {output.data.shape}: they must be the same"
        )
    return values


def _calculated(output: Variable) -> list[Variable]:
    """Everything calculated on the way to `output`, earliest first. A stack and no recursion: graphs are deep."""
    if output.node is None:
        return []
    seen, stack = {output}, [output]
    while stack:
        for x in stack.pop().node.inputs:  # type: ignore[union-attr]
            if isinstance(x, Variable) and x.node is not None and x not in seen:
                seen.add(x)
                stack.append(x)
    return sorted(seen, key=lambda x: x.node.time)  # type: ignore[union-attr]


def _towards(order: list[Variable], wanted: set[Variable]) -> set[Variable]:
    """The variables through which a way leads to a wanted one."""
    needed = set(wanted)
    for y in order:
        # What was freed leads there perhaps; that is an error to report, not a way that does not exist.
        if y.node is _FREED or any(isinstance(x, Variable) and x in needed for x in y.node.inputs):  # type: ignore[union-attr]
            needed.add(y)
    return needed


def _usable(y: Variable, create_graph: bool) -> Node:
    """The node of y, if the values that its rules need are still there."""
    node = y.node
    assert node is not None
    if node is _FREED:
        raise ValueError(
            "the graph was freed by an earlier backward: calculate the output again, "
            "or call the earlier one with retain_graph=True"
        )
    for x, array in zip(node.inputs, node.arrays):
        if isinstance(x, Variable) and (x.written > node.time or (create_graph and x.data is not array)):
            raise ValueError(
                f"an input of {node.name}, of shape {x.data.shape}, was changed in place after it was used: "
                "change it after backward, or use a copy"
            )
    if y.written > node.time:
        raise ValueError(
            f"a result of {node.name}, of shape {y.data.shape}, was changed in place, and its derivative needs it: "
            "make a new tensor instead"
        )
    return node


def touch(x: Variable) -> None:
    """Note that x was written in place."""
    x.written = next(_clock)
