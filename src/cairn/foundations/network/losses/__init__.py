"""Losses: one number that says how wrong a batch is, and whose gradient says where to go.

All of them take the mean over the batch, and take outputs as tensors and targets as arrays. Each derivation is in its file.

>>> from cairn.foundations.tensor import Tensor
>>> import numpy as np
>>> float(mse(Tensor(np.array([1.0, 2.0])), np.array([1.0, 4.0])).data)
2.0
"""

from cairn.foundations.network.losses.classification import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    focal,
    kl_divergence,
)
from cairn.foundations.network.losses.margin import contrastive, hinge, info_nce, multiclass_hinge
from cairn.foundations.network.losses.regression import huber, l1, mse

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "contrastive",
    "cross_entropy",
    "focal",
    "hinge",
    "huber",
    "info_nce",
    "kl_divergence",
    "l1",
    "mse",
    "multiclass_hinge",
]
