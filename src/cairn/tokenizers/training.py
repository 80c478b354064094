"""Training a tokenizer of any kind: one call, the same special tokens and chat template whichever way text is cut."""

from collections.abc import Callable, Iterable

from cairn.core.errors import UserError
from cairn.tokenizers import chat, pretokenize
from cairn.tokenizers.model import Model
from cairn.tokenizers.tokenizer import Tokenizer, train_tokenizer

BYTE_LEVEL = "byte-level"
UNKNOWN = ("<unk>", "[UNK]")  # what the other kinds call text that they cannot write


def train_kind(
    kind: str, texts: Iterable[str], vocab_size: int, *, pattern: str = pretokenize.QWEN2, threads: int = 1
) -> Tokenizer:
    """Learn a tokenizer of one of `KINDS` with at most `vocab_size` ids, cairn's special tokens and chat template included.

    pattern: of the byte-level kind alone. Raises UserError when the size leaves no room, naming what does.
    """
    if kind == BYTE_LEVEL:
        return train_tokenizer(texts, vocab_size, pattern=pattern, threads=threads)
    room = vocab_size - len(chat.SPECIAL_TOKENS)
    if room < 1:
        raise UserError(
            f"a vocabulary of {vocab_size} is too small: {len(chat.SPECIAL_TOKENS)} special tokens need room"
        )
    return with_chat(TRAINERS[kind](texts, room, threads))


def with_chat(model: Model) -> Tokenizer:
    """The model with cairn's special tokens behind its own (unknown and control tokens) and cairn's chat template."""
    special = dict(getattr(model, "special", {}))
    first = max([*model.vocab.values(), *special.values()]) + 1
    special |= {token: first + i for i, token in enumerate(chat.SPECIAL_TOKENS)}
    unknown = next((text for text in UNKNOWN if text in special), None)
    names = {"bos": chat.END_OF_TEXT, "eos": chat.END_OF_TEXT, "pad": "<|pad|>", "unk": unknown}
    return Tokenizer(model, special, chat_template=chat.CHAT_TEMPLATE, names=names)


def _unigram(texts: Iterable[str], vocab_size: int, threads: int) -> Model:
    from cairn.tokenizers.unigram_training import UnigramConfig, train_unigram

    return train_unigram(texts, vocab_size, config=UnigramConfig(threads=threads))


def _wordpiece(texts: Iterable[str], vocab_size: int, threads: int) -> Model:
    from cairn.tokenizers.wordpiece import train_wordpiece

    return train_wordpiece(texts, vocab_size)


def _sentencepiece_bpe(texts: Iterable[str], vocab_size: int, threads: int) -> Model:
    from cairn.tokenizers.sentencepiece_training import train_sentencepiece_bpe

    return train_sentencepiece_bpe(texts, vocab_size)


def _characters(texts: Iterable[str], vocab_size: int, threads: int) -> Model:
    from cairn.tokenizers.levels import train_characters

    return train_characters(texts, vocab_size)


def _words(texts: Iterable[str], vocab_size: int, threads: int) -> Model:
    from cairn.tokenizers.levels import train_words

    return train_words(texts, vocab_size)


# kind -> training with (texts, ids, threads)
TRAINERS: dict[str, Callable[[Iterable[str], int, int], Model]] = {
    "unigram": _unigram,
    "wordpiece": _wordpiece,
    "sentencepiece-bpe": _sentencepiece_bpe,
    "characters": _characters,
    "words": _words,
}
KINDS = (BYTE_LEVEL, *TRAINERS)
