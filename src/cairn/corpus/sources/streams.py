"""The bytes of a file in bounded memory: unpacked on the way, cut into lines, with damage said in words."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

CHUNK = 1 << 20
WINDOW_MEMORY = 128 << 20  # history a .zst or .xz file may ask its decoder to keep
EXPANSION, EXPANSION_GRACE = 256, 64 << 20  # text packs 3 to 30 times; bytes that may come out before that is judged

# Ending -> a new decoder, and the packed bytes handed to it at once. These bound what one call returns to some 32 MiB by
# the steepest the format can expand: .gz 1,032 times, .bz2 900 kB from 45 bytes, .xz 7,000 times, .zst 128 KiB from 4 bytes.
DECODERS: dict[str, tuple[Callable[[], Any], int]] = {
    ".gz": (lambda: zlib.decompressobj(wbits=31), 16384),
    ".bz2": (bz2.BZ2Decompressor, 1024),
    ".xz": (lambda: lzma.LZMADecompressor(memlimit=WINDOW_MEMORY), 4096),
    ".zst": (lambda: zstandard.ZstdDecompressor(max_window_size=WINDOW_MEMORY).decompressobj(), 1024),
}


class DamagedError(Exception):
    """The rest of a file cannot be read. The message is the reason that goes into the quarantine."""


def open_stream(path: Path, compression: str = "") -> io.BufferedReader:
    """The unpacked bytes of `path`; `compression` is "" or a key of DECODERS. Reading raises `DamagedError` and OSError."""
    raw = _Unpacked(io.BufferedReader(io.FileIO(path)), compression) if compression else io.FileIO(path)
    return io.BufferedReader(raw, CHUNK)


class _Unpacked(io.RawIOBase):
    """What comes out of a decoder, as a file, so that the standard library's buffered reader does the rest."""

    def __init__(self, packed: BinaryIO, compression: str):
        self._packed = packed
        self._pieces = unpack(packed, compression)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._packed.close()
        super().close()


def unpack(packed: BinaryIO, compression: str) -> Iterator[bytes]:
    """The content of a packed file, of all its members or frames one after another, with a bound on its expansion.

    Raises `DamagedError` at the place of the damage, after everything before it was given out.
    """
    new, feed = DECODERS[compression]
    decoder, unused = new(), b""
    came_in = came_out = 0
    try:
        while piece := unused or packed.read(feed):
            came_in += 0 if unused else len(piece)
            if decoder.eof:
                piece = piece.lstrip(b"\0")  # padding up to a block of a tape or of .xz
                if not piece:
                    unused = b""
                    continue
                decoder = new()
            content = decoder.decompress(piece)
            unused = decoder.unused_data if decoder.eof else b""
            came_out += len(content)
            yield content
            if came_out > EXPANSION_GRACE and came_out > EXPANSION * came_in:
                raise DamagedError(f"unpacks to more than {EXPANSION} times its size (a decompression bomb?)")
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the content
            raise
        if "memory" in str(error).lower():
            raise DamagedError(
                f"needs more than {WINDOW_MEMORY >> 20} MiB of memory to unpack (pack it again)"
            ) from None
        raise DamagedError(f"damaged {compression} data (the part before it is kept)") from None
    if came_in and not decoder.eof:
        raise DamagedError(f"truncated {compression} file (the part before the end is kept)")


def read_up_to(stream: io.BufferedReader, size: int, start: bytes = b"") -> tuple[bytes, DamagedError | None]:
    """`start` and what follows it in the stream, `size` bytes together or fewer at the end; the damage met, if any."""
    pieces, have = [start], len(start)
    try:
        while have < size and (piece := stream.read1(min(CHUNK, size - have))):
            pieces.append(piece)
            have += len(piece)
    except DamagedError as damage:
        return b"".join(pieces), damage
    return b"".join(pieces), None


def read_lines(
    stream: io.BufferedReader, limit: int, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """(offset, line) for every line whose first byte lies in [start, end); None for a line over `limit` bytes.

    A long line is passed over in pieces, and never past `end`: readers of neighbouring ranges share that work.
    """
    offset = start
    if start:
        stream.seek(start - 1)  # a line begins at `start` if the byte before it ends one
        offset = _skip_line(stream, start - 1, end)
    while end is None or offset < end:
        line = stream.readline(limit + 1)
        if not line:
            return
        if len(line) > limit and not line.endswith(b"\n"):
            yield offset, None
            offset = _skip_line(stream, offset + len(line), end)
        else:
            yield offset, line
            offset += len(line)


def _skip_line(stream: io.BufferedReader, offset: int, end: int | None) -> int:
    """The offset after the next line end, or one past `end`."""
    while (end is None or offset < end) and (piece := stream.readline(CHUNK)):
        offset += len(piece)
        if piece.endswith(b"\n"):
            break
    return offset
