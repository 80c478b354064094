"""The loss on text that is not trained on, while training: cheap enough to be asked for often."""

import math
from typing import Any

import numpy as np
import torch

from cairn.training.causal import CausalLM, TokenBatch
from cairn.training.objective import Data, Objective
from cairn.training.shards import ShardSet

MICRO_ROWS = 8


@torch.no_grad()
def validation_loss(model: Any, source: ShardSet, context: int, rows: int) -> dict[str, float]:
    """Of a causal model in evaluation mode, over `rows` rows of `context` tokens spread evenly over the source: the mean of
    valid_loss (nats a token), and valid_bits_per_byte at the source's own bytes a token.

    The rows are the same at every call. They cross documents as rows of plain text do; the figure for papers and comparisons,
    document by document and with its interval, is `evaluation.bits_per_byte`.
    """
    width = min(context, len(source) - 1)
    count = min(rows, (len(source) - 1) // width)
    starts = np.linspace(0, len(source) - 1 - width, count).astype(int).tolist()
    device = next(model.parameters()).device
    total = 0.0
    for at in range(0, count, MICRO_ROWS):
        block = np.stack([source.read(start, start + width + 1) for start in starts[at : at + MICRO_ROWS]])
        ids = torch.from_numpy(block).to(device)
        batch = TokenBatch(ids[:, :-1], ids[:, 1:], ids[:, 1:].numel())
        total += float(CausalLM().loss(model, batch)[1]["loss"])
    loss = total / (count * width)
    out = {"valid_loss": loss}
    if source.bytes:
        out["valid_bits_per_byte"] = loss / math.log(2) * len(source) / source.bytes
    return out


@torch.no_grad()
def objective_loss(model: Any, objective: Objective, data: Data, steps: int = 1) -> dict[str, float]:
    """The same for any objective: its mean loss over the first `steps` steps of held-out data."""
    total = weight = 0.0
    for step in range(steps):
        for batch in data.batch(step):
            total += float(objective.loss(model, batch)[1]["loss"])
            weight += data.weight(batch)
    return {"valid_loss": total / max(weight, 1.0)}
