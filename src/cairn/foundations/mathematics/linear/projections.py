"""The shadow of a vector: the nearest point to b on a line, or in a subspace.

The nearest point p makes a right angle: b - p is perpendicular to everything in the subspace. That alone gives the formula.
On the line through a, p = t a with a . (b - t a) = 0, so t = a.b / a.a. With an orthonormal basis Q the coordinates are
Q^T b, so p = Q Q^T b. Projecting twice changes nothing: P P = P.

>>> onto_line([2.0, 1.0], [1.0, 0.0])
array([2., 0.])
>>> onto_subspace([1.0, 2.0, 3.0], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
array([1., 2., 0.])
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix, as_vector
from cairn.foundations.mathematics.linear.jacobi import rank, svd


def onto_line(b: ArrayLike, a: ArrayLike) -> np.ndarray:
    """The point nearest to b on the line through 0 and a."""
    b_M = as_vector(b, "b")
    a_M = as_vector(a, "a", len(b_M))
    if not a_M.any():
        raise ValueError("a is zero and spans no line: give a direction")
    a_M = a_M / np.abs(a_M).max()  # the line is the same, and a . a is neither 0 nor infinite
    return (a_M @ b_M) / (a_M @ a_M) * a_M


def orthonormal_basis(a: ArrayLike) -> np.ndarray:
    """(M, rank): perpendicular unit vectors that span the columns of a (M, N), which may depend on each other."""
    a_MN = as_matrix(a)
    left, values, _ = svd(a_MN)
    return left[:, : rank(values, a_MN.shape)]


def onto_subspace(b: ArrayLike, a: ArrayLike) -> np.ndarray:
    """The point nearest to b (M,) among all combinations of the columns of a (M, N)."""
    q_MR = orthonormal_basis(a)
    return q_MR @ (q_MR.T @ as_vector(b, "b", len(q_MR)))


def projection_matrix(a: ArrayLike) -> np.ndarray:
    """P (M, M): symmetric, P P = P, its trace the dimension of the space that the columns of a span."""
    q_MR = orthonormal_basis(a)
    return q_MR @ q_MR.T
