"""A = U S V^T: every matrix is a turn, a stretch along the axes, and another turn. Found by turning pairs of columns.

If the columns of A were perpendicular, we would be done: their lengths would be the singular values. So take two columns
p and q and turn them in their plane until they are perpendicular, W <- W J; the angle is that of Jacobi's 2 x 2 problem. That
disturbs other pairs a little, and yet the sum of all squared products falls with every turn: after some sweeps over all
pairs every pair is perpendicular. Then W = A V, the lengths are S, and W / S is U.

Why not take the eigenvectors of A^T A? It squares the singular values, so those below 1e-8 of the largest drown in rounding.
One-sided Jacobi never forms that product, and it finds small values to high *relative* accuracy when the smallness comes
from the scale of columns (Demmel & Veselic 1992), which neither A^T A nor LAPACK's usual way does.

>>> left, values, right = svd([[3.0, 0.0], [4.0, 5.0]])
>>> (values**2).round(12).tolist()
[45.0, 5.0]
>>> np.allclose(left * values @ right, [[3, 0], [4, 5]])
True

Shapes: M rows, N columns, K the smaller of both.
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix
from cairn.foundations.mathematics.linear.orthonormal import householder_qr

SWEEPS = 60  # about ten are needed; it converges quadratically once it is near
# Relative to the largest entry: a shorter column is taken for 0, since its square is no number. What is left of a column
# that depends on others shrinks to that within a few turns.
NOTHING = 1e-150


def svd(a: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U (M, K), S (K,) from large to small, V^T (K, N), as numpy.linalg.svd(a, full_matrices=False), up to signs.

    Signs are free in pairs (-u s -v^T is the same): here the largest entry of each row of V^T is positive.
    """
    a_MN = as_matrix(a)
    if a_MN.shape[0] < a_MN.shape[1]:
        right, values, left_T = svd(a_MN.T)
        left, right_T = left_T.T, right.T
    else:
        # Of a tall matrix only the small triangle R of A = Q R needs work: A = (Q U) S V^T.
        q_MN, r_NN = householder_qr(a_MN)
        left_NN, values, right_T = _one_sided_jacobi(r_NN)
        left = q_MN @ left_NN
    largest = np.take_along_axis(right_T, np.abs(right_T).argmax(axis=1)[:, None], axis=1)
    sign_K1 = np.where(largest < 0, -1.0, 1.0)
    return left * sign_K1.T, values, right_T * sign_K1


def singular_values(a: ArrayLike) -> np.ndarray:
    """S (K,) alone, from large to small."""
    return svd(a)[1]


def rank(values: np.ndarray, shape: tuple[int, ...]) -> int:
    """How many singular values are more than rounding: above max(M, N) * epsilon * the largest, as in NumPy."""
    return int((values > max(shape) * np.finfo(float).eps * values[0]).sum())


def tournament(players: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rounds in which everybody meets everybody once, and nobody plays twice in a round: (first, second) players.

    One stays in place, the others move round the table by a seat. The pairs of a round share no column, so that all of
    them can be turned at once.

    >>> [list(zip(first.tolist(), second.tolist())) for first, second in tournament(4)]
    [[(0, 3), (1, 2)], [(0, 2), (3, 1)], [(0, 1), (2, 3)]]
    """
    table = list(range(players + players % 2))  # an odd one out plays against a seat that is empty
    rounds = []
    for _ in range(len(table) - 1):
        pairs = [p for p in zip(table, reversed(table[len(table) // 2 :])) if max(p) < players]
        first, second = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        rounds.append((first, second))
        table = [table[0], table[-1], *table[1:-1]]
    return rounds


def _one_sided_jacobi(a_NN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    N = len(a_NN)
    scale = np.abs(a_NN).max()
    if scale == 0:
        return np.eye(N), np.zeros(N), np.eye(N)
    # Columns of W and of V side by side, as rows: what is turned together lies together.
    both = np.concatenate([a_NN.T / scale, np.eye(N)], axis=1)
    tolerance = np.sqrt(N) * np.finfo(float).eps
    rounds = tournament(N)
    for _ in range(SWEEPS):
        turned = sum(_turn(both, N, first, second, tolerance) for first, second in rounds)
        if not turned:
            break
    else:
        raise ValueError("the columns did not become perpendicular: are the numbers of a far too different in size?")
    values = np.linalg.norm(both[:, :N], axis=1)
    order = np.argsort(-values, kind="stable")
    w_NN, values, right_T = both[order, :N], np.where(values > NOTHING, values, 0.0)[order], both[order, N:]
    left_T = np.divide(w_NN, values[:, None], out=np.zeros_like(w_NN), where=values[:, None] > 0)
    return _complete(left_T, int((values > 0).sum())).T, values * scale, right_T


def _turn(both: np.ndarray, N: int, first: np.ndarray, second: np.ndarray, tolerance: float) -> int:
    """Turn the pairs (first, second) that are not perpendicular yet; how many those were.

    Of the angle t = tan: perpendicular afterwards means t^2 + 2 z t - 1 = 0 with z = (q.q - p.p) / (2 p.q). The smaller root
    turns by 45 degrees at most, which is what makes the sweeps converge.
    """
    p, q = both[first, :N], both[second, :N]
    pp, qq, pq = (p * p).sum(axis=1), (q * q).sum(axis=1), (p * q).sum(axis=1)
    apart = (np.abs(pq) > tolerance * np.sqrt(pp) * np.sqrt(qq)) & (np.minimum(pp, qq) > NOTHING**2)
    if not apart.any():
        return 0
    first, second, pp, qq, pq = first[apart], second[apart], pp[apart], qq[apart], pq[apart]
    with np.errstate(over="ignore"):  # an infinite z is an angle of 0
        z = (qq - pp) / (2 * pq)
        t = np.copysign(1.0, z) / (np.abs(z) + np.hypot(1.0, z))
    cos = 1 / np.hypot(1.0, t)
    sin = cos * t
    p, q = both[first], both[second]
    both[first] = cos[:, None] * p - sin[:, None] * q
    both[second] = sin[:, None] * p + cos[:, None] * q
    return len(first)


def _complete(rows: np.ndarray, known: int) -> np.ndarray:
    """Fill the rows after the first `known` orthonormal ones with unit vectors that are perpendicular to all before."""
    for k in range(known, len(rows)):
        # The axis that the rows so far cover least: what they leave of it is too long to be lost in rounding.
        axis = np.eye(rows.shape[1])[np.argmin((rows[:k] ** 2).sum(axis=0))]
        axis -= rows[:k].T @ (rows[:k] @ axis)
        rows[k] = axis / np.linalg.norm(axis)
    return rows
