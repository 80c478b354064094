"""Linear algebra: what matrices do to space, and the algorithms that find it out.

Read in this order: `norms`, `projections`, `orthonormal`, `cholesky`, `least_squares`, `power`, `eigen`, `jacobi`, `low_rank`,
`pca`.

>>> a = [[3.0, 0.0], [4.0, 5.0]]
>>> left, values, right = svd(a)  # every matrix is a turn, a stretch and a turn
>>> bool(matrix_norm(a, "spectral") == values[0]), round(condition_number(a), 12)
(True, 3.0)
"""

from cairn.foundations.mathematics.linear.cholesky import cholesky, solve_cholesky
from cairn.foundations.mathematics.linear.eigen import eigh, qr_iteration, tridiagonal
from cairn.foundations.mathematics.linear.jacobi import rank, singular_values, svd
from cairn.foundations.mathematics.linear.least_squares import solve_normal, solve_qr, solve_svd
from cairn.foundations.mathematics.linear.low_rank import best_of_rank, tail_errors
from cairn.foundations.mathematics.linear.norms import condition_number, matrix_norm, vector_norm
from cairn.foundations.mathematics.linear.orthonormal import gram_schmidt, householder_qr, solve_upper
from cairn.foundations.mathematics.linear.pca import PCA, fit_pca
from cairn.foundations.mathematics.linear.power import (
    Eigenpair,
    leading_eigenpairs,
    power_iteration,
    rayleigh_quotient,
)
from cairn.foundations.mathematics.linear.projections import (
    onto_line,
    onto_subspace,
    orthonormal_basis,
    projection_matrix,
)

__all__ = [
    "PCA",
    "Eigenpair",
    "best_of_rank",
    "cholesky",
    "condition_number",
    "eigh",
    "fit_pca",
    "gram_schmidt",
    "householder_qr",
    "leading_eigenpairs",
    "matrix_norm",
    "onto_line",
    "onto_subspace",
    "orthonormal_basis",
    "power_iteration",
    "projection_matrix",
    "qr_iteration",
    "rank",
    "rayleigh_quotient",
    "singular_values",
    "solve_cholesky",
    "solve_normal",
    "solve_qr",
    "solve_svd",
    "solve_upper",
    "svd",
    "tail_errors",
    "tridiagonal",
    "vector_norm",
]
