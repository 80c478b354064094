"""The text as numbers on disk, read once and trained on again and again in memory that does not grow with it.

Reading and cutting text takes longer than an epoch's arithmetic on several cores, so the pass that counts the words also
writes each word's number (int32, in the order of first appearance) to a temporary file: about two thirds of the text's
size. Which row a number stands for is known at the end of that pass.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cairn.embeddings.config import LONGEST_SENTENCE

if TYPE_CHECKING:
    from cairn.embeddings.counting import WordCounter

CHUNK_WORDS = 10_000  # one learning rate, one worker, one stream of random numbers


@dataclass(frozen=True)
class Chunk:
    """Sentences that are trained on together: `items` numbers from `start` of the spool; `before` words came earlier."""

    start: int
    items: int
    before: int


class Spool:
    """`with Spool() as spool: spool.write(blocks, counter)`; the file is gone when the block ends, however it ends."""

    def __enter__(self) -> "Spool":
        self._file = tempfile.TemporaryFile(prefix="cairn-words-")
        self.chunks: list[Chunk] = []
        self.words = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, blocks: Iterable[bytes], counter: "WordCounter") -> None:
        """Number the words of all blocks. Chunks end where sentences do: none is cut but by its length."""
        start = end = before = 0
        for block in blocks:
            for ids in counter.number(block, LONGEST_SENTENCE):
                if not len(ids):
                    continue
                self._file.write(ids.tobytes())
                ends = np.flatnonzero(ids < 0) + 1  # positions in ids after each sentence
                words = self.words + ends - np.arange(1, len(ends) + 1)
                while len(ends):
                    # The first sentence that fills the chunk.
                    k = int(np.searchsorted(words, before + CHUNK_WORDS))
                    if k == len(ends):
                        break
                    self.chunks.append(Chunk(start, end + int(ends[k]) - start, before))
                    start, before = end + int(ends[k]), int(words[k])
                    ends, words = ends[k + 1 :], words[k + 1 :]
                self.words += len(ids) - int((ids < 0).sum())
                end += len(ids)
        if end > start:
            self.chunks.append(Chunk(start, end - start, before))
        self._file.flush()  # `read` asks the system, not the buffer

    def read(self, chunk: Chunk) -> np.ndarray:
        """The numbers of a chunk, int32[items]; any thread may ask."""
        return np.frombuffer(os.pread(self._file.fileno(), 4 * chunk.items, 4 * chunk.start), np.int32)
