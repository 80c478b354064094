"""Span corruption: write what is missing from a text (T5, Raffel et al. 2020).

    Thank you for inviting me to your party last week
    encoder: Thank you <X> me to your party <Y> week </s>        decoder: <X> for inviting <Y> last </s>

15 % of the tokens are taken out, in spans of 3 on average; a sentinel stands where each was, and leads it in the target. The
number of tokens and of spans taken from a row is the same in every row, so lengths are fixed and nothing is padded: rows are
cut at the one length that, corrupted, fills the encoder's context (568 tokens for 512).

Shapes: B rows, L tokens of a row before, S tokens that are read, T tokens that are written, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.models.seq2seq import EncoderDecoder
from cairn.tokenizers import Tokenizer
from cairn.training.losses import IGNORED, unembed_loss, with_balance
from cairn.training.rows import CutRows, Row, RowData, as_set
from cairn.training.shards import ShardSet
from cairn.training.special_tokens import sentinel_ids


@dataclass(frozen=True)
class SpanConfig:
    """What is taken out."""

    noise: float = option(0.15, "share of tokens that are taken out", minimum=0)
    span: float = option(3.0, "tokens of a span on average", minimum=1)

    def __post_init__(self) -> None:
        if not 0 < self.noise < 1:
            raise UserError(f"noise must be between 0 and 1, got {self.noise}")

    def counts(self, length: int) -> tuple[int, int]:
        """Of `length` tokens: how many are taken out, in how many spans."""
        taken = min(max(round(length * self.noise), 1), length - 1)
        return taken, min(max(round(taken / self.span), 1), length - taken)

    def lengths(self, length: int) -> tuple[int, int]:
        """Tokens of the encoder's and of the decoder's text made of `length` tokens, the end token of each included."""
        taken, spans = self.counts(length)
        return length - taken + spans + 1, taken + spans + 1

    def longest(self, context: int) -> int:
        """The most tokens that, corrupted, fit an encoder's context.

        >>> SpanConfig().longest(512), SpanConfig().lengths(568)
        (568, (512, 114))
        """
        if context < self.lengths(2)[0]:
            raise UserError(f"a context of {context} tokens is too short for span corruption")
        length = 2
        while self.lengths(length + 1)[0] <= context:
            length += 1
        return length


def noise_mask(length: int, config: SpanConfig, rng: np.random.Generator) -> np.ndarray:
    """Which tokens are taken out (L,): kept and taken spans in turn, a kept one first, each way to divide equally likely."""
    taken, spans = config.counts(length)
    lengths = np.empty(2 * spans, np.int64)
    lengths[0::2], lengths[1::2] = _divide(length - taken, spans, rng), _divide(taken, spans, rng)
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def _divide(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`total` as a sum of `parts` numbers above 0: cuts at distinct places."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def corrupt(
    ids_L: np.ndarray, mask_L: np.ndarray, sentinels: Sequence[int], end_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """(encoder's text, decoder's text): each run of masked tokens replaced by a sentinel, and the runs behind theirs.

    >>> corrupt(np.arange(1, 8), np.array([0, 0, 1, 1, 0, 1, 0], bool), [99, 98], 0)
    (array([ 1,  2, 99,  5, 98,  7,  0]), array([99,  3,  4, 98,  6,  0]))
    """
    begins_L = mask_L & ~np.append(False, mask_L[:-1])
    names = np.asarray(sentinels, np.int64)[: begins_L.sum()]
    marked_L = ids_L.copy()
    marked_L[begins_L] = names
    read = marked_L[~mask_L | begins_L]
    # In the decoder's text a sentinel comes before the first token of its span.
    places = np.flatnonzero(begins_L[mask_L])
    written = np.insert(ids_L[mask_L], places, names)
    return np.append(read, end_id), np.append(written, end_id)


@dataclass(frozen=True)
class SpanBatch:
    """What is read (B, S), what is to be written (B, T), or IGNORED, and how many targets count."""

    ids_BS: torch.Tensor
    targets_BT: torch.Tensor
    counted: int


class SpanLM:
    """Cross-entropy of what the decoder is to write, summed. It reads the targets one place behind, from `start_id` on.

    Equal to the loss of `transformers`' T5ForConditionalGeneration, which is the mean. smoothing: as in `CausalLM`.
    """

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def loss(self, model: EncoderDecoder, batch: SpanBatch) -> tuple[torch.Tensor, dict[str, Any]]:
        decoder_BT = batch.targets_BT.roll(1, dims=1).clamp(min=0)  # nothing is learned after an ignored target
        decoder_BT[:, 0] = model.config.start_id
        hidden_BTD = model.decoder.hidden(decoder_BT, memory=model.encode(batch.ids_BS))
        targets_N = batch.targets_BT.flatten()
        loss = unembed_loss(model.decoder.unembed, hidden_BTD.flatten(0, 1), targets_N, self.smoothing)
        return with_balance(model, loss, batch.counted)


class SpanData(RowData):
    """Rows for `SpanLM` from shards (see `RowData`) that `tokenizer` made: `context` tokens for the encoder to read.

    Spans are drawn from the seed and the row's number, anew each time a row comes by.
    """

    def __init__(
        self,
        shards: Sequence[TokenShard | ShardSet],
        tokenizer: Tokenizer,
        *,
        rows: int,
        context: int,
        spans: SpanConfig = SpanConfig(),
        micro_rows: int = 0,
        shares: Sequence[float] = (1.0,),
        seed: int = 1,
        device: str = "auto",
    ):
        if tokenizer.eos_id is None:
            raise UserError("the tokenizer has no eos token, which ends what an encoder-decoder reads and writes")
        self.spans, self.end_id, self.sentinels = spans, tokenizer.eos_id, sentinel_ids(tokenizer)
        width = spans.longest(context)
        needed = spans.counts(width)[1]
        if needed > len(self.sentinels):
            raise UserError(
                f"rows of {context} tokens have {needed} missing spans, the tokenizer has {len(self.sentinels)} sentinels: "
                "lower --context or noise, or make spans longer"
            )
        cut = [CutRows(as_set(shard), width, seed=seed, salt=i) for i, shard in enumerate(shards)]
        super().__init__(
            cut,
            rows=rows,
            context=context,
            micro_rows=micro_rows,
            shares=shares,
            width=width,
            seed=seed,
            device=device,
        )

    def collate(self, rows: Sequence[Row]) -> SpanBatch:
        read, written, counted = [], [], 0
        for row in rows:
            rng = np.random.default_rng([self.seed, 23, max(row.number, 0)])
            mask_L = noise_mask(self.width, self.spans, rng)
            inputs, targets = corrupt(row.content.ids_T, mask_L, self.sentinels, self.end_id)
            real = row.number >= 0
            read.append(inputs)
            written.append(targets if real else np.full_like(targets, IGNORED))
            counted += len(targets) * real
        return SpanBatch(
            torch.from_numpy(np.stack(read)).to(self.device),
            torch.from_numpy(np.stack(written)).to(self.device),
            counted,
        )

    def weight(self, batch: SpanBatch) -> float:
        return float(batch.counted)

    def tokens(self, batch: SpanBatch) -> int:
        return batch.ids_BS.numel() + batch.targets_BT.numel()
