"""Whole documents packed into rows of a fixed length: nothing is cut that need not be, little is padding.

Where a text is cut into rows without regard to documents, most rows begin in the middle of one and see the tail of another.
Here a row holds whole documents, each by itself: positions begin again, and attention does not cross (`document_BT` of the
model). Only what is longer than a row is cut, into full rows and a rest. Rests and short documents go where they fit best:
best-fit decreasing (Johnson 1973; for language models Ding et al. 2024), in blocks of documents drawn at random from the
whole corpus.

The plan is made once and lies in a temporary file that is memory-mapped: 13 bytes a piece and 8 a row of disk, and the
memory of one block, however many there are. Every epoch goes through the rows in another order.

Shapes: T tokens of a row, N rows or pieces.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cairn.core.errors import UserError
from cairn.training.losses import IGNORED
from cairn.training.rows import Around, Content, padded, surrounded
from cairn.training.shards import ShardSet
from cairn.training.shuffle import mix, shuffled

BLOCK = 1 << 16  # documents that are packed together
PIECE = np.dtype([("start", "<i8"), ("length", "<i4"), ("last", "?")])  # last: the document ends with this piece


@dataclass(frozen=True)
class Packing:
    """How well documents fit: tokens and padding in `rows` rows of `context`, from `pieces` documents or parts of them."""

    rows: int
    pieces: int
    tokens: int
    context: int

    @property
    def padding(self) -> float:
        """Share of all places that hold no token."""
        return 1 - self.tokens / (self.rows * self.context)

    @property
    def saved(self) -> float:
        """How many times fewer rows than with one document (or part) in each."""
        return self.pieces / self.rows


class PackedRows:
    """Rows of `context` tokens made of whole documents.

    end_id: token that the last token of a document is to predict; without one it predicts nothing. The shards put bos before
    each document: with bos and eos the same token, as in GPT-2, that is what a text without borders teaches as well.
    around: tokens before and after each document (or part of one), for encoders that expect them.
    """

    def __init__(
        self,
        source: ShardSet,
        context: int,
        *,
        seed: int = 1,
        end_id: int | None = None,
        around: Around = ((), ()),
    ):
        self.source, self.context, self.seed, self.around = source, context, seed, around
        self.end_id = IGNORED if end_id is None else end_id
        if not len(source):
            raise UserError(f"{source.name} holds no document to pack")
        extra = len(around[0]) + len(around[1])
        self._pieces, self._ends = _mapped(_plan(source, context, extra, seed))
        tokens = int(np.sum(self._pieces["length"], dtype=np.int64)) + len(self._pieces) * extra
        self.packing = Packing(len(self._ends), len(self._pieces), tokens, context)

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, indices: np.ndarray) -> list[Content]:
        """Rows by their number in the endless run over all epochs."""
        epoch, place = np.divmod(indices, len(self))
        return [self._row(row) for row in shuffled(place, len(self), mix(self.seed, 17, epoch)).tolist()]

    def _row(self, row: int) -> Content:
        parts = []
        for number, piece in enumerate(self._pieces[self._ends[row - 1] if row else 0 : self._ends[row]]):
            start, length, last = int(piece["start"]), int(piece["length"]), bool(piece["last"])
            text = self.source.read(start, start + length + (not last))
            targets = np.append(text[1:], self.end_id) if last else text[1:]
            parts.append(surrounded(text[:length], targets, number, self.around))
        return padded(Content(*map(np.concatenate, zip(*parts))), self.context)


def best_fit(lengths_N: np.ndarray, capacity: int) -> np.ndarray:
    """The row of each length (N,) when each goes, longest first, to the row with the least space that is enough.

    Rows by their space are stacks, and which stacks hold any is one large integer: its lowest set bit from `length` on is
    the best fit. About a microsecond a piece.

    >>> best_fit(np.array([6, 3, 5, 2, 4]), 10).tolist()
    [0, 1, 1, 1, 0]
    """
    rows = np.empty(len(lengths_N), np.int64)
    stacks: list[list[int]] = [[] for _ in range(capacity + 1)]
    held, opened = 0, 0
    for piece in np.argsort(-lengths_N, kind="stable").tolist():
        length = int(lengths_N[piece])
        fitting = held >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = stacks[space].pop()
            if not stacks[space]:
                held ^= 1 << space
        else:
            space, row, opened = capacity, opened, opened + 1
        rows[piece] = row
        if space > length:
            stacks[space - length].append(row)
            held |= 1 << (space - length)
    return rows


def _plan(source: ShardSet, context: int, extra: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(pieces in the order of their rows, pieces in each row), block by block. extra: tokens around each piece."""
    for first in range(0, source.documents, BLOCK):
        places = np.arange(first, min(first + BLOCK, source.documents))
        starts, stops = source.borders(shuffled(places, source.documents, int(mix(seed, 19))))
        pieces = _cut(starts, stops, context - extra)
        if len(pieces):
            rows = best_fit(pieces["length"] + extra, context)
            yield pieces[np.argsort(rows, kind="stable")], np.bincount(rows)


def _cut(starts: np.ndarray, stops: np.ndarray, longest: int) -> np.ndarray:
    """Documents as pieces of at most `longest` tokens."""
    counts = -(-(stops - starts) // longest)  # an empty document has none
    document = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    pieces = np.empty(len(document), PIECE)
    pieces["start"] = starts[document] + within * longest
    pieces["length"] = np.minimum(stops[document] - pieces["start"], longest)
    pieces["last"] = within == counts[document] - 1
    return pieces


def _mapped(plan: Iterator[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """All pieces, and where the pieces of each row end, from files without a name that vanish with the process."""
    with tempfile.TemporaryFile() as pieces, tempfile.TemporaryFile() as ends:
        total = 0
        for block, counts in plan:
            pieces.write(block.tobytes())
            ends.write((total + np.cumsum(counts)).astype("<i8").tobytes())
            total += len(block)
        for file in (pieces, ends):
            file.flush()
        return np.memmap(pieces, PIECE, mode="r"), np.memmap(ends, "<i8", mode="r")
