"""Which files are read, cut into parts of work that processes on one or many machines take one by one.

    for part in plan_inputs("texts", quarantine):          # cheap: names, sizes and Parquet footers
        for document in read_part(part, quarantine): ...   # anywhere that sees the files

All parts in order give exactly the documents of `read_folder`, whatever the size of the parts.
"""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Quarantine
from cairn.corpus.extract import require_trafilatura
from cairn.corpus.sources.reading import Reading
from cairn.corpus.sources.records import read_csv, read_json, read_jsonl
from cairn.corpus.sources.streams import DECODERS, DamagedError, open_stream
from cairn.corpus.sources.tables import group_sizes, read_parquet
from cairn.corpus.sources.text import count_pieces, read_text
from cairn.corpus.sources.web import read_html, read_warc

DOCUMENT_BYTES = 16 << 20  # a longer text is cut, a longer record quarantined
PART_BYTES = 64 << 20

PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV)
PROSE = ".txt .text .md .markdown .rst .tex .org .adoc"
SOURCE = (
    ".py .pyi .c .h .cc .cpp .hpp .cs .java .kt .scala .js .mjs .ts .tsx .jsx .go .rs .rb .php .pl .lua .r .jl .swift "
    ".hs .ml .ex .erl .clj .sh .sql .css .yaml .yml .toml .ini .cfg"
)
KINDS = {
    **dict.fromkeys(f"{PROSE} {SOURCE}".split(), "text"),
    **{".html": "html", ".htm": "html", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"},
    **{".tsv": "tsv", ".parquet": "parquet", ".warc": "warc", ".wet": "warc"},
}
SUFFIXES = tuple(KINDS)


@dataclass(frozen=True)
class InputSlice:
    """A file, or of a large one the units [start, end): bytes of JSON Lines, pieces of text, row groups of Parquet."""

    name: str
    kind: str
    compression: str = ""
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class InputPart:
    """A part of the work: slices of files below the folder `root`, about `bytes` on disk. Plain values, for JSON."""

    root: str
    slices: tuple[InputSlice, ...]
    bytes: int
    text_field: str = ""
    document_bytes: int = DOCUMENT_BYTES

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["root"] = _plain(self.root)
        for piece in values["slices"]:
            piece["name"] = _plain(piece["name"])
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InputPart":
        slices = tuple(InputSlice(**{**s, "name": _path(s["name"])}) for s in values["slices"])
        return cls(**{**values, "root": _path(values["root"]), "slices": slices})


def read_folder(path: Path | str, quarantine: Quarantine, text_field: str = "") -> Iterator[Document]:
    """The documents of a folder (or of one file) in the order of their names, in memory that does not grow with it.

    Plain text, Markdown and source code are a document each (over 16 MiB: several); a line of .jsonl, a record of .json,
    a row of .csv, .tsv and .parquet is one, from `text_field` (default: `text`, else `content`); an HTML page and a
    page of a .warc is one, its main text. Text formats may be packed (.gz, .zst, .bz2, .xz). Ids are unique and stay:
    `path`, `path#PIECE`, `path@OFFSET` (JSON Lines), `path:RECORD`. What cannot be read is counted in `quarantine`.
    """
    for part in plan_inputs(path, quarantine, text_field):
        yield from read_part(part, quarantine)


def plan_inputs(
    path: Path | str,
    quarantine: Quarantine,
    text_field: str = "",
    part_bytes: int = PART_BYTES,
    document_bytes: int = DOCUMENT_BYTES,
) -> list[InputPart]:
    """The parts of a folder or file, each of about `part_bytes`: small files together, large ones in slices.

    Packed files, .json, .csv and .warc are not cut: their records can only be found from the start. Raises UserError
    where the path does not exist or a file needs an extra that is not installed; other files are counted.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path} does not exist; a folder (or file) of text, JSON Lines, Parquet, HTML or WARC is wanted"
        )
    root = path.parent if path.is_file() else path
    names = [path.name] if path.is_file() else sorted(_walk(path, quarantine), key=lambda name: name.split("/"))
    parts: list[InputPart] = []
    slices: list[InputSlice] = []
    size = 0

    def close() -> None:
        nonlocal slices, size
        if slices:
            parts.append(InputPart(str(root), tuple(slices), size, text_field, document_bytes))
        slices, size = [], 0

    for name in names:
        kind, compression = _kind(name)
        if not kind:
            suffix = Path(_shown(name)).suffix
            ending = suffix if re.fullmatch(r"\.[A-Za-z]\w{0,9}", suffix) else "without ending"
            quarantine.add(_shown(name), f"file type {ending} is not read")
            continue
        if kind in ("html", "warc"):
            require_trafilatura()
        try:
            file_bytes = (root / name).stat().st_size
        except OSError as error:
            quarantine.add(_shown(name), f"cannot be read ({error.strerror})")
            continue
        if size + file_bytes > part_bytes:
            close()
        ranges = []
        if file_bytes > part_bytes and not compression:
            ranges = _ranges(root / name, kind, file_bytes, part_bytes, document_bytes)
        if len(ranges) > 1:
            for start, end in ranges:
                slices, size = [InputSlice(name, kind, "", start, end)], file_bytes // len(ranges)
                close()
        else:
            slices.append(InputSlice(name, kind, compression))
            size += file_bytes
    close()
    return parts


def _ranges(file: Path, kind: str, size: int, part_bytes: int, document_bytes: int) -> list[tuple[int, int]]:
    """Ranges of a large file, in the units of its kind; [] where it cannot be cut."""
    if kind == "jsonl":
        return [(start, min(size, start + part_bytes)) for start in range(0, size, part_bytes)]
    if kind == "text":
        pieces, step = count_pieces(size, document_bytes), max(1, part_bytes // document_bytes)
        return [(start, min(pieces, start + step)) for start in range(0, pieces, step)]
    ranges: list[tuple[int, int]] = []
    if kind == "parquet":
        start = total = 0
        sizes = group_sizes(file)
        for group, group_size in enumerate(sizes, 1):
            total += group_size
            if total >= part_bytes or group == len(sizes):
                ranges.append((start, group))
                start, total = group, 0
    return ranges


def read_part(part: InputPart, quarantine: Quarantine) -> Iterator[Document]:
    """The documents of one part of `plan_inputs`, in order."""
    for piece in part.slices:
        reading = Reading(_shown(piece.name), quarantine, part.text_field, part.document_bytes)
        try:
            yield from _read_slice(Path(part.root) / piece.name, piece, reading)
        except DamagedError as damage:
            reading.reject("", str(damage))
        except OSError as error:
            if error.errno in PASSING:
                raise  # the disk or the machine is at fault, not the file
            reading.reject("", f"cannot be read ({error.strerror or 'damaged'})")


def _read_slice(file: Path, piece: InputSlice, reading: Reading) -> Iterator[Document]:
    if piece.kind == "parquet":
        yield from read_parquet(file, reading, piece.start, piece.end)
        return
    with open_stream(file, piece.compression) as stream:
        if not piece.start and not stream.peek(1):
            reading.reject("", "empty")
        elif piece.kind == "text":
            yield from read_text(stream, reading, piece.start, piece.end)
        elif piece.kind == "jsonl":
            yield from read_jsonl(stream, reading, piece.start, piece.end)
        elif piece.kind == "json":
            yield from read_json(stream, reading)
        elif piece.kind == "html":
            yield from read_html(stream, reading)
        elif piece.kind == "warc":
            yield from read_warc(stream, reading)
        else:
            yield from read_csv(stream, reading, "\t" if piece.kind == "tsv" else ",")


def _walk(root: Path, quarantine: Quarantine) -> Iterator[str]:
    """Names, below `root`, of its regular files. Links to folders are not followed, so that no loop is endless."""

    def unreadable(error: OSError) -> None:
        quarantine.add(_shown(os.path.relpath(error.filename, root)), f"cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=unreadable):
        for name in folders:
            path = Path(folder, name)
            if path.is_symlink():
                quarantine.add(_shown(path.relative_to(root).as_posix()), "link to a folder is not followed")
        for name in files:
            path = Path(folder, name)
            if path.is_file():
                yield path.relative_to(root).as_posix()
            else:
                reason = "broken link" if path.is_symlink() else "not a regular file"
                quarantine.add(_shown(path.relative_to(root).as_posix()), reason)


def _kind(name: str) -> tuple[str, str]:
    """(kind, compression) by the file's ending; the kind is "" where it is not read.

    >>> _kind("a/b.jsonl.zst"), _kind("c.parquet.gz"), _kind("d.jpg")
    (('jsonl', '.zst'), ('', ''), ('', ''))
    """
    path = Path(name.lower())
    compression = path.suffix if path.suffix in DECODERS else ""
    kind = KINDS.get(Path(path.stem).suffix if compression else path.suffix, "")
    return ("", "") if kind == "parquet" and compression else (kind, compression)


def _plain(name: str) -> str:
    """A file's name for JSON, which has no place for names that are not UTF-8: its bytes as Latin-1. `_path` undoes it."""
    return os.fsencode(name).decode("latin-1")


def _path(plain: str) -> str:
    return os.fsdecode(plain.encode("latin-1"))


def _shown(name: str) -> str:
    """A file's name as text: bytes of a name that are not UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
