"""What a tokenizer makes of a text, in figures that can be compared between tokenizers and between languages.

Fertility is the number of tokens that hold a part of a word, a word; how many words stay whole goes with it (Rust et al.
2021, "How Good is Your Tokenizer?"). A word is a run of letters, marks and digits, apostrophes inside it included. Scripts
that put no spaces between words (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan) have none that can be counted this way.
What a language pays is fair to ask of parallel texts alone: the tokens for the same content (Petrov et al. 2023).
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import regex

from cairn.tokenizers.tokenizer import Tokenizer

UNSPACED = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
SPACED = (
    "Latin Cyrillic Greek Arabic Hebrew Devanagari Bengali Tamil Telugu Kannada Malayalam Gujarati Gurmukhi Oriya Sinhala "
    "Hangul Georgian Armenian Ethiopic"
).split()
# Script_Extensions: the long-vowel mark of kana and the like belong to no single script.
_LETTER = r"[[\p{L}\p{M}\p{N}]--[" + "".join(rf"\p{{scx={name}}}" for name in UNSPACED) + "]]"
WORD = regex.compile(rf"(?V1){_LETTER}+(?:['’\u200c\u200d]+{_LETTER}+)*")
SCRIPT = regex.compile(
    "|".join(rf"(?P<{name}>\p{{Script={name}}}+)" for name in (*SPACED, *UNSPACED)) + r"|(?P<other>\p{L}+)"
)
KANA_SHARE = 0.05  # of the letters: Japanese mixes kana with Han, Chinese has none


class Sample(NamedTuple):
    """A document, and the group it is counted in; None: each line by its script."""

    label: str | None
    text: str


@dataclass
class Figures:
    """Counts over some text. word_tokens: (word, token) pairs that overlap. whole_words: words that lie inside one token.
    unknown: tokens that stand for text the tokenizer cannot write."""

    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    words: int = 0
    word_tokens: int = 0
    whole_words: int = 0
    unknown: int = 0

    def add(self, *counts: int) -> None:
        for name, count in zip(self.__dataclass_fields__, counts, strict=True):
            setattr(self, name, getattr(self, name) + int(count))

    @property
    def fertility(self) -> float | None:
        return _ratio(self.word_tokens, self.words)

    def to_dict(self) -> dict[str, Any]:
        """The counts and the ratios made of them; a ratio to nothing is None."""
        return asdict(self) | {
            "bytes_per_token": _ratio(self.bytes, self.tokens),
            "characters_per_token": _ratio(self.characters, self.tokens),
            "fertility": self.fertility,
            "whole_share": _ratio(self.whole_words, self.words),
        }


@dataclass
class Comparison:
    """One tokenizer's figures: in all, by group, and how many documents decode to exactly what they were."""

    total: Figures = field(default_factory=Figures)
    groups: dict[str, Figures] = field(default_factory=dict)
    documents: int = 0
    exact: int = 0

    def relative(self, reference: str, parallel: bool) -> dict[str, float | None]:
        """What each group takes, as a multiple of the group `reference`: tokens in parallel texts, else tokens a word.

        None where there is nothing to divide: no such group, or a script whose words cannot be counted.
        """
        base = self.groups.get(reference, Figures())
        if parallel:
            return {name: _ratio(figures.tokens, base.tokens) for name, figures in self.groups.items()}
        return {name: _ratio(figures.fertility, base.fertility) for name, figures in self.groups.items()}


def compare(tokenizers: Mapping[str, Tokenizer], samples: Iterable[Sample]) -> dict[str, Comparison]:
    """Every tokenizer over the same samples, which are read once. Special tokens written in a text are ordinary text."""
    results = {name: Comparison() for name in tokenizers}
    for label, text in samples:
        layout = Layout.of(text, label)
        for name, tokenizer in tokenizers.items():
            _measure(tokenizer, layout, results[name])
    return results


@dataclass(frozen=True)
class Layout:
    """A text with its words and stretches. places: the byte at which each character begins, and the end. words: int64
    (words, 2), first byte and end of each. starts, groups: the byte at which each stretch begins, and its group."""

    text: str
    data: bytes
    label: str | None
    places: np.ndarray
    words: np.ndarray
    starts: np.ndarray
    groups: list[str]

    @classmethod
    def of(cls, text: str, label: str | None) -> "Layout":
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a surrogate pair has no UTF-8
        data = text.encode()
        places = np.append(np.flatnonzero(np.frombuffer(data, np.uint8) & 0xC0 != 0x80), len(data))
        spans = np.array([match.span() for match in WORD.finditer(text)], np.int64).reshape(-1, 2)
        stretches = [(label, 0)] if label is not None else _stretches(text)
        starts = places[np.array([start for _, start in stretches], np.int64)]
        return cls(text, data, label, places, places[spans], starts, [group for group, _ in stretches])


def _stretches(text: str) -> list[tuple[str, int]]:
    """(group, first character) of neighbouring lines in one script; a line without letters goes with those beside it."""
    found: list[tuple[str, int]] = []
    start = 0
    for line in text.splitlines(keepends=True):
        group = script_of(line)
        if group and not (found and found[-1][0] == group):
            found.append((group, start if found else 0))
        start += len(line)
    return found or [("no letters", 0)]


def script_of(text: str) -> str | None:
    """The script of most letters, by Unicode's names; "Japanese" for a mix with kana, "other", None without letters.

    >>> script_of("Привет, world. Как дела?"), script_of("漢字かな"), script_of("漢字"), script_of("1 + 1")
    ('Cyrillic', 'Japanese', 'Han', None)
    """
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else None
    letters: dict[str, int] = {}
    for match in SCRIPT.finditer(text):
        assert match.lastgroup is not None
        letters[match.lastgroup] = letters.get(match.lastgroup, 0) + match.end() - match.start()
    if not letters:
        return None
    kana = letters.get("Hiragana", 0) + letters.get("Katakana", 0)
    if kana and kana >= KANA_SHARE * sum(letters.values()):
        letters["Japanese"] = kana + letters.pop("Han", 0)
    return max(letters, key=letters.__getitem__)


def _measure(tokenizer: Tokenizer, layout: Layout, result: Comparison) -> None:
    ids = tokenizer.encode(layout.text)
    pieces = [tokenizer.token_bytes(i) for i in ids]
    spelled = b"".join(pieces)
    result.documents += 1
    result.exact += layout.data == (spelled.removeprefix(b" ") if tokenizer.model.strips_first_space else spelled)
    layout, spans = _spans(tokenizer, pieces, layout)
    starts, ends = spans[:, 0], spans[:, 1]
    unknown = np.isin(np.array(ids, np.int64), list(unknown_ids(tokenizer)))
    # Spans are in order, so a word's tokens are neighbours: from the first that ends inside it to the last that begins so.
    first = np.searchsorted(ends, layout.words[:, 0], "right")
    last = np.searchsorted(starts, layout.words[:, 1], "left") - 1
    parts = last - first + 1
    whole = parts == 1
    whole[whole] = ~unknown[first[whole]]

    def group_of(places: np.ndarray) -> np.ndarray:
        return np.searchsorted(layout.starts, places, "right") - 1

    def count(places: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(group_of(places), weights, len(layout.groups))

    words = layout.words[:, 0]
    columns = [
        np.diff(np.append(layout.starts, len(layout.data))),
        count(layout.places[:-1]),
        count(starts),
        count(words),
        count(words, parts),
        count(words[whole]),
        count(starts[unknown]),
    ]
    for group, row in zip(layout.groups, np.stack(columns, axis=1)):
        result.groups.setdefault(group, Figures()).add(*row)
        result.total.add(*row)


def unknown_ids(tokenizer: Tokenizer) -> set[int]:
    """Ids that stand for text which the vocabulary cannot write."""
    return {tokenizer.named_id("unk"), getattr(tokenizer.model, "unknown_id", None)} - {None}  # type: ignore[return-value]


def _spans(tokenizer: Tokenizer, pieces: list[bytes], layout: Layout) -> tuple[Layout, np.ndarray]:
    """First byte and end in the text of each token, int64 (tokens, 2); pieces: the tokens' bytes.

    Where the tokens spell the text (or its NFC, or put one space before it) their lengths say it all, which is a hundred
    times faster than asking the model where each came from.
    """
    joined = b"".join(pieces)
    if joined not in (layout.data, b" " + layout.data):
        composed = unicodedata.normalize("NFC", layout.text)
        if composed == layout.text or joined not in (composed.encode(), b" " + composed.encode()):
            spans = np.array([(start, end) for _, start, end in tokenizer.encode_spans(layout.text)], np.int64)
            return layout, layout.places[spans.reshape(-1, 2)]
        layout = Layout.of(composed, layout.label)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], axis=1)
    return layout, np.maximum(spans - (len(joined) - len(layout.data)), 0)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def excerpt(text: str, characters: int) -> str:
    """The beginning of a text, cut between words where there are any."""
    if len(text) <= characters:
        return text
    space = max(text.rfind(" ", 0, characters + 1), text.rfind("\n", 0, characters + 1))
    return text[: space if space > 0 else characters]
