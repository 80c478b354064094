"""How often words stand near each other: counts of all pairs of a text, in memory that does not grow with it.

Of two words d apart, at most a window, 1 / d is added to their pair. Pairs of frequent words are added up in a table, whose
rows get shorter as words get rarer. The others are written down one by one; when memory is full they are sorted, equal
ones added up, and put on disk as a run; in the end the runs are merged. The program of the paper's authors does the same.
"""

import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

MERGED_ROWS = 1 << 16  # of each run at a time
TABLE_CELLS = 1 << 20  # looked through at a time
ENTRY_BYTES = 48  # of a pair that waits to be sorted: key, value and what sorting takes
Part = tuple[np.ndarray, np.ndarray]  # keys (int64, ascending, different) and sums (float64)


class Pairs(NamedTuple):
    """Pairs of rows (int32[N]) and their counts x (float32[N])."""

    i_N: np.ndarray
    j_N: np.ndarray
    x_N: np.ndarray


def plain_counts(ids: Iterable[int], rows: np.ndarray, window: int) -> dict[tuple[int, int], float]:
    """What `count_pairs` counts, said plainly: (smaller row, larger row) -> sum of 1 / distance.

    >>> plain_counts([0, 1, 2, -1, 0, 2], np.array([0, 1, 2]), window=2)
    {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 1.5}
    """
    counts: dict[tuple[int, int], float] = {}
    sentence: list[int] = []
    for id in ids:
        if id < 0:
            sentence = []
        elif rows[id] >= 0:
            row = int(rows[id])
            for distance, other in enumerate(reversed(sentence[-window:]), 1):
                pair = min(row, other), max(row, other)
                counts[pair] = counts.get(pair, 0.0) + 1 / distance
            sentence.append(row)
    return counts


class PairCounter:
    """`with PairCounter(...) as counter: counter.add(ids) ...; for pairs in counter.pairs(): ...`

    size: words of the vocabulary, the most frequent first. memory: bytes of table and buffer together.
    """

    def __init__(self, size: int, rows: np.ndarray, window: int, memory: int):
        self.size, self.rows, self.window = size, rows.astype(np.int64), window
        self.ends = table_ends(size, memory // 2 // 8)
        widths = np.maximum(self.ends - np.arange(size), 0)
        self.offsets = np.cumsum(widths) - widths - np.arange(size)
        self.dense = np.zeros(int(widths.sum()))
        room = max(memory // 2 // ENTRY_BYTES, 4 * window)
        self.keys, self.values = np.empty(room, np.int64), np.empty(room)
        self.used = 0
        self.history, self.seen = np.zeros(window, np.int64), 0
        self.runs: list[int] = []  # their lengths

    def __enter__(self) -> "PairCounter":
        self._file = tempfile.TemporaryFile(prefix="cairn-pairs-")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, ids: np.ndarray) -> None:
        """Count the pairs of further text: numbers of words (int32), negative after a sentence."""
        from cairn.kernels.glove import count_pairs

        at = 0
        while at < len(ids):
            at, self.seen, used = count_pairs(
                ids,
                at,
                self.rows,
                self.window,
                self.history,
                self.seen,
                self.ends,
                self.offsets,
                self.dense,
                self.keys[self.used :],
                self.values[self.used :],
            )
            self.used += used
            if at < len(ids):
                self._spill()

    def _spill(self) -> None:
        """Sort what waits, add up equal pairs, and put them on disk."""
        keys, sums = added_up(self.keys[: self.used], self.values[: self.used])
        self._file.write(keys.tobytes())
        self._file.write(sums.tobytes())
        self.runs.append(len(keys))
        self.used = 0

    def most(self) -> int:
        """Pairs that `pairs` will give, at most."""
        return 2 * (int(np.count_nonzero(self.dense)) + self.used + sum(self.runs))

    def pairs(self) -> Iterator[Pairs]:
        """All pairs seen, each in both directions, in parts."""
        firsts = self.offsets + np.arange(self.size)  # cells of the pairs (low, low)
        for start in range(0, len(self.dense), TABLE_CELLS):
            cells = start + np.flatnonzero(self.dense[start : start + TABLE_CELLS])
            low = np.searchsorted(firsts, cells, side="right") - 1
            yield both_ways(low, cells - self.offsets[low], self.dense[cells])
        last = added_up(self.keys[: self.used], self.values[: self.used])
        for keys, sums in merge([*self._runs(), last], MERGED_ROWS):
            yield both_ways(keys // self.size, keys % self.size, sums)

    def _runs(self) -> list[Part]:
        self._file.flush()
        parts, start = [], 0
        for length in self.runs:
            keys = np.memmap(self._file, np.int64, "r", 16 * start, (length,))  # type: ignore[call-overload]
            sums = np.memmap(self._file, np.float64, "r", 16 * start + 8 * length, (length,))  # type: ignore[call-overload]
            parts.append((keys, sums))
            start += length
        return parts


def table_ends(size: int, cells: int) -> np.ndarray:
    """int64[size]: row `low` of the table holds the columns low .. ends[low], at most `cells` in all.

    ends[low] is about P / (low + 1): a pair is in the table if the product of its ranks is small, as its count is then
    large. P is the largest for which there is room.
    """
    ranks = np.arange(1, size + 1)

    def ends(product: int) -> np.ndarray:
        return np.minimum(size, product // ranks)

    low, high = 0, size * size  # P by bisection
    while low < high:
        middle = (low + high + 1) // 2
        if np.maximum(ends(middle) - ranks + 1, 0).sum() <= cells:
            low = middle
        else:
            high = middle - 1
    return ends(low)


def added_up(keys: np.ndarray, values: np.ndarray) -> Part:
    """Equal keys once, ascending, with the sums of their values.

    >>> [part.tolist() for part in added_up(np.array([5, 2, 5]), np.array([1.0, 2.0, 0.5]))]
    [[2, 5], [2.0, 1.5]]
    """
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[firsts], np.add.reduceat(values[order], firsts)


def merge(runs: list[Part], rows: int) -> Iterator[Part]:
    """The runs as one, in parts of ascending keys, with `rows` of each run in memory at a time.

    >>> runs = [(np.array([1, 4, 6]), np.ones(3)), (np.array([4, 5]), np.ones(2))]
    >>> [(keys.tolist(), sums.tolist()) for keys, sums in merge(runs, 2)]
    [([1, 4], [1.0, 2.0]), ([5, 6], [1.0, 1.0])]
    """
    at = [0] * len(runs)
    while True:
        heads = [keys[start : start + rows] for (keys, _), start in zip(runs, at)]
        if not any(map(len, heads)):
            return
        # Up to the first key behind which a run has more than was taken of it.
        unfinished = [head[-1] for head, (keys, _), start in zip(heads, runs, at) if start + len(head) < len(keys)]
        counts = [
            int(np.searchsorted(head, min(unfinished), side="right")) if unfinished else len(head) for head in heads
        ]
        keys = np.concatenate([head[:count] for head, count in zip(heads, counts)])
        sums = np.concatenate([sums[start : start + count] for (_, sums), start, count in zip(runs, at, counts)])
        at = [start + count for start, count in zip(at, counts)]
        yield added_up(keys, sums)


def both_ways(low_N: np.ndarray, high_N: np.ndarray, x_N: np.ndarray) -> Pairs:
    """(low, high) and (high, low); of a word with itself the pair once, with twice its count: it was near from both sides.

    >>> [part.tolist() for part in both_ways(np.array([0, 2]), np.array([1, 2]), np.array([0.5, 1.0]))]
    [[0, 2, 1], [1, 2, 0], [0.5, 2.0, 0.5]]
    """
    apart = low_N != high_N
    x_N = np.where(apart, x_N, 2 * x_N)
    i_N, j_N = np.concatenate([low_N, high_N[apart]]), np.concatenate([high_N, low_N[apart]])
    return Pairs(i_N.astype(np.int32), j_N.astype(np.int32), np.concatenate([x_N, x_N[apart]]).astype(np.float32))
