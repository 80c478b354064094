"""Dropout (Srivastava et al. 2014): while learning, each value is set to 0 with probability `rate`.

No unit can rely on a single other one, so the network learns many weak reasons rather than one strong. What stays is divided
by 1 - rate, so that the expected value is the same and nothing has to change in use.

>>> layer = Dropout(0.25, np.random.default_rng(0))
>>> y = layer(Tensor(np.ones(10_000))).data
>>> sorted(set(y.round(3).tolist())), round(float(y.mean()), 1)
([0.0, 1.333], 1.0)
>>> set(layer.eval()(Tensor(np.ones(10_000))).data.tolist())
{1.0}
"""

import numpy as np

from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor, dropout


class Dropout(Layer):
    def __init__(self, rate: float, rng: np.random.Generator):
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate is from 0 to below 1, got {rate}")
        self.rate, self.rng = rate, rng

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate, self.rng, self.training)
