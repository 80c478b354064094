"""Pairs on disk, gone through again and again in random order, in memory that does not grow with them.

Steps of gradient descent must not meet all pairs of one word in a row. Each pair is written to a bucket drawn at random;
a bucket fits in memory and is put in a new random order each time it is read.
"""

import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from cairn.embeddings.cooccurrence import Pairs


class Shuffled:
    """`with Shuffled(rows, rng) as store: store.fill(most, parts); for pairs in store.shuffled(): ...`

    rows: pairs of a bucket, about; there are at most MOST_BUCKETS, each an open file.
    """

    RECORD = np.dtype([("i", np.int32), ("j", np.int32), ("x", np.float32)])
    MOST_BUCKETS = 512

    def __init__(self, rows: int, rng: np.random.Generator):
        self.rows, self.rng = rows, rng

    def __enter__(self) -> "Shuffled":
        self._files: list[BinaryIO] = []
        self._sizes = np.zeros(0, np.int64)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def __len__(self) -> int:
        return int(self._sizes.sum())

    def fill(self, most: int, parts: Iterable[Pairs]) -> None:
        """Take in all pairs, `most` at most. Called once."""
        buckets = min(max(1, -(-most // self.rows)), self.MOST_BUCKETS)
        self._files = [tempfile.TemporaryFile(prefix="cairn-pairs-") for _ in range(buckets)]  # noqa: SIM115 (closed by __exit__)
        self._sizes = np.zeros(buckets, np.int64)
        for pairs in parts:
            records = np.empty(len(pairs.x_N), self.RECORD)
            records["i"], records["j"], records["x"] = pairs
            place_N = self.rng.integers(buckets, size=len(records))
            order = np.argsort(place_N, kind="stable")
            borders = np.searchsorted(place_N[order], np.arange(buckets + 1))
            for b in np.flatnonzero(np.diff(borders)):
                self._files[b].write(records[order[borders[b] : borders[b + 1]]].tobytes())
            self._sizes += np.diff(borders)
        for file in self._files:
            file.flush()

    def shuffled(self) -> Iterator[Pairs]:
        """All pairs once, bucket by bucket, buckets and their pairs in a new random order."""
        for b in self.rng.permutation(len(self._files)):
            size = int(self._sizes[b])
            self._files[b].seek(0)
            records = np.fromfile(self._files[b], self.RECORD, size)[self.rng.permutation(size)]
            yield Pairs(*(np.ascontiguousarray(records[name]) for name in ("i", "j", "x")))
