"""Batches, and splits: which rows are seen together, and which are kept back.

Gradients of a batch stand for those of all rows only when the batch is drawn at random, so each epoch has an order of its
own, which its seed decides. Rows that say how good a network is must never have been learned from, and a split that keeps
the share of each class (stratified) makes small parts comparable.

>>> epoch = list(batches(5, 2, np.random.default_rng(0)))
>>> [len(rows) for rows in epoch], np.sort(np.concatenate(epoch))
([2, 2, 1], array([0, 1, 2, 3, 4]))
>>> train, test = stratified_split(np.array([0] * 6 + [1] * 3), (2 / 3, 1 / 3), seed=0)
>>> len(train), len(test), np.intersect1d(train, test)
(6, 3, array([], dtype=int64))
"""

from collections.abc import Iterator, Sequence

import numpy as np


def batches(rows: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers of one epoch, shuffled, `size` at a time; the last batch has what is left."""
    if size < 1:
        raise ValueError(f"a batch has at least 1 row, got {size}")
    order = rng.permutation(rows)
    for first in range(0, rows, size):
        yield order[first : first + size]


def stratified_split(y_N: np.ndarray, shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Row numbers of each part, ascending; the parts have the given shares of every class, up to rounding.

    The same labels, shares and seed give the same parts. ValueError: shares that are not positive or do not add up to 1.
    """
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares must be positive and add up to 1, got {tuple(shares)}")
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for label in np.unique(y_N):
        rows = rng.permutation(np.flatnonzero(y_N == label))
        cuts = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, cuts)):
            part.append(piece)
    return [np.sort(np.concatenate([np.zeros(0, np.intp), *part])) for part in parts]
