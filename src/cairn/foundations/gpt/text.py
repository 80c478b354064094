r"""Text as numbers: every character is a token, and part of the text is kept back to be asked about afterwards.

A list of names becomes one long text with a name on each line: the newline says that a name ends and the next begins, so a
model that writes "\nanna\n" has written a name. Names come in alphabetical order, or with the most popular ones first, and
what is kept back should look like the rest: their order is drawn by lot. A story's lines stay as they are; its end is kept back.

>>> corpus = read_names(seed=0)
>>> corpus.alphabet.symbols
'\nabcdefghijklmnopqrstuvwxyz'
>>> corpus.alphabet.encode("\nada\n")
array([0, 1, 4, 1, 0])
>>> corpus.alphabet.decode([0, 1, 4, 1, 0])
'\nada\n'
>>> len(corpus.training), len(corpus.held_out)
(6886, 760)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

HELD_OUT = 0.1  # share of a text that no model is trained on


@dataclass(frozen=True)
class Alphabet:
    """The characters a model knows; the id of one is its place here."""

    symbols: str

    def __post_init__(self) -> None:
        if not isinstance(self.symbols, str) or not 0 < len(self.symbols) == len(set(self.symbols)):
            raise ValueError(f"an alphabet {_short(self.symbols)}: give a text in which every character stands once")

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """Ids (N,) of the characters of a text."""
        place = {symbol: i for i, symbol in enumerate(self.symbols)}
        unknown = sorted(set(text) - place.keys())
        if unknown:
            raise ValueError(
                f"characters {_short(unknown)} are not in the text that was learned; known: {_short(self.symbols)}"
            )
        return np.fromiter((place[symbol] for symbol in text), np.int64, len(text))

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.symbols[int(i)] for i in ids)


class Corpus(NamedTuple):
    alphabet: Alphabet  # of the whole text
    training: np.ndarray  # ids (N,)
    held_out: np.ndarray  # ids (M,)


def read_names(path: Path | None = None, seed: int = 0) -> Corpus:
    """A file with a name on each line; without a path the list that comes with this chapter."""
    path = path or Path(__file__).with_name("names.txt")
    lines = [line.strip() for line in _read(path).splitlines() if line.strip()]
    order = np.random.default_rng(seed).permutation(len(lines))
    return split_text("\n" + "\n".join(lines[i] for i in order) + "\n")


def read_text(path: Path) -> Corpus:
    """Any text file, in its order."""
    return split_text(_read(path))


def split_text(text: str) -> Corpus:
    """The last tenth is kept back, from the end of a line where one is near."""
    cut = round(len(text) * (1 - HELD_OUT))
    line_end = text.find("\n", cut)
    if 0 <= line_end < (cut + len(text)) / 2:
        cut = line_end
    if min(cut, len(text) - cut) < 2:
        raise ValueError(f"a text of {len(text)} characters is too short to learn from: give at least some lines")
    alphabet = Alphabet("".join(sorted(set(text))))
    return Corpus(alphabet, alphabet.encode(text[:cut]), alphabet.encode(text[cut:]))


def windows(ids: np.ndarray, count: int, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` pieces from anywhere in a text: inputs and targets (count, length), a target is the character that follows."""
    if len(ids) <= length:
        raise ValueError(
            f"a text of {len(ids)} characters has no piece of {length} + 1: give more text or a shorter context"
        )
    start_B1 = rng.integers(len(ids) - length, size=(count, 1))
    piece_BT = ids[start_B1 + np.arange(length + 1)]
    return piece_BT[:, :-1], piece_BT[:, 1:]


def _short(value: object, longest: int = 80) -> str:
    """As Python writes it, for a message: a long one is cut."""
    shown = repr(value)
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with an invisible mark: no character
    except UnicodeDecodeError as problem:
        raise ValueError(
            f"{path} is not UTF-8 text ({problem.reason} at byte {problem.start}): convert it first"
        ) from None
    except OSError as problem:
        raise ValueError(f"{path} cannot be read: {problem.strerror}") from None
