"""The rules of Gopher (Rae et al. 2021, section A.1.1): is it prose, and does it repeat itself?

Thresholds are the paper's (table A1), the order of the rules is datatrove's. They are meant for English; for another
language set the stop words, and for one written without spaces the lengths.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally
from cairn.corpus.filters.words import SYMBOLS, word_counts, words

_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@dataclass(frozen=True)
class GopherQuality:
    name: ClassVar[str] = "gopher-quality"
    min_words: int = option(50, "fewest words of a document, symbols not counted", minimum=0)
    max_words: int = option(100_000, "most words of a document", minimum=1)
    min_mean_length: float = option(3.0, "lowest mean length of a word", minimum=0.0)
    max_mean_length: float = option(10.0, "highest mean length of a word", minimum=0.0)
    max_symbols: float = option(0.1, "most # signs, and most ellipses, per word", minimum=0.0)
    max_bullets: float = option(0.9, "largest share of lines that begin with a bullet", minimum=0.0)
    max_ellipses: float = option(0.3, "largest share of lines that end with an ellipsis", minimum=0.0)
    min_letters: float = option(0.8, "smallest share of words with a letter", minimum=0.0)
    min_stop_words: int = option(2, "fewest different stop words", minimum=0)
    stop_words: tuple[str, ...] = option(_STOP_WORDS, "words that prose can hardly do without")

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        rule = self.verdict(document.text)
        if rule:
            tally.drop(f"gopher-quality/{rule}", document)
            return None
        return document

    def verdict(self, text: str) -> str:
        """The first rule that the text breaks, "" if it breaks none."""
        counts = word_counts(text)
        total = counts.total()
        plain = [(word, n) for word, n in counts.items() if word[0] not in SYMBOLS or not SYMBOLS.issuperset(word)]
        number = sum(n for _, n in plain)
        if number < max(self.min_words, 1):
            return "too-few-words"
        if number > self.max_words:
            return "too-many-words"
        mean = sum(len(word) * n for word, n in plain) / number
        if mean < self.min_mean_length:
            return "words-too-short"
        if mean > self.max_mean_length:
            return "words-too-long"
        if text.count("#") / total > self.max_symbols:
            return "too-many-hashes"
        if (text.count("...") + text.count("…")) / total > self.max_symbols:
            return "too-many-ellipses"
        lines = text.splitlines()
        if sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) > self.max_bullets:
            return "too-many-bullet-lines"
        if sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) > self.max_ellipses:
            return "too-many-ellipsis-lines"
        with_letter = sum(n for word, n in plain if word.isalpha() or any(c.isalpha() for c in word))
        if with_letter / total < self.min_letters:
            return "too-few-words-with-letters"
        if sum(word in counts for word in set(self.stop_words)) < self.min_stop_words:
            return "too-few-stop-words"
        return ""


@dataclass(frozen=True)
class GopherRepetition:
    """Shares of lines, paragraphs and n-grams that occur before in the same document.

    Equal to datatrove's but for one thing that is not followed: it compares n-grams by their letters without the spaces,
    so that "a bc" repeats "ab c"; here n-grams are equal if their words are.
    """

    name: ClassVar[str] = "gopher-repetition"
    max_lines: float = option(0.3, "largest share of lines that are repeated", minimum=0.0)
    max_paragraphs: float = option(0.3, "largest share of paragraphs that are repeated", minimum=0.0)
    max_line_characters: float = option(0.2, "largest share of characters in repeated lines", minimum=0.0)
    max_paragraph_characters: float = option(0.2, "largest share of characters in repeated paragraphs", minimum=0.0)
    top_ngrams: tuple[float, ...] = option(
        (0.2, 0.18, 0.16), "largest share of characters in the most frequent 2-, 3-, 4-gram"
    )
    repeated_ngrams: tuple[float, ...] = option(
        (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), "largest share of characters in repeated 5-, 6-, 7-, ... grams"
    )

    def __post_init__(self) -> None:
        if len(self.top_ngrams) > 3:
            raise UserError("gopher-repetition.top_ngrams: give up to three shares, for 2-, 3- and 4-grams")

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        rule = self.verdict(document.text)
        if rule:
            tally.drop(f"gopher-repetition/{rule}", document)
            return None
        return document

    def verdict(self, text: str) -> str:
        """The first rule that the text breaks, "" if it breaks none."""
        if not text:
            return "empty"
        paragraphs = re.split(r"\n{2,}", text.strip())
        repeated, characters = repetitions(paragraphs)
        if repeated / len(paragraphs) > self.max_paragraphs:
            return "paragraphs"
        if characters / len(text) > self.max_paragraph_characters:
            return "paragraph-characters"
        lines = re.split(r"\n+", text)
        repeated, characters = repetitions(lines)
        if repeated / len(lines) > self.max_lines:
            return "lines"
        if characters / len(text) > self.max_line_characters:
            return "line-characters"
        return self._ngram_verdict(text)

    def _ngram_verdict(self, text: str) -> str:
        counts = word_counts(text)
        number = {word: i for i, word in enumerate(counts)}
        tokens = words(text)
        ids_W = np.fromiter(map(number.__getitem__, tokens), np.int64, len(tokens))
        ends = np.zeros(len(tokens) + 1, dtype=np.int64)  # ends[i]: characters in the first i words
        np.cumsum(np.fromiter(map(len, tokens), np.int64, len(tokens)), out=ends[1:])
        for n, keys, places in repeated_ngrams(ids_W, 4 + len(self.repeated_ngrams)):
            if 2 <= n < 2 + len(self.top_ngrams):
                first, times = most_frequent(keys, places)
                characters = int(ends[first + n] - ends[first] + n - 1) * times
                if characters / len(text) > self.top_ngrams[n - 2]:
                    return f"top-{n}-gram"
            if n >= 5 and repeated_characters(keys, places, n, ends) / len(text) > self.repeated_ngrams[n - 5]:
                return f"repeated-{n}-grams"
        return ""


def repetitions(items: list[str]) -> tuple[int, int]:
    """How many items occurred before, and how many characters those have.

    >>> repetitions(["ab", "c", "ab", "ab"])
    (2, 4)
    """
    seen: set[str] = set()
    number = characters = 0
    for item in items:
        if item in seen:
            number += 1
            characters += len(item)
        else:
            seen.add(item)
    return number, characters


def repeated_ngrams(ids_W: np.ndarray, longest: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For n = 1 to `longest` (while there are n-grams): (n, keys, places) of the n-grams that occur more than once.

    ids_W: int64 (W,), the words' numbers below some V. A key is equal for two n-grams only if all their words are: it is
    their numbers as the digits of a number in base V; before that would overflow, the keys in use are counted through.
    Only where an n-gram is repeated can a longer one be, so there is less to do with every n.
    """
    base = int(ids_W.max(initial=0)) + 1
    places = np.arange(len(ids_W))
    keys, bound = ids_W, base  # every key < bound
    for n in range(1, min(longest, len(ids_W)) + 1):
        if n > 1:
            inside = places <= len(ids_W) - n
            places, keys = places[inside], keys[inside]
            if bound > 2**63 // base:
                used, keys = np.unique(keys, return_inverse=True)
                bound = len(used)
            keys = keys * base + ids_W[places + n - 1]
            bound *= base
        ordered = np.sort(keys)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            repeated = twice[np.minimum(np.searchsorted(twice, keys), len(twice) - 1)] == keys
        else:
            repeated = np.zeros(len(keys), dtype=bool)
        places, keys = places[repeated], keys[repeated]
        yield n, keys, places


def most_frequent(keys: np.ndarray, places: np.ndarray) -> tuple[int, int]:
    """(place of its first occurrence, number of occurrences) of the most frequent key; of several the first to occur."""
    if not len(keys):
        return 0, 1
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    times = counts.max()
    return int(places[first[counts == times].min()]), int(times)


def repeated_characters(keys: np.ndarray, places: np.ndarray, n: int, ends: np.ndarray) -> int:
    """Characters of n-grams that occurred before, read from left to right without overlaps."""
    seen: set[int] = set()
    characters = free = 0
    for place, key in zip(places.tolist(), keys.tolist()):
        if place < free:
            continue
        if key in seen:
            characters += int(ends[place + n] - ends[place])
            free = place + n
        else:
            seen.add(key)
    return characters
