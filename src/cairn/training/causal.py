"""Causal language modelling: predict the next token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cairn.training.losses import IGNORED, unembed_loss, with_balance


@dataclass(frozen=True)
class TokenBatch:
    """inputs (B, T) and, for each position, the next token or IGNORED (B, T)."""

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    counted: int  # targets that carry loss
    documents_BT: torch.Tensor | None = None  # the document of each input, where a row holds several that are apart


def make_batch(
    rows: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]] | None, device: torch.device
) -> TokenBatch:
    """Rows of ids, padded on the right, to a batch. masks: which ids are to be predicted; None means all but the first."""
    width = max(len(row) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    keep = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        keep[i, : len(row)] = True if masks is None else masks[i]
    targets = np.where(keep[:, 1:], ids[:, 1:], IGNORED)
    return TokenBatch(
        torch.from_numpy(ids[:, :-1]).to(device),
        torch.from_numpy(targets).to(device),
        int((targets != IGNORED).sum()),
    )


def target_logprobs(model: Any, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the counted targets (N,) and the row each belongs to (N,)."""
    hidden_ND, targets_N = counted_states(model, batch)
    logprobs_N = -F.cross_entropy(model.unembed(hidden_ND).float(), targets_N, reduction="none")
    return logprobs_N, (batch.targets_BT != IGNORED).nonzero()[:, 0]


def hidden_states(model: Any, batch: TokenBatch) -> torch.Tensor:
    """The states (B, T, D) that predict the targets."""
    if batch.documents_BT is None:
        return model.hidden(batch.inputs_BT)
    return model.hidden(batch.inputs_BT, document_BT=batch.documents_BT)


def counted_states(model: Any, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The states (N, D) that predict the counted targets, and those (N,): with a loss mask most positions need no logits."""
    hidden_ND, targets_N = hidden_states(model, batch).flatten(0, 1), batch.targets_BT.flatten()
    if batch.counted == len(targets_N):  # choosing rows costs a scatter in the backward pass: not where all are chosen
        return hidden_ND, targets_N
    counted_N = targets_N != IGNORED
    return hidden_ND[counted_N], targets_N[counted_N]


class CausalLM:
    """Cross-entropy over counted targets: the sum over the batch, to be divided by their number over the whole step.

    The load-balancing loss of a mixture of experts is added for every counted target. smoothing: share of a target's
    probability that goes to all entries; "loss" in the metrics then is the smoothed one.
    """

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def loss(self, model: Any, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, Any]]:
        hidden_ND, targets_N = counted_states(model, batch)
        loss = unembed_loss(model.unembed, hidden_ND, targets_N, self.smoothing)
        return with_balance(model, loss, batch.counted)
