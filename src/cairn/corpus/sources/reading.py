"""What all readers share: the names of fields, and a text that is checked before it becomes a document."""

from dataclasses import dataclass
from typing import Any

from cairn.corpus.documents import Document, Quarantine

TEXT_FIELDS = ("text", "content")
# Field of a record -> name in Document.meta. The first that is there wins.
META_FIELDS = {
    "url": "url",
    "language": "language",
    "lang": "language",
    "licence": "licence",
    "license": "licence",
    "date": "date",
    "timestamp": "date",
    "created": "date",
}


@dataclass(frozen=True)
class Reading:
    """One file being read: its `name` leads the ids of its documents; no document exceeds `document_bytes`."""

    name: str
    quarantine: Quarantine
    text_field: str
    document_bytes: int

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.text_field,) if self.text_field else TEXT_FIELDS

    @property
    def too_large(self) -> str:
        return f"record over {_size(self.document_bytes)}"

    def reject(self, place: object, reason: str) -> None:
        """Count the record at `place` ("" for the whole file)."""
        self.quarantine.add(f"{self.name}{place}", reason)

    def document(self, place: str, record: object) -> Document | None:
        """The document in a record of named values, or None after counting why there is none."""
        if isinstance(record, dict):
            for field in self.fields:
                text = record.get(field)
                if isinstance(text, str) and text.strip():
                    if len(text) > self.document_bytes:
                        self.reject(place, self.too_large)
                        return None
                    return Document(f"{self.name}{place}", encodable(text), meta_of(record))
        self.reject(place, f"no text field {self.text_field}".rstrip())
        return None


def meta_of(record: dict[Any, Any]) -> dict[str, str]:
    meta: dict[str, str] = {}
    for field, name in META_FIELDS.items():
        value = record.get(field)
        if isinstance(value, str) and value and len(value) < 2048:
            meta.setdefault(name, encodable(value))
    return meta


def encodable(text: str) -> str:
    """`text` with each half of a broken UTF-16 pair (JSON can spell one) as U+FFFD: it has no UTF-8.

    >>> encodable("stone \\ud83d!")
    'stone �!'
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"
