"""Which words get a vector: those seen often enough, the most frequent first."""

from dataclasses import dataclass

import numpy as np

from cairn.core.errors import UserError
from cairn.tokenizers.fast import ChunkCounter


@dataclass(frozen=True)
class Vocabulary:
    """words (V) and counts (int64[V]), falling; of equal counts the word that was seen first comes first.

    seen, distinct: words of the whole text, and how many different ones, ignored ones included.
    """

    words: list[str]
    counts: np.ndarray
    seen: int
    distinct: int

    def __len__(self) -> int:
        return len(self.words)


class WordCounter(ChunkCounter):
    """The words of a text, numbered from 0 as they first appear, and how often each occurs."""

    def __init__(self) -> None:
        super().__init__()
        self._sentence = 0  # words since the last sentence ended

    def number(self, block: bytes, longest_sentence: int) -> list[np.ndarray]:
        """The numbers (int32) of the words of UTF-8 text, -1 after each sentence; in one array or several."""
        from cairn.kernels.word_ids import number_words

        data, at, written = np.frombuffer(block, np.uint8), 0, []
        while at < len(data):
            ids = np.empty(len(data) - at + 2, np.int32)
            table = self.slots, self.entries, self.bytes, self.starts, self.counts, self.used, ids
            count, at, self._sentence = number_words(data, at, len(data), longest_sentence, self._sentence, *table)
            written.append(ids[:count])
            if at < len(data):
                self._grow(len(data) - at)
        return written

    def vocabulary(self, min_count: int) -> tuple[Vocabulary, np.ndarray]:
        """The words seen `min_count` times, and int32[distinct]: the row of each number, -1 for words left out."""
        counts = self.counts[: len(self)]
        kept = np.flatnonzero(counts >= min_count)
        if len(kept) < 2:
            raise UserError(
                f"the text has {int(counts.sum()):,} words, and {len(kept)} of them at least {min_count} times; two are "
                "needed: give more text or a smaller min_count"
            )
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        rows = np.full(len(counts), -1, np.int32)
        rows[kept] = np.arange(len(kept), dtype=np.int32)
        data, starts = self.bytes.tobytes(), self.starts
        words = [data[starts[k] : starts[k + 1]].decode("utf-8") for k in kept.tolist()]
        return Vocabulary(words, counts[kept], int(counts.sum()), len(counts)), rows
