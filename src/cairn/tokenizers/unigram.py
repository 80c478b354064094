"""The unigram language model (Kudo 2018): a text is cut where the product of the pieces' probabilities is largest.

Every piece has a log probability. A text is a lattice whose paths are its segmentations; the best (Viterbi), the n best, or
one drawn at random in proportion to probability (subword regularisation) are found by one pass from left to right.

Rounding decides between segmentations of equal probability ("==" "=" or "=" "=="), so identical ids need identical
arithmetic. `exact="sentencepiece"`: the whole text, sums kept in float32. `exact="tokenizers"`: word by word (a word starts
at each space), float64. A model read from a `.model` file takes the first, one from a tokenizer.json or trained here the second.
"""

import functools
import heapq
import itertools
import math
import random
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from cairn.core.errors import UserError
from cairn.tokenizers import piecejson
from cairn.tokenizers.model import Span
from cairn.tokenizers.modelfile import UNIGRAM, ModelFile, Piece, PieceType
from cairn.tokenizers.normalize import SentencePieceNormalizer
from cairn.tokenizers.pieces import PieceModel, ends_of, parted

UNKNOWN_PENALTY = 10.0  # an unknown character costs this much more than the rarest piece
RESET = 100_000.0  # in float32, sums beyond this are made relative again


class Unigram(PieceModel):
    kind: ClassVar[str] = "unigram"
    file_kind: ClassVar[int] = UNIGRAM

    def __init__(
        self,
        pieces: Sequence[Piece],
        normalizer: SentencePieceNormalizer,
        *,
        byte_fallback: bool = False,
        unknown_text: str = " \u2047 ",
        exact: str = "tokenizers",
    ):
        super().__init__(pieces, normalizer, byte_fallback=byte_fallback, unknown_text=unknown_text)
        self.exact = exact
        self.single = exact == "sentencepiece"
        self.by_words = not self.single
        kinds = (PieceType.NORMAL,) if self.single else tuple(PieceType)
        self.unknown_score = min((p.score for p in self.pieces if p.type in kinds), default=0.0) - UNKNOWN_PENALTY
        self.scores = {}
        for text, token in self.matched.items():
            piece = self.pieces[token]
            if piece.type == PieceType.USER_DEFINED:  # more than any sum of log probabilities: always taken
                self.scores[text] = float(np.float32(0.1 * (len(piece.text.encode("utf-8")) - 1)))
            elif piece.type == PieceType.NORMAL:
                self.scores[text] = piece.score
        self.longest = max(map(len, self.scores), default=1)

    def edges(self, text: str, start: int) -> list[tuple[int, int, float]]:
        """(end, id, score) of the pieces that begin at `start`, the shorter first; an unknown character when there is
        no piece for it alone."""
        found = []
        for end in range(start + 1, min(start + self.longest, len(text)) + 1):
            score = self.scores.get(text[start:end])
            if score is not None:
                found.append((end, self.matched[text[start:end]], score))
        if not found or found[0][0] > start + 1:
            found.append((start + 1, self.unknown_id, self.unknown_score))
        return found

    def segment(self, text: str) -> list[Span]:
        if not self.by_words:
            return self._viterbi(text, 0, len(text))
        cuts = [0, *(i for i in range(1, len(text)) if text[i] == " "), len(text)]
        return [segment for start, end in itertools.pairwise(cuts) for segment in self._viterbi(text[:end], start, end)]

    def _viterbi(self, text: str, start: int, end: int) -> list[Span]:
        """The best path from `start` to `end`. Of equally good ones, the first found: its last piece is the longest."""
        number = np.float32 if self.single else float
        best: list[float | None] = [0.0] + [None] * (end - start)
        back = [(0, 0)] * (end - start + 1)
        for at in range(start, end):
            before = best[at - start]
            assert before is not None  # every character has an edge
            if self.single and abs(before) > RESET:
                for place in range(at - start, len(best)):
                    known = best[place]
                    best[place] = None if known is None else float(number(known) - number(before))
                before = 0.0
            for stop, token, score in self.edges(text, at):
                known = best[stop - start]
                total = float(number(before) + number(score))
                if known is None or total > known:
                    best[stop - start] = total
                    back[stop - start] = (at, token)
        path = []
        while end > start:
            at, token = back[end - start]
            path.append((token, at, end))
            end = at
        return path[::-1]

    # --- the fast way

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, ...]:
        """What the kernels need: the trie over UTF-8, the scores by id, the ids of the bytes (none: empty)."""
        from cairn.kernels import unigram as kernels

        keys = sorted((text.encode("utf-8"), self.matched[text]) for text in self.scores)
        trie = kernels.build_trie(*kernels.pack([key for key, _ in keys]), np.array([i for _, i in keys], np.int64))
        number = np.float32 if self.single else np.float64
        scores = np.zeros(len(self.pieces) + 1, np.float64)
        for text, score in self.scores.items():
            scores[self.matched[text]] = score
        scores[-1] = self.unknown_score
        return trie, scores, np.array(self.byte_ids, np.int32), np.zeros(1, number)

    def id_arrays(self, texts: list[str]) -> list[np.ndarray]:
        from cairn.kernels import unigram as kernels

        encoded = [text.encode("utf-8") for text in texts]
        data = np.frombuffer(b"".join(encoded), np.uint8)
        trie, scores, byte_ids, number = self._tables
        found = kernels.encode_many(
            data, ends_of(encoded), trie, scores, self.unknown_id, byte_ids, number, self.by_words
        )
        return parted(*found)

    # --- several segmentations

    def nbest(self, text: str, n: int) -> list[tuple[list[int], float]]:
        """The n most probable segmentations of `text` with their log probabilities, the best first.

        Each place keeps the n best ways to reach it; ties keep the way found first.
        """
        normalized = self.normalizer(text)
        ways: list[list[tuple[float, int, int, int]]] = [[(0.0, -1, 0, 0)]]  # score, id, start, which way there
        ways += [[] for _ in normalized]
        for start in range(len(normalized)):
            for end, token, score in self.edges(normalized, start):
                ways[end] += [(way[0] + score, token, start, rank) for rank, way in enumerate(ways[start])]
            ways[start + 1] = heapq.nlargest(n, ways[start + 1], key=lambda way: way[0])
        found = []
        for rank, (score, _, _, _) in enumerate(ways[-1][:n]):
            path, end = [], len(normalized)
            while end:
                _, token, start, rank = ways[end][rank]
                path.append((token, start, end))
                end = start
            found.append(([token for token, _, _ in self._spell(path[::-1], normalized)], score))
        return found

    def sample(self, text: str, alpha: float = 1.0, rng: random.Random | None = None) -> list[int]:
        """A segmentation drawn with probability proportional to P(segmentation)^alpha: 0 uniform, large the best one.

        The sums over all ways to reach each place come first; then the path is drawn from the end.
        """
        rng = rng or random.Random()
        normalized = self.normalizer(text)
        into: list[list[tuple[float, int, int]]] = [[] for _ in range(len(normalized) + 1)]
        total = [0.0] * (len(normalized) + 1)
        for start in range(len(normalized)):
            if start:
                total[start] = _log_sum([weight for weight, _, _ in into[start]])
            for end, token, score in self.edges(normalized, start):
                into[end].append((total[start] + alpha * score, token, start))
        path, end = [], len(normalized)
        while end:
            highest = max(weight for weight, _, _ in into[end])
            weights = [math.exp(weight - highest) for weight, _, _ in into[end]]
            _, token, start = rng.choices(into[end], weights)[0]
            path.append((token, start, end))
            end = start
        return [token for token, _, _ in self._spell(path[::-1], normalized)]

    # --- files

    @classmethod
    def from_model(cls, file: ModelFile) -> Self:
        """As sentencepiece computes it."""
        if file.kind != UNIGRAM:
            raise UserError("this .model file holds no unigram model")
        return cls(
            file.pieces,
            file.normalizer,
            byte_fallback=file.byte_fallback,
            unknown_text=file.unknown_text,
            exact="sentencepiece",
        )

    def to_json(self) -> dict[str, Any]:
        if self.unused:
            raise UserError("a tokenizer.json cannot say that a piece is unused; this model has such pieces")
        model = {
            "type": "Unigram",
            "unk_id": self.unknown_id,
            "vocab": [[piece.text, piece.score] for piece in self.pieces],
            "byte_fallback": self.byte_fallback,
        }
        return piecejson.write(self.normalizer, self.byte_fallback, model, split=True)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Reads what `to_json` writes and what transformers converts from `.model` files. With "added_tokens" in `data`,
        special ones become control tokens, others user-defined symbols."""
        model = data["model"]
        piecejson.refuse(model, {"type", "unk_id", "vocab", "byte_fallback"}, "model")
        unknown = model.get("unk_id")
        if not isinstance(unknown, int) or not 0 <= unknown < len(model["vocab"]):
            raise UserError(f"model.unk_id is {unknown!r}; a Unigram without an unknown token is not supported")
        fallback = bool(model.get("byte_fallback"))
        texts = [(str(text), float(score)) for text, score in model["vocab"]]
        pieces = piecejson.typed_pieces(texts, unknown, fallback, data.get("added_tokens") or [])
        return cls(pieces, piecejson.read_normalizer(data, pieces, split=True), byte_fallback=fallback)


def _log_sum(weights: list[float]) -> float:
    highest = max(weights)
    return highest + math.log(sum(math.exp(weight - highest) for weight in weights))
