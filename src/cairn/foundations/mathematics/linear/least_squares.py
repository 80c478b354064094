"""The best answer where there is none: x that makes A x as near to b as it can be.

With more equations than unknowns A x = b has no solution, but A x has a nearest point, the projection of b on the columns of
A; its residual is perpendicular to all of them: A^T (b - A x) = 0. Those are the normal equations. Solving them squares the
condition number, since A^T A has the squares of A's singular values: half of the digits can be lost. Q R avoids it (|Q^T b - R x|
is the same length), and the singular value decomposition also works where columns depend on each other.

>>> line = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])  # intercept and slope at 0, 1, 2
>>> solve_qr(line, [1.0, 3.0, 5.0]).round(12).tolist()
[1.0, 2.0]

Shapes: M equations, N unknowns.
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix, as_vector
from cairn.foundations.mathematics.linear.cholesky import solve_cholesky
from cairn.foundations.mathematics.linear.jacobi import rank, svd
from cairn.foundations.mathematics.linear.orthonormal import householder_qr, solve_upper


def solve_normal(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """A^T A x = A^T b by Cholesky: the fewest operations; right only for well-conditioned A (below about 1e7)."""
    a_MN, b_M = _problem(a, b)
    return solve_cholesky(a_MN.T @ a_MN, a_MN.T @ b_M)


def solve_qr(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """R x = Q^T b: what to use where the columns of A are independent."""
    a_MN, b_M = _problem(a, b)
    q_MN, r_NN = householder_qr(a_MN)
    diagonal = np.abs(np.diag(r_NN))
    if diagonal.min() <= max(a_MN.shape) * np.finfo(float).eps * diagonal.max():
        raise ValueError(
            "columns of a depend on each other: leave some out, or use `solve_svd` for the shortest solution"
        )
    return solve_upper(r_NN, q_MN.T @ b_M)


def solve_svd(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """The shortest of all x that come nearest: V S^+ U^T b, where S^+ inverts the singular values that are not 0."""
    a_MN = as_matrix(a)
    left, values, right = svd(a_MN)
    r = rank(values, a_MN.shape)
    return right[:r].T @ ((left[:, :r].T @ as_vector(b, "b", len(a_MN))) / values[:r])


def _problem(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a_MN = as_matrix(a)
    if a_MN.shape[1] > a_MN.shape[0]:
        raise ValueError(f"a has {a_MN.shape[0]} equations for {a_MN.shape[1]} unknowns: add some, or use `solve_svd`")
    return a_MN, as_vector(b, "b", len(a_MN))
