"""Byte-level BPE (GPT-2 and most models since): every text has ids, because every byte has one.

A model with merges applies them by rank, as `tokenizers` does. A model without (`merges=None`) joins any two neighbours whose
bytes together are a token, lowest id first, and takes a chunk that is a token as it stands: that is tiktoken.
"""

import functools
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cairn.core.batching import batches, in_threads
from cairn.core.errors import UserError
from cairn.tokenizers import bpe, pretokenize
from cairn.tokenizers.model import Model, Span

if TYPE_CHECKING:
    from cairn.tokenizers.fast import ChunkCounter

CACHED_CHUNKS = 1 << 16  # distinct chunks remembered with their ids; words repeat (Zipf)
MAX_TOKEN = 1 << 16  # bytes
# Characters after which numba is loaded: what Python spent on them by then is about what loading costs.
FAST_AFTER = 500_000


class ByteLevelBPE(Model):
    """vocab: token text in the GPT-2 byte alphabet -> id. merges: pairs of such texts in order of rank, or None.

    whole_chunks: a chunk that is a token is that token, whatever the merges make of it (Hugging Face's ignore_merges).
    normalizer: "NFC" or None, applied first. Ids need not be contiguous.
    """

    kind: ClassVar[str] = "byte-level-bpe"

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]] | None,
        *,
        pattern: str = pretokenize.QWEN2,
        add_prefix_space: bool = False,
        whole_chunks: bool = False,
        normalizer: str | None = None,
    ):
        self.vocab = dict(vocab)
        self.merges = None if merges is None else list(merges)
        self.pattern, self.add_prefix_space, self.normalizer = pattern, add_prefix_space, normalizer
        self.whole_chunks = whole_chunks or merges is None
        pretokenize.compiled(pretokenize.SAME_AS.get(pattern, pattern))
        try:
            self.byte_id = {b: self.vocab[c] for b, c in bpe.BYTE_TO_CHAR.items()}
        except KeyError as error:
            raise UserError(f"the vocabulary has no token for the byte written {error}; all 256 are needed") from None
        try:
            self.bytes_of = {i: bytes(bpe.CHAR_TO_BYTE[c] for c in text) for text, i in self.vocab.items()}
        except KeyError as error:
            raise UserError(f"the vocabulary holds the character {error}, which stands for no byte") from None
        longest = max(map(len, self.bytes_of.values()))
        if longest > MAX_TOKEN:
            raise UserError(f"the vocabulary has a token of {longest} bytes; at most {MAX_TOKEN} are read")
        if len(self.bytes_of) < len(self.vocab):
            raise UserError("two tokens of the vocabulary have the same id")
        self.id_of = {data: i for i, data in self.bytes_of.items()}
        if self.merges is not None:
            try:
                self._ranks: Any = {
                    (self.vocab[a], self.vocab[b]): (rank, self.vocab[a + b])
                    for rank, (a, b) in reversed(list(enumerate(self.merges)))  # the first of two equal merges wins
                }
            except KeyError as error:
                raise UserError(f"the merges and the vocabulary do not fit together ({error})") from None
        else:
            self._ranks = _AnyPair(self.bytes_of, self.id_of)
        self._encode_chunk = functools.lru_cache(CACHED_CHUNKS)(self._encode_chunk_plainly)
        self._seen = 0  # characters encoded so far, see FAST_AFTER

    def _encode_chunk_plainly(self, chunk: str) -> tuple[int, ...]:
        data = chunk.encode()
        if self.whole_chunks and data in self.id_of:
            return (self.id_of[data],)
        return tuple(bpe.encode_chunk(data, self.byte_id, self._ranks))

    @functools.cached_property
    def _table(self):
        """The fast form. Loading it takes a second or less, compiling it the first time some seconds."""
        from cairn.tokenizers import fast

        if self.merges is None:
            pairs = fast.all_pairs(self.id_of)
        else:
            rows = [(a, b, rank, new) for (a, b), (rank, new) in self._ranks.items()]
            pairs = np.array(rows, np.int64).reshape(-1, 4)
        return fast.MergeTable(self.byte_id, pairs, self.id_of if self.whole_chunks else {})

    def _prepared(self, text: str) -> str:
        if self.normalizer:
            text = unicodedata.normalize(self.normalizer, text)  # type: ignore[arg-type]
        if self.add_prefix_space and text and not text[0].isspace():
            text = " " + text
        return text

    def _is_fast(self, characters: int) -> bool:
        """Whether it is worth, or costs nothing any more, to use the compiled loops."""
        self._seen += characters
        return self._seen >= FAST_AFTER or "cairn.tokenizers.fast" in sys.modules

    def encode(self, text: str) -> list[int]:
        if self._is_fast(len(text)):
            return self.encode_bytes(pretokenize.to_bytes(self._prepared(text))).tolist()
        ids: list[int] = []
        for chunk in pretokenize.split(pretokenize.to_bytes(self._prepared(text)).decode(), self.pattern):
            ids.extend(self._encode_chunk(chunk))
        return ids

    def encode_bytes(self, data: bytes) -> np.ndarray:
        """Ids of any bytes, valid UTF-8 or not: int32 (tokens,). `decode_bytes` gives the bytes back."""
        return self._table.encode(data, self.pattern)

    def encode_batch(self, texts: Iterable[str], threads: int = 1) -> list[np.ndarray]:
        texts = list(texts)
        if not self._is_fast(sum(map(len, texts))):
            return super().encode_batch(texts)
        table = self._table

        def work(batch: list[str]) -> list[np.ndarray]:
            return [table.encode(pretokenize.to_bytes(self._prepared(text)), self.pattern) for text in batch]

        return [ids for batch in in_threads(work, batches(texts), threads) for ids in batch]

    def encode_spans(self, text: str) -> list[Span]:
        """A token that holds a part of a character spans the whole of it. With a normalizer: of the normalized text."""
        prepared = self._prepared(text)
        ids = self.encode(text)
        data = np.frombuffer(pretokenize.to_bytes(prepared), np.uint8)
        character = np.cumsum(data & 0xC0 != 0x80) - 1  # of each byte
        ends = np.cumsum([len(self.bytes_of[i]) for i in ids], dtype=np.int64)
        shift = len(prepared) - len(text) if self.add_prefix_space and not self.normalizer else 0
        spans, start = [], 0
        for token, end in zip(ids, ends.tolist()):
            first, last = int(character[start]), int(character[end - 1]) + 1
            spans.append((token, max(first - shift, 0), last - shift))
            start = end
        return spans

    def token_bytes(self, token: int) -> bytes:
        return self.bytes_of.get(token, b"")

    # --- tokenizer.json

    def to_json(self) -> dict[str, Any]:
        byte_level = {"type": "ByteLevel", "add_prefix_space": self.add_prefix_space, "trim_offsets": True}
        pattern = pretokenize.SAME_AS.get(self.pattern, self.pattern)
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        return {
            "normalizer": {"type": self.normalizer} if self.normalizer else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level | {"use_regex": False}]},
            "decoder": byte_level | {"use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": self.whole_chunks,
                "vocab": dict(sorted(self.vocab.items(), key=lambda item: item[1])),
                "merges": [list(pair) for pair in (self.merges if self.merges is not None else self.as_merges())],
            },
        }

    def as_merges(self) -> list[tuple[str, str]]:
        """Merges that do what a model without merges does: every cut of a token into two tokens, in the order of ids."""
        text_of = {i: text for text, i in self.vocab.items()}
        found = []
        for _, data in sorted(self.bytes_of.items()):
            cuts = [(self.id_of.get(data[:k]), self.id_of.get(data[k:])) for k in range(1, len(data))]
            pairs = sorted((a, b) for a, b in cuts if a is not None and b is not None)
            found += [(text_of[a], text_of[b]) for a, b in pairs]
        return found

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ByteLevelBPE":
        model = data["model"]
        for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
            if model.get(key):
                raise UserError(f"model.{key} = {model[key]!r} is not supported in a byte-level BPE")
        normalizer = data.get("normalizer")
        if normalizer and normalizer.get("type") not in ("NFC", "NFKC", "NFD", "NFKD"):
            raise UserError(f"normalizer {normalizer.get('type')!r} is not supported in a byte-level BPE")
        pattern, prefix_space = _read_pre_tokenizer(data.get("pre_tokenizer"))
        return cls(
            model["vocab"],
            [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]],  # type: ignore[misc]
            pattern=pattern,
            add_prefix_space=prefix_space,
            whole_chunks=bool(model.get("ignore_merges")),
            normalizer=normalizer["type"] if normalizer else None,
        )


class _AnyPair:
    """(left id, right id) -> (rank, new id) for any two tokens that together are one: a vocabulary's implied merges."""

    def __init__(self, bytes_of: Mapping[int, bytes], id_of: Mapping[bytes, int]):
        self.bytes_of, self.id_of = bytes_of, id_of

    def get(self, pair: tuple[int, int]) -> tuple[int, int] | None:
        new = self.id_of.get(self.bytes_of[pair[0]] + self.bytes_of[pair[1]])
        return None if new is None else (new, new)


def _read_pre_tokenizer(data: dict[str, Any] | None) -> tuple[str, bool]:
    """The split pattern and whether a space is put before the text."""
    if data is None:
        raise UserError("there is no pre_tokenizer; a byte-level BPE needs one")
    parts = data["pretokenizers"] if data["type"] == "Sequence" else [data]
    pattern = prefix_space = None
    for part in parts:
        if part["type"] == "Split" and part["behavior"] == "Isolated" and not part.get("invert") and pattern is None:
            if "Regex" not in part["pattern"]:
                raise UserError("pre_tokenizer Split by a fixed string is not supported")
            pattern = part["pattern"]["Regex"]
        elif part["type"] == "ByteLevel" and prefix_space is None:
            prefix_space = part.get("add_prefix_space", True)
            if part.get("use_regex", True):
                if pattern is not None:
                    raise UserError("two split patterns one after the other are not supported")
                pattern = pretokenize.GPT2
        else:
            raise UserError(f"pre_tokenizer {json.dumps(part)[:120]} is not supported")
    if pattern is None or prefix_space is None:
        raise UserError("the pre_tokenizer has no ByteLevel step with a split pattern")
    return pattern, prefix_space


def from_counts(counter: "ChunkCounter", vocab_size: int, *, pattern: str, first_id: int = 0) -> ByteLevelBPE:
    """Learn a byte-level BPE of at most `vocab_size` tokens with ids from `first_id` on, from counted chunks.

    Equal to `tokenizers`' BpeTrainer, merge by merge. Raises UserError when the size leaves no room for the 256 bytes. A
    small corpus may yield fewer merges than asked for.
    """
    from cairn.tokenizers import fast

    if vocab_size < 256:
        raise UserError(f"a vocabulary of {vocab_size} is too small: the 256 bytes alone need more")
    order = sorted(range(256), key=lambda b: bpe.BYTE_TO_CHAR[b])
    learned = fast.learn_merges(counter, first_id, vocab_size - 256, order)
    text_of = {first_id + i: bpe.BYTE_TO_CHAR[b] for i, b in enumerate(order)}
    merges = []
    for left, right, new in learned.tolist():
        merges.append((text_of[left], text_of[right]))
        text_of[new] = text_of[left] + text_of[right]
    return ByteLevelBPE({text: i for i, text in text_of.items()}, merges, pattern=pattern)
