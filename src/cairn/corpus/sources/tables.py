"""Parquet: a document a row, read in batches that fit in memory whatever their encoding."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cairn.corpus.documents import Document
from cairn.corpus.sources.reading import META_FIELDS, Reading

# Dictionary encoding can repeat one long value in every row, so a batch is bounded by the worst case: rows x the bytes of
# the whole row group stay under this, unless a single row exceeds it.
BATCH_BYTES = 128 << 20
BATCH_ROWS = 256
NOT_PARQUET = "not a readable Parquet file"


def group_sizes(path: Path) -> list[int]:
    """Bytes of each row group, unpacked; [] where the file cannot be read as Parquet."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
    except (pyarrow.ArrowException, OSError, ValueError):
        return []


def read_parquet(path: Path, reading: Reading, start: int = 0, end: int | None = None) -> Iterator[Document]:
    """Row groups `start` to `end` (exclusive; None: all). Ids: `name:ROW`, counted from 0 over the whole file.

    A damaged row group is counted once and the next one is read.
    """
    import pyarrow.parquet

    # Of a damaged footer Arrow raises its own errors, OSError, and ValueError (names that are not UTF-8).
    damage = (pyarrow.ArrowException, OSError, ValueError)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = [field.name for field in file.schema_arrow if _holds_text(field.type)]
        counts = [max(0, file.metadata.row_group(i).num_rows) for i in range(file.metadata.num_row_groups)]
    except damage as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the content
            raise
        reading.reject("", NOT_PARQUET)
        return
    with file:
        text = next((name for name in reading.fields if name in names), None)
        if text is None:
            if not start:
                reading.reject("", "no text column")
            return
        columns = [text, *(name for name in META_FIELDS if name in names and name != text)]
        first = sum(counts[:start])
        for group, count in list(enumerate(counts))[start:end]:
            row = first
            try:
                for row, record in enumerate(islice(_rows(file, group, columns), count), first):
                    document = None
                    if isinstance(record[text], UnicodeDecodeError):
                        reading.reject(f":{row}", "invalid UTF-8")
                    else:
                        document = reading.document(f":{row}", record)
                    if document:
                        yield document
            except damage:
                reading.reject(f":{row}", "damaged row group (the rows before it and the next groups are kept)")
            first += count


def _holds_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _rows(file: Any, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    # All columns count, wanted or not: asking a damaged footer for one column aborts the process (pyarrow 26).
    size = file.metadata.row_group(group).total_byte_size
    rows = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, size)))
    for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=columns, use_threads=False):
        columns_of_batch = [_values(column) for column in batch.columns]
        yield from (dict(zip(batch.schema.names, values)) for values in zip(*columns_of_batch))


def _values(column: Any) -> list[Any]:
    """The Python values of a column; a string that is not UTF-8 stands as the error that decoding it raises."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        values: list[Any] = []
        for value in column:
            try:
                values.append(value.as_py())
            except UnicodeDecodeError as error:
                values.append(error)
        return values
