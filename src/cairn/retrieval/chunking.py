"""Documents to passages: pieces small enough to stand beside a question in a model's context."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cairn.corpus import Document

# The first line of an entry: `class Request`, `urlparse(url)`, `dict.fromkeys`, each above its text; or Markdown's.
_ENTRY = re.compile(r"(?:class )?([A-Za-z_][\w.]*)(?:\([^()\n]*\))?[ \t]*\n\s*\S|#{1,6}[ \t]+(\S.*)")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)*\n")


@dataclass(frozen=True)
class Passage:
    """A piece of a document. `id` is the document's with a number behind it; `title` says what the piece is about."""

    id: str
    title: str
    text: str

    def render(self) -> str:
        """What the model reads, and what is indexed."""
        return f"{self.title}\n{self.text}"


def chunk(document: Document, size: int = 400) -> list[Passage]:
    """Passages of at most `size` characters (more only when a single word is longer), in the document's order.

    An entry (a heading and the paragraphs up to the next) stays whole if it fits, else it is cut between paragraphs,
    else between lines, else between words. Small neighbours are joined. The title is the text of a leading `# ` line,
    else the document's id; that line is not repeated in the passages.
    """
    title, text = document.id, document.text.strip()
    if text.startswith("# "):
        first, _, text = text.partition("\n")
        title = first[2:].strip() or document.id
    pieces = (piece for entry in _entries(_BLANK_LINES.split(text)) for piece in _cut(entry, size, ("\n\n", "\n", " ")))
    return [Passage(f"{document.id}#{n}", title, piece) for n, piece in enumerate(_join(pieces, "\n\n", size))]


def headings(text: str) -> list[str]:
    """The names and headings under which a text's entries stand.

    >>> headings("urlparse(url, scheme)\\nParse a URL.\\n\\nAnd more of it.\\n\\n## Usage\\n\\nCall it.")
    ['urlparse', 'Usage']
    """
    found = (_ENTRY.match(block) for block in _BLANK_LINES.split(text))
    return [match[1] or match[2] for match in found if match]


def _entries(blocks: Iterable[str]) -> Iterator[str]:
    """Blocks between blank lines, gathered so that each entry begins with its heading."""
    entry: list[str] = []
    for block in blocks:
        block = block.strip("\n").rstrip()
        if not block.strip():
            continue
        if entry and _ENTRY.match(block):
            yield "\n\n".join(entry)
            entry = []
        entry.append(block)
    if entry:
        yield "\n\n".join(entry)


def _cut(text: str, size: int, separators: tuple[str, ...]) -> Iterator[str]:
    """`text` whole if it fits, else its parts between the first separator, each cut further by the next ones."""
    if len(text) <= size or not separators:
        yield text
        return
    separator, *finer = separators
    parts = text.split() if separator == " " else text.split(separator)
    pieces = (piece for part in parts if part.strip() for piece in _cut(part, size, tuple(finer)))
    yield from _join(pieces, separator, size)


def _join(pieces: Iterable[str], separator: str, size: int) -> Iterator[str]:
    """Neighbours joined as long as the result has at most `size` characters.

    >>> list(_join(["a", "bc", "def"], " ", 4))
    ['a bc', 'def']
    """
    joined = ""
    for piece in pieces:
        if joined and len(joined) + len(separator) + len(piece) > size:
            yield joined
            joined = piece
        else:
            joined = f"{joined}{separator}{piece}" if joined else piece
    if joined:
        yield joined
