"""A = Q R: the same space, spanned by columns that are perpendicular and of length one. Three ways to get there.

Gram-Schmidt takes a column and subtracts its shadow on each of the earlier ones. Subtract all shadows of the *original*
column (classical), or each from what is *left* (modified): the same on paper, not in floating point. Householder goes the
other way round: mirrors turn A into a triangle R, and a product of mirrors is perfectly orthogonal whatever A was.

Loss of orthogonality |Q^T Q - I| for condition number c and rounding e: classical e c^2 (Giraud et al. 2005), modified e c
(Bjorck 1967), Householder e.

>>> q, r = householder_qr([[3.0, 1.0], [4.0, 2.0]])
>>> np.allclose(q @ r, [[3, 1], [4, 2]]), np.allclose(q.T @ q, np.eye(2))
(True, True)

Shapes: M rows, N columns, K the smaller of both.
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix, as_square, as_vector


def gram_schmidt(a: ArrayLike, modified: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Q (M, N) and R (N, N) for independent columns; the diagonal of R is positive."""
    a_MN = as_matrix(a)
    M, N = a_MN.shape
    if N > M:
        raise ValueError(f"{N} columns of length {M} cannot be independent: give at most {M}")
    scale = np.abs(a_MN).max() or 1.0  # lengths are squared: of 1e200 that is no number
    a_MN = a_MN / scale
    q_MN, r_NN = np.zeros((M, N)), np.zeros((N, N))
    for n in range(N):
        left = a_MN[:, n].copy()
        if modified:
            for i in range(n):
                r_NN[i, n] = q_MN[:, i] @ left
                left -= r_NN[i, n] * q_MN[:, i]
        else:
            r_NN[:n, n] = q_MN[:, :n].T @ left
            left -= q_MN[:, :n] @ r_NN[:n, n]
        r_NN[n, n] = np.linalg.norm(left)
        if r_NN[n, n] <= np.finfo(float).eps * np.linalg.norm(a_MN[:, n]):
            raise ValueError(f"column {n} is a combination of those before it: leave it out")
        q_MN[:, n] = left / r_NN[n, n]
    return q_MN, r_NN * scale


def householder_qr(a: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Q (M, K) and R (K, N) of any matrix, also of one without full rank.

    The mirror across the plane perpendicular to a unit vector v is H = I - 2 v v^T. The v between x and its image -+|x| e_1
    sends x there. Of the two images we take the one on the far side, so that x_0 and |x| add up and nothing cancels.
    (Golub & Van Loan, Matrix Computations, 5.1 and 5.2.)
    """
    a_MN = as_matrix(a)
    M, N = a_MN.shape
    K = min(M, N)
    r_MN, mirrors = a_MN.copy(), []
    for k in range(K):
        v = mirror(r_MN[k:, k])
        r_MN[k:, k:] -= np.outer(2 * v, v @ r_MN[k:, k:])
        mirrors.append(v)
    q_MK = np.eye(M, K)
    for k, v in reversed(list(enumerate(mirrors))):  # Q = H_0 H_1 ... I, from the right: the early rows stay out of it
        q_MK[k:, k:] -= np.outer(2 * v, v @ q_MK[k:, k:])
    return q_MK, np.triu(r_MN[:K])


def mirror(x: np.ndarray) -> np.ndarray:
    """The unit vector v for which (I - 2 v v^T) x lies on the first axis; zero where x does already."""
    largest = np.abs(x[1:]).max(initial=0.0)
    if largest == 0:
        return np.zeros_like(x)
    v = x / max(largest, abs(x[0]))  # squares of very large or small numbers are none
    v[0] += np.copysign(np.linalg.norm(v), v[0])
    return v / np.linalg.norm(v)


def solve_upper(r: ArrayLike, b: ArrayLike) -> np.ndarray:
    """x with R x = b for an upper triangle R (N, N), from the last equation, which has one unknown, to the first."""
    r_NN = as_square(r, "r")
    b_N = as_vector(b, "b", len(r_NN))
    x_N = np.zeros_like(b_N)
    for n in reversed(range(len(b_N))):
        if r_NN[n, n] == 0:
            raise ValueError(f"r has a zero on its diagonal at {n}: no unique solution; use `solve_svd`")
        x_N[n] = (b_N[n] - r_NN[n, n + 1 :] @ x_N[n + 1 :]) / r_NN[n, n]
    return x_N
