"""Word vectors in word2vec's binary form: a word, a space, and its numbers as little-endian float32.

The original program writes a line break after the numbers, gensim does not; it counts as part of neither.
"""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from cairn.core.errors import UserError
from cairn.embeddings.layouts import BLOCK_BYTES, WORD_BYTES, Block, Faults, Layout

WRITTEN_ROWS = 1 << 13


def read_rows(file: BinaryIO, layout: Layout, faults: Faults) -> Iterator[Block]:
    """Rows block by block; the header has been read."""

    assert layout.words is not None
    width = 4 * layout.dim
    done, chunk, ended = 0, b"", False
    while done < layout.words and not ended:
        piece = file.read(BLOCK_BYTES)
        ended = len(piece) < BLOCK_BYTES
        chunk += piece
        names, numbers, place = [], [], 0
        while done + len(names) < layout.words:
            space = chunk.find(b" ", place, place + WORD_BYTES + 2)
            if space < 0 and len(chunk) - place > WORD_BYTES + 1:
                raise UserError(
                    f"{faults.path}, word {done + len(names) + 1}: no space within {WORD_BYTES:,} bytes, where a word "
                    f"must end; the file is not in the binary form, or damaged: fetch it again"
                )
            end = space + 1 + width
            if space < 0 or end > len(chunk):
                break
            names.append(chunk[place:space])
            numbers.append(chunk[space + 1 : end])
            place = end
        chunk = chunk[place:]
        if names:
            yield _block(done + 1, names, numbers, layout, faults)
        done += len(names)
    if done < layout.words:
        faults.row(f"word {done + 1}", f"the file ends after {done:,} of {layout.words:,} words: it is truncated")
    elif chunk.strip() or file.read(1).strip():
        faults.note(f"word {done + 1}", "bytes after the last word that the header promises")


def _block(first: int, names: Sequence[bytes], numbers: Sequence[bytes], layout: Layout, faults: Faults) -> Block:
    rows_ND = np.frombuffer(b"".join(numbers), "<f4").reshape(len(names), layout.dim).astype(np.float32, copy=False)
    finite = np.all(np.isfinite(rows_ND), axis=1).tolist()
    words, kept = [], []
    for i, name in enumerate(names):
        name = name.lstrip(b"\n")
        if not name or not finite[i]:
            faults.row(f"word {first + i}", "a vector of numbers that are not finite" if name else "an empty word")
            continue
        words.append(faults.word(f"word {first + i}", name))
        kept.append(i)
    return Block("word", [first + i for i in kept], words, rows_ND if len(kept) == len(names) else rows_ND[kept])


def write_rows(file: BinaryIO, words: Sequence[bytes], rows_VD: np.ndarray) -> None:
    """Byte for byte what gensim writes."""
    width = 4 * rows_VD.shape[1]
    for start in range(0, len(words), WRITTEN_ROWS):
        data = rows_VD[start : start + WRITTEN_ROWS].astype("<f4").tobytes()
        file.writelines(
            b"%b %b" % (word, data[i * width : (i + 1) * width])
            for i, word in enumerate(words[start : start + WRITTEN_ROWS])
        )
