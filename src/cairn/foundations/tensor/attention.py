"""Scaled dot-product attention (Vaswani et al. 2017), of the operations before it.

Every query is compared with every key; the softmax of the scores says which share of each value it takes. A query of
D values has scores that spread like sqrt(D), which would make the softmax choose one key and learn nothing: hence the scale.

Shapes: T queries, S keys and values, D their size; axes in front, such as batch and heads, are broadcast.

>>> from cairn.foundations.tensor import Tensor
>>> q = k = Tensor(np.eye(3) * 2)
>>> attention_weights(q, k, causal=True).data.round(2)
array([[1.  , 0.  , 0.  ],
       [0.09, 0.91, 0.  ],
       [0.08, 0.08, 0.83]])
>>> scaled_dot_product_attention(q, k, np.array([[1.0], [2.0], [3.0]]), causal=True).data.round(2)
array([[1.  ],
       [1.91],
       [2.75]])
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import Variable, plain
from cairn.foundations.tensor.softmaxes import softmax


def scaled_dot_product_attention(q_TD: Any, k_SD: Any, v_SE: Any, mask_TS: Any = None, causal: bool = False) -> Any:
    """softmax(q k^T / sqrt(D)) v: (..., T, E)."""
    return attention_weights(q_TD, k_SD, mask_TS, causal) @ v_SE


def attention_weights(q_TD: Any, k_SD: Any, mask_TS: Any = None, causal: bool = False) -> Any:
    """The shares (..., T, S) that each query takes of the values; every row sums to 1.

    mask: truth values, True where a query may look, or real numbers added to the scores (which may be learned). causal: query t
    sees the keys 0 .. t. A query that sees nothing has only zeros.
    """
    scores = (q_TD * plain(q_TD).shape[-1] ** -0.5) @ k_SD.mT
    # Adding -inf costs one pass and has the gradient of an addition, while choosing would cost three.
    if mask_TS is not None:
        mask = np.asarray(plain(mask_TS))
        if mask.dtype.kind in "iu":  # 0 and 1 would be added to the scores, and hide nothing
            raise ValueError(
                f"a mask of type {mask.dtype}: give truth values, mask.astype(bool), True where a query may look, "
                "or real numbers to add to the scores"
            )
        if mask.dtype == bool:
            mask_TS = _shut(mask, scores.dtype)
        elif not isinstance(mask_TS, Variable):  # float64 numbers would make all that follows float64
            mask_TS = mask.astype(scores.dtype, copy=False)
        scores = scores + mask_TS
    if causal:
        queries, keys = scores.shape[-2:]
        scores = scores + _shut(np.tri(queries, keys, dtype=bool), scores.dtype)
    return softmax(scores)


def _shut(open_TS: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """0 where it is open, -inf elsewhere."""
    return np.where(open_TS, dtype.type(0), dtype.type(-np.inf))
