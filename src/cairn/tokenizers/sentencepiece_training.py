"""Training SentencePiece's byte pair encoding: the same pieces, in the same order, as sentencepiece itself learns."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.tokenizers.fragments import count_fragments
from cairn.tokenizers.modelfile import Piece
from cairn.tokenizers.normalize import SPACE, SentencePieceNormalizer, nmt_nfkc_rules
from cairn.tokenizers.sentencepiece import SentencePieceBPE
from cairn.tokenizers.symbols import train_symbols
from cairn.tokenizers.unigram_training import first_pieces, required_or_refuse


@dataclass(frozen=True)
class SentencePieceBPEConfig:
    vocab_size: int = option(8000, "pieces, special tokens and bytes included", minimum=4)
    coverage: float = option(0.9995, "share of the text's characters that get a piece", minimum=0.9)
    byte_fallback: bool = option(True, "spell characters without a piece in bytes instead of <unk>")
    longest: int = option(16, "characters of a piece at most", minimum=1)


def train_sentencepiece_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    config: SentencePieceBPEConfig | None = None,
    normalizer: SentencePieceNormalizer | None = None,
) -> SentencePieceBPE:
    """Learn a vocabulary of exactly `vocab_size` pieces (whatever size `config` names); a piece's score is minus its rank.

    Of equally frequent pairs the one with the shorter text goes first, then the one whose UTF-8 sorts first. The characters
    stand last in the vocabulary. Raises UserError when they do not fit, or when the text does not hold as many pieces.
    """
    config = dataclasses.replace(config or SentencePieceBPEConfig(), vocab_size=vocab_size)
    normalizer = normalizer or SentencePieceNormalizer(nmt_nfkc_rules())
    first = first_pieces(config.byte_fallback)
    fragments = count_fragments(texts, normalizer, [piece.text for piece in first])
    required = required_or_refuse(fragments, config.coverage, vocab_size, len(first))
    room = vocab_size - len(first)
    # The space sorts as it is written in pieces, as U+2581.
    alphabet = sorted(char.replace(" ", SPACE) for char in required)
    rare = len(alphabet)
    code = {char: i for i, char in enumerate(alphabet)}
    words = [[code.get(c, rare) for c in text.replace(" ", SPACE)] for text in fragments.texts()]

    def join(left: str, right: str) -> str | None:
        return left + right if left and right and len(left) + len(right) <= config.longest else None

    learned = train_symbols(
        words,
        fragments.counts.tolist(),
        [*alphabet, ""],  # "": any character without a piece, which is joined to nothing
        room + 1,
        join=join,
        tie=lambda _, text: (len(text), text.encode("utf-8")),
        reuse=False,
    )[rare + 1 :]
    if len(learned) + rare < room:
        most = len(first) + rare + len(learned)
        raise UserError(f"the text holds only {most} pieces; ask for a vocabulary of at most {most}, or give more text")
    order = [char.replace(" ", SPACE) for char in sorted(required, key=lambda c: (-required[c], c.replace(" ", SPACE)))]
    ordinary = [Piece(text, -float(rank)) for rank, text in enumerate([*learned, *order])]
    return SentencePieceBPE(first + ordinary, normalizer, byte_fallback=config.byte_fallback)
