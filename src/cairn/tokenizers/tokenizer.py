"""The tokenizer that every stage shares: byte-level BPE, special tokens, chat template, files of Hugging Face's form."""

import codecs
import functools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import regex

from cairn.core.errors import UserError
from cairn.core.files import fingerprint, read_json, write_json
from cairn.tokenizers import bpe, chat, pretokenize

CACHED_CHUNKS = 1 << 16  # distinct chunks remembered with their ids; words repeat (Zipf)


class Tokenizer:
    """Text <-> ids.

    vocab: token text in the GPT-2 byte alphabet -> id. merges: pairs of such texts in order of rank. special: text of a
    special token -> id. Ids need not be contiguous. Equal to `tokenizers` (Hugging Face) on the same file.
    """

    def __init__(
        self,
        vocab: dict[str, int],
        merges: Sequence[tuple[str, str]],
        special: dict[str, int],
        *,
        pattern: str = pretokenize.QWEN2,
        chat_template: str | None = None,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        add_prefix_space: bool = False,
    ):
        self.vocab, self.merges, self.special = dict(vocab), list(merges), dict(special)
        self.pattern, self.chat_template, self.add_prefix_space = pattern, chat_template, add_prefix_space
        self.bos, self.eos, self.pad = bos, eos, pad
        for name in (bos, eos, pad):
            if name is not None and name not in self.special:
                raise UserError(f"tokenizer: {name!r} is named as a special token, but has no id")
        missing = [c for c in bpe.CHAR_TO_BYTE if c not in self.vocab]
        if missing:
            raise UserError(f"tokenizer: {len(missing)} of the 256 bytes have no token; only byte-level BPE is read")
        self._byte_id = {b: self.vocab[c] for b, c in bpe.BYTE_TO_CHAR.items()}
        try:
            self._ranks = {
                (self.vocab[left], self.vocab[right]): (rank, self.vocab[left + right])
                for rank, (left, right) in reversed(list(enumerate(self.merges)))
            }
            self._bytes = {i: bytes(bpe.CHAR_TO_BYTE[c] for c in text) for text, i in self.vocab.items()}
        except KeyError as error:
            raise UserError(f"tokenizer: the merges and the vocabulary do not fit together ({error})") from None
        self._bytes |= {i: text.encode() for text, i in self.special.items()}
        # A vocabulary entry may also be a special token (GPT-2's <|endoftext|>): the special meaning wins.
        longest_first = sorted(self.special, key=len, reverse=True)
        self._special_pattern = regex.compile("|".join(map(regex.escape, longest_first))) if longest_first else None
        self._encode_chunk = functools.lru_cache(CACHED_CHUNKS)(
            lambda chunk: tuple(bpe.encode_chunk(chunk.encode("utf-8", "surrogatepass"), self._byte_id, self._ranks))
        )

    # --- sizes and names

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: what an embedding must have at least."""
        return max(max(self.vocab.values()), max(self.special.values(), default=0)) + 1

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self.special.values())

    def _id(self, name: str | None) -> int | None:
        return None if name is None else self.special[name]

    @property
    def bos_id(self) -> int | None:
        return self._id(self.bos)

    @property
    def eos_id(self) -> int | None:
        return self._id(self.eos)

    @property
    def pad_id(self) -> int | None:
        return self._id(self.pad)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: the end of the text and, with a chat template of ours, the end of the turn."""
        return frozenset(self.special[t] for t in {self.eos, chat.END_OF_TURN} if t in self.special)

    def fingerprint(self) -> str:
        return fingerprint(
            [self.vocab, self.merges, self.special, self.pattern, self.chat_template, self.bos, self.eos]
        )

    # --- text and ids

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of `text`. Special tokens written in it stay ordinary text unless `allow_special`."""
        ids: list[int] = []
        if allow_special and self._special_pattern:
            end = 0
            for match in self._special_pattern.finditer(text):
                self._encode_ordinary(text[end : match.start()], ids)
                ids.append(self.special[match.group()])
                end = match.end()
            text = text[end:]
        self._encode_ordinary(text, ids)
        return ids

    def _encode_ordinary(self, text: str, ids: list[int]) -> None:
        if not text:
            return
        if self.add_prefix_space and not text[0].isspace():
            text = " " + text
        for chunk in pretokenize.split(text, self.pattern):
            ids.extend(self._encode_chunk(chunk))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; an id without a token (padding of the vocabulary) has none."""
        return self._bytes.get(token, b"")

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        skipped = self.special_ids if skip_special else frozenset()
        return b"".join(self.token_bytes(i) for i in ids if i not in skipped).decode("utf-8", "replace")

    # --- chat

    def render_chat(self, messages: Sequence[chat.Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text; for ids use `encode_chat`, which keeps typed special tokens harmless."""
        return chat.render(self._template(), messages, add_generation_prompt=add_generation_prompt, **self._names())

    def encode_chat(self, messages: Sequence[chat.Message], *, add_generation_prompt: bool = False) -> list[int]:
        chat.check_messages(messages)
        safe = chat.break_special(list(messages), tuple(self.special))
        text = chat.render(self._template(), safe, add_generation_prompt=add_generation_prompt, **self._names())
        ids: list[int] = []
        end = 0
        if self._special_pattern:
            for match in self._special_pattern.finditer(text):
                self._encode_ordinary(text[end : match.start()].replace(chat.BREAK, ""), ids)
                ids.append(self.special[match.group()])
                end = match.end()
        self._encode_ordinary(text[end:].replace(chat.BREAK, ""), ids)
        return ids

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
        return {"bos_token": self.bos or "", "eos_token": self.eos or "", "pad_token": self.pad or ""}

    # --- files

    def save(self, directory: Path | str) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `tokenizers` and `transformers` read."""
        directory = Path(directory)
        write_json(directory / "tokenizer.json", self._to_json())
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "pad_token": self.pad,
            "chat_template": self.chat_template,
        }
        write_json(directory / "tokenizer_config.json", {k: v for k, v in config.items() if v is not None})

    def _to_json(self) -> dict[str, Any]:
        added = [
            {
                "id": i,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for text, i in sorted(self.special.items(), key=lambda item: item[1])
        ]
        byte_level = {"type": "ByteLevel", "add_prefix_space": self.add_prefix_space, "trim_offsets": True}
        split = {"type": "Split", "pattern": {"Regex": self.pattern}, "behavior": "Isolated", "invert": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level | {"use_regex": False}]},
            "post_processor": None,
            "decoder": byte_level | {"use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                # Special tokens too: `tokenizers` gives an added token that the model does not know an id of its own choice.
                "vocab": dict(sorted((self.vocab | self.special).items(), key=lambda item: item[1])),
                "merges": [list(pair) for pair in self.merges],
            },
        }

    @classmethod
    def load(cls, directory: Path | str) -> "Tokenizer":
        """Read a byte-level BPE from tokenizer.json (ours, GPT-2's, Qwen's); what is not understood is refused by name."""
        directory = Path(directory)
        path = directory / "tokenizer.json"
        data = read_json(path)
        config_path = directory / "tokenizer_config.json"
        config = read_json(config_path) if config_path.exists() else {}
        try:
            return cls._from_json(data, config, directory)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{path} does not have the form of a tokenizer.json ({type(error).__name__}: {error})"
            ) from None

    @classmethod
    def _from_json(cls, data: dict[str, Any], config: dict[str, Any], directory: Path) -> "Tokenizer":
        model = data["model"]
        if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
            raise UserError(f"model type {model.get('type')!r} is not read yet, only byte-level BPE is")
        for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
            if model.get(key):
                raise UserError(f"model.{key} = {model[key]!r} is not supported")
        if data.get("normalizer"):
            raise UserError(f"normalizer {data['normalizer'].get('type')!r} is not supported")
        if (data.get("post_processor") or {"type": "ByteLevel"})["type"] != "ByteLevel":
            raise UserError(f"post_processor {data['post_processor']['type']!r} is not supported")
        pattern, prefix_space = _read_pre_tokenizer(data.get("pre_tokenizer"))
        special = {t["content"]: t["id"] for t in data.get("added_tokens", [])}
        for token in data.get("added_tokens", []):
            if token.get("lstrip") or token.get("rstrip") or token.get("single_word"):
                raise UserError(f"added token {token['content']!r} strips its neighbours, which is not supported")
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        vocab = {text: i for text, i in model["vocab"].items() if text not in special}
        template = config.get("chat_template")
        template_file = directory / "chat_template.jinja"
        if template_file.exists():
            template = template_file.read_text(encoding="utf-8")
        names = {k: _token_text(config.get(f"{k}_token")) for k in ("bos", "eos", "pad")}
        return cls(
            vocab,
            merges,  # type: ignore[arg-type]
            special,
            pattern=pattern,
            chat_template=template,
            add_prefix_space=prefix_space,
            **names,
        )


def _token_text(value: Any) -> str | None:
    return value["content"] if isinstance(value, dict) else value


def _read_pre_tokenizer(data: dict[str, Any] | None) -> tuple[str, bool]:
    """The split pattern and whether a space is put before the text."""
    if data is None:
        raise UserError("there is no pre_tokenizer; only byte-level BPE is read")
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
        raise UserError("the pre_tokenizer has no ByteLevel step with a split pattern; only byte-level BPE is read")
    return pattern, prefix_space


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = pretokenize.QWEN2,
    special: Sequence[str] = chat.SPECIAL_TOKENS,
) -> Tokenizer:
    """Learn a byte-level BPE with `vocab_size` ids, special tokens included (ids 0, 1, ...), and cairn's chat template.

    Raises UserError when the size leaves no room for the 256 bytes. A small corpus may yield fewer merges than asked for.
    """
    merges = vocab_size - 256 - len(special)
    if merges < 0:
        raise UserError(
            f"vocabulary of {vocab_size} is too small: 256 bytes and {len(special)} special tokens need room"
        )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pretokenize.split(text, pattern))
    chunks = {chunk.encode("utf-8", "surrogatepass"): count for chunk, count in counts.items()}
    learned = bpe.train(chunks, len(special), merges)
    order = sorted(bpe.BYTE_TO_CHAR.values())
    vocab = {char: len(special) + i for i, char in enumerate(order)}
    text_of = {i: text for text, i in vocab.items()}
    pairs = []
    for (left, right), new in learned:
        pairs.append((text_of[left], text_of[right]))
        text_of[new] = text_of[left] + text_of[right]
        vocab[text_of[new]] = new
    return Tokenizer(
        vocab,
        pairs,
        {token: i for i, token in enumerate(special)},
        pattern=pattern,
        chat_template=chat.CHAT_TEMPLATE,
        bos=chat.END_OF_TEXT,
        eos=chat.END_OF_TEXT,
        pad="<|pad|>",
    )


class StreamDecoder:
    """Ids one at a time to text, holding back bytes of a character that is not whole yet.

    >>> decoder = StreamDecoder(tokenizer)  # doctest: +SKIP
    >>> [decoder.push(i) for i in tokenizer.encode("é")]  # doctest: +SKIP
    ['', 'é']
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True):
        self.tokenizer = tokenizer
        self.skipped = tokenizer.special_ids if skip_special else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return "" if token in self.skipped else self._decoder.decode(self.tokenizer.token_bytes(token))

    def finish(self) -> str:
        """What was held back, as U+FFFD."""
        return self._decoder.decode(b"", final=True)
