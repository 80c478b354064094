"""The two simplest tokenizers, to learn from: one token a character, and one token a word.

Characters need few ids and many tokens; words few tokens and more ids than there are, since new words never end. The pieces
of the other models lie between the two.
"""

import abc
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

from cairn.core.errors import UserError
from cairn.tokenizers.model import Model, Span
from cairn.tokenizers.piecejson import refuse

UNKNOWN = "<unk>"
WORD = r"\w+|[^\w\s]"  # of `re`; in a tokenizer.json the same words for text in ASCII


class WordModel(Model):
    """A vocabulary and one way to part a text; what is not in the vocabulary is unknown. `from_json` finds the way."""

    parting: ClassVar[dict[str, Any]]  # pre-tokeniser and decoder of a tokenizer.json

    def __init__(self, vocab: dict[str, int]):
        if UNKNOWN not in vocab:
            raise UserError(f"the vocabulary has no {UNKNOWN}")
        self.vocab = vocab
        self.special = {UNKNOWN: vocab[UNKNOWN]}
        self._texts = {i: text for text, i in vocab.items()}

    @abc.abstractmethod
    def pieces(self, text: str) -> list[tuple[str, int, int]]:
        """(piece, start, end)."""

    def encode(self, text: str) -> list[int]:
        return [token for token, _, _ in self.encode_spans(text)]

    def encode_spans(self, text: str) -> list[Span]:
        unknown = self.vocab[UNKNOWN]
        return [(self.vocab.get(piece, unknown), start, end) for piece, start, end in self.pieces(text)]

    def token_bytes(self, token: int) -> bytes:
        return self._texts.get(token, "").encode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        model = {"type": "WordLevel", "vocab": self.vocab, "unk_token": UNKNOWN}
        return {"normalizer": None, **self.parting, "model": model}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "WordModel":
        refuse(data["model"], {"type", "vocab", "unk_token"}, "model")
        if data.get("normalizer"):
            raise UserError(f"normalizer {data['normalizer'].get('type')!r} is not supported with WordLevel")
        added = {token["content"]: token["id"] for token in data.get("added_tokens") or []}
        for kind in (Characters, Words):
            if data.get("pre_tokenizer") == kind.parting["pre_tokenizer"]:
                return kind({text: i for text, i in added.items() if text == UNKNOWN} | data["model"]["vocab"])
        raise UserError("this pre_tokenizer is not supported with WordLevel, only those that cairn writes are")


class Characters(WordModel):
    """One token a character."""

    kind: ClassVar[str] = "characters"
    parting: ClassVar[dict[str, Any]] = {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"(?m:.)"}, "behavior": "Isolated", "invert": False},
        "decoder": {"type": "Fuse"},
    }

    def pieces(self, text: str) -> list[tuple[str, int, int]]:
        return [(char, i, i + 1) for i, char in enumerate(text)]


class Words(WordModel):
    """One token a word or mark of punctuation; white space is not kept, decoding puts one space before every token."""

    kind: ClassVar[str] = "words"
    strips_first_space: bool = True
    parting: ClassVar[dict[str, Any]] = {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": WORD}, "behavior": "Removed", "invert": True},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
    }

    def pieces(self, text: str) -> list[tuple[str, int, int]]:
        return [(match.group(), match.start(), match.end()) for match in re.finditer(WORD, text)]

    def token_bytes(self, token: int) -> bytes:
        return b" " + super().token_bytes(token) if token in self._texts else b""


def train_characters(texts: Iterable[str], vocab_size: int | None = None) -> Characters:
    """All characters of the texts, the most frequent first (of equally frequent ones the smallest); at most `vocab_size` ids."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return Characters(_vocabulary(counts, vocab_size))


def train_words(texts: Iterable[str], vocab_size: int | None = None) -> Words:
    """All words of the texts, the most frequent first (of equally frequent ones the smallest); at most `vocab_size` ids."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(re.findall(WORD, text))
    return Words(_vocabulary(counts, vocab_size))


def _vocabulary(counts: Counter[str], size: int | None) -> dict[str, int]:
    if not counts:
        raise UserError("there is no text to train a tokenizer on")
    if size is not None and size < 2:
        raise UserError(f"a vocabulary of {size} is too small: {UNKNOWN} and at least one piece need room")
    counts.pop(UNKNOWN, None)
    ordered = sorted(counts, key=lambda piece: (-counts[piece], piece))
    return {piece: i for i, piece in enumerate([UNKNOWN, *ordered][:size])}
