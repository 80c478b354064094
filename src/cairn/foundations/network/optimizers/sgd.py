"""Gradient descent, with momentum and Nesterov's look ahead.

Plain: w <- w - lr g. In a long narrow valley that zigzags: across the valley the gradient is large and changes sign, along
it small and steady. Momentum (Polyak 1964) sums the gradients up with forgetting, so that what changes sign cancels and what
is steady grows, up to 1 / (1 - momentum) times:

    v <- momentum v + (1 - dampening) g        w <- w - lr v

Nesterov (1983; in the form of Sutskever et al. 2013) uses the gradient where momentum is about to carry the weights, which
after a change of variables is w <- w - lr (g + momentum v).

>>> from cairn.foundations.tensor import Tensor
>>> def distance_after(**settings):  # a valley, 50 times steeper across than along it
...     w = Tensor(np.array([1.0, 1.0]), requires_grad=True)
...     optimizer = SGD([w], lr=0.02, **settings)
...     for _ in range(100):
...         optimizer.zero_grad()
...         (w * w * np.array([25.0, 0.5])).sum().backward()
...         optimizer.step()
...     return round(float(np.linalg.norm(w.data)), 3)
>>> distance_after(), distance_after(momentum=0.8), distance_after(momentum=0.8, nesterov=True)
(0.133, 0.0, 0.0)
"""

from typing import Any

import numpy as np

from cairn.foundations.network.optimizers.base import Optimizer, decayed


class SGD(Optimizer):
    """Equal to torch.optim.SGD."""

    def __init__(
        self,
        parameters,
        lr: float = 0.01,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr)
        if nesterov and (momentum <= 0 or dampening):
            raise ValueError("Nesterov's step needs momentum above 0, and no dampening")
        self.momentum, self.dampening, self.nesterov, self.weight_decay = momentum, dampening, nesterov, weight_decay

    def update(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        step = decayed(weight, gradient, self.weight_decay)
        if self.momentum:
            if memory:
                velocity = memory["velocity"]
                velocity *= self.momentum
                velocity += (1 - self.dampening) * step if self.dampening else step
            else:
                velocity = memory["velocity"] = step.copy()  # the first gradient is not dampened
            step = step + self.momentum * velocity if self.nesterov else velocity
        weight -= self.lr * step
