"""Repair and even out the characters of a text, without touching what it says.

In this order, again until nothing changes (a repair may uncover something): line endings, lone surrogates, control
characters, invisible characters, mojibake ("cafÃ©" for "café"), Unicode normal form, spaces at line ends, blank lines.
Indentation, tabs and the joiners that Indic scripts, Persian and emoji need (U+200C, U+200D) stay.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally

PASSES = 8  # mojibake of mojibake of mojibake is real, but three layers deep at most
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
# Soft hyphen, zero-width space, word joiner, byte order mark, and the marks that turn the direction of text, which can
# make a line read differently from what it holds ("Trojan Source").
_INVISIBLE = re.compile("[\xad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What every pattern of ftfy's badness needs: two neighbours outside ASCII, or one of a few single characters. Ten times
# as fast as asking ftfy, and most lines of most languages need not ask.
_SUSPECT = re.compile("[^\0-\x7f](?:[^\0-\x7f]|(?<=[\x80-\x9fŒœÂÃ]))")
_BLANK_LINES = re.compile(r"\n{4,}")


@dataclass(frozen=True)
class Normalize:
    """Every change is counted by its kind; a text of which nothing is left is dropped (normalize/empty)."""

    name: ClassVar[str] = "normalize"
    form: str = option("NFC", "Unicode normal form; NFKC also folds ligatures and widths", choices=("NFC", "NFKC"))
    mojibake: bool = option(True, "repair text that was decoded with the wrong encoding")
    invisible: bool = option(True, "remove zero-width characters, soft hyphens and marks of direction")

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        text, changes = self.normalize(document.text)
        if not text:
            tally.drop("normalize/empty", document)
            return None
        for rule, times in changes.items():
            tally.change(f"normalize/{rule}", times)
        return document if text == document.text else replace(document, text=text)

    def normalize(self, text: str) -> tuple[str, Counter[str]]:
        """The normalised text, and how often each rule changed something (characters, or lines for rules on lines)."""
        changes: Counter[str] = Counter()
        for _ in range(PASSES):
            before = text
            text = self._one_pass(text, changes)
            if text == before:
                break
        return text, +changes

    def _one_pass(self, text: str, changes: Counter[str]) -> str:
        text, changes_of = _LINE_END.subn("\n", text)
        changes["line-ending"] += changes_of
        text, changes_of = _CONTROL.subn("", text)
        changes["control-character"] += changes_of
        if not text.isascii():
            text = self._beyond_ascii(text, changes)
        lines = text.split("\n")
        stripped = [line.rstrip() for line in lines]
        if stripped != lines:
            changes["trailing-space"] += sum(a != b for a, b in zip(stripped, lines))
            text = "\n".join(stripped)
        text, changes_of = _BLANK_LINES.subn("\n\n\n", text)
        bare = text.strip("\n")
        changes["blank-lines"] += changes_of + (bare != text)
        return bare

    def _beyond_ascii(self, text: str, changes: Counter[str]) -> str:
        if _SURROGATE.search(text):
            changes["surrogate"] += len(_SURROGATE.findall(text))
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # joins pairs as well
        if self.invisible:
            text, removed = _INVISIBLE.subn("", text)
            changes["invisible-character"] += removed
        if self.mojibake and _SUSPECT.search(text):
            text, repaired = repair_mojibake(text)
            changes["mojibake-line"] += repaired
        if not unicodedata.is_normalized(self.form, text):  # type: ignore[arg-type]
            changes["unicode-form"] += 1
            text = unicodedata.normalize(self.form, text)  # type: ignore[arg-type]
        return text


def repair_mojibake(text: str) -> tuple[str, int]:
    """The text with mis-decoded lines repaired by ftfy, and how many lines those were.

    Line by line, as ftfy advises: one character that the wrong encoding lacks would hide a fault from the whole text.

    >>> repair_mojibake("A cafÃ©.\\nA naïve café.")
    ('A café.\\nA naïve café.', 1)
    """
    try:
        import ftfy
    except ImportError:
        raise UserError("repairing mojibake needs ftfy: pip install 'cairn[corpus]', or set mojibake = false") from None
    repaired = 0
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if not line.isascii() and _SUSPECT.search(line):
            fixed = ftfy.fix_encoding(line)
            if fixed != line:
                lines[i] = fixed
                repaired += 1
    return ("\n".join(lines), repaired) if repaired else (text, 0)
