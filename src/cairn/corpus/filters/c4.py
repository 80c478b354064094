"""The rules of C4 (Raffel et al. 2020, section 2.2), in the order of the reference implementation.

A line goes when it has a very long word, no end punctuation, too few words, the word JavaScript or a phrase of policies;
a document goes when a surviving line holds "lorem ipsum" or "{", or too few sentences survive. Two things that look odd
are the reference's and kept, so that verdicts agree: citations such as [3] are cut out before the punctuation is looked
at, yet the space before them stays (a line "... end. [3]" goes); and "{" in a line that went before does not count.
FineWeb uses these rules without the one on end punctuation, which alone costs a third of the tokens.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally
from cairn.corpus.filters.words import sentences

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_END = (".", "?", "!", '"', "'")


@dataclass(frozen=True)
class C4:
    """Document rules drop, line rules are counted as changes of the documents that remain."""

    name: ClassVar[str] = "c4"
    end_punctuation: bool = option(True, "drop lines that do not end in . ? ! \" or ' (or end in ...)")
    min_words: int = option(3, "drop lines of fewer words", minimum=0)
    max_word_length: int = option(1000, "drop lines with a word of more characters", minimum=1)
    min_sentences: int = option(5, "drop documents of fewer sentences, counted in the lines that remain", minimum=0)
    citations: bool = option(True, "cut out [1], [edit] and [citation needed]")
    javascript: bool = option(True, "drop lines with the word JavaScript")
    policies: bool = option(True, "drop lines about cookies, privacy and terms of use")
    lorem_ipsum: bool = option(True, "drop documents with the filler text lorem ipsum")
    curly_bracket: bool = option(True, "drop documents with {, which are programs more often than prose")
    bad_words: str = option("", "file with a word or phrase a line: drop documents that hold one (empty: keep them)")

    def __post_init__(self) -> None:
        if self.bad_words:
            bad_word_finder(self.bad_words)

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        text, changes, dropped_by = self.clean(document.text)
        if not dropped_by and self.bad_words and bad_word_finder(self.bad_words)(text):
            dropped_by = "bad-words"
        if dropped_by:
            tally.drop(f"c4/{dropped_by}", document)
            return None
        for rule, times in changes.items():
            tally.change(f"c4/{rule}", times)
        return document if text == document.text else replace(document, text=text)

    def clean(self, text: str) -> tuple[str, Counter[str], str]:
        """The lines that remain, what went, and the rule that drops the document ("" if none does)."""
        changes: Counter[str] = Counter()
        kept: list[str] = []
        found = 0
        for line in text.splitlines():
            line = line.strip()
            if len(line) > self.max_word_length and max(map(len, line.split())) > self.max_word_length:
                changes["line-with-long-word"] += 1
                continue
            words = len(line.split(None, self.min_words))
            if self.citations and "[" in line:
                line, cut = _CITATION.subn("", line)
                changes["citation"] += cut
            if self.end_punctuation and (not line.endswith(_END) or line.endswith("...")):
                changes["line-without-end-punctuation"] += 1
                continue
            if words < self.min_words:
                changes["line-with-too-few-words"] += 1
                continue
            lower = line.lower()
            if self.lorem_ipsum and "lorem ipsum" in lower:
                return text, changes, "lorem-ipsum"
            if self.javascript and "javascript" in lower:
                changes["line-about-javascript"] += 1
                continue
            if self.curly_bracket and "{" in line:
                return text, changes, "curly-bracket"
            if self.policies and any(phrase in lower for phrase in _POLICIES):
                changes["line-about-policies"] += 1
                continue
            if found < self.min_sentences:  # enough is enough: the count only serves the comparison below
                found += len(sentences(line))
            kept.append(line)
        if found < self.min_sentences:
            return text, changes, "too-few-sentences"
        return "\n".join(kept).strip(), changes, ""


@functools.cache
def bad_word_finder(path: str) -> Callable[[str], bool]:
    """Tells whether a text holds a word or phrase of the file, in any case, between characters that are not of a word.

    Phrases in a script without spaces between words are found anywhere. Raises UserError if the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").lower().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"c4.bad_words: {path} cannot be read as UTF-8 text, one word or phrase a line: {error}"
        ) from None
    phrases = sorted({line.strip() for line in lines} - {""})
    if not phrases:
        raise UserError(f"c4.bad_words: {path} holds no word; give one word or phrase a line")
    spaceless = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
    anywhere = [p for p in phrases if spaceless.search(p)]
    # Between non-word characters, a phrase that is all word characters is just a whole word: a set look-up. The rest
    # are looked for as they are, and their surroundings checked only where they are found.
    whole = frozenset(p for p in phrases if p not in anywhere and re.fullmatch(r"\w+", p))
    rest = [
        (p, re.compile(rf"(?:\W|^){re.escape(p)}(?:\W|$)")) for p in phrases if p not in anywhere and p not in whole
    ]
    word = re.compile(r"\w+")

    def holds(text: str) -> bool:
        text = text.lower()
        return (
            not whole.isdisjoint(word.findall(text))
            or any(p in text for p in anywhere)
            or any(p in text and pattern.search(text) for p, pattern in rest)
        )

    return holds
