"""Online softmax: the exact attention of a query, read key by key, without ever holding a row of scores.

Softmax seems to need all scores twice: once for their maximum and sum, once to divide. It does not (Milakov & Gimelshein 2018).
Read the keys in blocks and carry three things for each query: the largest score so far m, the sum l of exp(score - m), and the
output o, not yet divided. When a block brings a larger score, what was summed so far was measured from the old maximum;
multiplying by exp(m_old - m_new) puts that right:

    m_new = max(m, max_j s_j)
    l_new = exp(m - m_new) l + sum_j exp(s_j - m_new)
    o_new = exp(m - m_new) o + sum_j exp(s_j - m_new) v_j          and at the end: O = o / l

Each line is exact, so the result is: nothing is approximated. This is what FlashAttention does (Dao et al. 2022): a block of
scores fits in the processor's fast memory, and memory grows with T and no longer with T^2.

**Backward.** The shares are not kept. One number a query, L = m + log l (the log of the sum of all exponentials), rebuilds
any of them: p_tj = exp(s_tj - L_t). And the average that softmax's backward takes off needs no shares either:

    sum_j p_tj dP_tj = sum_j p_tj (G_t . v_j) = G_t . sum_j p_tj v_j = G_t . O_t

Shapes: ... any leading axes, T queries, S keys, K size of queries and keys, V size of values.

>>> from cairn.foundations.attention.scaled_dot_product import attend
>>> rng = np.random.default_rng(0)
>>> q, k, v = (rng.normal(size=(7, 4)) for _ in range(3))
>>> output, log_sum = flash_attend(q, k, v, block=3)
>>> bool(np.abs(output - attend(q, k, v)[0]).max() < 1e-15)
True
"""

from collections.abc import Iterator

import numpy as np

from cairn.foundations.attention.scaled_dot_product import check_shapes


def flash_attend(
    q_TK: np.ndarray, k_SK: np.ndarray, v_SV: np.ndarray, block: int = 64, causal: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Output (..., T, V), and the log of each query's sum of exponentials (..., T), for the backward pass.

    causal: query t sees keys 0 to t (as many keys as queries).
    """
    check_shapes(q_TK, k_SK, v_SV)
    top_T = np.full(q_TK.shape[:-1], -np.inf, np.result_type(q_TK, np.float32))  # whole numbers know no infinity
    sum_T = np.zeros_like(top_T)
    output_TV = np.zeros((*q_TK.shape[:-1], v_SV.shape[-1]), top_T.dtype)
    for keys, scores_TJ in _blocks(q_TK, k_SK, block, causal):
        new_top_T = np.maximum(top_T, scores_TJ.max(axis=-1))
        correction_T = np.exp(top_T - new_top_T)  # 0 in the first block, where the old maximum is -inf
        e_TJ = np.exp(scores_TJ - new_top_T[..., None])
        sum_T = correction_T * sum_T + e_TJ.sum(axis=-1)
        output_TV = correction_T[..., None] * output_TV + e_TJ @ v_SV[..., keys, :]
        top_T = new_top_T
    return output_TV / sum_T[..., None], top_T + np.log(sum_T)


def flash_attend_backward(
    grad_TV: np.ndarray,
    q_TK: np.ndarray,
    k_SK: np.ndarray,
    v_SV: np.ndarray,
    output_TV: np.ndarray,
    log_sum_T: np.ndarray,
    block: int = 64,
    causal: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of queries, keys and values; a block of shares at a time is rebuilt and thrown away."""
    grad_q_TK, grad_k_SK, grad_v_SV = (np.zeros(x.shape, output_TV.dtype) for x in (q_TK, k_SK, v_SV))
    average_T1 = (grad_TV * output_TV).sum(axis=-1, keepdims=True)
    for keys, scores_TJ in _blocks(q_TK, k_SK, block, causal):
        p_TJ = np.exp(scores_TJ - log_sum_T[..., None])
        grad_v_SV[..., keys, :] = p_TJ.swapaxes(-1, -2) @ grad_TV
        grad_p_TJ = grad_TV @ v_SV[..., keys, :].swapaxes(-1, -2)
        grad_scores_TJ = p_TJ * (grad_p_TJ - average_T1) / q_TK.shape[-1] ** 0.5
        grad_q_TK += grad_scores_TJ @ k_SK[..., keys, :]
        grad_k_SK[..., keys, :] = grad_scores_TJ.swapaxes(-1, -2) @ q_TK
    return grad_q_TK, grad_k_SK, grad_v_SV


def _blocks(q_TK: np.ndarray, k_SK: np.ndarray, block: int, causal: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """Each block of keys with its scores (..., T, J); the first block has a visible key for every query."""
    T, S = q_TK.shape[-2], k_SK.shape[-2]
    if block < 1:
        raise ValueError(f"a block of {block} keys: choose at least 1")
    if causal and T != S:
        raise ValueError(f"{T} queries and {S} keys: causal attention here is of a text to itself, as many of both")
    for first in range(0, S, block):
        keys = slice(first, min(first + block, S))
        scores_TJ = q_TK @ k_SK[..., keys, :].swapaxes(-1, -2) / q_TK.shape[-1] ** 0.5
        if causal:
            seen_TJ = np.arange(keys.start, keys.stop) <= np.arange(T)[:, None]
            scores_TJ = np.where(seen_TJ, scores_TJ, -np.inf)
        yield keys, scores_TJ
