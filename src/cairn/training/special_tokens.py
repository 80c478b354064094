"""What an objective needs of a tokenizer besides text: a mask token, sentinels, where words begin."""

from collections.abc import Sequence

import numpy as np

from cairn.core.errors import UserError
from cairn.tokenizers import Tokenizer

MASK = "<|mask|>"
SENTINEL = "<extra_id_{}>"  # T5's name


def with_mask(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, or where it has no mask token one that has it behind its last id. Text is encoded as before."""
    if tokenizer.named_id("mask") is not None:
        return tokenizer
    return _extended(tokenizer, [MASK], {"mask": MASK})


def mask_id(tokenizer: Tokenizer) -> int:
    found = tokenizer.named_id("mask")
    if found is None:
        raise UserError("the tokenizer has no mask token, which masked language modelling needs: with_mask adds one")
    return found


def with_sentinels(tokenizer: Tokenizer, count: int = 100) -> Tokenizer:
    """The tokenizer, or where it has no sentinels one that has `count` behind its last id, the first of them last, as in T5."""
    if SENTINEL.format(0) in tokenizer.special:
        return tokenizer
    return _extended(tokenizer, [SENTINEL.format(i) for i in reversed(range(count))], {})


def sentinel_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of <extra_id_0>, <extra_id_1>, ..."""
    ids: list[int] = []
    while (text := SENTINEL.format(len(ids))) in tokenizer.special:
        ids.append(tokenizer.special[text])
    if not ids:
        raise UserError(
            f"the tokenizer has no sentinels ({SENTINEL.format(0)}, ...), which span corruption needs: with_sentinels adds them"
        )
    return ids


def _extended(tokenizer: Tokenizer, texts: Sequence[str], names: dict[str, str]) -> Tokenizer:
    first = tokenizer.vocab_size
    out = Tokenizer(
        tokenizer.model,
        tokenizer.special | {text: first + i for i, text in enumerate(texts)},
        chat_template=tokenizer.chat_template,
        names=tokenizer.names | names,
        around=tokenizer.around,
        strip_left=tokenizer.strip_left,
        strip_right=tokenizer.strip_right,
        shown=tokenizer.shown,
    )
    out.ends = tokenizer.ends
    return out


class WordBorders:
    """Which tokens belong to one word, told by their bytes: a token goes on with a word when it begins with a letter, a digit
    or a byte of another script, and the token before it ends with one or is the space that leads the word. Right for tokens
    of bytes, of WordPiece (whose pieces inside a word have no space before them) and of SentencePiece; special tokens stand
    alone."""

    def __init__(self, tokenizer: Tokenizer):
        self._goes_on_V = np.zeros(tokenizer.vocab_size, bool)
        self._open_V = np.zeros(tokenizer.vocab_size, bool)
        for token in set(tokenizer.vocab.values()) - tokenizer.special_ids:
            text = tokenizer.token_bytes(token)
            if text:
                self._goes_on_V[token], self._open_V[token] = _of_word(text[0]), _of_word(text[-1]) or text == b" "

    def numbers(self, ids_T: np.ndarray) -> np.ndarray:
        """The word (0, 1, ...) of each token (T,)."""
        begins_T = np.ones(len(ids_T), bool)
        begins_T[1:] = ~(self._goes_on_V[ids_T[1:]] & self._open_V[ids_T[:-1]])
        return np.cumsum(begins_T) - 1


def _of_word(byte: int) -> bool:
    return byte >= 0x80 or chr(byte).isalnum()
