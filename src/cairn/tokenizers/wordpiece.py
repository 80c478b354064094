"""WordPiece, BERT's tokenizer: words by spaces and punctuation, and each word by the longest pieces from its start on.

A piece that does not begin a word is written with "##". A word that cannot be cut whole, or that is over 100 characters, is
one unknown token.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from cairn.core.errors import UserError
from cairn.core.files import write_text
from cairn.tokenizers import unicode8
from cairn.tokenizers.model import Model, Span
from cairn.tokenizers.normalize import WHITE_SPACE, BertNormalizer
from cairn.tokenizers.piecejson import refuse
from cairn.tokenizers.symbols import train_symbols
from cairn.tokenizers.tokenizer import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PREFIX = "##"
LONGEST_WORD = 100  # characters
# What these part, no step joins again; so each distinct chunk needs to be cut but once.
CHUNK = re.compile(r"[^ \t\n\r]+")
CACHED_CHUNKS = 1 << 16
MAX_VOCABULARY_FILE = 64 << 20  # bytes
SETTINGS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")


class WordPiece(Model):
    kind: ClassVar[str] = "wordpiece"
    strips_first_space = True  # a piece that begins a word carries the space before it

    def __init__(
        self,
        vocab: dict[str, int],
        normalizer: BertNormalizer | None = None,
        *,
        unknown: str = "[UNK]",
        special: Iterable[str] = SPECIAL,
    ):
        if unknown not in vocab:
            raise UserError(f"the vocabulary has no {unknown}, which stands for words that cannot be cut")
        self.vocab = vocab
        self.normalizer = normalizer or BertNormalizer()
        self.unknown = unknown
        self.special = {text: vocab[text] for text in special if text in vocab}
        self._bytes = {i: self._piece_bytes(text) for text, i in vocab.items()}
        self._longest = max(map(len, vocab))
        self._chunk_ids = functools.lru_cache(CACHED_CHUNKS)(self._encode_chunk)

    def _piece_bytes(self, text: str) -> bytes:
        if text.startswith(PREFIX) and len(text) > len(PREFIX):
            return text[len(PREFIX) :].encode("utf-8")
        return (" " + text).encode("utf-8")

    def token_bytes(self, token: int) -> bytes:
        return self._bytes.get(token, b"")

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for chunk in CHUNK.findall(text):
            ids += self._chunk_ids(chunk) if len(chunk) <= LONGEST_WORD else self._encode_chunk(chunk)
        return ids

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        return tuple(token for token, _, _ in self.encode_spans(chunk))

    def encode_spans(self, text: str) -> list[Span]:
        """(id, start, end) with character offsets into `text`."""
        found = []
        for word, places in split_words(self.normalizer.aligned(text)):
            for token, start, end in self.cut(word):
                found.append((token, places[start], places[end - 1] + 1))
        return found

    def cut(self, word: str) -> list[Span]:
        """The pieces of one word: (id, start, end)."""
        unknown = [(self.vocab[self.unknown], 0, len(word))]
        if len(word) > LONGEST_WORD:
            return unknown
        found, start = [], 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                token = self.vocab.get((PREFIX if start else "") + word[start:end])
                if token is not None:
                    break
            else:
                return unknown
            found.append((token, start, end))
            start = end
        return found

    # --- files

    def save_vocabulary(self, path: Path | str) -> None:
        """Write vocab.txt: a piece a line, the line is its id."""
        write_text(path, "".join(f"{text}\n" for text in sorted(self.vocab, key=self.vocab.__getitem__)))

    @classmethod
    def load_vocabulary(cls, path: Path | str, normalizer: BertNormalizer | None = None) -> Self:
        path = Path(path)
        try:
            if path.stat().st_size > MAX_VOCABULARY_FILE:
                raise UserError(f"{path} is larger than {MAX_VOCABULARY_FILE >> 20} MiB; that is no vocabulary")
            lines = path.read_bytes().decode("utf-8").split("\n")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 (byte {error.start})") from None
        lines = [line.rstrip() for line in (lines[:-1] if lines[-1] == "" else lines)]
        vocab = {text: i for i, text in enumerate(lines)}
        if len(vocab) != len(lines):
            twice = next(text for i, text in enumerate(lines) if vocab[text] != i)
            raise UserError(f"{path}: the piece {twice!r} is there twice")
        return cls(vocab, normalizer)

    def to_json(self) -> dict[str, Any]:
        return {
            "normalizer": {"type": "BertNormalizer"} | {name: getattr(self.normalizer, name) for name in SETTINGS},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": False},
            "model": {
                "type": "WordPiece",
                "unk_token": self.unknown,
                "continuing_subword_prefix": PREFIX,
                "max_input_chars_per_word": LONGEST_WORD,
                "vocab": self.vocab,
            },
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Reads BERT's tokenizer.json; any other normaliser, pre-tokeniser or setting is refused by name."""
        model, normalizer, before = data["model"], data.get("normalizer") or {}, data.get("pre_tokenizer") or {}
        fixed = {"continuing_subword_prefix": PREFIX, "max_input_chars_per_word": LONGEST_WORD}
        for name, value in fixed.items():
            if model.get(name, value) != value:
                raise UserError(f"model.{name} = {model[name]!r} is not supported, only {value!r} is")
        refuse(model, {"type", "unk_token", "vocab", *fixed}, "model")
        if normalizer.get("type") != "BertNormalizer":
            raise UserError(f"normalizer {normalizer.get('type')!r} is not supported with WordPiece")
        if before.get("type") != "BertPreTokenizer":
            raise UserError(f"pre_tokenizer {before.get('type')!r} is not supported with WordPiece")
        refuse(normalizer, {"type", *SETTINGS}, "normalizer")
        settings = {name: normalizer[name] for name in SETTINGS if name in normalizer}
        added = [token["content"] for token in data.get("added_tokens") or [] if token.get("special")]
        unknown = str(model.get("unk_token", "[UNK]"))
        return cls(dict(model["vocab"]), BertNormalizer(**settings), unknown=unknown, special=added or SPECIAL)


def load_vocabulary(path: Path | str) -> Tokenizer:
    """BERT's vocab.txt as a tokenizer, with [CLS] and [SEP] around a text. A file beside it cannot say that its text is cased:
    a vocabulary without any capital letter is taken for an uncased one."""
    model = WordPiece.load_vocabulary(path)
    cased = any(text not in model.special and text != text.lower() for text in model.vocab)
    model = WordPiece(model.vocab, BertNormalizer(lowercase=not cased))
    roles = {role: f"[{role.upper()}]" for role in ("unk", "pad", "cls", "sep", "mask")}
    names = {role: text for role, text in roles.items() if text in model.special}
    around = ([roles["cls"]], [roles["sep"]]) if {"cls", "sep"} <= set(names) else ([], [])
    return Tokenizer(model, model.special, names=names, around=around)


def split_words(pairs: list[tuple[str, int]]) -> list[tuple[str, list[int]]]:
    """BERT's pre-tokeniser on (character, place) pairs: white space parts words, each punctuation mark is a word."""
    marks = unicode8.punctuation()
    words: list[tuple[list[str], list[int]]] = []
    joined = False
    for char, place in pairs:
        if char in WHITE_SPACE:
            joined = False
        elif char in marks or not joined:
            words.append(([char], [place]))
            joined = char not in marks
        else:
            words[-1][0].append(char)
            words[-1][1].append(place)
    return [("".join(chars), places) for chars, places in words]


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    *,
    normalizer: BertNormalizer | None = None,
    special: Sequence[str] = SPECIAL,
) -> WordPiece:
    """Learn pieces by joining the most frequent pairs, as Hugging Face's trainer does.

    Ids: special tokens, all characters as they begin words and as they go on ("##"), by code point, then what is joined;
    of equally frequent pairs the smallest ids first. So a corpus always gives the same vocabulary, which Hugging Face's
    does not (it numbers the "##" characters in the order of a hash table). A small corpus may yield fewer pieces than asked
    for. Raises UserError when the characters do not fit.
    """
    normalizer = normalizer or BertNormalizer()
    words: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(CHUNK.findall(text))
    for chunk, count in chunks.items():
        for word, _ in split_words(normalizer.aligned(chunk)):
            words[word] += count
    if not words:
        raise UserError("there is no text to train a tokenizer on")
    first = sorted({char for word in words for char in word})
    later = sorted({PREFIX + char for word in words for char in word[1:]})
    start = [*special, *first, *later]
    if len(set(start)) != len(start):
        raise UserError("a special token is named twice, or like a character of the text")
    if len(start) > vocab_size:
        raise UserError(
            f"a vocabulary of {vocab_size} is too small: {len(special)} special tokens and {len(start) - len(special)} "
            f"characters need room; take at least {len(start)}"
        )
    number = {text: i for i, text in enumerate(start)}
    ordered = sorted(words)
    symbols = [[number[word[0]], *(number[PREFIX + char] for char in word[1:])] for word in ordered]
    counts = [words[word] for word in ordered]
    learned = train_symbols(
        symbols,
        counts,
        start,
        vocab_size,
        join=lambda left, right: left + right.removeprefix(PREFIX),
        tie=lambda pair, _: pair,
        reuse=True,
    )
    return WordPiece({text: i for i, text in enumerate(learned)}, normalizer, special=special, unknown=special[1])
