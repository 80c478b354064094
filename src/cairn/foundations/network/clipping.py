"""Clipping: a bound on gradients, for the one batch in a thousand that would throw the weights far away.

By norm the step keeps its direction and loses length; by value each entry is cut on its own, which turns the direction.

>>> from cairn.foundations.tensor import Tensor
>>> w = Tensor(np.zeros(2), requires_grad=True)
>>> w.grad = np.array([30.0, 40.0])
>>> clip_norm([w], 5.0), w.grad.round(4)
(50.0, array([3., 4.]))
>>> clip_value([w], 3.5)
>>> w.grad.round(4)
array([3. , 3.5])
"""

from collections.abc import Iterable, Mapping

import numpy as np

from cairn.foundations.tensor import Tensor

Parameters = Mapping[str, Tensor] | Iterable[Tensor]


def clip_norm(parameters: Parameters, limit: float) -> float:
    """Scale all gradients together so that their norm is at most `limit`; gives back the norm they had.

    torch.nn.utils.clip_grad_norm_, its 1e-6 beside the norm included.
    """
    gradients = _gradients(parameters, limit)
    norm = sum(float(np.vdot(g, g)) for g in gradients) ** 0.5
    factor = limit / (norm + 1e-6)
    if factor < 1:
        for gradient in gradients:
            gradient *= factor
    return norm


def clip_value(parameters: Parameters, limit: float) -> None:
    """Cut each entry to -limit .. limit: torch.nn.utils.clip_grad_value_."""
    for gradient in _gradients(parameters, limit):
        np.clip(gradient, -limit, limit, out=gradient)


def _gradients(parameters: Parameters, limit: float) -> list[np.ndarray]:
    if not limit > 0:
        raise ValueError(f"the limit on gradients must be positive, got {limit}")
    tensors = parameters.values() if isinstance(parameters, Mapping) else parameters
    return [tensor.grad for tensor in tensors if tensor.grad is not None]
