"""The tokenizer that every stage shares: a model that cuts text, special tokens, a chat template, streaming."""

import codecs
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import regex

from cairn.core.errors import UserError
from cairn.core.files import fingerprint
from cairn.tokenizers import chat, pretokenize
from cairn.tokenizers.byte_level import from_counts
from cairn.tokenizers.model import Model, Span

if TYPE_CHECKING:
    from cairn.tokenizers.fast import ChunkCounter


class Tokenizer:
    """Text <-> ids.

    model: how ordinary text is cut (byte-level BPE, Unigram, WordPiece, ...). special: text of a special token -> id.
    names: what special tokens are for ("bos", "eos", "pad", "unk", "cls", "sep", "mask") -> their text. around: special
    tokens that `encode(..., add_special=True)` puts before and after a text. strip_left, strip_right: special tokens that
    swallow the white space beside them. shown: special tokens that `decode(..., skip_special=True)` keeps.
    Equal to `tokenizers` (Hugging Face) on the same file.
    """

    def __init__(
        self,
        model: Model,
        special: Mapping[str, int] | None = None,
        *,
        chat_template: str | None = None,
        names: Mapping[str, str | None] | None = None,
        around: tuple[Sequence[str], Sequence[str]] = ((), ()),
        strip_left: Iterable[str] = (),
        strip_right: Iterable[str] = (),
        shown: Iterable[str] = (),
    ):
        self.model, self.special, self.chat_template = model, dict(special or {}), chat_template
        self.ends: frozenset[int] = frozenset()  # what a model's generation_config.json names besides
        self.names = {name: text for name, text in (names or {}).items() if text is not None}
        self.around = (tuple(around[0]), tuple(around[1]))
        self.strip_left, self.strip_right, self.shown = frozenset(strip_left), frozenset(strip_right), frozenset(shown)
        for name, token in [*self.names.items(), *(("around", token) for side in self.around for token in side)]:
            if token not in self.special:
                raise UserError(f"tokenizer: {name} token {token!r} is not among the special tokens")
        taken: dict[int, str] = {}
        for text, token in self.special.items():
            if not text:
                raise UserError("tokenizer: a special token has no text")
            if taken.setdefault(token, text) != text:
                raise UserError(f"tokenizer: the special tokens {taken[token]!r} and {text!r} have the same id {token}")
        for text, token in model.vocab.items():
            if taken.get(token, text) != text and model.token_bytes(token) != taken[token].encode():
                raise UserError(f"tokenizer: the special token {taken[token]!r} has the id {token} of {text!r}")
        self._special_bytes = {i: text.encode() for text, i in self.special.items()}
        self._skipped = frozenset(i for text, i in self.special.items() if text not in self.shown)
        # Longest first: of two special tokens that start alike the longer one is meant.
        longest_first = sorted(self.special, key=len, reverse=True)
        forms = [
            (r"\s*" if text in self.strip_left else "")
            + f"(?P<_{self.special[text]}>{regex.escape(text)})"
            + (r"\s*" if text in self.strip_right else "")
            for text in longest_first
        ]
        self._special_pattern = regex.compile("|".join(forms)) if forms else None

    # --- sizes and names

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: what an embedding must have at least."""
        return max(max(self.vocab.values(), default=0), max(self.special.values(), default=0)) + 1

    @property
    def vocab(self) -> dict[str, int]:
        """Ordinary tokens as they are written in tokenizer.json."""
        return self.model.vocab

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self.special.values())

    @property
    def skipped_ids(self) -> frozenset[int]:
        """What `decode(..., skip_special=True)` leaves out."""
        return self._skipped

    @property
    def bos(self) -> str | None:
        return self.names.get("bos")

    @property
    def eos(self) -> str | None:
        return self.names.get("eos")

    @property
    def pad(self) -> str | None:
        return self.names.get("pad")

    def named_id(self, name: str) -> int | None:
        """Id of the bos, eos, pad, unk, cls, sep or mask token; None where there is none."""
        return self.special[self.names[name]] if name in self.names else None

    @property
    def bos_id(self) -> int | None:
        return self.named_id("bos")

    @property
    def eos_id(self) -> int | None:
        return self.named_id("eos")

    @property
    def pad_id(self) -> int | None:
        return self.named_id("pad")

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: the end of the text, the end of the turn of a chat template of ours, and `ends`."""
        return self.ends | {self.special[t] for t in (self.eos, chat.END_OF_TURN) if t in self.special}

    def fingerprint(self) -> str:
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        return fingerprint(
            [self.model.kind, self.model.to_json(), self.special, self.chat_template, self.names, self.around]
        )

    # --- text and ids

    def encode(self, text: str, *, allow_special: bool = False, add_special: bool = False) -> list[int]:
        """Ids of `text`. Special tokens written in it stay ordinary text unless `allow_special`.

        `add_special` puts the model's own special tokens around the text ([CLS] and [SEP], <s>).
        """
        ids: list[int] = []
        if add_special:
            ids += [self.special[token] for token in self.around[0]]
        ids += self._ids_of(self._parts(text) if allow_special else [(text, None)])
        if add_special:
            ids += [self.special[token] for token in self.around[1]]
        return ids

    def encode_batch(self, texts: Iterable[str], threads: int = 1) -> list[np.ndarray]:
        """Ids of many texts at full speed, int32 (tokens,) each; special tokens in them stay ordinary text."""
        return self.model.encode_batch(texts, threads)

    def encode_spans(self, text: str) -> list[Span]:
        """(id, start, end) of each token: which characters of `text` it came from."""
        return self.model.encode_spans(text) if text else []

    def _parts(self, text: str) -> Iterable[tuple[str, int | None]]:
        """Ordinary text, and the special token that follows it (None after the last)."""
        end = 0
        for match in self._special_pattern.finditer(text) if self._special_pattern else ():
            assert match.lastgroup is not None
            yield text[end : match.start()], int(match.lastgroup[1:])
            end = match.end()
        yield text[end:], None

    def _ids_of(self, parts: Iterable[tuple[str, int | None]]) -> list[int]:
        ids: list[int] = []
        for part, token in parts:
            if part:
                ids += self.model.encode(part)
            if token is not None:
                ids.append(token)
        return ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; an id without a token (padding of the vocabulary) has none."""
        special = self._special_bytes.get(token)  # a vocabulary entry may also be special: that meaning wins
        return special if special is not None else self.model.token_bytes(token)

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        skipped = self._skipped if skip_special else frozenset()
        return self.model.joined(self.token_bytes(i) for i in ids if i not in skipped)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    # --- chat

    def render_chat(self, messages: Sequence[chat.Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text; for ids use `encode_chat`, which keeps typed special tokens harmless."""
        return chat.render(self._template(), messages, add_generation_prompt=add_generation_prompt, **self._names())

    def encode_chat(self, messages: Sequence[chat.Message], *, add_generation_prompt: bool = False) -> list[int]:
        chat.check_messages(messages)
        safe = chat.break_special(list(messages), tuple(self.special))
        text = chat.render(self._template(), safe, add_generation_prompt=add_generation_prompt, **self._names())
        return self._ids_of((part.replace(chat.BREAK, ""), token) for part, token in self._parts(text))

    def encode_chat_masked(self, messages: Sequence[chat.Message]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation and, for each, whether the assistant wrote it (its end of turn included): the loss mask.

        The ids before an assistant's turn are those of the conversation so far with the generation prompt, so training
        sees exactly what the model sees when it is asked. Raises UserError when a template does not allow that.
        """
        ids: list[int] = []
        mask: list[bool] = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self.encode_chat(messages[:i], add_generation_prompt=True)
            whole = self.encode_chat(messages[: i + 1])
            if whole[: len(prompt)] != prompt or prompt[: len(ids)] != ids:
                raise UserError("the chat template changes earlier turns when a new one is added; it cannot be masked")
            mask += [False] * (len(prompt) - len(ids)) + [True] * (len(whole) - len(prompt))
            ids = whole
        return ids, mask

    def _template(self) -> str:
        if self.chat_template is None:
            raise UserError("this tokenizer has no chat template; use plain completion, or train with cairn sft first")
        return self.chat_template

    def _names(self) -> dict[str, Any]:
        return {f"{name}_token": self.names.get(name, "") for name in ("bos", "eos", "pad")}

    # --- files

    def save(self, directory: Path | str) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `tokenizers` and `transformers` read."""
        from cairn.tokenizers import files

        files.save(self, directory)

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Read a directory or a file: tokenizer.json, SentencePiece's .model, GPT-2's pair, tiktoken ranks, vocab.txt."""
        from cairn.tokenizers import files

        return files.load(path)


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = pretokenize.QWEN2,
    special: Sequence[str] = chat.SPECIAL_TOKENS,
    threads: int = 1,
) -> Tokenizer:
    """Learn a byte-level BPE with `vocab_size` ids, special tokens included (ids 0, 1, ...), and cairn's chat template.

    Raises UserError when the size leaves no room for the 256 bytes. A small corpus may yield fewer merges than asked for.
    """
    _check_size(vocab_size, special)
    from cairn.tokenizers import fast

    return tokenizer_from_counts(fast.count_texts(texts, pattern, threads), vocab_size, pattern, special)


def tokenizer_from_counts(
    counter: "ChunkCounter", vocab_size: int, pattern: str, special: Sequence[str] = chat.SPECIAL_TOKENS
) -> Tokenizer:
    """As `train_tokenizer`, from chunks that were counted before, perhaps by many processes."""
    _check_size(vocab_size, special)
    model = from_counts(counter, vocab_size - len(special), pattern=pattern, first_id=len(special))
    ours = {"bos": chat.END_OF_TEXT, "eos": chat.END_OF_TEXT, "pad": "<|pad|>"}
    return Tokenizer(
        model,
        {token: i for i, token in enumerate(special)},
        chat_template=chat.CHAT_TEMPLATE,
        names={name: token for name, token in ours.items() if token in special},
    )


def _check_size(vocab_size: int, special: Sequence[str]) -> None:
    repeated = sorted({token for token in special if list(special).count(token) > 1})
    if repeated:
        raise UserError(f"the special token {repeated[0]!r} is given twice")
    if vocab_size < 256 + len(special):
        raise UserError(
            f"vocabulary of {vocab_size} is too small: 256 bytes and {len(special)} special tokens need room"
        )


class StreamDecoder:
    """Ids one at a time to text, holding back bytes of a character that is not whole yet.

    >>> decoder = StreamDecoder(tokenizer)  # doctest: +SKIP
    >>> [decoder.push(i) for i in tokenizer.encode("é")]  # doctest: +SKIP
    ['', 'é']
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True):
        self.tokenizer = tokenizer
        self._skipped = tokenizer.skipped_ids if skip_special else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = tokenizer.model.strips_first_space

    def push(self, token: int) -> str:
        if token in self._skipped:
            return ""
        data = self.tokenizer.token_bytes(token)
        if self._at_start and data:
            self._at_start = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What was held back, as U+FFFD."""
        return self._decoder.decode(b"", final=True)
