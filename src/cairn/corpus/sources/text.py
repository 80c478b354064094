"""Plain text: a file is one document; a large one is cut into several at places found by looking only around the cut.

Piece k of a file ends near byte (k + 1) x `document_bytes`: after the last blank line in the 64 KiB before it, else the
last line end, else the last space, else at a character's border. So any piece can be read without those before it, and
a file of one endless line takes no more memory than any other.
"""

import io
from collections.abc import Iterator

from cairn.corpus.documents import Document
from cairn.corpus.sources.reading import Reading
from cairn.corpus.sources.streams import read_up_to

WINDOW = 1 << 16
BREAKS = (b"\n\n", b"\n\r\n", b"\n", b" ")


def count_pieces(size: int, document_bytes: int) -> int:
    return max(1, -(-size // document_bytes))


def read_text(
    stream: io.BufferedReader, reading: Reading, start: int = 0, end: int | None = None
) -> Iterator[Document]:
    """Pieces `start` to `end` (exclusive; None: all). Ids: the file's name, `name#1` and so on for the later pieces."""
    size = reading.document_bytes
    window = min(WINDOW, size // 2)
    data, offset, number = b"", 0, start  # `offset` is where `data` begins in the file
    if start:
        offset = start * size - window
        stream.seek(offset)
        data, _ = read_up_to(stream, window + 1)
        cut = cut_at(data)
        data, offset = data[cut:], offset + cut
    while end is None or number < end:
        wanted = (number + 1) * size + 1 - offset  # one byte more tells whether another piece follows
        data, damage = read_up_to(stream, wanted, data)
        last = len(data) < wanted
        cut = len(data) if last else wanted - 1 - window + cut_at(data[-window - 1 :])
        document = _document(data[:cut], offset, number, reading, damage is not None)
        if document:
            yield document
        if damage:
            raise damage
        if last:
            return
        data, offset, number = data[cut:], offset + cut, number + 1


def cut_at(window: bytes) -> int:
    """Where the next piece begins in `window`: the bytes before its nominal start and one after.

    >>> cut_at(b"one. two"), cut_at("éé".encode())
    (5, 2)
    """
    nominal = len(window) - 1
    for mark in BREAKS:
        at = window.rfind(mark, 0, nominal)
        if at >= 0:
            return at + len(mark)
    at = nominal
    while at > nominal - 3 and at > 0 and window[at] & 0xC0 == 0x80:  # inside a character of UTF-8
        at -= 1
    return at


def _document(data: bytes, offset: int, number: int, reading: Reading, cut_off: bool) -> Document | None:
    place = f"#{number}" if number else ""
    if b"\0" in data[: 1 << 16]:
        reading.reject(place, "binary file")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if not (cut_off and error.reason == "unexpected end of data"):  # that damage is counted already
            reading.reject(f"@{offset + error.start}", "invalid UTF-8")
        text = data[: error.start].decode("utf-8")
        if not text.strip():
            return None
    if not number:
        text = text.removeprefix("\ufeff")
    if not text.strip():
        reading.reject(place, "empty")
        return None
    return Document(reading.name + place, text.replace("\r\n", "\n"))
