"""Splitting a text into the chunks that no merge crosses."""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import regex

from cairn.core.errors import UserError
from cairn.tokenizers import unicode

# The published patterns. They are data: the strings that stand in the models' tokenizer files, in a spelling that the
# engines of `tokenizers`, `tiktoken` and the `regex` package understand alike.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Words keep one leading sign, digits go by three, and a line end closes the spaces before it.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Every digit stands alone, so that a small model can learn to add.
QWEN2 = LLAMA3.replace("{1,3}", "")
# As Llama 3, but all white space at the end of the text stays together.
CL100K = LLAMA3.replace(r"|\s*[\r\n]+", r"|\s++$|\s*[\r\n]+")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Other spellings of the same: OpenAI's first release, and tiktoken's possessive forms (which Oniguruma reads otherwise).
SAME_AS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2,
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2,
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": GPT2,
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s": CL100K,
}
NAMED = {"gpt2": GPT2, "llama3": LLAMA3, "qwen2": QWEN2, "cl100k": CL100K, "o200k": O200K}
MAX_PATTERN = 2000  # characters; a pattern comes from a file that somebody else wrote


class Scanner(NamedTuple):
    """Which scanner of `cairn.kernels.split` is a pattern's twin, and its settings."""

    kind: int
    most_digits: int
    trailing: bool


SCANNERS = {
    GPT2: Scanner(0, 0, False),
    LLAMA3: Scanner(1, 3, False),
    QWEN2: Scanner(1, 1, False),
    CL100K: Scanner(1, 3, True),
    O200K: Scanner(2, 3, False),
}
CHUNKS_AT_ONCE = 1 << 20


def pattern_named(name: str) -> str:
    """A published split pattern by its name; anything else is taken for a regular expression of the caller's own."""
    if re.fullmatch(r"\w+", name) and name not in NAMED:
        raise UserError(f"the split pattern {name!r} is not known; known: {', '.join(NAMED)}, or a regular expression")
    pattern = NAMED.get(name, name)
    compiled(pattern)
    return pattern


@functools.cache
def compiled(pattern: str) -> regex.Pattern:
    if len(pattern) > MAX_PATTERN:
        raise UserError(f"the tokenizer's split pattern has {len(pattern)} characters; at most {MAX_PATTERN} are read")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UserError(f"the tokenizer's split pattern is not a regular expression: {error}") from None


CATEGORY = re.compile(r"\\p\{(L[utlmo]?|N|M)\}")


@functools.cache
def frozen(pattern: str) -> regex.Pattern:
    """The pattern with \\p{L} and the like spelled out as the sets of Unicode 16.0: right, and eight times slower."""

    def expand(match: re.Match) -> str:
        inside = pattern.count("[", 0, match.start()) > pattern.count("]", 0, match.start())
        characters = unicode.as_set(unicode.members(match[1]))
        return characters if inside else f"[{characters}]"

    return regex.compile(CATEGORY.sub(expand, pattern))


@functools.cache
def moved() -> regex.Pattern:
    """Characters of another category in the `regex` package's Unicode than in our table."""
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    codes = np.empty(0, np.int64)
    for category in ("Lu", "Lt", "Ll", "Lm", "Lo", "N", "M"):
        theirs = np.fromiter(map(ord, regex.findall(rf"\p{{{category}}}", everything)), np.int64)
        codes = np.union1d(codes, np.setxor1d(theirs, unicode.members(category)))
    return regex.compile(f"[{unicode.as_set(codes)}]" if len(codes) else r"(?!)")


def split(text: str, pattern: str) -> list[str]:
    """The chunks of `text`; what the pattern leaves unmatched stays as chunks of its own, nothing is lost.

    >>> split("It's 42 words", QWEN2)
    ['It', "'s", ' ', '4', '2', ' words']
    """
    known = SAME_AS.get(pattern, pattern)
    expression = compiled(known)
    if not text.isascii() and moved().search(text):
        expression = frozen(known)
    chunks, end = [], 0
    for match in expression.finditer(text):
        if match.start() > end:
            chunks.append(text[end : match.start()])
        if match.end() > match.start():
            chunks.append(match.group())
        end = match.end()
    if end < len(text):
        chunks.append(text[end:])
    return chunks


def to_bytes(text: str) -> bytes:
    """UTF-8. A lone half of a surrogate pair is no character: it becomes U+FFFD, two halves become one, as in tiktoken."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def chunk_ends(data: bytes, pattern: str) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """The chunks of UTF-8 `data` at speed, in windows: (bytes as uint8 (N,), start of the window, int64 ends of its chunks)."""
    array = np.frombuffer(data, np.uint8)
    scanner = SCANNERS.get(SAME_AS.get(pattern, pattern))
    if scanner is None:
        lengths = np.fromiter((len(c.encode()) for c in split(data.decode("utf-8", "replace"), pattern)), np.int64)
        yield array, 0, np.cumsum(lengths)
        return
    from cairn.kernels.split import split_ends

    blocks, classes = unicode.two_stage()
    ends, start = np.empty(min(CHUNKS_AT_ONCE, len(data) + 1), np.int64), 0
    while start < len(data):
        count, stop = split_ends(array, start, ends, *scanner, blocks, classes)
        yield array, start, ends[:count]
        start = stop
