"""BM25: rank texts by the words they share with a query, rare words counting more (Robertson & Walker 1994, Okapi).

    score(q, d) = sum over words w of q:  idf(w) * tf (k1 + 1) / (tf + k1 (1 - b + b |d| / mean |d|))
    idf(w) = ln(N - n_w + 1/2) - ln(n_w + 1/2)

with tf the count of w in d, n_w the number of texts that hold w, |d| a text's count of words. A word of more than half
of the texts would get a negative idf; it gets epsilon times the mean idf instead. All as in `rank_bm25.BM25Okapi`, to
which the scores are equal. The part of the sum that belongs to (w, d) is the same for every query: it is computed once.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, ordinary_mode, read_json, write_json

_WORD = re.compile(r"\w+(?:\.\w+)*")
_PARTS = re.compile(r"[._]+")

HEAD, POSTINGS = "bm25.json", "bm25.safetensors"
MAX_BYTES = 1 << 30  # of an index file


def words(text: str) -> list[str]:
    """Lower-case words; a name with dots or underscores counts whole and in its parts.

    >>> words("Use os.path.getsize, not file_size.")
    ['use', 'os.path.getsize', 'os', 'path', 'getsize', 'not', 'file_size', 'file', 'size']
    """
    found = []
    for word in _WORD.findall(text.lower()):
        found.append(word)
        parts = [part for part in _PARTS.split(word) if part]
        if parts != [word]:
            found += parts
    return found


Text = str | Sequence[str]  # as it stands, or already split into the words that count


def _as_words(text: Text) -> Sequence[str]:
    return words(text) if isinstance(text, str) else text


class BM25:
    """An inverted index: for each term the texts that hold it and what it adds to their scores.

    k1: how soon further occurrences of a word stop counting. b: how much long texts are marked down, 0 to 1.
    """

    def __init__(self, texts: Iterable[Text], *, k1: float = 1.5, b: float = 0.75, epsilon: float = 0.25):
        terms: dict[str, int] = {}
        ids = ([terms.setdefault(word, len(terms)) for word in _as_words(text)] for text in texts)
        documents = [np.array(row, dtype=np.int64) for row in ids]
        lengths_N = np.array([len(d) for d in documents], dtype=np.int64)
        count = max(1, len(documents))
        # One number for each (term, text): sorted, they are the posting lists one behind the other.
        pairs = np.concatenate([d * count + n for n, d in enumerate(documents)]) if documents else np.empty(0, np.int64)
        pairs_P, counts_P = np.unique(pairs, return_counts=True)
        sizes_V = np.bincount(pairs_P // count, minlength=len(terms))
        self._assemble(terms, np.append(0, np.cumsum(sizes_V)), pairs_P % count, counts_P, lengths_N, [k1, b, epsilon])

    def _assemble(
        self,
        terms: dict[str, int],
        offsets: np.ndarray,
        postings_P: np.ndarray,
        counts_P: np.ndarray,
        lengths_N: np.ndarray,
        parameters: Sequence[float],
    ) -> None:
        self.terms, self.parameters = terms, parameters
        self._offsets, self._postings_P, self._counts_P, self._lengths_N = offsets, postings_P, counts_P, lengths_N
        k1, b, epsilon = parameters
        sizes_V = np.diff(offsets)
        idf_V = np.log(len(lengths_N) - sizes_V + 0.5) - np.log(sizes_V + 0.5)
        if len(terms):
            idf_V = np.where(idf_V < 0, epsilon * idf_V.mean(), idf_V)
        mean_length = lengths_N.mean() if lengths_N.any() else 1.0
        marked_down_P = k1 * (1 - b + b * lengths_N[postings_P] / mean_length)
        self._weights_P = np.repeat(idf_V, sizes_V) * counts_P * (k1 + 1) / (counts_P + marked_down_P)

    def __len__(self) -> int:
        """The number of texts."""
        return len(self._lengths_N)

    def scores(self, query: Text) -> np.ndarray:
        """The score of every text, float64 [texts]. A word that stands twice in the query counts twice."""
        scores_N = np.zeros(len(self))
        for part in self._parts(query):
            scores_N[self._postings_P[part]] += self._weights_P[part]
        return scores_N

    def search(self, query: Text, k: int) -> list[tuple[int, float]]:
        """The best `k` texts that share a word with the query, as (index, score), best first, ties in their order."""
        scores_N = self.scores(query)
        # Not those with a score: a word of exactly half of the texts has idf 0, and a small corpus is full of them.
        holding_N = np.zeros(len(self), dtype=bool)
        for part in self._parts(query):
            holding_N[self._postings_P[part]] = True
        found = np.flatnonzero(holding_N)
        if 0 < k < len(found):
            kth = -np.partition(-scores_N[found], k - 1)[k - 1]
            found = found[scores_N[found] >= kth]
        best = found[np.argsort(-scores_N[found], kind="stable")][: max(k, 0)]
        return [(int(n), float(scores_N[n])) for n in best]

    def _parts(self, query: Text) -> list[slice]:
        """Where the posting lists of the query's known words lie."""
        known = (self.terms[word] for word in _as_words(query) if word in self.terms)
        return [slice(self._offsets[term], self._offsets[term + 1]) for term in known]

    def save(self, path: Path | str) -> None:
        """Write the index as a directory, whole or not at all. The texts are not in it."""
        with atomic_directory(path) as directory:
            write_json(directory / HEAD, {"parameters": self.parameters, "terms": list(self.terms)})
            arrays = {"offsets": self._offsets, "postings": self._postings_P, "counts": self._counts_P}
            with ordinary_mode(directory / POSTINGS):
                save_file(arrays | {"lengths": self._lengths_N}, directory / POSTINGS)

    @classmethod
    def load(cls, path: Path | str) -> "BM25":
        """Read what `save` wrote. A missing, damaged, foreign or oversized file is a UserError that names it."""
        head = read_json(Path(path) / HEAD, max_bytes=MAX_BYTES)
        file = Path(path) / POSTINGS
        try:
            if file.stat().st_size > MAX_BYTES:
                raise UserError(f"{file} is larger than {MAX_BYTES >> 20} MiB; build the index again from fewer texts")
            arrays = load_file(file)
        except FileNotFoundError:
            raise UserError(f"{file} does not exist; build the index again") from None
        except SafetensorError as error:
            raise UserError(f"{file} is truncated or not a safetensors file ({error}); build the index again") from None
        fault = _fault(head, arrays)
        if fault:
            raise UserError(f"{path} is not an index that cairn wrote ({fault}); build it again")
        index = cls.__new__(cls)
        terms = {term: n for n, term in enumerate(head["terms"])}
        offsets, postings_P, counts_P, lengths_N = (arrays[n] for n in ("offsets", "postings", "counts", "lengths"))
        index._assemble(terms, offsets, postings_P, counts_P, lengths_N, head["parameters"])
        return index


def _fault(head: object, arrays: dict[str, np.ndarray]) -> str | None:
    """What is wrong with an index's files, so that no number in them can point outside its array."""
    if not isinstance(head, dict) or not isinstance(head.get("terms"), list):
        return "no list of terms"
    terms, parameters = head["terms"], head.get("parameters")
    if not all(isinstance(t, str) for t in terms) or len(set(terms)) != len(terms):
        return "terms are not distinct texts"
    if not _numbers(parameters, 3):
        return "parameters are not three numbers"
    if set(arrays) != {"offsets", "postings", "counts", "lengths"}:
        return "other arrays"
    if any(a.dtype != np.int64 or a.ndim != 1 for a in arrays.values()):
        return "arrays are not lists of 64-bit integers"
    offsets, postings, counts, lengths = (arrays[n] for n in ("offsets", "postings", "counts", "lengths"))
    if len(offsets) != len(terms) + 1 or offsets[0] != 0 or offsets[-1] != len(postings):
        return "offsets do not fit"
    if (np.diff(offsets) < 1).any():
        return "a term without a text"
    if len(counts) != len(postings) or (counts < 1).any() or (lengths < 0).any():
        return "counts do not fit"
    if len(postings) and (postings.min() < 0 or postings.max() >= len(lengths)):
        return "postings outside the texts"
    return None


def _numbers(values: object, count: int) -> bool:
    if not isinstance(values, Sequence) or len(values) != count:
        return False
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < 100 for v in values)
