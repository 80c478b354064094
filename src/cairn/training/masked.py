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
from cairn.models import ModelConfig
from cairn.models.experts import auxiliary_loss
from cairn.tokenizers import Tokenizer
from cairn.training.losses import IGNORED, unembed_loss
from cairn.training.rows import PADDING, CutRows, Row, RowData, as_set, documents_of
from cairn.training.shards import ShardSet
from cairn.training.words import WordBorders, add_special

MASK = "<|mask|>"


@dataclass(frozen=True)
class MaskedConfig:
    """What is covered."""

    share: float = option(0.15, "share of tokens that are to be guessed", minimum=0)
    covered: float = option(0.8, "share of those that become the mask token", minimum=0)
    replaced: float = option(0.1, "share of those that become a random token; the rest stays", minimum=0)
    whole_words: bool = option(False, "choose whole words, not tokens")
    smoothing: float = option(0.0, "share of a target's probability that goes to all tokens alike", minimum=0)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.covered + self.replaced > 1 or self.smoothing >= 1:
            raise UserError("share must be above 0 and at most 1, covered + replaced at most 1, smoothing below 1")


@dataclass(frozen=True)
class MaskedBatch:
    """ids (B, T), some of them covered; where the chosen tokens are in B * T (N,), and what they were (N,)."""

    ids_BT: torch.Tensor
    places_N: torch.Tensor
    targets_N: torch.Tensor
    real_BT: torch.Tensor | None  # False at padding; None where there is none
    documents_BT: torch.Tensor | None  # the document of each token, where a row holds several


class MaskedLM:
    """Cross-entropy of the chosen tokens, summed. Logits are made for them alone: 15 % of the work of all.

    Equal to the loss of `transformers`' BertForMaskedLM, which is the mean.
    """

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def loss(self, model: Any, batch: MaskedBatch) -> tuple[torch.Tensor, dict[str, Any]]:
        hidden_BTD = model.hidden(batch.ids_BT, mask_BT=batch.real_BT, document_BT=batch.documents_BT)
        hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.places_N)
        loss = unembed_loss(model.unembed, hidden_ND, batch.targets_N, self.smoothing)
        metrics: dict[str, Any] = {"loss": loss.detach()}
        balance = auxiliary_loss(model)
        if balance is not None:
            metrics["balance_loss"] = balance.detach() * len(batch.targets_N)
            loss = loss + balance * len(batch.targets_N)
        return loss, metrics


class MaskedData(RowData):
    """Rows of `context` tokens for `MaskedLM`, with the tokens around them that the tokenizer puts around a text ([CLS] and
    [SEP] in BERT). Special tokens are never chosen, nor what no token replaces."""

    def __init__(
        self,
        shards: Sequence[TokenShard | ShardSet],
        tokenizer: Tokenizer,
        *,
        masked: MaskedConfig = MaskedConfig(),
        rows: int,
        context: int,
        micro_rows: int = 0,
        shares: Sequence[float] = (1.0,),
        seed: int = 1,
        device: str = "auto",
    ):
        mask_id = tokenizer.named_id("mask")
        if mask_id is None:
            raise UserError("this tokenizer has no mask token: masked language modelling needs one (masked.with_mask adds it)")
        self.masked, self.mask_id = masked, mask_id
        before, after = ([tokenizer.special[text] for text in side] for side in tokenizer.around)
        self._before, self._after = np.array(before, np.int64), np.array(after, np.int64)
        inner = context - len(before) - len(after)
        cut = [CutRows(as_set(shard), inner, seed=seed, salt=i) for i, shard in enumerate(shards)]
        super().__init__(
            cut, rows=rows, context=context, micro_rows=micro_rows, shares=shares, seed=seed, device=device
        )
        self.special_V = np.zeros(tokenizer.vocab_size, bool)
        self.special_V[list(tokenizer.special_ids)] = True
        self.ordinary = np.flatnonzero(~self.special_V)  # what a token may be replaced by
        self.words = WordBorders(tokenizer) if masked.whole_words else None

    def cover(self, ids_T: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The row as the model sees it, and which tokens it is to guess; both (T,)."""
        rng = np.random.default_rng([self.seed, 13, number])
        word_T = np.arange(len(ids_T)) if self.words is None else self.words.numbers(ids_T)
        chosen_T = (rng.random(len(ids_T)) < self.masked.share)[word_T] & ~self.special_V[ids_T]
        fate_T = rng.random(len(ids_T))
        random_T = self.ordinary[rng.integers(len(self.ordinary), size=len(ids_T))]
        seen_T = np.where(fate_T < self.masked.covered + self.masked.replaced, random_T, ids_T)
        seen_T = np.where(fate_T < self.masked.covered, self.mask_id, seen_T)
        return np.where(chosen_T, seen_T, ids_T), chosen_T

    def collate(self, rows: Sequence[Row]) -> MaskedBatch:
        seen, chosen, whole = [], [], []
        for row in rows:
            ids_T = np.concatenate([self._before, row.content.ids_T, self._after])[: self.context]
            seen_T, chosen_T = self.cover(ids_T, row.number) if row.number >= 0 else (ids_T, np.zeros(len(ids_T), bool))
            seen.append(seen_T)
            chosen.append(chosen_T)
            whole.append(ids_T)
        places_N = np.flatnonzero(np.stack(chosen))
        return MaskedBatch(
            torch.from_numpy(np.stack(seen)).to(self.device),
            torch.from_numpy(places_N).to(self.device),
            torch.from_numpy(np.stack(whole).flatten()[places_N]).to(self.device),
            None,
            None,
        )
