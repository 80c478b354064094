"""Adam (Kingma and Ba 2015): momentum above, RMSProp below; and AdamW, which decays weights beside it.

    m <- b1 m + (1 - b1) g          the mean of recent gradients
    v <- b2 v + (1 - b2) g^2        the mean of their squares
    w <- w - lr m' / (sqrt(v') + eps)        with m' = m / (1 - b1^t), v' = v / (1 - b2^t)

m and v begin at 0 and would be too small at first: after t steps of a constant gradient g, m is (1 - b1^t) g. Dividing by
that factor takes it back. Where the gradient keeps its sign a step is about lr, where it is mostly noise much less.

Weight decay: in `Adam` it is a part of the gradient and so divided by sqrt(v') as well: weights with large gradients are
hardly decayed. `AdamW` (Loshchilov and Hutter 2019) shrinks the weights themselves, w <- (1 - lr decay) w, all alike.

>>> from cairn.foundations.tensor import Tensor
>>> w = Tensor(np.zeros(3), requires_grad=True)
>>> optimizer = Adam([w], lr=0.1)
>>> w.grad = np.array([1e-3, 1.0, -1e3])
>>> optimizer.step()
>>> w.data.round(3)  # the first step is lr against the sign of the gradient
array([-0.1, -0.1,  0.1])
"""

from typing import Any

import numpy as np

from cairn.foundations.network.optimizers.base import Optimizer, decayed


class Adam(Optimizer):
    """Equal to torch.optim.Adam."""

    def __init__(
        self,
        parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are from 0 to below 1, got {betas}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        self._move(weight, decayed(weight, gradient, self.weight_decay), memory)

    def _move(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        if not memory:
            memory.update(step=0, mean=np.zeros_like(weight), squares=np.zeros_like(weight))
            memory.update(scratch=np.empty_like(weight))
        mean, squares, scratch = memory["mean"], memory["squares"], memory["scratch"]
        memory["step"] += 1
        beta1, beta2 = self.betas
        np.multiply(gradient, 1 - beta1, out=scratch)
        mean *= beta1
        mean += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - beta2
        squares *= beta2
        squares += scratch
        # The divisors of m' and v' are numbers: they go into the rate and beside eps rather than over whole arrays.
        np.sqrt(squares, out=scratch)
        scratch /= (1 - beta2 ** memory["step"]) ** 0.5
        scratch += self.eps
        np.divide(mean, scratch, out=scratch)
        scratch *= self.lr / (1 - beta1 ** memory["step"])
        weight -= scratch


class AdamW(Adam):
    """Equal to torch.optim.AdamW."""

    def __init__(
        self,
        parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def update(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        weight *= 1 - self.lr * self.weight_decay
        self._move(weight, gradient, memory)
