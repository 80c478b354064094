"""Word vectors in text: a line for each word, "word 0.1 0.2".

The numbers of a whole block of lines are parsed at once by Arrow; only a block in which something does not parse is read
line by line, to say which.
"""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from cairn.core.errors import UserError
from cairn.embeddings.layouts import BLOCK_BYTES, NUMBER_BYTES, WORD_BYTES, Block, Faults, Layout

WRITTEN_ROWS = 1 << 13


def read_rows(file: BinaryIO, layout: Layout, faults: Faults) -> Iterator[Block]:
    """Rows block by block; the header has been read."""
    first = 1 if layout.words is None else 2
    rows = 0
    for number, lines in _blocks(file, layout, faults, first):
        left = len(lines) if layout.words is None else layout.words - rows
        if lines[:left]:
            yield _parse(number, lines[:left], layout, faults)
        rows += len(lines[:left])
        if any(line.strip() for line in lines[left:]):
            faults.note(f"line {number + left}", "lines after the last that the header promises")
            break
    if layout.words is not None and rows < layout.words:
        faults.row(f"line {first + rows}", f"the file ends after {rows:,} of {layout.words:,} words: it is truncated")


def _blocks(file: BinaryIO, layout: Layout, faults: Faults, number: int) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines) of some megabytes."""
    longest = WORD_BYTES + NUMBER_BYTES * layout.dim
    lines: list[bytes] = []
    size = 0
    while line := file.readline(longest + 1):
        if len(line) > longest:
            raise UserError(
                f"{faults.path}, line {number + len(lines)}: longer than {longest:,} bytes, which a word and "
                f"{layout.dim} numbers never are; it is no text of word vectors, or damaged"
            )
        lines.append(line)
        size += len(line)
        if size >= BLOCK_BYTES:
            yield number, lines
            number, lines, size = number + len(lines), [], 0
    yield number, lines


def _parse(number: int, lines: Sequence[bytes], layout: Layout, faults: Faults) -> Block:
    words: list[str] = []
    rests: list[bytes] = []
    numbers: list[int] = []
    for i, line in enumerate(lines, number):
        line = line.rstrip()  # fastText ends its lines with a space
        if line.count(b" ") == layout.dim:
            word, _, rest = line.partition(b" ")
        else:  # a word with spaces: the last fields are the numbers
            if not line and layout.words is None:
                continue  # an empty line ends many a file
            word, *fields = line.rsplit(b" ", layout.dim)
            if len(fields) != layout.dim:
                faults.row(f"line {i}", f"{len(fields)} numbers where {layout.dim} are expected")
                continue
            rest = b" ".join(fields)
        if not 0 < len(word) <= WORD_BYTES:
            faults.row(f"line {i}", "an empty word" if not word else f"a word of {len(word):,} bytes")
            continue
        words.append(faults.word(f"line {i}", word))
        rests.append(rest)
        numbers.append(i)
    rows_ND = _numbers(rests, layout.dim)
    if rows_ND is None:
        rows_ND = np.full((len(rests), layout.dim), np.nan, np.float32)
        for row, rest in zip(rows_ND, rests):
            row[:] = _careful(rest)
    good = np.all(np.isfinite(rows_ND), axis=1)
    if not good.all():
        for i in np.flatnonzero(~good):
            faults.row(f"line {numbers[i]}", "something else than finite numbers after the word")
        kept = np.flatnonzero(good)
        words, numbers, rows_ND = [words[i] for i in kept], [numbers[i] for i in kept], rows_ND[kept]
    return Block("line", numbers, words, rows_ND)


def _numbers(rests: Sequence[bytes], dim: int) -> np.ndarray | None:
    """float32[N, dim] of N texts of numbers, or None if one of them is anything else.

    >>> _numbers([b"1 -2.5", b"1e-3 4"], 2).tolist()
    [[1.0, -2.5], [0.0010000000474974513, 4.0]]
    >>> _numbers([b"1 x"], 2) is None
    True
    """
    import pyarrow as pa
    from pyarrow import csv

    if not rests:
        return np.empty((0, dim), np.float32)
    names = [str(i) for i in range(dim)]
    parse: dict[str, Any] = {
        "read_options": csv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 30),
        "parse_options": csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
        "convert_options": csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.float64()), null_values=[], check_utf8=False
        ),
    }
    try:
        table = csv.read_csv(pa.BufferReader(b"\n".join(rests)), **parse)
    except pa.ArrowInvalid:
        return None
    rows_ND = np.empty((table.num_rows, dim), np.float32)
    with np.errstate(over="ignore"):  # infinity, which is refused afterwards
        for i, column in enumerate(table.columns):
            rows_ND[:, i] = column.to_numpy()
    return rows_ND if len(rows_ND) == len(rests) else None


def _careful(rest: bytes) -> np.ndarray:
    """The numbers of one line as Python reads them; NaN where they are none."""
    try:
        with np.errstate(over="ignore"):
            return np.array([float(field) for field in rest.split(b" ")], np.float64).astype(np.float32)
    except ValueError:
        return np.full(1, np.nan, np.float32)


def write_rows(file: BinaryIO, words: Sequence[bytes], rows_VD: np.ndarray) -> None:
    """Each number in the fewest digits from which the same float32 is read."""
    import pyarrow as pa
    from pyarrow import csv

    names = [str(i) for i in range(rows_VD.shape[1])]
    plain = csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    for start in range(0, len(words), WRITTEN_ROWS):
        columns = np.ascontiguousarray(rows_VD[start : start + WRITTEN_ROWS].T)
        sink = pa.BufferOutputStream()
        csv.write_csv(pa.table(list(columns), names=names), sink, plain)
        lines = sink.getvalue().to_pybytes().splitlines(keepends=True)
        file.writelines(b"%b %b" % pair for pair in zip(words[start : start + WRITTEN_ROWS], lines))
