"""The pieces of a text to look at: coloured in a terminal, separated in a pipe, and as an SVG with ids to hover over.

What has no picture of its own gets one: a space is a middle dot, control characters are Unicode's pictures of them, what
directs the writing or has no width is its code point, and bytes that are only a part of a character are written \\xE2.
So nothing in a text can move the terminal's cursor or break the SVG.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from rich.text import Text

from cairn.tokenizers.tokenizer import Tokenizer

SPACE, NEWLINE, TAB, NOTHING = "·", "↵", "→", "∅"
SEPARATOR = "|"
# Light backgrounds that black text is read on; neighbours differ in hue and in lightness.
COLORS = ("#cfe3f7", "#f7d9b5", "#d3ecc8", "#ecd0e6")
COLUMN, LINE, GAP, MARGIN = 8.4, 24.0, 14.0, 16.0  # of the SVG, in pixels
SIZE = 14
INK, FAINT = "#1b1b1b", "#6b6b6b"


class Piece(NamedTuple):
    """A token as it is drawn. ends_line: its text has a line end."""

    token: int
    data: bytes
    shown: str
    ends_line: bool


def pieces(tokenizer: Tokenizer, text: str) -> list[Piece]:
    found = []
    for token in tokenizer.encode(text):
        data = tokenizer.token_bytes(token)
        found.append(Piece(token, data, visible(data), b"\n" in data))
    return found


def visible(data: bytes) -> str:
    """The bytes of a token so that each can be seen.

    >>> visible(b" caf\\xc3"), visible(b"\\n\\x1b"), visible("\\u202eא".encode()), visible(b"")
    ('·caf\\\\xC3', '↵␛', '⟨202E⟩א', '∅')
    """
    shown = []
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        kind = unicodedata.category(char)
        if 0xDC80 <= code <= 0xDCFF:
            shown.append(f"\\x{code - 0xDC00:02X}")
        elif char in " \n\t":
            shown.append({" ": SPACE, "\n": NEWLINE, "\t": TAB}[char])
        elif code < 0x20 or code == 0x7F:
            shown.append(chr(0x2421 if code == 0x7F else 0x2400 + code))
        elif kind[0] in "CZ" and char != "\u200d":  # a zero-width joiner is needed to draw joined emoji
            shown.append(f"⟨{code:04X}⟩")
        elif kind in ("Mn", "Me", "Mc") and not shown:
            shown.append("\u25cc" + char)  # a mark that begins a token has nothing to stand on: a dotted circle
        else:
            shown.append(char)
    return "".join(shown) or NOTHING


def columns(text: str) -> int:
    """How many columns of a fixed-width font `text` takes, about: marks none, East Asian characters two."""
    width = sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
    return max(width, 1)


# --- terminal


def plain(row: Iterable[Piece]) -> str:
    """Pieces between separators, for pipes and files; lines of the text stay lines."""
    return "".join(p.shown + (SEPARATOR + "\n" if p.ends_line else SEPARATOR) for p in row).rstrip("\n")


def colored(row: Iterable[Piece]) -> Text:
    """Pieces on changing backgrounds."""
    text = Text()
    for i, piece in enumerate(row):
        text.append(piece.shown, style=f"{INK} on {COLORS[i % len(COLORS)]}")
        if piece.ends_line:
            text.append("\n")
    return text


# --- SVG


def svg(rows: Sequence[tuple[str, Sequence[Piece]]], width: int = 100) -> str:
    """A group of lines for each (title, pieces), wrapped after `width` columns; a piece names its id and bytes on hover.

    Pieces stand in the order of the ids from left to right, also where the script runs from right to left: inside a piece
    the viewer's own rules hold. Every piece is drawn as wide as its box, whatever fonts there are.
    """
    body: list[str] = []
    y = MARGIN
    for title, row in rows:
        lines = wrap(row, width)
        body.append(f'<g><text x="{MARGIN}" y="{y + SIZE:g}" class="title">{_xml(title)}</text>')
        y += LINE
        at = 0
        for line in lines:
            x = MARGIN
            for piece in line:
                body.append(_piece(piece, x, y, COLORS[at % len(COLORS)]))
                x += columns(piece.shown) * COLUMN
                at += 1
            y += LINE
        body.append("</g>")
        y += GAP
    total = width * COLUMN + 2 * MARGIN
    style = (
        f"text {{ font: {SIZE}px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: {INK}; "
        f"white-space: pre }} .title {{ font-weight: bold; fill: {FAINT} }}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:g} {y:g}" width="{total:g}" height="{y:g}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def wrap(row: Iterable[Piece], width: int) -> list[list[Piece]]:
    """Lines of at most `width` columns (a longer piece has one to itself); a piece with a line end closes its line."""
    lines: list[list[Piece]] = [[]]
    used = 0
    for piece in row:
        size = columns(piece.shown)
        if lines[-1] and used + size > width:
            lines.append([])
            used = 0
        lines[-1].append(piece)
        used += size
        if piece.ends_line:
            lines.append([])
            used = 0
    return lines if lines[-1] else lines[:-1]


def _piece(piece: Piece, x: float, y: float, color: str) -> str:
    size = columns(piece.shown) * COLUMN
    return (
        f"<g><title>id {piece.token}: {piece.data.hex(' ').upper() or 'no bytes'}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{LINE - 4:g}" rx="3" fill="{color}"/>'
        f'<text x="{x:.1f}" y="{y + SIZE + 1:.1f}" textLength="{size:.1f}" lengthAdjust="spacingAndGlyphs">'
        f"{_xml(piece.shown)}</text></g>"
    )


def _xml(text: str) -> str:
    """Escaped; what XML 1.0 cannot hold (`visible` leaves none, the name of a file might) becomes U+FFFD."""
    return escape(re.sub("[\x00-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", text))
