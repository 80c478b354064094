"""Words and their vectors: what every method of this room gives, and what neighbours, analogies and similarity are asked of.

Names carry shapes: V words, D dimensions.
"""

import difflib
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, read_json, write_json

MATRIX, WORDS, RECORD = "vectors.safetensors", "words.json", "cairn.json"
WORDS_BYTES = 4 << 30  # of the list of words; three million words take less than 1 % of it
SPELLED = 100_000  # most frequent words among which a misspelt one is looked for
WORD_SHOWN = 60  # characters of a word in an error


class Neighbour(NamedTuple):
    word: str
    similarity: float


class WordVectors:
    """words (V different strings, the most frequent first where counts are known) and a row of matrix_VD (float32) for each.

    counts: how often each was seen (int64[V]), or None. The matrix is not copied when it is float32 in C order already,
    and must not change afterwards: lengths are computed once.
    """

    def __init__(self, words: Sequence[str], matrix_VD: np.ndarray, counts: np.ndarray | None = None):
        matrix_VD = np.ascontiguousarray(matrix_VD, dtype=np.float32)
        if matrix_VD.ndim != 2 or len(matrix_VD) != len(words):
            raise ValueError(f"{len(words)} words need a matrix of as many rows, got one of shape {matrix_VD.shape}")
        self.words = list(words)
        self.index = {word: i for i, word in enumerate(self.words)}
        if len(self.index) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.index[word] != i)
            raise ValueError(f"the word {twice!r} is there twice: each needs one row")
        self.matrix_VD = matrix_VD.view()
        self.matrix_VD.flags.writeable = False
        self.counts = None if counts is None else np.ascontiguousarray(counts, dtype=np.int64)
        if self.counts is not None and self.counts.shape != (len(self.words),):
            raise ValueError(f"{len(self.words)} words need as many counts, got shape {self.counts.shape}")

    def __len__(self) -> int:
        return len(self.words)

    @property
    def dim(self) -> int:
        return self.matrix_VD.shape[1]

    def has(self, word: str) -> bool:
        return word in self.index

    def vector(self, word: str) -> np.ndarray:
        """The row of a word, float32[D], read-only. Raises UserError, naming words that are spelt alike, without it."""
        row = self.index.get(word)
        if row is None:
            close = self.spelt_like(word)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise UserError(f"no vector for the word {_short(word)!r} among {len(self):,} words{hint}")
        return self.matrix_VD[row]

    def spelt_like(self, word: str, n: int = 3) -> list[str]:
        """Words that differ from this one in capitals or a few letters."""
        word = word[:WORD_SHOWN]
        cases = dict.fromkeys((word.lower(), word.capitalize(), word.title(), word.upper()))
        found = [case for case in cases if case != word and case in self.index]
        # Whoever misspells a word mostly knows its first letter; comparing with all words would take seconds.
        alike = [other for other in islice(self.words, SPELLED) if other[:1].lower() == word[:1].lower()]
        found += [other for other in difflib.get_close_matches(word, alike, n, 0.7) if other not in found]
        return found[:n]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Euclidean lengths of the rows, float32[V]; 1 for rows of zeros, so that their cosine with anything is 0."""
        lengths_V = np.sqrt(np.einsum("vd,vd->v", self.matrix_VD, self.matrix_VD, dtype=np.float64))
        lengths_V[lengths_V == 0] = 1.0
        return lengths_V.astype(np.float32)

    @cached_property
    def normalized(self) -> np.ndarray:
        """float32[V, D]: the rows divided by their lengths. As large as the matrix; made when first asked for and kept."""
        normalized_VD = self.matrix_VD / self.lengths[:, None]
        normalized_VD.flags.writeable = False
        return normalized_VD

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two words' vectors, in [-1, 1]; 0 where one of them is all zeros."""
        return cosine(self.vector(a), self.vector(b))

    def nearest(self, query: str | np.ndarray, n: int = 10, exclude: Iterable[str] = ()) -> list[Neighbour]:
        """The n words of highest cosine with a word or a vector [D], best first; of equal ones the earlier word.

        A word is not its own neighbour, nor are the words in `exclude`. Every word is compared, in one product of the
        matrix with the query: V numbers, no copy of the matrix.
        """
        if isinstance(query, str):
            exclude = (query, *exclude)
            query = self.vector(query)
        query_D = np.asarray(query, dtype=np.float32)
        if query_D.shape != (self.dim,):
            raise ValueError(f"a vector of {self.dim} numbers is needed, got shape {query_D.shape}")
        length = float(np.linalg.norm(query_D)) or 1.0
        scores_V = self.matrix_VD @ (query_D / np.float32(length)) / self.lengths
        excluded = [self.index[word] for word in exclude if word in self.index]
        scores_V[excluded] = -np.inf
        best = top(scores_V, min(n, len(self) - len(set(excluded))))
        return [Neighbour(self.words[i], float(scores_V[i])) for i in best]

    def save(self, path: Path | str, record: dict[str, Any] | None = None) -> None:
        """Write a directory, whole or not at all: vectors.safetensors, words.json, and `record` as cairn.json."""
        path = Path(path)
        foreign = path.exists() and not (path / WORDS).exists()
        if foreign and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists and holds no word vectors; it will not be replaced: choose another place")
        with atomic_directory(path) as directory:
            self.write(directory)
            shape = {"words": len(self), "dimensions": self.dim}
            write_json(directory / RECORD, {"stage": "embeddings", **shape, **(record or {})})

    def write(self, directory: Path) -> None:
        """Write what `read` needs into a directory that `save` makes; a kind of vectors that holds more adds its own."""
        from safetensors.numpy import save

        tensors = {"vectors": self.matrix_VD}
        if self.counts is not None:
            tensors["counts"] = self.counts
        # Not save_file: it tells of a full disk by an error of its own.
        (directory / MATRIX).write_bytes(save(tensors))
        write_json(directory / WORDS, self.words)

    @classmethod
    def load(cls, path: Path | str) -> "WordVectors":
        """Read a directory that `save` wrote. Raises UserError for one that is damaged or something else."""
        return cls(*read(Path(path)))


def read(directory: Path) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """(words, matrix_VD, counts) of a directory, checked."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for name in (WORDS, MATRIX):
        if not (directory / name).is_file():
            what = "no such folder" if not directory.is_dir() else f"it has no {name}"
            raise UserError(f"{directory} holds no word vectors ({what}); make them with: cairn embeddings train")
    words = read_json(directory / WORDS, max_bytes=WORDS_BYTES)
    try:
        tensors = load_file(directory / MATRIX)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:  # the last: float8
        raise UserError(
            f"{directory / MATRIX} is truncated or not a safetensors file ({error}): make it again"
        ) from None
    matrix_VD, counts = tensors.get("vectors"), tensors.get("counts")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or len(set(words)) < len(words):
        raise UserError(f"{directory / WORDS} must be a list of different words")
    if not all(map(is_text, words)):
        raise UserError(
            f"{directory / WORDS} holds a word with half of a surrogate pair, which is no text: make it again"
        )
    if matrix_VD is None or matrix_VD.dtype != np.float32 or matrix_VD.ndim != 2 or len(matrix_VD) != len(words):
        raise UserError(f"{directory / MATRIX} must hold float32 vectors, a row for each of {len(words):,} words")
    if not matrix_VD.size:
        raise UserError(
            f"{directory} holds {len(words):,} words of {matrix_VD.shape[1]} numbers: nothing can be asked of it"
        )
    if not np.isfinite(matrix_VD).all():
        raise UserError(f"{directory / MATRIX} holds vectors that are not finite numbers: make it again")
    if counts is not None and (counts.dtype != np.int64 or counts.shape != (len(words),)):
        raise UserError(f"{directory / MATRIX} must hold whole counts, one for each of {len(words):,} words")
    return words, matrix_VD, counts


def is_text(word: str) -> bool:
    """Whether a string can be written as UTF-8: JSON and the command line may hold half of a surrogate pair."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def cosine(a_D: np.ndarray, b_D: np.ndarray) -> float:
    """Cosine of two vectors, computed in float64; 0 where one of them is all zeros.

    >>> round(cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])), 4)
    0.7071
    """
    a_D, b_D = a_D.astype(np.float64), b_D.astype(np.float64)
    lengths = float(np.linalg.norm(a_D) * np.linalg.norm(b_D))
    return float(np.clip(a_D @ b_D / lengths, -1.0, 1.0)) if lengths else 0.0


def top(scores_V: np.ndarray, n: int) -> np.ndarray:
    """Places of the n largest of a vector, largest first; of equal ones the first.

    >>> top(np.array([0.1, 0.9, 0.5, 0.9]), 3).tolist()
    [1, 3, 2]
    """
    if n <= 0:
        return np.zeros(0, np.int64)
    if n < len(scores_V):
        least = np.partition(scores_V, len(scores_V) - n)[len(scores_V) - n]
        places = np.flatnonzero(scores_V >= least)
    else:
        places = np.arange(len(scores_V))
    return places[np.argsort(-scores_V[places], kind="stable")][:n]


def _short(word: str) -> str:
    return word if len(word) <= WORD_SHOWN else word[:WORD_SHOWN] + "..."
