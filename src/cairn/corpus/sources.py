"""Where documents come from: a person's folder. Bad records are counted and kept for the report, never silently lost."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Quarantine

SUFFIXES = (".txt", ".md", ".py", ".jsonl", ".parquet")
MAX_FILE = 1 << 30  # bytes of a text file that is read whole


def read_folder(path: Path | str, quarantine: Quarantine) -> Iterator[Document]:
    """The documents of a folder (or of one file) in the order of their names.

    .txt, .md and .py are a document each; a .jsonl line and a .parquet row is one, from its `text` (or `content`) field.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; --data wants a folder of {', '.join(SUFFIXES)}")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    root = path.parent if path.is_file() else path
    wanted = [p for p in files if p.suffix.lower() in SUFFIXES]
    for other in (p for p in files if p.suffix.lower() not in SUFFIXES):
        quarantine.add(str(other.relative_to(root)), f"file type {other.suffix or 'without ending'} is not read")
    for file in wanted:
        name = file.relative_to(root).as_posix()
        try:
            if file.suffix.lower() == ".jsonl":
                yield from _read_jsonl(file, name, quarantine)
            elif file.suffix.lower() == ".parquet":
                yield from _read_parquet(file, name, quarantine)
            else:
                text = _read_text(file, name, quarantine)
                if text is not None:
                    yield Document(name, text)
        except OSError as error:
            quarantine.add(name, f"cannot be read ({error.strerror or 'damaged'})")


def _read_text(file: Path, name: str, quarantine: Quarantine) -> str | None:
    if file.stat().st_size > MAX_FILE:
        quarantine.add(name, f"text file over {MAX_FILE >> 30} GiB (split it into .jsonl)")
        return None
    data = file.read_bytes()
    if b"\0" in data[: 1 << 16]:
        quarantine.add(name, "binary file")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        quarantine.add(name, "invalid UTF-8")
        return None
    if not text.strip():
        quarantine.add(name, "empty")
        return None
    return text.replace("\r\n", "\n")


def _text_field(record: object) -> str | None:
    if isinstance(record, dict):
        for key in ("text", "content"):
            value = record.get(key)
            if isinstance(value, str) and value.strip():
                return value
    return None


def _read_jsonl(file: Path, name: str, quarantine: Quarantine) -> Iterator[Document]:
    with open(file, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            where = f"{name}:{number}"
            try:
                text = _text_field(json.loads(line))
            except UnicodeDecodeError:
                quarantine.add(where, "invalid UTF-8")
                continue
            except (ValueError, RecursionError):
                quarantine.add(where, "line is not JSON")
                continue
            if text is None:
                quarantine.add(where, "no text field")
            else:
                yield Document(where, text)


def _read_parquet(file: Path, name: str, quarantine: Quarantine) -> Iterator[Document]:
    try:
        table = pyarrow.parquet.ParquetFile(file)
        column = next((c for c in ("text", "content") if c in table.schema_arrow.names), None)
        if column is None:
            quarantine.add(name, "no text column")
            return
        row = 0
        for batch in table.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                text = _text_field({"text": value})
                if text is None:
                    quarantine.add(f"{name}:{row}", "no text field")
                else:
                    yield Document(f"{name}:{row}", text)
                row += 1
    except pyarrow.ArrowException:
        quarantine.add(name, "not a readable Parquet file")
