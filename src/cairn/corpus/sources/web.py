"""Web pages: HTML files, and the WARC and WET archives of crawlers (ISO 28500), by warcio (extra `corpus`)."""

import io
from collections.abc import Iterator
from itertools import count
from typing import Any

from cairn.core.errors import UserError
from cairn.corpus.documents import Document
from cairn.corpus.extract import PAGE_BYTES, NoMainTextError, main_text
from cairn.corpus.sources.reading import Reading, encodable
from cairn.corpus.sources.streams import DamagedError, read_up_to

HTML_TYPES = ("text/html", "application/xhtml+xml")
CONTENT_RECORDS = ("response", "resource", "conversion")  # conversion: text already extracted (WET)
HEADER_BYTES = 1 << 20  # of a WARC and an HTTP header together
# Named in the quarantine; others count together, so that a hostile archive cannot fill it with inventions.
NAMED_TYPES = ("image", "video", "audio", "font", "application", "text")


def read_html(stream: io.BufferedReader, reading: Reading) -> Iterator[Document]:
    """One document, named like the file. A damaged packed file gives what stands before the damage."""
    data, damage = read_up_to(stream, PAGE_BYTES + 1)
    document = _page(data, "", {}, reading)
    if document:
        yield document
    if damage:
        raise damage


def _page(page: bytes | str, place: str, known: dict[str, str], reading: Reading) -> Document | None:
    try:
        text, stated = main_text(page)
    except NoMainTextError as reason:
        reading.reject(place, str(reason))
        return None
    return Document(reading.name + place, encodable(text), {k: encodable(v) for k, v in (stated | known).items()})


class _Bounded:
    """What warcio reads from. It gives what is there, so that records before a damage do not fall with their block, and
    no more than `allowed` bytes: the lines of a header are gathered in memory until they end."""

    def __init__(self, stream: io.BufferedReader):
        self._stream = stream
        self.allowed = 0.0

    def read(self, size: int = -1) -> bytes:
        if self.allowed <= 0:
            raise DamagedError("WARC header without end (the records before it are kept)")
        data = self._stream.read1(size)
        self.allowed -= len(data)
        return data


def read_warc(stream: io.BufferedReader, reading: Reading) -> Iterator[Document]:
    """The main text of HTML and the text of plain-text records. Ids: `name:RECORD`, counted from 0 over all records.

    Requests, crawl metadata and revisits carry no content and are passed over; a record of content that is not text,
    failed, or is damaged is counted.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError:
        raise UserError("WARC files need the extra: pip install 'cairn[corpus]' (warcio is missing)") from None
    if not stream.peek(5).startswith(b"WARC/"):
        raise DamagedError("not a WARC file")
    source = _Bounded(stream)
    source.allowed = HEADER_BYTES  # the archive is looked at when the iterator is made
    archive = ArchiveIterator(source, check_digests=True)
    records, errors, left = iter(archive), 0, 0
    for number in count():
        source.allowed = left + HEADER_BYTES
        try:
            record = next(records, None)
        except (DamagedError, OSError):
            raise
        except Exception:  # warcio lets through what its parsing of damaged headers raises, of many types
            reading.reject(f":{number}", "damaged WARC record (the records before it are kept)")
            return
        if archive.err_count > errors:
            errors = archive.err_count
            reading.reject(f":{number - 1}", "WARC record of another length than it states")
        if record is None:
            return
        if not hasattr(record.raw_stream, "limit"):  # it would swallow all records behind it
            reading.reject(f":{number}", "WARC record without a length (the records before it are kept)")
            return
        source.allowed = float("inf")
        if record.rec_type in CONTENT_RECORDS:
            document = _record(record, f":{number}", reading)
            if document:
                yield document
        left = record.raw_stream.limit  # of its body, read and forgotten on the way to the next record


def _record(record: Any, place: str, reading: Reading) -> Document | None:
    headers = record.rec_headers
    if record.rec_type == "response":
        if record.http_headers is None:
            reading.reject(place, "response without HTTP headers")
            return None
        status = record.http_headers.get_statuscode()
        if status != "200":
            proper = status.isdigit() and len(status) == 3
            reading.reject(place, f"HTTP status {status}" if proper else "no HTTP status")
            return None
        headers = record.http_headers
    kind, _, parameters = (headers.get_header("Content-Type") or "").lower().partition(";")
    kind = kind.strip()
    if kind != "text/plain" and kind not in HTML_TYPES:
        major = kind.partition("/")[0]
        reading.reject(place, f"content is not text ({major if major in NAMED_TYPES else 'other'})")
        return None
    body, damage = _body(record, PAGE_BYTES if kind in HTML_TYPES else reading.document_bytes)
    if damage:
        reading.reject(place, damage)
        return None
    known = {"url": "WARC-Target-URI", "date": "WARC-Date", "language": "WARC-Identified-Content-Language"}
    meta = {name: record.rec_headers.get_header(header) or "" for name, header in known.items()}
    meta = {name: value for name, value in meta.items() if value}
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'")
    if kind in HTML_TYPES:
        return _page(_decoded(body, charset, "replace") or body, place, meta, reading)
    text = _decoded(body, charset or "utf-8", "strict")
    if text is None or "\0" in text:
        reading.reject(place, "invalid UTF-8" if charset in ("", "utf-8") else "text not in its stated encoding")
        return None
    return reading.document(place, {reading.fields[0]: text} | meta)


def _body(record: Any, limit: int) -> tuple[bytes, str]:
    """The content of a record, and what is wrong with it or ""."""
    stream, pieces, have = record.content_stream(), [], 0
    try:
        while have <= limit and (piece := stream.read(limit + 1 - have)):
            pieces.append(piece)
            have += len(piece)
    except (DamagedError, OSError):
        raise
    except Exception:  # a checksum that is none, a broken transfer encoding
        return b"", "damaged WARC record"
    if have > limit:
        return b"", f"content over {limit >> 20} MiB"
    if record.raw_stream.limit:  # bytes that the record's length promises and the file lacks
        return b"", "truncated WARC record"
    if record.digest_checker is not None and record.digest_checker.passed is False:
        return b"", "damaged WARC record (its checksum differs)"
    return b"".join(pieces), ""


def _decoded(body: bytes, charset: str, errors: str) -> str | None:
    """None where the charset is empty, unknown, not one of text, or (strict) not that of the bytes."""
    try:
        return body.decode(charset, errors) if charset else None
    except (LookupError, ValueError):
        return None
