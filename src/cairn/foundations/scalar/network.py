"""A multilayer perceptron out of single numbers: every weight is a `Value`, every sum and product a node.

A neuron weighs its inputs, adds a bias and bends the result, activation(w . x + b); a layer is several neurons that read
the same inputs; a network is layers in a row. Nothing else is needed: gradients come with the values.

>>> model = MLP([2, 8, 1], rng=np.random.default_rng(0))
>>> model
MLP(2 -> 8 tanh -> 1, 33 parameters)
>>> loss = (model([0.5, -1.0])[0] - 1.0) ** 2
>>> loss.backward()
>>> sum(parameter.grad != 0.0 for parameter in model.parameters())
33
"""

from collections.abc import Callable, Sequence
from typing import SupportsFloat

import numpy as np

from cairn.foundations.scalar.value import Value

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "tanh": Value.tanh,
    "relu": Value.relu,
    "sigmoid": Value.sigmoid,
    "linear": lambda value: value,
}


class Neuron:
    """activation(w . x + b) of `size` inputs.

    Weights start with variance 1 / size, so that a sum over many inputs is about as large as one of them, and the bias
    at 0. (He et al. 2015 double the variance for relu, which silences half of its inputs.)
    """

    def __init__(self, size: int, activation: str, rng: np.random.Generator):
        spread = ((2.0 if activation == "relu" else 1.0) / size) ** 0.5
        self.weights = [Value(weight) for weight in rng.normal(0.0, spread, size)]
        self.bias = Value(0.0)
        self.activation = ACTIVATIONS[activation]

    def __call__(self, inputs: Sequence[Value]) -> Value:
        total = self.bias
        for weight, x in zip(self.weights, inputs, strict=True):
            total = total + weight * x
        return self.activation(total)

    def parameters(self) -> list[Value]:
        return [*self.weights, self.bias]


class Layer:
    """`count` neurons over the same `size` inputs."""

    def __init__(self, size: int, count: int, activation: str, rng: np.random.Generator):
        self.neurons = [Neuron(size, activation, rng) for _ in range(count)]

    def __call__(self, inputs: Sequence[Value]) -> list[Value]:
        return [neuron(inputs) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]


class MLP:
    """Layers of the given sizes, inputs first; `activation` between them, none after the last.

    ValueError: fewer than two sizes, a size below 1, an unknown activation, or inputs that are too many or too few.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator, activation: str = "tanh"):
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes are {list(sizes)}: give at least an input and an output size, each 1 or more")
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        self.sizes, self.activation = list(sizes), activation
        kinds = [activation] * (len(sizes) - 2) + ["linear"]
        self.layers = [Layer(a, b, kind, rng) for a, b, kind in zip(sizes, sizes[1:], kinds)]

    def __call__(self, inputs: Sequence[Value | SupportsFloat]) -> list[Value]:
        if len(inputs) != self.sizes[0]:
            raise ValueError(f"{len(inputs)} inputs for a network that reads {self.sizes[0]}")
        values = [x if isinstance(x, Value) else Value(x) for x in inputs]
        for layer in self.layers:
            values = layer(values)
        return values

    def parameters(self) -> list[Value]:
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def __repr__(self) -> str:
        first, *hidden, last = self.sizes
        middle = "".join(f"{size} {self.activation} -> " for size in hidden)
        return f"MLP({first} -> {middle}{last}, {len(self.parameters())} parameters)"
