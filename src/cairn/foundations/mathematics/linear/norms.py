"""How long is a vector, how much can a matrix stretch, and how much does it magnify an error?

A norm measures size. Of a vector: the p-norm (sum |x_i|^p)^(1/p); 2 is the length, 1 counts blocks walked, infinity takes the
largest entry. Of a matrix: what it can do to a vector (spectral: the longest image of a unit vector), or its entries taken
as one long vector (Frobenius). The condition number is the ratio of the longest image to the shortest: how much larger the
relative error of x in A x = b can be than that of b.

>>> vector_norm([3.0, -4.0])
5.0
>>> a = [[2.0, 0.0], [0.0, 0.5]]
>>> matrix_norm(a, "spectral"), condition_number(a)
(2.0, 4.0)
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_array, as_matrix, as_vector
from cairn.foundations.mathematics.linear.jacobi import singular_values

Kind = Literal["frobenius", "spectral", "nuclear", "columns", "rows"]


def vector_norm(x: ArrayLike, p: float = 2.0) -> float:
    """(sum |x_i|^p)^(1/p) for p >= 1; p = inf gives the largest |x_i|. Below 1 the triangle inequality fails: refused."""
    size = np.abs(as_vector(x))
    if not p >= 1:
        raise ValueError(f"p is {p}: a norm needs p of at least 1")
    largest = float(size.max())
    if largest == 0 or math.isinf(p):
        return largest
    # Taken out before the power: 1e200 squared is no number any more.
    return largest * float(((size / largest) ** p).sum()) ** (1 / p)


def matrix_norm(a: ArrayLike, kind: Kind = "frobenius") -> float:
    """frobenius: all entries as one vector. spectral: the largest singular value. nuclear: the sum of them.

    columns, rows: the largest sum of sizes in a column (what a matrix can do in the 1-norm) or in a row (infinity-norm).
    """
    a_MN = as_matrix(a)
    if kind == "frobenius":
        return vector_norm(as_array(a_MN).ravel())
    if kind == "spectral":
        return float(singular_values(a_MN)[0])
    if kind == "nuclear":
        return float(singular_values(a_MN).sum())
    if kind == "columns":
        return float(np.abs(a_MN).sum(axis=0).max())
    if kind == "rows":
        return float(np.abs(a_MN).sum(axis=1).max())
    raise ValueError(f"there is no norm {kind!r}: take frobenius, spectral, nuclear, columns or rows")


def condition_number(a: ArrayLike) -> float:
    """Largest over smallest singular value; infinite where a direction is lost altogether."""
    values = singular_values(a)
    return float(values[0] / values[-1]) if values[-1] > 0 else math.inf
