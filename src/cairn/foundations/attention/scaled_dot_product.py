"""Scaled dot-product attention: every query looks at all keys and takes home a mixture of their values.

    S = Q K^T / sqrt(K)        scores: how well does query t fit key s?
    P = softmax(S)             shares of attention: a row for each query, it sums to 1
    O = P V                    the values, mixed by these shares

(Vaswani et al. 2017, section 3.2.1.) Keys and values are a dictionary, softly looked up: with one score far above the others
the query gets that key's value; with equal scores it gets the mean of all.

**Why divide by sqrt(K)?** If queries and keys have K independent entries of variance 1, their product q . k has variance K.
At K = 64 scores then differ by about 8, and softmax gives nearly everything to one key; its Jacobian diag(p) - p p^T is almost
0 there, and nothing is learned. Divided by sqrt(K) the scores have variance 1 at any size.

**Backward.** With G = dL/dO:

    O = P V            ->  dV = P^T G,   dP = G V^T
    P = softmax(S)     ->  dS = P * (dP - rowsum(dP * P))        (softmax.py; masked places have P = 0, so dS = 0)
    S = Q K^T / c      ->  dQ = dS K / c,   dK = dS^T Q / c      with c = sqrt(K)

Shapes: ... any leading axes (batch, heads), T queries, S keys, K size of queries and keys, V size of values.

>>> keys = np.eye(3) * 10
>>> values = np.array([[1.0], [2.0], [3.0]])
>>> output, weights = attend(keys[[2, 0]], keys, values)      # looks for the third key, then the first
>>> output.round(3).ravel()
array([3., 1.])
>>> output, weights = attend(np.zeros((1, 3)), keys, values)  # looks for nothing in particular
>>> weights.round(3), output
(array([[0.333, 0.333, 0.333]]), array([[2.]]))
"""

import numpy as np

from cairn.foundations.attention.softmax import softmax, softmax_backward


def attend(
    q_TK: np.ndarray, k_SK: np.ndarray, v_SV: np.ndarray, mask_TS: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Output (..., T, V) and weights (..., T, S), which the backward pass needs.

    mask_TS: True where a query may look; broadcast over the leading axes. A query that may look nowhere gets zeros.
    """
    check_shapes(q_TK, k_SK, v_SV)
    scores_TS = q_TK @ k_SK.swapaxes(-1, -2) / q_TK.shape[-1] ** 0.5
    if mask_TS is not None:
        scores_TS = np.where(mask_TS, scores_TS, -np.inf)
    weights_TS = softmax(scores_TS)
    return weights_TS @ v_SV, weights_TS


def attend_backward(
    grad_TV: np.ndarray, q_TK: np.ndarray, k_SK: np.ndarray, v_SV: np.ndarray, weights_TS: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of queries, keys and values, from that of the output and what the forward pass had."""
    grad_v_SV = weights_TS.swapaxes(-1, -2) @ grad_TV
    grad_weights_TS = grad_TV @ v_SV.swapaxes(-1, -2)
    grad_scores_TS = softmax_backward(grad_weights_TS, weights_TS) / q_TK.shape[-1] ** 0.5
    return grad_scores_TS @ k_SK, grad_scores_TS.swapaxes(-1, -2) @ q_TK, grad_v_SV


def check_shapes(q_TK: np.ndarray, k_SK: np.ndarray, v_SV: np.ndarray) -> None:
    """ValueError where queries, keys and values do not fit each other."""
    if q_TK.shape[-1] != k_SK.shape[-1]:
        raise ValueError(f"queries of size {q_TK.shape[-1]}, keys of size {k_SK.shape[-1]}: they must be the same")
    if k_SK.shape[-2] != v_SV.shape[-2]:
        raise ValueError(f"{k_SK.shape[-2]} keys, {v_SV.shape[-2]} values: every key needs its value")
    if not k_SK.shape[-2]:
        raise ValueError("there are no keys to look at: give at least one")
