"""Bits per byte: how many bits a model needs for a byte of unseen text. 8 is chance, independent of the tokenizer.

As lm-eval defines it: documents apart, the first token conditioned on the beginning-of-text token, windows that do not
overlap, the last one filled up with context before it. bits per byte = -sum log p / (bytes ln 2).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cairn.models import Transformer
from cairn.tokenizers import Tokenizer
from cairn.training import make_batch, target_logprobs


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


@torch.inference_mode()
def bits_per_byte(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    context: int | None = None,
    batch_tokens: int = 16384,
) -> BitsPerByte:
    """Over `texts` (documents), with windows of `context` tokens (the model's positions by default)."""
    context = min(context or model.config.max_positions, model.config.max_positions)
    prefix = tokenizer.bos_id if tokenizer.bos_id is not None else 0
    device = next(model.parameters()).device
    sizes: list[int] = []
    rows: list[tuple[list[int], int, int]] = []
    for text in texts:
        rows += [(row, scored, len(sizes)) for row, scored in windows(tokenizer.encode(text), prefix, context)]
        sizes.append(len(text.encode("utf-8", "surrogatepass")))
    nats = np.zeros(len(sizes))
    rows.sort(key=lambda r: len(r[0]))
    at = 0
    while at < len(rows):
        count = max(1, batch_tokens // len(rows[min(at + 63, len(rows) - 1)][0]))
        group = rows[at : at + count]
        at += count
        masks = [[False] * (len(row) - scored) + [True] * scored for row, scored, _ in group]
        logprobs_N, row_N = target_logprobs(model, make_batch([row for row, _, _ in group], masks, device))
        per_row = torch.zeros(len(group), dtype=torch.float64).index_add_(0, row_N.cpu(), logprobs_N.double().cpu())
        for (_, _, document), value in zip(group, per_row.tolist()):
            nats[document] -= value
    return over_documents(nats, sizes)


def over_documents(nats: Sequence[float] | np.ndarray, sizes: Sequence[int]) -> BitsPerByte:
    """Bits per byte of documents with these losses (nats) and bytes, with a bootstrap's 95 % interval."""
    nats_N, bytes_N = np.asarray(nats, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    scale = 1 / math.log(2)
    picks = np.random.default_rng(0).integers(0, len(nats_N), (1000, len(nats_N)))
    low, high = np.percentile(nats_N[picks].sum(1) / bytes_N[picks].sum(1) * scale, [2.5, 97.5])
    value = float(nats_N.sum() / bytes_N.sum() * scale)
    return BitsPerByte(value, float(low), float(high), len(nats_N), int(bytes_N.sum()))
