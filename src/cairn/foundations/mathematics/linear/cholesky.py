"""A = L L^T: the square root of a positive definite matrix, as a triangle.

A covariance is such a matrix, and L is what turns independent noise into correlated noise: if z has covariance I, then L z
has covariance L I L^T = A. It also solves A x = b in two sweeps, and its diagonal gives the determinant, prod L_ii^2.

>>> cholesky([[4.0, 2.0], [2.0, 5.0]])
array([[2., 0.],
       [1., 2.]])
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_symmetric, as_vector


def cholesky(a: ArrayLike) -> np.ndarray:
    """The lower triangle L (N, N) with a positive diagonal.

    The first column of L L^T = A says L_00^2 = A_00 and L_i0 = A_i0 / L_00. Take that column's product away and the same
    holds for what is left. A pivot A_nn of 0 or less means that A is not positive definite: x^T A x is not above 0 for
    some x.
    """
    left_NN = as_symmetric(a)
    l_NN = np.zeros_like(left_NN)
    largest = np.abs(left_NN).max()
    for n in range(len(left_NN)):
        # What rounding leaves of a pivot that is zero on paper is no pivot.
        if left_NN[n, n] <= len(left_NN) * np.finfo(float).eps * largest:
            raise ValueError(
                f"a is not positive definite (pivot {n} is {left_NN[n, n]:.3g}): "
                "drop what is a combination of the rest, or add a little to its diagonal"
            )
        l_NN[n:, n] = left_NN[n:, n] / np.sqrt(left_NN[n, n])
        left_NN[n:, n:] -= np.outer(l_NN[n:, n], l_NN[n:, n])
    return l_NN


def solve_lower(l_NN: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x with L x = b for a lower triangle L (N, N) and b (N,) or (N, K), from the first equation to the last."""
    x = np.array(b, dtype=np.float64)
    for n in range(len(l_NN)):
        x[n] = (x[n] - l_NN[n, :n] @ x[:n]) / l_NN[n, n]
    return x


def solve_cholesky(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """x with A x = b: L y = b downwards, then L^T x = y upwards (which is downwards in reverse)."""
    l_NN = cholesky(a)
    y_N = solve_lower(l_NN, as_vector(b, "b", len(l_NN)))
    return solve_lower(l_NN.T[::-1, ::-1], y_N[::-1])[::-1]
