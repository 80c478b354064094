"""What every optimizer shares: its weights, a learning rate that a schedule may change, and memory for each weight.

An optimizer says only how one array moves, given its gradient and what it remembered. Everything is written in place: a
network's weights are large, and a fresh array at each step would cost more than the arithmetic.

>>> from cairn.foundations.tensor import Tensor
>>> class Downhill(Optimizer):
...     def update(self, weight, gradient, memory):
...         weight -= self.lr * gradient
>>> w = Tensor(np.array([3.0, -2.0]), requires_grad=True)
>>> optimizer = Downhill([w], lr=0.25)
>>> for _ in range(3):
...     optimizer.zero_grad()
...     (w * w).sum().backward()  # the gradient is 2 w, so each step halves w
...     optimizer.step()
>>> w.data
array([ 0.375, -0.25 ])
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cairn.foundations.tensor import Tensor
from cairn.foundations.tensor.graph import touch


class Optimizer(ABC):
    """`lr` may be set anew before any step, as schedules do."""

    def __init__(self, parameters: Mapping[str, Tensor] | Iterable[Tensor], lr: float):
        """parameters: what `Layer.parameters()` gives, or any tensors."""
        if not lr >= 0:
            raise ValueError(f"the learning rate must be a number of at least 0, got {lr}")
        self.parameters = list(parameters.values() if isinstance(parameters, Mapping) else parameters)
        if not self.parameters:
            raise ValueError("there is nothing to optimize: the list of parameters is empty")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            raise ValueError("a parameter is there twice and would be moved twice a step; give each once")
        self.lr = lr
        self.memories: list[dict[str, Any]] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients; they would add up otherwise."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Move each parameter that has a gradient."""
        for parameter, memory in zip(self.parameters, self.memories):
            if parameter.grad is not None:
                self.update(parameter.data, parameter.grad, memory)
                touch(parameter)  # a graph that still needs the old values says so

    @abstractmethod
    def update(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        """Change `weight` in place. `memory` is empty the first time, and keeps what is put into it. `gradient` stays."""


def decayed(weight: np.ndarray, gradient: np.ndarray, strength: float) -> np.ndarray:
    """The gradient of loss + strength/2 |w|^2: weight decay as all but AdamW do it."""
    return gradient + strength * weight if strength else gradient
