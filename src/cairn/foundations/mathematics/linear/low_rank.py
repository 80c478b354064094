"""The best copy of a matrix that k columns times k rows can make.

The SVD writes A as a sum of simple matrices, s_1 u_1 v_1^T + s_2 u_2 v_2^T + ..., in order of weight. Stop after k and no
matrix of rank k comes nearer (Eckart & Young 1936; Mirsky 1960 for every norm that turns do not change). What is missing is
the tail: sqrt(s_{k+1}^2 + ...) in the Frobenius norm, s_{k+1} in the spectral norm. LoRA, PCA and the compression of images
live off how fast that tail falls.

>>> a = [[2.0, 0.0], [0.0, 1.0]]
>>> best_of_rank(a, 1).round(12).tolist()
[[2.0, 0.0], [0.0, 0.0]]
>>> tail_errors([2.0, 1.0]).tolist()
[2.23606797749979, 1.0, 0.0]
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix, as_vector, count
from cairn.foundations.mathematics.linear.jacobi import svd


def best_of_rank(a: ArrayLike, k: int) -> np.ndarray:
    """(M, N): of all matrices of rank k or less, one that is nearest to a."""
    a_MN = as_matrix(a)
    k = count(k, "k", 0, min(a_MN.shape))
    left, values, right_T = svd(a_MN)
    return left[:, :k] * values[:k] @ right_T[:k]


def tail_errors(values: ArrayLike) -> np.ndarray:
    """(K + 1,): Frobenius distance from a matrix with these K singular values to its best copy of rank 0, 1, ... K."""
    values_K = as_vector(values, "values")
    if values_K.min() < 0 or (np.diff(values_K) > 0).any():
        raise ValueError("values are no singular values: give numbers of 0 or more, from large to small")
    # Summed from the small end, where adding to a large number would lose them.
    return np.append(np.sqrt(np.cumsum(values_K[::-1] ** 2)[::-1]), 0.0)
