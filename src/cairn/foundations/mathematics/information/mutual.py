"""Mutual information: how much does knowing y tell about x?

Of the entropy of x, what is gone once y is known: I(X; Y) = H(X) - H(X | Y) = H(X) + H(Y) - H(X, Y). It is also the
divergence of the table from what it would be if x and y had nothing to do with each other, KL(p(x, y) || p(x) p(y)), so it is
never negative, and 0 only then. Unlike correlation it sees any dependence. What happens to y on its way cannot add to it: for
X -> Y -> Z, I(X; Z) <= I(X; Y) (data processing).

>>> table = np.array([[0.5, 0.0], [0.0, 0.5]])  # y is x
>>> round(float(mutual_information(table, unit="bits")), 9), float(conditional_entropy(table, unit="bits"))
(1.0, 0.0)
>>> round(float(mutual_information(through(table, [[0.9, 0.1], [0.1, 0.9]]), unit="bits")), 3)  # seen through noise
0.531

Shapes: a table is (X, Y), its entries sum to 1.
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix, as_probabilities
from cairn.foundations.mathematics.information.divergences import kl
from cairn.foundations.mathematics.information.entropies import Unit, entropy, in_unit


def as_table(table: ArrayLike) -> np.ndarray:
    """P(x, y), (X, Y)."""
    return as_probabilities(as_matrix(table, "table"), "table", axis=None)


def joint_entropy(table: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """H(X, Y)."""
    return entropy(as_table(table).ravel(), unit)


def conditional_entropy(table: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """H(X | Y) = H(X, Y) - H(Y), as the mean of H(X | y) over y: what is left to learn about x."""
    table_XY = as_table(table)
    p_Y = table_XY.sum(axis=0)
    given_YX = np.divide(table_XY.T, p_Y[:, None], out=np.ones_like(table_XY.T), where=p_Y[:, None] > 0)
    logs = np.log(np.where(given_YX > 0, given_YX, 1.0))
    return in_unit(np.asarray(0.0 - (table_XY.T * logs).sum()), unit)


def mutual_information(table: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """I(X; Y) of P(x, y)."""
    table_XY = as_table(table)
    table_XY = table_XY / table_XY.sum()  # to the last digit, so that the product of its margins sums to 1 as well
    independent = np.outer(table_XY.sum(axis=1), table_XY.sum(axis=0))
    return kl(table_XY.ravel(), independent.ravel(), unit)


def through(table: ArrayLike, channel: ArrayLike) -> np.ndarray:
    """P(x, z) when y is seen only as z: channel (Y, Z) has P(z | y) in its rows."""
    table_XY = as_table(table)
    channel_YZ = as_probabilities(as_matrix(channel, "channel"), "channel")
    if len(channel_YZ) != table_XY.shape[1]:
        raise ValueError(f"channel has {len(channel_YZ)} rows for {table_XY.shape[1]} values of y: give one for each")
    return table_XY @ channel_YZ


def table_of(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """(X, Y): the share of each pair of values among the pairs (x_i, y_i), which may be labels of any kind."""
    x_N, y_N = np.asarray(x), np.asarray(y)
    if x_N.ndim != 1 or x_N.shape != y_N.shape or not len(x_N):
        raise ValueError(f"x has shape {x_N.shape}, y {y_N.shape}: give two vectors of the same length")
    (xs, row_N), (ys, column_N) = (np.unique(v, return_inverse=True) for v in (x_N, y_N))
    counts_XY = np.bincount(row_N * len(ys) + column_N, minlength=len(xs) * len(ys)).reshape(len(xs), len(ys))
    return counts_XY / len(x_N)


def mutual_information_of(x: ArrayLike, y: ArrayLike, unit: Unit = "nats", corrected: bool = False) -> np.ndarray:
    """I(X; Y) of the shares among N pairs.

    Few pairs look dependent by chance: even for independent x and y it is (|X| - 1)(|Y| - 1) / 2N nats on average (Miller
    1955). `corrected` takes that away, and may then be below 0.
    """
    table_XY = table_of(x, y)
    chance = (table_XY.shape[0] - 1) * (table_XY.shape[1] - 1) / (2 * len(np.asarray(x)))
    return in_unit(mutual_information(table_XY) - (chance if corrected else 0.0), unit)
