"""Adagrad (Duchi et al. 2011): each weight has a step size of its own, smaller the more its gradients were.

    s <- s + g^2        w <- w - lr g / (sqrt(s) + eps)

A word seen once a day gets a large step that day; one seen in each sentence gets small ones. The sum only grows, and so the
steps only shrink: right for convex problems, too soon at rest in deep networks, which is why RMSProp came.

>>> from cairn.foundations.tensor import Tensor
>>> w = Tensor(np.zeros(2), requires_grad=True)
>>> optimizer = Adagrad([w], lr=1.0)
>>> for _ in range(2):
...     w.grad = np.array([100.0, 0.01])  # the size of a gradient does not matter, only how it compares with those before
...     optimizer.step()
>>> w.data.round(3)
array([-1.707, -1.707])
"""

from typing import Any

import numpy as np

from cairn.foundations.network.optimizers.base import Optimizer, decayed


class Adagrad(Optimizer):
    """Equal to torch.optim.Adagrad. lr_decay: the rate at step t is lr / (1 + t lr_decay). initial: where s begins."""

    def __init__(
        self,
        parameters,
        lr: float = 0.01,
        lr_decay: float = 0.0,
        initial: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr)
        self.lr_decay, self.initial, self.eps, self.weight_decay = lr_decay, initial, eps, weight_decay

    def update(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        if not memory:
            memory.update(step=0, squares=np.full_like(weight, self.initial), scratch=np.empty_like(weight))
        squares, scratch = memory["squares"], memory["scratch"]
        lr = self.lr / (1 + memory["step"] * self.lr_decay)
        memory["step"] += 1
        gradient = decayed(weight, gradient, self.weight_decay)
        np.multiply(gradient, gradient, out=scratch)
        squares += scratch
        np.sqrt(squares, out=scratch)
        scratch += self.eps
        np.divide(gradient, scratch, out=scratch)
        scratch *= lr
        weight -= scratch
