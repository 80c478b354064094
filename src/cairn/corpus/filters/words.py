"""Words and sentences, cut without a dictionary, for every filter that counts them.

One definition serves all filters, so a document is cut once: the last few results are kept, and a filter that asks for
the words of the same text again gets them for the price of a look-up. Published thresholds were set with English
tokenizers (spaCy, NLTK). These words come close to theirs: contractions are two, numbers one, but web addresses and
abbreviations fall apart here. Of Gopher's verdicts on English, 95 to 99 in 100 are those with spaCy's words.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

import regex

V = TypeVar("V")
CACHED = 4  # documents whose words are kept; a chain of filters works on one text, or two around a cleaning step


def _characters(ranges: str) -> frozenset[str]:
    """The characters of "21 41-43": hexadecimal code points and ranges of them."""
    found: set[str] = set()
    for item in ranges.split():
        first, _, last = item.partition("-")
        found.update(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return frozenset(found)


# What ends a sentence in any script: Unicode's property Sentence_Terminal with the Khmer signs, frozen at the table that
# FineWeb used, so that a verdict does not change when a library learns new scripts.
TERMINAL = _characters(
    "21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 17d4-17d6 "
    "17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e "
    "2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 "
    "fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6 "
    "111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 "
    "11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f "
    "1da88"
)
# A word of these alone is a symbol, not counted among the words of a document: the punctuation list of CCNet.
SYMBOLS = TERMINAL | _characters(
    "0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 3008-300d 3010-3011 "
    "ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e"
)

_SIMPLE = re.compile(r"\w+(?:(?<=\d)[.,](?=\d)\w+)*|(?<=\w)['’]\w+|\.{2,}|-{2,}|[^\w\s]")
# Anything outside Latin, Greek, Cyrillic and common signs: it may hold combining marks, which Python's \w leaves out, or
# characters of a script without spaces.
_CAREFUL = re.compile("[^\0-\u02ff\u0370-\u0482\u048a-\u0530\u1e00-\u200a\u200e-\u207f\u20a0-\u20bf\u2100-\u23ff]")


@functools.cache
def _careful() -> regex.Pattern:
    """As _SIMPLE, with marks as parts of words, and each character of a script without spaces as a word of its own."""
    spaceless = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    word = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{spaceless}]]+"
    alternatives = (
        rf"[[{spaceless}]&&[\p{{L}}\p{{N}}]]\p{{M}}*",
        rf"{word}(?:(?<=\d)[.,](?=\d){word})*+",
        rf"(?<=[\p{{L}}\p{{M}}\p{{N}}_])['’]{word}",
        r"\.{2,}|-{2,}|\p{M}+|[^\p{L}\p{M}\p{N}_\s\x1c-\x1f]",
    )
    return regex.compile("|".join(alternatives), regex.V1)


@functools.lru_cache(CACHED)
def words(text: str) -> tuple[str, ...]:
    """The words and the signs between them, in order; nothing but white space is left out.

    Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces: there, each character is a word.

    >>> words("Don't pay $3.50... (well-known)")
    ('Don', "'t", 'pay', '$', '3.50', '...', '(', 'well', '-', 'known', ')')
    >>> words("数字42")
    ('数', '字', '42')
    """
    if text.isascii() or not _CAREFUL.search(text):
        return tuple(_SIMPLE.findall(text))
    return tuple(_careful().findall(text))


@functools.lru_cache(CACHED)
def word_counts(text: str) -> Counter[str]:
    """How often each word of `words(text)` occurs. Shared between callers: not to be changed."""
    return Counter(words(text))


class Memo(dict[str, V], Generic[V]):
    """A function of a word, computed once: `map(memo.__getitem__, words)` runs at the speed of a dictionary."""

    LIMIT: int = 1 << 18  # words; beyond that everything is forgotten, so that memory stays bounded

    def __init__(self, function: Callable[[str], V]):
        super().__init__()
        self.function = function

    def __missing__(self, word: str) -> V:
        if len(self) >= self.LIMIT:
            self.clear()
        value = self[word] = self.function(word)
        return value


# A full stop after one of these, or after a single letter, does not end a sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc fig eq no vol pp cf al inc ltd co corp gen sen rep gov approx dept est e.g i.e".split()
)
_MARKS = "".join(map(re.escape, sorted(TERMINAL)))
_CLOSING = "\"'”’»)\\]」』）"
_END_ASCII = re.compile(r"[.!?]+[\"')\]]*(?=\s)")
# Full-width stops need no space after them; the rest do, or every decimal point would end a sentence.
_END = re.compile(f"[{_MARKS}…]+[{_CLOSING}]*(?:(?=\\s)|(?<=[。！？｡．][{_CLOSING}])|(?<=[。！？｡．]))")


def sentences(text: str) -> list[str]:
    """The sentences, without white space around them.

    >>> sentences('Mr. Smith paid 3.5 francs. "Did he?" she asked. Yes!')
    ['Mr. Smith paid 3.5 francs.', '"Did he?" she asked.', 'Yes!']
    """
    found = []
    start = 0
    for match in (_END_ASCII if text.isascii() else _END).finditer(text):
        end = match.end()
        following = text[end : end + 2].strip()
        if following.islower():
            continue
        if match[0] == ".":
            before = text[max(start, match.start() - 8) : match.start()].rpartition(" ")[2].lstrip("(\"'“")
            if (len(before) == 1 and before.isalpha()) or before.lower() in _ABBREVIATIONS:
                continue
        found.append(text[start:end].strip())
        start = end
    rest = text[start:].strip()
    return [*found, rest] if rest else found
