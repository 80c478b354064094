"""Multiply by A again and again: what is left points along the strongest eigenvector.

Write v in eigenvectors, v = sum c_i q_i. Then A^k v = sum c_i l_i^k q_i, and the largest |l_i| wins: each step the others
shrink against it by |l_2 / l_1|. That ratio is the whole story of its speed. The eigenvalue is read off by the Rayleigh
quotient v.Av / v.v, for symmetric A with the *squared* ratio, since it is flat at an eigenvector. For the next eigenpair take
the first away, A - l_1 q_1 q_1^T (Hotelling's deflation), and start again. PageRank is this iteration on the web.

>>> found = power_iteration([[2.0, 1.0], [1.0, 2.0]], np.random.default_rng(0))
>>> round(found.value, 12), np.abs(found.vector).round(6).tolist()
(3.0, [0.707107, 0.707107])

Shapes: N rows and columns, K eigenpairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_square, as_symmetric, as_vector, count
from cairn.foundations.mathematics.linear.norms import vector_norm


class Eigenpair(NamedTuple):
    value: float
    vector: np.ndarray  # (N,), of length 1
    residuals: list[float]  # |A v - value v| of each step


def rayleigh_quotient(a: ArrayLike, v: ArrayLike) -> float:
    """v.Av / v.v: the number l that makes A v nearest to l v."""
    a_NN = as_square(a)
    v_N = as_vector(v, "v", len(a_NN))
    if not v_N.any():
        raise ValueError("v is zero and has no direction: give another vector")
    v_N = v_N / vector_norm(v_N)
    return float(v_N @ a_NN @ v_N)


def power_iteration(
    a: ArrayLike, rng: np.random.Generator, tolerance: float = 1e-12, max_steps: int = 10_000
) -> Eigenpair:
    """The eigenvalue of a (N, N) that is largest in size, and its vector, from a random start.

    Ends when |A v - l v| is below tolerance * |A|. Raises ValueError where it never is: two eigenvalues of equal size and
    different sign (or a complex pair) take turns for ever.
    """
    a_NN = as_square(a)
    scale = float(np.abs(a_NN).max()) or 1.0  # lengths are squared: of 1e200 that is no number
    a_NN = a_NN / scale
    found = _iterate(a_NN, rng.standard_normal(len(a_NN)), tolerance * float(np.linalg.norm(a_NN)), max_steps)
    return Eigenpair(found.value * scale, found.vector, [r * scale for r in found.residuals])


def _iterate(a_NN: np.ndarray, v_N: np.ndarray, enough: float, max_steps: int) -> Eigenpair:
    v_N = v_N / np.linalg.norm(v_N)
    residuals = []
    for _ in range(count(max_steps, "max_steps")):
        image_N = a_NN @ v_N
        value = float(v_N @ image_N)
        residuals.append(float(np.linalg.norm(image_N - value * v_N)))
        if residuals[-1] <= enough:
            return Eigenpair(value, v_N, residuals)
        v_N = image_N / np.linalg.norm(image_N)
    raise ValueError(
        f"after {max_steps} steps the residual is {residuals[-1]:.3g}: two eigenvalues are (nearly) equal in size; "
        "add a multiple of the identity to part them or, where a is symmetric, use `eigh`"
    )


def leading_eigenpairs(
    a: ArrayLike, k: int, rng: np.random.Generator, tolerance: float = 1e-12, max_steps: int = 10_000
) -> tuple[np.ndarray, np.ndarray]:
    """Values (K,) and vectors (N, K) of a symmetric matrix, from the largest in size on, by deflation."""
    a_NN = as_symmetric(a)
    scale = float(np.abs(a_NN).max()) or 1.0
    a_NN = a_NN / scale
    k = count(k, "k", 1, len(a_NN))
    enough = tolerance * float(np.linalg.norm(a_NN))
    left_NN, values, vectors_NK = a_NN.copy(), np.zeros(k), np.zeros((len(a_NN), k))
    for i in range(k):
        found = _iterate(left_NN, rng.standard_normal(len(a_NN)), enough, max_steps)
        known = vectors_NK[:, :i]
        # What an earlier vector lacked is still in the matrix: keep the new one perpendicular to all of them.
        vector = found.vector - known @ (known.T @ found.vector)
        vectors_NK[:, i] = vector / np.linalg.norm(vector)
        values[i] = vectors_NK[:, i] @ a_NN @ vectors_NK[:, i]
        left_NN -= values[i] * np.outer(vectors_NK[:, i], vectors_NK[:, i])
    return values * scale, vectors_NK
