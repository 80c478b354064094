"""Which characters are letters, numbers, marks and spaces: one frozen table, so that a vocabulary never moves.

`\\p{L}` means something else in every Unicode version: 131,756 characters in Python 3.11, 141,028 in the engines behind
`tokenizers` and `tiktoken` (both Unicode 16.0), more in the `regex` package. A tokenizer trained with one and run with
another cuts text differently. `unicode-16.0.txt` beside this file is the table of the first two.
"""

import functools
from importlib.resources import files

import numpy as np

VERSION = "16.0"
OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, NEWLINE = range(8)
CLASS_OF = {
    "Lu": UPPER,
    "Lt": UPPER,
    "Ll": LOWER,
    "Lm": LETTER,
    "Lo": LETTER,
    "M": MARK,
    "N": NUMBER,
    "White_Space": SPACE,
}
BLOCK = 256  # code points a block; most of the 4,352 blocks are equal to another one


@functools.cache
def ranges() -> tuple[tuple[int, int, str], ...]:
    """(first, last, category) in ascending order."""
    lines = files("cairn.tokenizers").joinpath(f"unicode-{VERSION}.txt").read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return tuple((int(first, 16), int(last, 16), category) for first, last, category in rows)


@functools.cache
def class_of_all() -> np.ndarray:
    """Class of every code point: uint8 (0x110000,). \\r and \\n have a class of their own among the spaces."""
    classes = np.zeros(0x110000, np.uint8)
    for first, last, category in ranges():
        classes[first : last + 1] = CLASS_OF[category]
    classes[[ord("\r"), ord("\n")]] = NEWLINE
    return classes


@functools.cache
def two_stage() -> tuple[np.ndarray, np.ndarray]:
    """`blocks[code >> 8]` is where the 256 classes of that block start in `classes`: small enough for the cache.

    blocks: int32 (4352,). classes: uint8. Block 0 comes first, so `classes[b]` is the class of an ASCII byte.
    """
    distinct: dict[bytes, int] = {}
    blocks = np.empty(0x110000 // BLOCK, np.int32)
    for i, block in enumerate(class_of_all().reshape(-1, BLOCK)):
        blocks[i] = distinct.setdefault(block.tobytes(), len(distinct)) * BLOCK
    return blocks, np.frombuffer(b"".join(distinct), np.uint8)


@functools.cache
def members(category: str) -> np.ndarray:
    """Code points of `\\p{category}`: L, Lu, Lt, Ll, Lm, Lo, M or N. Sorted int64."""
    found = [np.arange(first, last + 1) for first, last, name in ranges() if name.startswith(category)]
    return np.concatenate(found)


def as_set(codes: np.ndarray) -> str:
    """Sorted code points as the inside of a character class."""
    first = codes[np.flatnonzero(np.diff(codes, prepend=-2) != 1)]
    last = codes[np.flatnonzero(np.diff(codes, append=1 << 30) != 1)]
    return "".join(f"\\U{a:08X}-\\U{b:08X}" for a, b in zip(first, last))
