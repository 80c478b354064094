"""Bits per byte of whole documents: how many bits a model needs for a byte of unseen text. 8 is chance, whatever the tokenizer.

As lm-eval defines it: documents apart, the first token conditioned on the beginning-of-text token, windows that do not
overlap, the last one filled up with context before it. bits per byte = -sum log p / (bytes ln 2).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cairn.training.causal import make_batch, target_logprobs

LOGITS = 1 << 26  # numbers held at once: 256 MiB in float32


@dataclass(frozen=True)
class BitsPerByte:
    """value with a 95 % interval (low, high) from a bootstrap over documents."""

    value: float
    low: float
    high: float
    documents: int
    bytes: int


def windows(ids: Sequence[int], prefix: int, size: int) -> list[tuple[list[int], int]]:
    """(row of at most size + 1 ids, how many of its last ids are scored); together they score every id once.

    >>> windows([1, 2, 3, 4, 5], 0, 3)
    [([0, 1, 2, 3], 3), ([2, 3, 4, 5], 2)]
    """
    whole = [prefix, *ids]
    out = []
    for start in range(1, len(whole), size):
        end = min(start + size, len(whole))
        out.append((list(whole[max(0, end - size - 1) : end]), end - start))
    return out


@torch.no_grad()  # not inference_mode: training may follow, with what a model caches
def document_nats(
    model: Any, documents: Iterable[Sequence[int]], prefix: int, context: int, batch_tokens: int = 16384
) -> np.ndarray:
    """-log p of each document (N,), ids without the beginning-of-text token `prefix`, in windows of `context` tokens."""
    device = next(model.parameters()).device
    batch_tokens = min(batch_tokens, max(context, LOGITS // model.config.vocab_size))
    rows: list[tuple[list[int], int, int]] = []
    count = 0
    for ids in documents:
        rows += [(row, scored, count) for row, scored in windows(ids, prefix, context)]
        count += 1
    nats_N = np.zeros(count)
    rows.sort(key=lambda r: len(r[0]))
    at = 0
    while at < len(rows):
        size = max(1, batch_tokens // len(rows[min(at + 63, len(rows) - 1)][0]))
        group = rows[at : at + size]
        at += size
        masks = [[False] * (len(row) - scored) + [True] * scored for row, scored, _ in group]
        logprobs_C, row_C = target_logprobs(model, make_batch([row for row, _, _ in group], masks, device))
        per_row = torch.zeros(len(group), dtype=torch.float64).index_add_(0, row_C.cpu(), logprobs_C.double().cpu())
        for (_, _, document), value in zip(group, per_row.tolist()):
            nats_N[document] -= value
    return nats_N


def over_documents(nats: Sequence[float] | np.ndarray, sizes: Sequence[int] | np.ndarray) -> BitsPerByte:
    """Bits per byte of documents with these losses (nats; a difference of two also does) and bytes, with a bootstrap's 95 %
    interval."""
    nats_N, bytes_N = np.asarray(nats, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    scale = 1 / math.log(2)
    picks = np.random.default_rng(0).integers(0, len(nats_N), (1000, len(nats_N)))
    low, high = np.percentile(nats_N[picks].sum(1) / bytes_N[picks].sum(1) * scale, [2.5, 97.5])
    value = float(nats_N.sum() / bytes_N.sum() * scale)
    return BitsPerByte(value, float(low), float(high), len(nats_N), int(bytes_N.sum()))
