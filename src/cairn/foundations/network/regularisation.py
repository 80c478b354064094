"""Regularisation: keeping a network from learning its examples by heart.

A penalty on large weights is added to the loss. L2, strength/2 * sum of w^2, has gradient strength * w: every weight is
pulled towards 0 in proportion, none arrives. L1, strength * sum of |w|, pulls with constant force, and small weights do
arrive: it selects. Early stopping watches examples that are not learned from, and takes the weights back to where those were
predicted best.

>>> def minimum_of(penalty):  # of (w - 1)^2 / 2 + penalty, for a weight that wants to be 1 and one that wants to be 0.05
...     w = Tensor(np.array([0.5, 0.5]), requires_grad=True)
...     for _ in range(400):
...         w.grad = None
...         error = w - np.array([1.0, 0.05])
...         ((error * error).sum() / 2 + penalty([w], 0.1)).backward()
...         w.data -= 0.02 * w.grad
...     return w.data.round(2) + 0.0
>>> minimum_of(l2), minimum_of(l1)
(array([0.91, 0.05]), array([0.9, 0. ]))
"""

from collections.abc import Iterable, Mapping

import numpy as np

from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor
from cairn.foundations.tensor import abs as magnitude

Parameters = Mapping[str, Tensor] | Iterable[Tensor]


def l1(parameters: Parameters, strength: float) -> Tensor:
    """strength * sum of |w|."""
    return strength * _total(magnitude(w).sum() for w in _tensors(parameters))


def l2(parameters: Parameters, strength: float) -> Tensor:
    """strength / 2 * sum of w^2; the gradient is that of weight decay `strength` in SGD."""
    return 0.5 * strength * _total((w * w).sum() for w in _tensors(parameters))


def _tensors(parameters: Parameters) -> list[Tensor]:
    tensors = list(parameters.values() if isinstance(parameters, Mapping) else parameters)
    if not tensors:
        raise ValueError("there is nothing to penalize: the list of parameters is empty")
    return tensors


def _total(terms: Iterable[Tensor]) -> Tensor:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


class EarlyStopping:
    """Keeps the best weights seen, and says when `patience` updates in a row were not better. Lower scores are better."""

    def __init__(self, patience: int):
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience, self.best, self.waited = patience, float("inf"), 0
        self.kept: dict[str, np.ndarray] = {}

    def update(self, score: float, model: Layer) -> bool:
        """Whether it is time to stop. A score that is not a number is not better."""
        if score < self.best:
            self.best, self.waited = score, 0
            self.kept = {name: array.copy() for name, array in model.arrays().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: Layer) -> None:
        """Put the best weights back, if there were any."""
        arrays = model.arrays()
        for name, kept in self.kept.items():
            arrays[name][...] = kept
