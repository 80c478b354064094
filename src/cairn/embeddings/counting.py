"""Counting words: their numbers go to the spool, their counts decide on the vocabulary."""

from collections.abc import Iterator

import numpy as np

from cairn.core.errors import UserError
from cairn.embeddings.vocabulary import Vocabulary
from cairn.tokenizers.fast import ChunkCounter

BATCH = 1 << 18  # numbers that are given out at a time


class WordCounter(ChunkCounter):
    """The words of a text, numbered from 0 as they first appear, and how often each occurs.

    limit: different words that are counted. Those that first appear later all have the number `limit`, and no count, so
    that memory is bounded by some 60 bytes times the limit.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.ignored = 0  # occurrences of words beyond the limit
        self._sentence = 0  # words since the last sentence ended

    def number(self, block: bytes, longest_sentence: int) -> Iterator[np.ndarray]:
        """The numbers (int32) of the words of UTF-8 text, -1 after each sentence; in one array or several."""
        from cairn.kernels.word_ids import number_words

        data, at = np.frombuffer(block, np.uint8), 0
        while at < len(data):
            ids = np.empty(min(len(data) - at + 2, BATCH), np.int32)
            table = self.slots, self.entries, self.bytes, self.starts, self.counts, self.used
            state = self.limit, longest_sentence, self._sentence
            count, at, self._sentence, ignored, wanting = number_words(data, at, len(data), *state, *table, ids)
            self.ignored += ignored
            yield ids[:count]
            if wanting:
                self._grow(wanting)

    def vocabulary(self, min_count: int) -> tuple[Vocabulary, np.ndarray]:
        """The words seen `min_count` times, and int32: the row of each number, -1 for words left out."""
        counts = self.counts[: len(self)]
        seen = int(counts.sum()) + self.ignored
        kept = np.flatnonzero(counts >= min_count)
        if len(kept) < 2:
            raise UserError(
                f"the text has {seen:,} words, and {len(kept)} different ones at least {min_count} times; two are "
                "needed: give more text or a smaller min_count"
            )
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        rows = np.full(max(len(counts), self.limit if self.ignored else 0) + 1, -1, np.int32)
        rows[kept] = np.arange(len(kept), dtype=np.int32)
        data = self.bytes[: self.starts[len(counts)]].tobytes()
        spans = zip(self.starts[kept].tolist(), self.starts[kept + 1].tolist())
        words = [data[start:end].decode("utf-8") for start, end in spans]
        return Vocabulary(words, counts[kept], seen, len(counts)), rows
