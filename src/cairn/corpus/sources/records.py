"""Records with named values: JSON Lines, JSON, CSV and TSV. Each record is a document, from its text field."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator

from cairn.corpus.documents import Document
from cairn.corpus.sources.reading import Reading
from cairn.corpus.sources.streams import CHUNK, DamagedError, read_lines

NOT_UTF8, NOT_JSON, TOO_DEEP = "invalid UTF-8", "line is not JSON", "JSON nested too deep"


def read_jsonl(
    stream: io.BufferedReader, reading: Reading, start: int = 0, end: int | None = None
) -> Iterator[Document]:
    """A document a line, of the lines that begin in bytes [start, end). Ids: `name@OFFSET`, the line's first byte.

    Offsets, not line numbers: a range in the middle of a file has the same ids whether or not what lies before is read.
    """
    for offset, line in read_lines(stream, reading.document_bytes, start, end):
        place = f"@{offset}"
        if line is None:
            reading.reject(place, reading.too_large)
            continue
        if not offset:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            reading.reject(place, NOT_UTF8)
        except RecursionError:
            reading.reject(place, TOO_DEEP)
        except ValueError:
            reading.reject(place, NOT_JSON)
        else:
            document = reading.document(place, record)
            if document:
                yield document


def read_json(stream: io.BufferedReader, reading: Reading) -> Iterator[Document]:
    """A list of records, or records one after another. Ids: `name:RECORD`, counted from 0."""
    for number, record in enumerate(_json_values(_characters(stream), reading)):
        document = reading.document(f":{number}", record)
        if document:
            yield document


def _characters(stream: io.BufferedReader) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while True:
        data = stream.read1(CHUNK)
        try:
            yield decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            yield error.object[: error.start].decode("utf-8-sig")
            raise DamagedError("invalid UTF-8 (the records before it are kept)") from None
        if not data:
            return


_SEPARATORS = re.compile(r"[\s,]*")


def _json_values(pieces: Iterator[str], reading: Reading) -> Iterator[object]:
    """The values of a list, or standing one after another, with no more than one record and a piece in memory."""
    decoder = json.JSONDecoder()
    buffer, at = "", 0
    damage: DamagedError | None = None
    more, in_list, first = True, False, True
    while True:
        at = _SEPARATORS.match(buffer, at).end()  # type: ignore[union-attr]
        value, complete = None, False
        if at < len(buffer):
            if first and buffer[at] == "[":
                in_list, at, first = True, at + 1, False
                continue
            if in_list and buffer[at] == "]":
                return
            first = False
            try:
                value, end = decoder.raw_decode(buffer, at)
                # A number may go on in the next piece; the other values say themselves where they end.
                complete = not more or end < len(buffer) or isinstance(value, (dict, list, str))
            except RecursionError:
                raise DamagedError(f"{TOO_DEEP} (the records before it are kept)") from None
            except ValueError:
                pass
        if complete:
            yield value
            at = end
        elif more:
            if len(buffer) - at > reading.document_bytes:
                raise DamagedError(f"{reading.too_large}, or broken JSON (the records before it are kept)")
            # At least twice as much as before, or a long record would be parsed again and again.
            wanted = 2 * (len(buffer) - at) or 1
            parts, have = [buffer[at:]], len(buffer) - at
            while more and have < wanted:
                try:
                    part = next(pieces, None)
                except DamagedError as error:
                    part, damage = None, error
                more = part is not None
                parts.append(part or "")
                have += len(part or "")
            buffer, at = "".join(parts), 0
        elif damage:
            raise damage
        elif at < len(buffer) or in_list:
            raise DamagedError("broken or truncated JSON (the records before it are kept)")
        else:
            return


class _Rows:
    """Lines for the csv module, with a bound on how much it may gather for one row (quoted values span lines)."""

    def __init__(self, stream: io.BufferedReader, limit: int):
        self._lines = read_lines(stream, limit)
        self._limit = limit
        self.gathered = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        offset, line = next(self._lines)
        self.gathered += len(line or b"")
        if line is None or self.gathered > self._limit:
            raise _TooLargeError
        return line.decode("utf-8" if offset else "utf-8-sig")


class _TooLargeError(Exception):
    """A row that gathers more than the limit."""


def read_csv(stream: io.BufferedReader, reading: Reading, delimiter: str) -> Iterator[Document]:
    """A document a row, from the text column that the first row names. Ids: `name:ROW`, counted from 0 below it."""
    csv.field_size_limit(max(csv.field_size_limit(), reading.document_bytes))
    lines = _Rows(stream, reading.document_bytes)
    rows = csv.reader(lines, delimiter=delimiter)
    header: list[str] = []
    number = -1  # of the header
    while True:
        lines.gathered, problem = 0, ""
        try:
            row = next(rows, None)
        except UnicodeDecodeError:
            row, problem = [], NOT_UTF8
        except _TooLargeError:
            row, problem = [], reading.too_large
        except csv.Error:
            row, problem = [], "row is not CSV"
        if row is None:
            return
        if not row and not problem:
            continue  # a blank line
        place = f":{number}" if header else ""
        if problem:
            reading.reject(place, problem)
        elif header:
            document = reading.document(place, dict(zip(header, row)))
            if document:
                yield document
        elif set(row) & set(reading.fields):
            header = row
        else:
            reading.reject("", "no text column")
        if not header:
            return
        number += 1
