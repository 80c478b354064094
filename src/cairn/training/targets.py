"""What can be told of a batch of next tokens without training: wrong targets, a model that sees ahead, the loss that remains.

Shapes: B rows, T tokens.
"""

import math
from collections import Counter, defaultdict
from typing import Any

import torch

from cairn.models.model import Model
from cairn.training.causal import TokenBatch, hidden_states
from cairn.training.losses import IGNORED

MOST_NEXT = 0.5  # share of targets that are the next input, below which they are not shifted right


def wrong_targets(batch: TokenBatch, vocab_size: int) -> str:
    """What is wrong with the targets, in one line; empty when they are the next tokens."""
    inputs_BT, targets_BT = batch.inputs_BT, batch.targets_BT
    counted_BT = targets_BT != IGNORED
    if not bool(counted_BT.any()):
        return "no target counts: the loss mask leaves nothing to learn from"
    for name, ids in (("input", inputs_BT), ("target", targets_BT[counted_BT])):
        if int(ids.max()) >= vocab_size or int(ids.min()) < 0:
            worst = int(ids.max()) if int(ids.max()) >= vocab_size else int(ids.min())
            return (
                f"{name} {worst} is outside of the model's vocabulary of {vocab_size}: another tokenizer made these ids"
            )
    if inputs_BT.shape[1] < 2:
        return ""
    within_BT = counted_BT[:, :-1]
    following = (targets_BT[:, :-1] == inputs_BT[:, 1:])[within_BT].float()
    if not len(following) or float(following.mean()) >= MOST_NEXT:
        return ""
    if bool((targets_BT == inputs_BT)[counted_BT].all()):
        return "the targets are the inputs themselves: they have to be shifted by one token"
    return f"only {float(following.mean()):.0%} of the targets are the next input: shifted wrongly, or shuffled"


@torch.no_grad()
def sees_ahead(model: Model, batch: TokenBatch) -> str:
    """Whether another last token changes what the model makes of those before it; empty when it does not."""
    last = batch.inputs_BT.clone()
    last[:, -1] = (last[:, -1] + 1) % model.config.vocab_size
    changed = TokenBatch(last, batch.targets_BT, batch.counted, batch.documents_BT)
    training = model.training
    model.eval()
    states = [hidden_states(model, one)[:, :-1] for one in (batch, changed)]
    model.train(training)
    if torch.allclose(*states, rtol=1e-3, atol=1e-4, equal_nan=True):
        return ""
    return "the model sees the tokens it is to predict: a changed last token changes what comes before it"


def irreducible(batch: TokenBatch) -> float:
    """Nats a target that no model gets below: rows that begin alike and go on differently, as every row's first token does.

    The entropy of the targets that follow one and the same beginning, averaged over the counted targets.
    """
    follows: dict[Any, Counter] = defaultdict(Counter)
    documents_BT = torch.zeros_like(batch.inputs_BT) if batch.documents_BT is None else batch.documents_BT
    for ids, targets, documents in zip(batch.inputs_BT.tolist(), batch.targets_BT.tolist(), documents_BT.tolist()):
        beginning, document = 0, None
        for token, target, number in zip(ids, targets, documents):
            beginning = hash((beginning if number == document else 0, token))
            document = number
            if target != IGNORED:
                follows[beginning][target] += 1
    nats = 0.0
    for targets in follows.values():
        total = targets.total()
        nats -= sum(count * math.log(count / total) for count in targets.values())
    return nats / max(batch.counted, 1)
