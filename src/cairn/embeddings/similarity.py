"""Do vectors find alike what people find alike? Spearman's correlation of cosines with human judgements of word pairs.

WordSim-353, SimLex-999, RG-65 and files like them hold a pair of words and a score a line. A correlation of 0 is chance.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cairn.core.errors import UserError
from cairn.core.stats import Z95
from cairn.corpus.documents import Quarantine
from cairn.embeddings.vectors import WordVectors, cosine

RESTRICTED = 300_000  # most frequent words that are looked at, as the original programs and gensim do
FILE_BYTES = 64 << 20


class Pair(NamedTuple):
    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Correlation:
    """Of `pairs` in a file, `known` have a vector for both words; the correlations are over those.

    low, high: 95 % interval of Spearman's. composed: pairs of the known ones in which a word was never seen in training and
    its vector was made of its parts (fastText). Correlations are NaN over fewer than two pairs, or where all are equal.
    """

    name: str
    spearman: float
    low: float
    high: float
    pearson: float
    pairs: int
    known: int
    composed: int
    chance: float = 0.0


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs. float64[N].

    >>> ranks([3.0, 1.0, 3.0, 2.0]).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    _, group, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Correlation of two rows of numbers; NaN where one does not vary."""
    a_N, b_N = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(a_N) < 2:
        return math.nan
    a_N, b_N = a_N - a_N.mean(), b_N - b_N.mean()
    spread = math.sqrt(a_N @ a_N) * math.sqrt(b_N @ b_N)
    return float(np.clip(a_N @ b_N / spread, -1.0, 1.0)) if spread else math.nan


def spearman(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Correlation of the ranks.

    >>> round(spearman([1, 2, 3, 4], [1, 4, 9, 16]), 12)
    1.0
    """
    return pearson(ranks(a), ranks(b))


def interval(rho: float, n: int) -> tuple[float, float]:
    """95 % interval of Spearman's correlation over n pairs, by Fisher's transformation.

    The variance of atanh(rho) is (1 + rho^2 / 2) / (n - 3) (Bonett & Wright 2000, Psychometrika 65): 1 / (n - 3), which is
    Pearson's, is too small for ranks.
    """
    if n < 4 or math.isnan(rho):
        return -1.0, 1.0
    if abs(rho) == 1:
        return rho, rho
    half = Z95 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def read_lines(path: Path) -> list[str]:
    """The lines of a small test file. Raises UserError where there is none, or it is no text."""
    try:
        if path.stat().st_size > FILE_BYTES:
            raise UserError(f"{path} is larger than {FILE_BYTES >> 20} MiB; that is no list of test questions")
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, a file is expected") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_pairs(path: Path | str, quarantine: Quarantine) -> list[Pair]:
    """Pairs of a file: two words and, somewhere after them, the score; parted by tabs, commas, semicolons or spaces.

    Lines that begin with # are comments, a first line without a number is a heading; other lines without two words and
    a finite number are counted in `quarantine`. Raises UserError if no pair is left.
    """
    path = Path(path)
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        separator = next((mark for mark in "\t;," if mark in line), None)
        fields = [field.strip() for field in (line.split(separator) if separator else re.split(r"\s+", line))]
        score = next((value for value in map(_number, fields[2:]) if value is not None), None)
        if score is not None and fields[0] and fields[1]:
            pairs.append(Pair(fields[0], fields[1], score))
        elif number > 1:
            quarantine.add(f"{path}, line {number}", "not two words and a number")
    if not pairs:
        raise UserError(
            f"{path} holds no pairs of words: a line must be two words and a number, as in 'tiger cat 7.35'"
        )
    return pairs


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def first_rows(words: Sequence[str], restrict: int = RESTRICTED, fold: bool = True) -> dict[str, int]:
    """Word -> row, among the first `restrict` words; with fold in capitals, where the first of several spellings counts."""
    rows: dict[str, int] = {}
    for row, word in enumerate(islice(words, restrict)):
        rows.setdefault(word.upper() if fold else word, row)
    return rows


def correlate(
    vectors: WordVectors, pairs: Sequence[Pair], name: str = "", *, restrict: int = RESTRICTED, fold: bool = True
) -> Correlation:
    """Spearman's and Pearson's correlation of the pairs' scores with the cosines of their vectors.

    Pairs with a word that has no vector are left out, and show in `known`. fold: capitals are not told apart. The same
    figures as gensim's `evaluate_word_pairs`, whose defaults are ours.
    """
    rows = first_rows(vectors.words, restrict, fold)
    given, found, composed = [], [], 0
    for first, second, score in pairs:
        keys = [rows.get(word.upper() if fold else word) for word in (first, second)]
        # A kind that makes vectors of parts of words has one for words outside its vocabulary too.
        if not all(key is not None or vectors.has(word) for key, word in zip(keys, (first, second))):
            continue
        composed += None in keys
        a, b = (
            vectors.vector(word) if key is None else vectors.matrix_VD[key] for key, word in zip(keys, (first, second))
        )
        given.append(score)
        found.append(cosine(a, b))
    rho = spearman(given, found)
    low, high = interval(rho, len(given))
    return Correlation(name, rho, low, high, pearson(given, found), len(pairs), len(given), composed)
