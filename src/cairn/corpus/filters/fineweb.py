"""The rules FineWeb adds to C4's and Gopher's (Penedo et al. 2024, section 3.6): lists, menus and fragments go."""

from dataclasses import dataclass
from typing import ClassVar

from cairn.core.config import option
from cairn.corpus.documents import Document, Tally
from cairn.corpus.filters.gopher import repetitions
from cairn.corpus.filters.words import TERMINAL, words


@dataclass(frozen=True)
class FineWebQuality:
    name: ClassVar[str] = "fineweb-quality"
    min_ended_lines: float = option(0.12, "smallest share of lines that end a sentence", minimum=0.0)
    max_short_lines: float = option(0.67, "largest share of short lines", minimum=0.0)
    short_line: int = option(30, "most characters of a short line", minimum=0)
    max_repeated_characters: float = option(0.01, "largest share of characters in repeated lines", minimum=0.0)
    max_newlines: float = option(0.3, "most line breaks per word", minimum=0.0)

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        rule = self.verdict(document.text)
        if rule:
            tally.drop(f"fineweb-quality/{rule}", document)
            return None
        return document

    def verdict(self, text: str) -> str:
        """The first rule that the text breaks, "" if it breaks none. Blank lines do not count as lines."""
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            return "empty"
        if sum(line[-1] in TERMINAL for line in lines) / len(lines) < self.min_ended_lines:
            return "too-few-ended-lines"
        if sum(len(line) <= self.short_line for line in lines) / len(lines) > self.max_short_lines:
            return "too-many-short-lines"
        newlines = text.count("\n")
        if repetitions(lines)[1] / (len(text) - newlines) > self.max_repeated_characters:
            return "repeated-lines"
        if newlines / len(words(text)) > self.max_newlines:
            return "too-many-line-breaks"
        return ""
