"""SentencePiece's byte pair encoding, and the way in from its `.model` files.

Unlike Hugging Face's BPE there is no list of merges: any two neighbours whose concatenation is a piece may be joined, the
pair with the highest score first, of equal scores the leftmost. Llama's tokenizer is the best known of this kind.
"""

import functools
import heapq
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from cairn.core.errors import UserError
from cairn.tokenizers import piecejson
from cairn.tokenizers.model import Span
from cairn.tokenizers.modelfile import BPE, UNIGRAM, Piece, PieceType, read_model_file
from cairn.tokenizers.normalize import SPACE, _protection
from cairn.tokenizers.pieces import PieceModel, ends_of, parted
from cairn.tokenizers.tokenizer import Tokenizer
from cairn.tokenizers.unigram import Unigram

ROLES = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}  # sentencepiece's names of control tokens


class SentencePieceBPE(PieceModel):
    kind: ClassVar[str] = "sentencepiece-bpe"
    file_kind: ClassVar[int] = BPE

    def segment(self, text: str) -> list[Span]:
        found: list[Span] = []
        for start, part, frozen in self._stretches(text):
            if frozen:
                found.append((self.matched[part], start, start + len(part)))
            else:
                found += [(token, start + a, start + b) for token, a, b in self._merge(part)]
        return found

    def _stretches(self, text: str) -> list[tuple[int, str, bool]]:
        """(start, stretch, whether it is a user-defined symbol, which never merges)."""
        if not self.user_defined:
            return [(0, text, False)] if text else []
        symbols = tuple(symbol.replace(SPACE, " ") for symbol in self.user_defined)
        found, start = [], 0
        for index, part in enumerate(_protection(symbols).split(text)):
            if part:
                found.append((start, part, index % 2 == 1))
            start += len(part)
        return found

    def _merge(self, text: str) -> list[Span]:
        """A linked list of symbols and a heap of the pairs that may be joined: O(n log n), also on hostile text."""
        size = len(text)
        after, before = list(range(1, size + 1)), list(range(-1, size - 1))
        end = list(range(1, size + 1))  # of the symbol that starts here; 0 when it was joined to the one before
        heap: list[tuple[float, int, int]] = []
        split: dict[str, int] = {}  # where an unused piece was joined

        def offer(left: int) -> None:
            right = after[left]
            if right < size:
                token = self.matched.get(text[left : end[right]])
                if token is not None:
                    heapq.heappush(heap, (-self.pieces[token].score, left, end[right]))
                    if self.pieces[token].type == PieceType.UNUSED:
                        split[text[left : end[right]]] = right - left

        for left in range(size):
            offer(left)
        while heap:
            _, left, stop = heapq.heappop(heap)
            right = after[left]
            if not end[left] or right >= size or end[right] != stop:
                continue  # one side was joined to something else meanwhile
            end[left], end[right] = stop, 0
            after[left] = after[right]
            if after[left] < size:
                before[after[left]] = left
            if before[left] >= 0:
                offer(before[left])
            offer(left)
        found: list[Span] = []
        stack = []
        left = 0
        while left < size:
            stack.append((left, end[left]))
            while stack:  # unused pieces serve as steps only: they are taken apart again
                a, b = stack.pop()
                token = self.matched.get(text[a:b], self.unknown_id)
                if text[a:b] in split and self.pieces[token].type == PieceType.UNUSED:
                    middle = a + split[text[a:b]]
                    stack += [(middle, b), (a, middle)]
                else:
                    found.append((token, a, b))
            left = after[left]
        return found

    # --- the fast way

    @functools.cached_property
    def _tables(self) -> Any:
        from cairn.kernels import merges as kernels

        alphabet = sorted({char for text in self.matched for char in text})
        symbols = dict(self.matched)
        for char in alphabet:  # characters that occur in pieces only inside others
            symbols.setdefault(char, len(self.pieces) + len(symbols))
        pairs = [
            (symbols[text[:cut]], symbols[text[cut:]], token, -self.pieces[token].score)
            for text, token in self.matched.items()
            for cut in range(1, len(text))
            if text[:cut] in symbols and text[cut:] in symbols
        ]
        neighbours = {text[i : i + 2] for text in self.matched for i in range(len(text) - 1)}
        return kernels.tables(alphabet, [symbols[char] for char in alphabet], pairs, neighbours, len(self.pieces))

    def id_arrays(self, texts: list[str]) -> list[np.ndarray]:
        from cairn.kernels import merges as kernels

        if self.unused:
            return super().id_arrays(texts)
        whole = not self.user_defined
        parts = texts if whole else [p for text in texts for _, p, frozen in self._stretches(text) if not frozen]
        points = np.frombuffer("".join(parts).encode("utf-32-le"), np.uint32)
        byte_ids = np.array(self.byte_ids, np.int32)
        merged = parted(*kernels.encode_many(points, ends_of(parts), self._tables, self.unknown_id, byte_ids))
        if whole:
            return merged
        found = iter(merged)
        return [
            np.concatenate(
                [
                    np.empty(0, np.int32),
                    *(np.array([self.matched[p]], np.int32) if f else next(found) for _, p, f in self._stretches(text)),
                ]
            )
            for text in texts
        ]

    # --- files

    def to_json(self) -> dict[str, Any]:
        """For `tokenizers`. Its BPE wants a list of merges: all ways to make each piece, the highest score first."""
        if self.unused:
            raise UserError("a tokenizer.json cannot say that a piece is unused; this model has such pieces")
        merges = []
        for piece in self.pieces:
            if piece.type == PieceType.NORMAL:
                for cut in range(1, len(piece.text)):
                    left, right = self.vocab.get(piece.text[:cut]), self.vocab.get(piece.text[cut:])
                    if left is not None and right is not None:
                        merges.append((-piece.score, left, right))
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": self.pieces[self.unknown_id].text,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": False,
            "vocab": self.vocab,
            "merges": [[self.pieces[left].text, self.pieces[right].text] for _, left, right in sorted(merges)],
        }
        return piecejson.write(self.normalizer, self.byte_fallback, model, split=False)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Reads what `to_json` and transformers write: scores are the order of the merges. With "added_tokens" in `data`,
        special ones become control tokens, others user-defined symbols."""
        model = data["model"]
        known = {"type", "unk_token", "fuse_unk", "byte_fallback", "vocab", "merges"}
        piecejson.refuse(model, known, "model")
        added = data.get("added_tokens") or []
        vocab = model["vocab"] | {token["content"]: token["id"] for token in added}
        unknown = model.get("unk_token")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise UserError("model.vocab: the ids are not 0, 1, 2, ... each once")
        if unknown not in vocab or not model.get("fuse_unk"):
            raise UserError(f"model.unk_token is {unknown!r} without fuse_unk: not the form of a SentencePiece model")
        rank: dict[str, int] = {}
        for merge in model["merges"]:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            rank.setdefault(left + right, len(rank))
        texts = sorted(vocab, key=vocab.__getitem__)
        scores = [(text, -float(rank.get(text, len(rank)))) for text in texts]
        fallback = bool(model.get("byte_fallback"))
        pieces = piecejson.typed_pieces(scores, vocab[unknown], fallback, added)
        pieces = [_unmergeable(piece, rank) for piece in pieces]
        return cls(pieces, piecejson.read_normalizer(data, pieces, split=False), byte_fallback=fallback)


def _unmergeable(piece: Piece, rank: dict[str, int]) -> Piece:
    """A long piece that no merge makes is never found in a text by `tokenizers`, so it must not be here either."""
    if piece.type == PieceType.NORMAL and len(piece.text) > 1 and piece.text not in rank:
        return Piece(piece.text, piece.score, PieceType.CONTROL)
    return piece


def read(path: Path | str) -> Unigram | SentencePieceBPE:
    """The model in a `.model` file, computed as sentencepiece computes it. Raises UserError on a damaged or hostile file."""
    file = read_model_file(path)
    return Unigram.from_model(file) if file.kind == UNIGRAM else SentencePieceBPE.from_model(file)


def load_model(path: Path | str) -> Tokenizer:
    """A `.model` file as a tokenizer: its control tokens are special, and by their usual names bos, eos and pad.

    User-defined symbols are special tokens that decoding shows. They are cut out of any text, allowed or not.
    """
    model = read(path)
    special = model.special | model.user_defined
    names = {role: text for role, text in ROLES.items() if text in model.special}
    names["unk"] = model.pieces[model.unknown_id].text
    return Tokenizer(model, special, names=names, shown=model.user_defined)
