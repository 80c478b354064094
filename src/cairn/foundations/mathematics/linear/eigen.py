"""All eigenvalues of a symmetric matrix at once: the QR algorithm.

Factor A = Q R and multiply the other way round: R Q = Q^T A Q has the same eigenvalues. Do it again and again and the matrix
becomes diagonal: it is power iteration on all columns at the same time, kept from falling onto each other by Q. Two ideas
make it fast. First bring A to three diagonals by mirrors, which the iteration keeps, so that a step costs N instead of N^3.
And shift: A - m I with m near an eigenvalue makes the last ratio |l_n - m| / |l_i - m| nearly 0; with Wilkinson's m a value
takes two or three steps. (Golub & Van Loan, Matrix Computations, 8.3.)

>>> values, vectors = eigh([[2.0, 1.0], [1.0, 2.0]])
>>> values.round(12).tolist()
[1.0, 3.0]

Shapes: N rows and columns.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_symmetric
from cairn.foundations.mathematics.linear.orthonormal import householder_qr, mirror

STEPS = 50  # for one eigenvalue; two or three are what it takes


def qr_iteration(a: ArrayLike, steps: int) -> np.ndarray:
    """The algorithm in its shortest form: A <- R Q, `steps` times. Entries below the diagonal shrink by |l_i / l_j|."""
    a_NN = as_symmetric(a)
    for _ in range(steps):
        q_NN, r_NN = householder_qr(a_NN)
        a_NN = r_NN @ q_NN
    return a_NN


def eigh(a: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (N,) from small to large, and their vectors as columns (N, N), as numpy.linalg.eigh, up to signs."""
    a_NN = as_symmetric(a)
    scale = np.abs(a_NN).max() or 1.0  # squares are taken below: of 1e200 they are no numbers
    diagonal, beside, q_NN = tridiagonal(a_NN / scale)
    rows_NN = q_NN.T.copy()  # a turn of two columns of Q is one of two rows here, which lie together
    last, steps = len(diagonal) - 1, 0
    while last > 0:
        small = np.finfo(float).eps * (np.abs(diagonal[:-1]) + np.abs(diagonal[1:]))
        beside[np.abs(beside) <= small] = 0.0
        if beside[last - 1] == 0:  # the last value stands alone: go on with the rest
            last, steps = last - 1, 0
            continue
        first = last - 1
        while first > 0 and beside[first - 1] != 0:
            first -= 1
        _chase(diagonal, beside, rows_NN, first, last)
        steps += 1
        if steps > STEPS:
            raise ValueError("the QR algorithm did not converge: are the numbers of a far too different in size?")
    order = np.argsort(diagonal, kind="stable")
    return diagonal[order] * scale, rows_NN[order].T


def tridiagonal(a: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagonal (N,), the entries beside it (N - 1,), and Q (N, N) with A = Q T Q^T.

    The mirror that clears column n below its second entry is applied from both sides; it leaves the first n + 1 rows and
    columns alone, and with them what is clear already.
    """
    t_NN = as_symmetric(a)
    q_NN = np.eye(len(t_NN))
    for n in range(len(t_NN) - 2):
        v = mirror(t_NN[n + 1 :, n])
        t_NN[n + 1 :, n:] -= np.outer(2 * v, v @ t_NN[n + 1 :, n:])
        t_NN[n:, n + 1 :] -= np.outer(t_NN[n:, n + 1 :] @ v, 2 * v)
        q_NN[:, n + 1 :] -= np.outer(q_NN[:, n + 1 :] @ v, 2 * v)
    return np.diag(t_NN).copy(), np.diag(t_NN, -1).copy(), q_NN


def _chase(diagonal: np.ndarray, beside: np.ndarray, rows_NN: np.ndarray, first: int, last: int) -> None:
    """One shifted step on rows first .. last of the tridiagonal matrix, in place.

    The first column of T - m I fixes the first turn. It spoils the shape by one entry beyond the three diagonals, and each
    turn after it chases that entry a row further, until it falls out at the end. (The shift itself is never subtracted from
    T: that the result is the same step is the implicit Q theorem.)
    """
    d, e = diagonal, beside
    # Wilkinson's shift: of the last 2 x 2 block's eigenvalues the one nearer to its corner.
    half = (d[last - 1] - d[last]) / 2
    shift = d[last] - e[last - 1] ** 2 / (half + math.copysign(math.hypot(half, e[last - 1]), half))
    x, bulge = float(d[first] - shift), float(e[first])
    for k in range(first, last):
        length = math.hypot(x, bulge)
        c, s = (x / length, bulge / length) if length else (1.0, 0.0)
        if k > first:
            e[k - 1] = length
        low, high, side = float(d[k]), float(d[k + 1]), float(e[k])
        d[k] = c * c * low + 2 * c * s * side + s * s * high
        d[k + 1] = s * s * low - 2 * c * s * side + c * c * high
        e[k] = c * s * (high - low) + (c * c - s * s) * side
        if k + 1 < last:
            x, bulge = float(e[k]), s * float(e[k + 1])
            e[k + 1] *= c
        rows_NN[k : k + 2] = np.array([[c, s], [-s, c]]) @ rows_NN[k : k + 2]
