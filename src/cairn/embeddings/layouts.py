"""What the beginning of a file of word vectors says, and what becomes of rows that cannot be used.

The forms are explained in `cairn.embeddings.formats`.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cairn.core.errors import UserError
from cairn.corpus.documents import Quarantine
from cairn.corpus.sources.streams import DECODERS, EXPANSION, EXPANSION_GRACE, DamagedError, open_stream

FORMS = ("text", "binary", "glove")

MOST_DIMENSIONS = 1 << 14
MOST_NUMBERS = 1 << 32  # of the whole matrix: 16 GiB; the largest published ones have a quarter of it
WORD_BYTES = 1 << 12
NUMBER_BYTES = 40  # in text; a float64 takes 24
BLOCK_BYTES = 4 << 20
PROBED_LINES = 16  # from which the dimensions of a file without header are told
NUMBER_CHARACTERS = frozenset(b"0123456789+-.eEinfaINFA ")

# First bytes of what people mistake for vectors -> what it is, and what to do.
PICKLE = "a pickle (gensim's own format), which is never read: write it with save_word2vec_format"
FOREIGN = {
    **{bytes([0x80, protocol]): PICKLE for protocol in range(2, 6)},
    b"\xef\xbb\xbf": "text with a byte-order mark, which would become part of the first word: write it without",
    b"\x93NUMPY": "a NumPy array without words: give the file that it was made from",
    b"\xba\x16\x4f\x2f": "fastText's model file: give the .vec file beside it",
}


@dataclass(frozen=True)
class Layout:
    """What the beginning of a file says: its form, the words it promises (None without a header), the dimensions."""

    form: str
    words: int | None
    dim: int


class Block(NamedTuple):
    """Some rows of a file: what they are called in it ("line" or "word"), their numbers there, and what they hold."""

    unit: str
    numbers: list[int]
    words: list[str]
    rows_ND: np.ndarray


class Faults:
    """What becomes of rows that cannot be used: the first ends the reading, or they are counted and left out."""

    def __init__(self, path: Path, quarantine: Quarantine, skip_bad: bool):
        self.path, self.quarantine, self.skip_bad = path, quarantine, skip_bad

    def row(self, where: str, reason: str) -> None:
        if not self.skip_bad:
            raise UserError(f"{self.path}, {where}: {reason}; mend it, or leave such rows out (skip_bad, --skip-bad)")
        self.quarantine.add(f"{self.path}, {where}", reason)

    def note(self, where: str, reason: str) -> None:
        """What is worth counting, and does not end the reading."""
        self.quarantine.add(f"{self.path}, {where}", reason)

    def word(self, where: str, name: bytes) -> str:
        """The word of a row; what is not UTF-8 in it is replaced and counted."""
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            self.note(where, "a word that is not UTF-8")
            return name.decode("utf-8", "replace")


def layout_of(path: Path, form: str = "") -> Layout:
    """Form, words and dimensions of a file, from its beginning and its size. Raises UserError where they cannot be."""
    if form and form not in FORMS:
        raise UserError(f"unknown form {form!r} of word vectors; known: {', '.join(FORMS)}")
    most_line = WORD_BYTES + MOST_DIMENSIONS * NUMBER_BYTES
    try:
        with open_file(path) as file:
            lines = [file.readline(most_line) for _ in range(PROBED_LINES)]
    except DamagedError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if not lines[0].strip():
        raise UserError(f"{path} is empty, or begins with an empty line; it holds no word vectors")
    for start, what in FOREIGN.items():
        if lines[0].startswith(start):
            raise UserError(f"{path} is {what}")
    sizes = _header(lines[0]) if form != "glove" else None
    if sizes is None:
        if form in ("text", "binary"):
            raise UserError(f"{path}: the first line must be two numbers (words, dimensions), not {_shown(lines[0])}")
        return Layout("glove", None, _dimensions(path, lines))
    words, dim = sizes
    form = form or ("text" if _is_text(lines[1]) else "binary")
    _check_sizes(path, form, words, dim)
    return Layout(form, words, dim)


def _header(line: bytes) -> tuple[int, int] | None:
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() and len(field) < 16 for field in fields):
        return int(fields[0]), int(fields[1])
    return None


def _is_text(row: bytes) -> bool:
    """Whether a word is followed by numbers in letters: the next bytes of binary ones are hardly ever all digits."""
    _, _, numbers = row[: WORD_BYTES + 64].partition(b" ")
    return NUMBER_CHARACTERS.issuperset(numbers[:64].strip())


def _dimensions(path: Path, lines: list[bytes]) -> int:
    """How many numbers end every one of the first lines; a word may hold spaces and numbers, so the fewest are right."""
    counts = []
    for line in filter(None, (line.split() for line in lines)):
        fields = line[1:]
        count = next((i for i, field in enumerate(reversed(fields)) if not _is_number(field)), len(fields))
        counts.append(count)
    dim = min(counts)
    if not 0 < dim <= MOST_DIMENSIONS:
        raise UserError(
            f"{path} holds no word vectors: neither a header nor a word and its numbers in {_shown(lines[0])}"
        )
    return dim


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _check_sizes(path: Path, form: str, words: int, dim: int) -> None:
    """Refuse a header that the file cannot hold, before memory is asked for."""
    if not 0 < dim <= MOST_DIMENSIONS or not words:
        raise UserError(
            f"{path}: the header says {words:,} words of {dim:,} dimensions; 1 to {MOST_DIMENSIONS:,} dimensions are read"
        )
    if words * dim > MOST_NUMBERS:
        raise UserError(
            f"{path}: the header says {words:,} x {dim:,} numbers, more than the {MOST_NUMBERS:,} that are read"
        )
    size = path.stat().st_size
    if path.suffix in DECODERS:
        size = size * EXPANSION + EXPANSION_GRACE
    least = words * (4 * dim + 1 if form == "binary" else 2 * dim + 1)  # an empty word and a space; a digit a number
    if least > size:
        raise UserError(
            f"{path}: the header says {words:,} words of {dim:,} dimensions, which is {least:,} bytes at least, "
            f"but the file has {size:,}: it is truncated or damaged; fetch it again"
        )


def open_file(path: Path) -> io.BufferedReader:
    """The bytes of a file, unpacked by its ending. Raises UserError where there is none."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is a pipe or a device; vectors are read twice over: write them to a file first")
    try:
        return open_stream(path, path.suffix if path.suffix in DECODERS else "")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, a file of word vectors is expected") from None


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace").rstrip("\n"))
