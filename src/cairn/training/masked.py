"""Masked language modelling: guess the words that are covered, from both sides (BERT, Devlin et al. 2019).

Of all tokens 15 % are chosen. Of the chosen, 80 % are covered by the mask token, 10 % replaced by a random one and 10 % left:
the model cannot rely on a token being what it seems, nor on the mask token, which later texts never hold. The choice is drawn
anew each time a row comes by ("dynamic", RoBERTa, Liu et al. 2019), from the seed and the row's number alone.

Shapes: B rows, T tokens of a row, D width, N chosen tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.tokenizers import Tokenizer
from cairn.training.losses import unembed_loss, with_balance
from cairn.training.packing import PackedRows
from cairn.training.rows import PADDING, CutRows, Row, RowData, as_set, documents_of
from cairn.training.shards import ShardSet
from cairn.training.special_tokens import WordBorders, mask_id


@dataclass(frozen=True)
class MaskedConfig:
    """What is covered."""

    share: float = option(0.15, "share of tokens that are to be guessed", minimum=0)
    covered: float = option(0.8, "share of those that become the mask token", minimum=0)
    replaced: float = option(0.1, "share of those that become a random token; the rest stays", minimum=0)
    whole_words: bool = option(False, "choose whole words, not tokens")

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.covered + self.replaced > 1:
            raise UserError("share must be above 0 and at most 1, and covered + replaced at most 1")


@dataclass(frozen=True)
class MaskedBatch:
    """ids (B, T), some of them covered; where the chosen tokens are among B * T (N,), and what they were (N,)."""

    ids_BT: torch.Tensor
    places_N: torch.Tensor
    targets_N: torch.Tensor
    real_BT: torch.Tensor | None = None  # False at padding; None where there is none
    documents_BT: torch.Tensor | None = None  # the document of each token, where a row holds several that are apart


class MaskedLM:
    """Cross-entropy of the chosen tokens, summed. Logits are made for them alone: 15 % of the work of all.

    Equal to the loss of `transformers`' BertForMaskedLM, which is the mean. smoothing: as in `CausalLM`.
    """

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def loss(self, model: Any, batch: MaskedBatch) -> tuple[torch.Tensor, dict[str, Any]]:
        hidden_BTD = model.hidden(batch.ids_BT, mask_BT=batch.real_BT, document_BT=batch.documents_BT)
        hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.places_N)
        loss = unembed_loss(model.unembed, hidden_ND, batch.targets_N, self.smoothing)
        return with_balance(model, loss, len(batch.targets_N))


class MaskedData(RowData):
    """Rows of `context` tokens for `MaskedLM`, from shards (see `RowData`) that `tokenizer` made.

    A row, or with `packed` each document in it, stands between the tokens that the tokenizer puts around a text ([CLS] and
    [SEP] in BERT). Special tokens are never chosen.
    """

    def __init__(
        self,
        shards: Sequence[TokenShard | ShardSet],
        tokenizer: Tokenizer,
        *,
        rows: int,
        context: int,
        masked: MaskedConfig = MaskedConfig(),
        micro_rows: int = 0,
        shares: Sequence[float] = (1.0,),
        packed: bool = False,
        seed: int = 1,
        device: str = "auto",
    ):
        before, after = ([tokenizer.special[text] for text in side] for side in tokenizer.around)
        sources = [
            PackedRows(as_set(shard), context, seed=seed, around=(before, after))
            if packed
            else CutRows(as_set(shard), context, seed=seed, salt=i, around=(before, after))
            for i, shard in enumerate(shards)
        ]
        super().__init__(
            sources, rows=rows, context=context, micro_rows=micro_rows, shares=shares, seed=seed, device=device
        )
        self.masked, self.mask_id = masked, mask_id(tokenizer)
        self._special_V = np.zeros(tokenizer.vocab_size, bool)
        self._special_V[list(tokenizer.special_ids)] = True
        self._ordinary = np.flatnonzero(~self._special_V)  # what a token may be replaced by
        self._words = WordBorders(tokenizer) if masked.whole_words else None

    def cover(self, row: Row) -> tuple[np.ndarray, np.ndarray]:
        """The ids as the model sees them, and which of them it is to guess; both (T,)."""
        ids_T, _, document_T = row.content
        if row.number < 0:  # padding
            return ids_T, np.zeros(len(ids_T), bool)
        rng = np.random.default_rng([self.seed, 13, row.number])
        word_T = np.arange(len(ids_T)) if self._words is None else self._words.numbers(ids_T)
        chosen_T = (rng.random(len(ids_T)) < self.masked.share)[word_T]
        chosen_T &= ~self._special_V[ids_T] & (document_T != PADDING)
        fate_T = rng.random(len(ids_T))
        random_T = self._ordinary[rng.integers(len(self._ordinary), size=len(ids_T))]
        seen_T = np.where(fate_T < self.masked.covered + self.masked.replaced, random_T, ids_T)
        seen_T = np.where(fate_T < self.masked.covered, self.mask_id, seen_T)
        return np.where(chosen_T, seen_T, ids_T), chosen_T

    def collate(self, rows: Sequence[Row]) -> MaskedBatch:
        seen, chosen = zip(*(self.cover(row) for row in rows))
        places_N = np.flatnonzero(np.stack(chosen))
        ids_BT = np.stack([row.content.ids_T for row in rows])
        real_BT = np.stack([row.content.document_T for row in rows]) != PADDING
        documents_BT = documents_of(rows, self.device)
        plain = documents_BT is not None or bool(real_BT.all())  # padding is a document of its own among several
        return MaskedBatch(
            torch.from_numpy(np.stack(seen)).to(self.device),
            torch.from_numpy(places_N).to(self.device),
            torch.from_numpy(ids_BT.flatten()[places_N]).to(self.device),
            None if plain else torch.from_numpy(real_BT).to(self.device),
            documents_BT,
        )

    def weight(self, batch: MaskedBatch) -> float:
        return float(len(batch.targets_N))

    def tokens(self, batch: MaskedBatch) -> int:
        return batch.ids_BT.numel()
