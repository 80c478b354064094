"""RMSProp (Tieleman and Hinton 2012, lecture 6e): Adagrad that forgets.

The sum of squares becomes an average over about 1 / (1 - decay) steps, so that the steps do not die out:

    s <- decay s + (1 - decay) g^2        w <- w - lr g / (sqrt(s) + eps)

centered divides by the standard deviation instead of the root mean square (s - mean(g)^2), and momentum sums the divided
gradients up.

>>> from cairn.foundations.tensor import Tensor
>>> w = Tensor(np.zeros(2), requires_grad=True)
>>> optimizer = RMSProp([w], lr=0.1, decay=0.5)
>>> for _ in range(30):
...     w.grad = np.array([1000.0, -0.001])
...     optimizer.step()
>>> w.data.round(2)  # about lr a step, whatever the size of the gradient
array([-3.07,  3.07])
"""

from typing import Any

import numpy as np

from cairn.foundations.network.optimizers.base import Optimizer, decayed


class RMSProp(Optimizer):
    """Equal to torch.optim.RMSprop, where `decay` is called alpha."""

    def __init__(
        self,
        parameters,
        lr: float = 0.01,
        decay: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr)
        self.decay, self.eps, self.momentum = decay, eps, momentum
        self.centered, self.weight_decay = centered, weight_decay

    def update(self, weight: np.ndarray, gradient: np.ndarray, memory: dict[str, Any]) -> None:
        if not memory:
            memory.update(squares=np.zeros_like(weight), scratch=np.empty_like(weight))
            memory.update(mean=np.zeros_like(weight), velocity=np.zeros_like(weight))
        squares, scratch = memory["squares"], memory["scratch"]
        gradient = decayed(weight, gradient, self.weight_decay)
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - self.decay
        squares *= self.decay
        squares += scratch
        if self.centered:
            mean = memory["mean"]
            mean += (1 - self.decay) * (gradient - mean)
            np.multiply(mean, mean, out=scratch)
            np.subtract(squares, scratch, out=scratch)
            np.sqrt(scratch, out=scratch)
        else:
            np.sqrt(squares, out=scratch)
        scratch += self.eps
        np.divide(gradient, scratch, out=scratch)
        if self.momentum:
            velocity = memory["velocity"]
            velocity *= self.momentum
            velocity += scratch
            np.multiply(velocity, self.lr, out=scratch)
        else:
            scratch *= self.lr
        weight -= scratch
