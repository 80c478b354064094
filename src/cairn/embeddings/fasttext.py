"""fastText: a word is its n-grams too, so that rare words learn from common ones and unknown words have vectors.

    vectors = train_fasttext("wiki.txt", FastTextConfig(dim=100, workers=2))
    vectors.vector("lobsterish")        # never seen; the mean of its n-grams' vectors

Bojanowski et al. 2017; the reference for hashes and means is gensim 4, which follows fastText's own files.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings.config import FastTextConfig
from cairn.embeddings.plain import Bags
from cairn.embeddings.spool import Spool
from cairn.embeddings.stream import Source
from cairn.embeddings.subwords import buckets_of, subword_bags
from cairn.embeddings.training import initial, prepare, train
from cairn.embeddings.vectors import WordVectors, read

SUBWORDS = "subwords.safetensors"
BLOCK_ROWS = 1 << 18  # rows that are gathered at a time to compose vectors


class SubwordVectors(WordVectors):
    """Vectors of known words, matrix_VD, and of the buckets of n-grams, buckets_BD, which give every other word one."""

    def __init__(
        self,
        words: Sequence[str],
        matrix_VD: np.ndarray,
        buckets_BD: np.ndarray,
        min_n: int,
        max_n: int,
        counts: np.ndarray | None = None,
    ):
        super().__init__(words, matrix_VD, counts)
        if buckets_BD.ndim != 2 or buckets_BD.shape[1] != self.dim or not len(buckets_BD):
            raise ValueError(f"buckets must be rows of {self.dim} numbers, got shape {buckets_BD.shape}")
        if not 1 <= min_n <= max_n:
            raise ValueError(f"n-grams must be of min_n to max_n characters, 1 or more, got {min_n} to {max_n}")
        self.buckets_BD = buckets_BD
        self.min_n, self.max_n = min_n, max_n

    def has(self, word: str) -> bool:
        """Whether the word has a vector: it is known, or long enough to have n-grams."""
        return word in self.index or bool(buckets_of(word, self.min_n, self.max_n, len(self.buckets_BD)))

    def vector(self, word: str) -> np.ndarray:
        """float32[D]: the row of a known word, else the mean of its n-grams' vectors. Raises UserError without any."""
        if word not in self.index:
            rows = buckets_of(word, self.min_n, self.max_n, len(self.buckets_BD))
            if rows:
                return self.buckets_BD[rows].mean(0)
        return super().vector(word)

    def write(self, directory: Path) -> None:
        import torch

        from cairn.core.tensors import save_tensors

        super().write(directory)
        sizes = {"min_n": str(self.min_n), "max_n": str(self.max_n)}
        save_tensors({"buckets": torch.from_numpy(self.buckets_BD)}, directory / SUBWORDS, sizes)

    @classmethod
    def load(cls, path: Path | str) -> "SubwordVectors":
        """Read a directory that `save` wrote. Raises UserError for one that is damaged or something else."""
        from safetensors import SafetensorError, safe_open

        words, matrix_VD, counts = read(Path(path))
        file = Path(path) / SUBWORDS
        if not file.is_file():
            raise UserError(f"{path} holds vectors of words alone (no {SUBWORDS}); fastText's were expected")
        try:
            with safe_open(file, framework="numpy") as tensors:
                buckets_BD, sizes = tensors.get_tensor("buckets"), tensors.metadata()
            if buckets_BD.dtype != np.float32 or not np.isfinite(buckets_BD).all():
                raise ValueError(f"buckets must be finite float32 numbers, got {buckets_BD.dtype}")
            return cls(words, matrix_VD, buckets_BD, int(sizes["min_n"]), int(sizes["max_n"]), counts)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:  # the last: float8
            raise UserError(
                f"{file} is truncated or not what fastText's vectors need ({error}): make it again"
            ) from None


def train_fasttext(
    source: Source, config: FastTextConfig | None = None, quarantine: Quarantine | None = None
) -> SubwordVectors:
    """As `train_word2vec`, with a row for each of `config.buckets` as well: 4 x dim bytes each.

    >>> stones = [["cairn", "marks", "trail"], ["stone", "marks", "trail"]] * 20
    >>> vectors = train_fasttext(stones, FastTextConfig(dim=8, min_count=1, buckets=1000))
    >>> vectors.vector("trails").shape, "trails" in vectors.index
    ((8,), False)
    """
    config = config or FastTextConfig()
    with Spool() as spool:
        prepared = prepare(source, config, spool, quarantine)
        words = prepared.vocabulary.words
        bags = subword_bags(words, config.min_n, config.max_n, config.buckets)
        rows_RD = initial(len(words) + config.buckets, config.dim, 1 / config.dim, config.seed)
        train(spool, prepared, bags, rows_RD, config)
    buckets_BD = rows_RD[len(words) :]
    counts = prepared.vocabulary.counts
    return SubwordVectors(words, composed(bags, rows_RD), buckets_BD, config.min_n, config.max_n, counts)


def composed(bags: Bags, rows_RD: np.ndarray) -> np.ndarray:
    """float32[V, D]: the mean of every word's bag."""
    words = len(bags.starts) - 1
    matrix_VD = np.empty((words, rows_RD.shape[1]), np.float32)
    first = 0
    while first < words:
        # As many words as BLOCK_ROWS hold, but one at least.
        last = max(int(np.searchsorted(bags.starts, bags.starts[first] + BLOCK_ROWS, "right")) - 1, first + 1)
        starts = bags.starts[first : last + 1]
        sums = np.add.reduceat(rows_RD[bags.rows[starts[0] : starts[-1]]], starts[:-1] - starts[0])
        matrix_VD[first:last] = sums / np.diff(starts)[:, None].astype(np.float32)
        first = last
    return matrix_VD
