"""Softmax: from scores to shares, and what a change of one score does to all the shares.

    p_i = exp(s_i) / sum_j exp(s_j)

**Forward.** Adding the same number to every score changes nothing (it cancels), so the largest score is taken off first:
then no exponential overflows, whatever the scores are.

**The Jacobian.** By the quotient rule

    dp_i / ds_j = p_i (delta_ij - p_j)          in matrices:  J = diag(p) - p p^T

Raising s_j raises its own share, by p_j (1 - p_j), and takes from every other one in proportion to what it has. The rows
and columns of J sum to 0: shares always sum to 1, so what one gains the others lose.

**Backward.** With g_i = dL/dp_i the chain rule asks for J^T g. No matrix is needed:

    dL/ds_j = sum_i g_i p_i (delta_ij - p_j) = p_j (g_j - sum_i g_i p_i)

so a score is pushed up exactly where its g is above the average of g under p.

>>> p = softmax(np.array([2.0, 1.0, 0.0]))
>>> p.round(3)
array([0.665, 0.245, 0.09 ])
>>> softmax(np.array([1002.0, 1001.0, 1000.0])).round(3)
array([0.665, 0.245, 0.09 ])
>>> g = np.array([1.0, 0.0, 0.0])
>>> np.allclose(softmax_backward(g, p), softmax_jacobian(p).T @ g)
True
"""

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Shares along the last axis. A score of -inf gets share 0; where every score is -inf, every share is 0."""
    top = s.max(axis=-1, keepdims=True)
    e = np.exp(s - np.where(np.isneginf(top), 0.0, top))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1.0, total)


def softmax_backward(grad_p: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Gradient of the scores from that of the shares `p = softmax(s)`; both of the same shape."""
    return p * (grad_p - (grad_p * p).sum(axis=-1, keepdims=True))


def softmax_jacobian(p_N: np.ndarray) -> np.ndarray:
    """(N, N): how share i answers to score j. For looking at; `softmax_backward` never builds it."""
    return np.diag(p_N) - np.outer(p_N, p_N)
