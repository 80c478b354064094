"""Masks: who may look at whom. True where a query (row) sees a key (column).

A language model predicts the next token, so a token must not see those after it (causal). Texts of different lengths share
a batch, so nobody must see the padding behind the shorter ones. Masks are combined with `&`.

>>> causal_mask(3, 3).astype(int)
array([[1, 0, 0],
       [1, 1, 0],
       [1, 1, 1]])
>>> padding_mask(np.array([3, 1]), 3).astype(int).tolist()
[[[[1, 1, 1]]], [[[1, 0, 0]]]]
"""

import numpy as np


def causal_mask(queries: int, keys: int) -> np.ndarray:
    """(queries, keys): a query sees the key at its own place and those before it.

    With more keys than queries (a cache of what came earlier) the queries are the last ones of the text.

    >>> causal_mask(1, 3).astype(int)
    array([[1, 1, 1]])
    """
    if keys < queries:
        raise ValueError(f"{queries} queries and {keys} keys: a causal mask needs a key at the place of every query")
    return np.tri(queries, keys, keys - queries, dtype=bool)


def padding_mask(length_B: np.ndarray, keys: int) -> np.ndarray:
    """(B, 1, 1, keys), for scores (B, H, T, keys): text b has `length_B[b]` tokens, the rest of its row is padding."""
    length_B = np.asarray(length_B)
    if length_B.min() < 1 or length_B.max() > keys:
        raise ValueError(f"lengths {length_B.tolist()} with rows of {keys} keys: each must be 1 to {keys}")
    return (np.arange(keys) < length_B[:, None])[:, None, None, :]
