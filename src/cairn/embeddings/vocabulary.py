"""Which words get a vector: those seen often enough, the most frequent first."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """words (V) and counts (int64[V]), falling; of equal counts the word that was seen first comes first.

    seen, distinct: words of the whole text, and how many different ones were counted, words without a vector included.
    """

    words: list[str]
    counts: np.ndarray
    seen: int
    distinct: int

    def __len__(self) -> int:
        return len(self.words)
