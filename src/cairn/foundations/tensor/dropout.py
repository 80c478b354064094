"""Dropout: a share of the values set to zero by chance, so that no unit can rely on another one (Srivastava et al. 2014).

What stays is divided by the share that stays: the expected value is the same as without, and nothing need be changed when
the model is used. The mask is a constant, so the gradient goes where the value went.

>>> x = np.ones((2, 4))
>>> dropout(x, 0.5, np.random.default_rng(0))
array([[2., 2., 2., 0.],
       [0., 0., 0., 0.]])
>>> dropout(x, 0.5, np.random.default_rng(0), training=False) is x
True
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import plain


def dropout(x: Any, rate: float, rng: np.random.Generator, training: bool = True) -> Any:
    """x with each value zero with probability `rate`, the others divided by 1 - rate; x itself outside of training."""
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate of {rate}: it is a share, at least 0 and below 1")
    if not training or not rate:
        return x
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"dropout by a rng of type {type(rng).__name__}: give np.random.default_rng(seed)")
    values = plain(x)
    kept = rng.random(values.shape, np.float32) >= rate
    return x * (kept * np.result_type(values, 0.0).type(1 / (1 - rate)))
