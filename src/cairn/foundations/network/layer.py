"""A layer: a function with weights that can be found, switched between learning and use, and stored.

Layers hold tensors and other layers as attributes, and everything else follows from that: `parameters()` walks through them
and names each tensor by the way to it ("0.weight"), so an optimizer can be given all weights of a network, and a file can
hold them. Gradients need no code here; the tensors know how they came about.

>>> import numpy as np
>>> class Scale(Layer):
...     def __init__(self, size):
...         self.weight = Tensor(np.full(size, 2.0), requires_grad=True)
...     def forward(self, x):
...         return x * self.weight
>>> model = Sequential(Scale(3), Scale(3))
>>> list(model.parameters())
['0.weight', '1.weight']
>>> model(Tensor(np.array([1.0, 10.0, 100.0]))).data
array([  4.,  40., 400.])
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from cairn.foundations.tensor import Tensor


class Layer(ABC):
    """Subclasses set attributes in __init__ and write `forward`."""

    training = True  # dropout and batch normalization behave differently while the network learns
    watcher: Callable[[np.ndarray], None] | None = None  # is shown each output: see diagnostics.py

    @abstractmethod
    def forward(self, x: Any) -> Tensor:
        """The output for a batch."""

    def __call__(self, x: Any) -> Tensor:
        output = self.forward(x)
        if self.watcher is not None:
            self.watcher(output.data)
        return output

    def children(self) -> Iterator[tuple[str, "Layer"]]:
        """The layers inside, by the name of their attribute; those in a list by their number."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value
            elif isinstance(value, list):
                yield from ((str(i), layer) for i, layer in enumerate(value) if isinstance(layer, Layer))

    def layers(self, prefix: str = "") -> Iterator[tuple[str, "Layer"]]:
        """All layers below, each with its full name, the outer before the inner."""
        for name, child in self.children():
            yield prefix + name, child
            yield from child.layers(f"{prefix}{name}.")

    def parameters(self) -> dict[str, Tensor]:
        """What is learned, by name. A weight that two layers share is there once: an optimizer moves it once a step."""
        return {name: tensor for name, tensor in self._tensors().items() if tensor.requires_grad}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a file has to hold, by name: weights, frozen ones too, and arrays that are kept beside them."""
        found = {name: tensor.data for name, tensor in self._tensors().items()}
        for place, layer in [("", self), *self.layers()]:
            for name, value in vars(layer).items():
                if isinstance(value, np.ndarray):
                    found[f"{place}.{name}" if place else name] = value
        return found

    def _tensors(self) -> dict[str, Tensor]:
        """Each tensor once, under the first name that leads to it."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for place, layer in [("", self), *self.layers()]:
            for name, value in vars(layer).items():
                if isinstance(value, Tensor) and id(value) not in seen:
                    seen.add(id(value))
                    found[f"{place}.{name}" if place else name] = value
        return found

    def train(self, training: bool = True) -> Self:
        """Behave as while learning, here and in all layers below."""
        for _, layer in [("", self), *self.layers()]:
            layer.training = training
        return self

    def eval(self) -> Self:
        """Behave as in use."""
        return self.train(False)

    def astype(self, dtype: Any) -> Self:
        """Hold all weights in another type: float32 takes half the memory and about half the time."""
        for _, layer in [("", self), *self.layers()]:
            for name, value in vars(layer).items():
                if isinstance(value, Tensor):
                    value.data = value.data.astype(dtype)
                elif isinstance(value, np.ndarray):
                    setattr(layer, name, value.astype(dtype))
        return self


class Sequential(Layer):
    """Layers one after the other."""

    def __init__(self, *steps: Layer):
        self.steps = list(steps)

    def forward(self, x: Any) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def __getitem__(self, index: int) -> Layer:
        return self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)
