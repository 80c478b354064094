"""The words by which near-duplicates are compared: text without case, numbers, punctuation, marks and spacing.

The rules are FineWeb's (datatrove's `simplify_text`): lower case; a number, with at most one separator inside, is 0;
punctuation and control characters are spaces; canonical decomposition without its marks. A word is what stands between
spaces. `simplify` says this in plain Python; `Words.of` is the same in a compiled pass over many texts at once.

The Unicode tables are those of the running Python, so texts in scripts it does not know yet may compare differently.
One deliberate difference: 25 spacing marks (category Mc) with a combining class stay in the order in which they were
written, where canonical decomposition would sort two of them that follow each other. In scripts without spaces a word is
what stands between punctuation, so that near-duplicates in them have to be nearer to be found.
"""

import functools
import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

SEPARATORS = ".,\u060c\u066b\u2396\u2397\u2398"  # inside numbers: also Arabic comma and decimal, decimal separator keys
NUMBER = regex.compile(rf"\p{{Nd}}+(?:[{SEPARATORS}]\p{{Nd}}+)?")
PUNCTUATION = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "\u00ab\u00b4\u00bb\u2013\u2014\u2019\u201c\u201d\u201e\u2026\u2236\u2501\u25ba\u3001\u3002\u3008\u3009\u300a\u300b"
    "\u300c\u300d\u3010\u3011\uff01\uff05\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff5e"
)
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
BLANK = str.maketrans(dict.fromkeys(PUNCTUATION + CONTROLS, " "))
# Code points outside these are ideographs, surrogates or private, and stay what they are; 0x0A separates the others
# while the table is made.
CHANGING = (range(0x0A), range(0x0B, 0x3400), range(0xA000, 0xD800), range(0xF900, 0x20000), range(0x2F800, 0x30000))
TABLE_SIZE = 0x30000  # beyond it nothing changes but the variation selectors, which are dropped


def simplify(text: str) -> str:
    """The normalised words of a text, joined by single spaces.

    >>> simplify("Crème brûlée: 1,250.50 EUR -- at 9:30!")
    'creme brulee 0 0 eur at 0 0'
    """
    words = NUMBER.sub("0", text.lower()).translate(BLANK)
    plain = (c for c in unicodedata.normalize("NFD", " ".join(words.split())) if unicodedata.category(c) != "Mn")
    return " ".join("".join(plain).split())


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The rule of every code point, in the form that `cairn.kernels.words` describes: (table, extra)."""
    from cairn.kernels.words import DIGIT, DROP, MANY, SEPARATOR, SPACE

    codes = list(itertools.chain(*CHANGING))
    # One call for all: between line ends no character changes with its neighbours (a final sigma is a final sigma only
    # after a letter, and marks are sorted only among themselves).
    lowered = "\n".join(map(chr, codes)).lower()
    table = np.arange(TABLE_SIZE, dtype=np.uint32)
    extra: list[int] = []
    for code, lower, parts in zip(codes, lowered.split("\n"), unicodedata.normalize("NFD", lowered).split("\n")):
        plain = [c for c in parts if unicodedata.category(c) != "Mn"]
        if lower.isspace():
            table[code] = SPACE
        elif len(plain) == 1:
            table[code] = ord(plain[0])
        elif not plain:
            table[code] = DROP
        else:
            table[code] = MANY | len(extra)
            extra += [len(plain), *map(ord, plain)]
    for character in PUNCTUATION + CONTROLS:
        table[ord(character)] = SPACE
    for digit in regex.findall(r"\p{Nd}", "".join(map(chr, codes))):
        table[ord(digit)] = DIGIT
    for separator in SEPARATORS:
        table[ord(separator)] |= SEPARATOR
    return table, np.array(extra, np.uint32)


@dataclass(frozen=True)
class Words:
    """The normalised words of many texts, as bytes.

    data: uint8, each word followed by a space; starts: int64[words + 1], where each begins, and the end;
    firsts: int64[texts + 1], number of each text's first word, and of all words.
    """

    data: np.ndarray
    starts: np.ndarray
    firsts: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Words":
        from cairn.kernels.words import normalised_words

        # The one letter whose lower case depends on its neighbours, capital sigma, is left to Python.
        encoded = [(t.lower() if "\u03a3" in t else t).encode("utf-8", "surrogatepass") for t in texts]
        joined = np.frombuffer(b"".join(encoded), np.uint8)
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        data = np.empty(3 * len(joined) + 1, np.uint8)
        starts = np.empty(len(joined) // 2 + len(encoded) + 1, np.int64)
        firsts = np.empty(len(encoded) + 1, np.int64)
        words, size = normalised_words(joined, ends, *_tables(), data, starts, firsts)
        return cls(data[:size], starts[: words + 1], firsts)

    def text(self, index: int) -> bytes:
        """The normalised text number `index`: its words joined by single spaces."""
        start, end = self.starts[self.firsts[index]], self.starts[self.firsts[index + 1]]
        return self.data[start : max(end - 1, start)].tobytes()
