"""What every way of cutting text into pieces has in common."""

import abc
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

Span = tuple[int, int, int]  # (id, start, end) with start and end in characters of the text


class Model(abc.ABC):
    """One way to cut ordinary text into pieces; knows nothing of special tokens or chat.

    vocab: piece, as written in tokenizer.json -> id. strips_first_space: joining `token_bytes` gives the text with one space
    before it (SentencePiece's dummy prefix, WordPiece's space between words), which decoding takes away.
    """

    kind: ClassVar[str]
    vocab: dict[str, int]
    strips_first_space: bool = False

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]: ...

    @abc.abstractmethod
    def encode_spans(self, text: str) -> list[Span]:
        """Ids with the characters each came from, as the offsets of Hugging Face's `Encoding`."""

    @abc.abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """What the token adds to a text; an id without a token (padding of the vocabulary) adds nothing."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """normalizer, pre_tokenizer, decoder and model of a tokenizer.json."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, data: dict[str, Any]) -> "Model":
        """Read these parts back; what is not understood is refused by name with a UserError."""

    def encode_batch(self, texts: Iterable[str], threads: int = 1) -> list[np.ndarray]:
        """`encode` for many texts: int32 (tokens,) each. Models with a fast form use `threads` threads."""
        return [np.array(self.encode(text), np.int32) for text in texts]

    def joined(self, tokens: Iterable[bytes]) -> bytes:
        """What tokens that add these bytes make together."""
        data = b"".join(tokens)
        return data.removeprefix(b" ") if self.strips_first_space else data

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return self.joined(map(self.token_bytes, ids))
