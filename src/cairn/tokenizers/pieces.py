"""What Unigram and SentencePiece's BPE have in common: a table of pieces, a normaliser, and bytes for what has no piece.

A model cuts the normalised text into pieces (`segment`); what is unknown is then spelled in bytes, or becomes one unknown
token a stretch. In here a space of the normalised text is " "; the pieces of files and vocabularies write it as U+2581.
"""

import abc
from collections.abc import Iterable, Sequence, Sized
from typing import ClassVar, Self

import numpy as np

from cairn.core.batching import batches, in_threads
from cairn.core.errors import UserError
from cairn.tokenizers.model import Model, Span
from cairn.tokenizers.modelfile import ModelFile, Piece, PieceType, byte_piece, check
from cairn.tokenizers.normalize import SPACE, SentencePieceNormalizer, charsmap

MATCHED = (PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED)


class PieceModel(Model):
    """The base of `Unigram` and `SentencePieceBPE`."""

    kind: ClassVar[str]
    file_kind: ClassVar[int]
    by_words = False  # a word is cut, and its unknown characters are joined, without regard to the words beside it

    def __init__(
        self,
        pieces: Sequence[Piece],
        normalizer: SentencePieceNormalizer,
        *,
        byte_fallback: bool = False,
        unknown_text: str = " \u2047 ",
    ):
        self.file = ModelFile(self.file_kind, tuple(pieces), normalizer, byte_fallback, unknown_text)
        check(self.file)
        if normalizer.rules:
            charsmap(normalizer.rules)  # refuses damaged rules now, not in the middle of a text
        self.pieces = self.file.pieces
        self.normalizer = normalizer
        self.byte_fallback = byte_fallback
        self.vocab = {piece.text: i for i, piece in enumerate(self.pieces)}
        self.unknown_id = next(i for i, piece in enumerate(self.pieces) if piece.type == PieceType.UNKNOWN)
        self.byte_ids = [self.vocab[byte_piece(b)] for b in range(256)] if byte_fallback else []
        # What a text can match, as it stands in a normalised text. There U+0020 never stands for itself.
        self.matched = {
            piece.text.replace(SPACE, " "): i
            for i, piece in enumerate(self.pieces)
            if piece.type in MATCHED and " " not in piece.text
        }
        self._bytes = [self._piece_bytes(piece) for piece in self.pieces]
        # The control and unknown tokens, which no text produces by being written.
        self.special = self._of_type(PieceType.CONTROL, PieceType.UNKNOWN)
        # Pieces that are always cut out whole; in a tokenizer.json they are added tokens that are not special.
        self.user_defined = self._of_type(PieceType.USER_DEFINED)
        self.unused = self._of_type(PieceType.UNUSED)
        self.strips_first_space = normalizer.dummy_prefix or normalizer.collapse_spaces

    def _of_type(self, *types: PieceType) -> dict[str, int]:
        return {piece.text: i for i, piece in enumerate(self.pieces) if piece.type in types}

    def _piece_bytes(self, piece: Piece) -> bytes:
        if piece.type == PieceType.BYTE:
            return bytes([int(piece.text[3:5], 16)])
        if piece.type == PieceType.CONTROL:
            return b""
        text = self.file.unknown_text if piece.type == PieceType.UNKNOWN else piece.text.replace(SPACE, " ")
        return text.encode("utf-8")

    # --- the face of a model

    def token_bytes(self, token: int) -> bytes:
        """What the token adds to a text; an id without a piece adds nothing."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def encode(self, text: str) -> list[int]:
        return self.id_arrays([self.normalizer(text)])[0].tolist()

    def encode_batch(self, texts: Iterable[str], threads: int = 1) -> list[np.ndarray]:
        # By the million characters: a call into a kernel costs as much as some hundred characters.
        done = in_threads(lambda batch: self.id_arrays(self.normalizer.batch(batch)), batches(texts), threads)
        return [ids for batch in done for ids in batch]

    def encode_spans(self, text: str) -> list[Span]:
        """(id, start, end) with character offsets into `text`. Every byte of a spelled character has its whole span."""
        normalized, places = self.normalizer.aligned(text)
        return [(token, places[start], places[end]) for token, start, end in self.spelled(normalized)]

    @abc.abstractmethod
    def segment(self, text: str) -> list[Span]:
        """Pieces of a normalised text, the definition in plain Python; unknown characters one by one."""

    def id_arrays(self, texts: list[str]) -> list[np.ndarray]:
        """Ids of normalised texts, int32: by a kernel where there is one, equal to `segment`."""
        return [np.array([token for token, _, _ in self.spelled(text)], np.int32) for text in texts]

    def spelled(self, text: str) -> list[Span]:
        """`segment` of a normalised text, with what is unknown in bytes or in one stretch."""
        return self._spell(self.segment(text), text)

    def _spell(self, segments: list[Span], text: str) -> list[Span]:
        out: list[Span] = []
        for token, start, end in segments:
            if token != self.unknown_id:
                out.append((token, start, end))
            elif self.byte_fallback:
                for byte in text[start:end].replace(" ", SPACE).encode("utf-8"):
                    out.append((self.byte_ids[byte], start, end))
            elif out and out[-1][0] == token and not (self.by_words and text[start] == " "):
                out[-1] = (token, out[-1][1], end)
            else:
                out.append((token, start, end))
        return out

    # --- files

    @classmethod
    def from_model(cls, file: ModelFile) -> Self:
        if file.kind != cls.file_kind:
            raise UserError(f"this .model file holds no {cls.kind} model")
        return cls(file.pieces, file.normalizer, byte_fallback=file.byte_fallback, unknown_text=file.unknown_text)


def ends_of(parts: Sequence[Sized]) -> np.ndarray:
    """Where each part ends when they stand in a row."""
    return np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))


def parted(ids: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """The ids of each text, from all in a row."""
    return [ids[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist())]
