"""What the attention heads look at.

Shapes: B batch, L layers, H heads, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cairn.core.errors import UserError
from cairn.core.stats import Z95
from cairn.interpretability.trace import trace
from cairn.models import Transformer


def patterns(model: Transformer, ids_BT: torch.Tensor) -> torch.Tensor:
    """Attention probabilities of every head, (B, L, H, T, T): row t says where token t looks."""
    found = trace(model, ids_BT, only="hook_pattern")
    return torch.stack([found[f"blocks.{layer}.attn.hook_pattern"] for layer in range(model.config.layers)], dim=1)


def summarize_heads(pattern_LHTT: torch.Tensor) -> list[dict[str, float]]:
    """For each head of one text, its mean weight on the first, the previous and the same token, and its spread.

    Means over the tokens that have a previous one. `entropy` is in bits: 0 looks at one token, log2(n) at n equally.
    """
    rows = []
    if pattern_LHTT.shape[-1] < 2:
        raise UserError("a text of at least two tokens is needed to summarize attention")
    for layer, pattern_HTT in enumerate(pattern_LHTT.float().cpu()):
        entropy_HT = -torch.xlogy(pattern_HTT, pattern_HTT).sum(-1) / torch.log(torch.tensor(2.0))
        columns = {
            "first": pattern_HTT[:, 1:, 0].mean(-1),
            "previous": pattern_HTT.diagonal(-1, 1, 2).mean(-1),
            "same": pattern_HTT.diagonal(0, 1, 2)[:, 1:].mean(-1),
            "entropy": entropy_HT[:, 1:].mean(-1),
        }
        for head in range(len(pattern_HTT)):
            rows.append({"layer": layer, "head": head} | {k: float(v[head]) for k, v in columns.items()})
    return rows


@dataclass(frozen=True)
class InductionScores:
    """Mean score of each head with its 95 % interval over the sequences, and what even attention would score."""

    score_LH: torch.Tensor
    low_LH: torch.Tensor
    high_LH: torch.Tensor
    chance: float
    sequences: int
    length: int


def induction_scores(
    model: Transformer,
    tokens: Sequence[int] | None = None,
    *,
    bos: int | None = None,
    length: int = 50,
    sequences: int = 16,
    seed: int = 0,
) -> InductionScores:
    """How much each head looks at the token after the last occurrence of the current one (Olsson et al. 2022).

    `length` random tokens (of `tokens`, by default the whole vocabulary) are repeated once, after `bos` where there is
    one. The score is the mean of pattern.diagonal(offset = 1 - length), as in TransformerLens' demonstrations: from a
    token of the repetition, one step after its first occurrence.
    """
    room = (model.config.max_positions - (bos is not None)) // 2
    length = min(length, room)
    if length < 2:
        raise UserError(f"{model.config.max_positions} positions are too few to repeat a sequence in")
    choice = torch.tensor(list(tokens) if tokens is not None else range(model.config.vocab_size))
    draw = torch.randint(len(choice), (sequences, length), generator=torch.Generator().manual_seed(seed))
    ids_BT = choice[draw].repeat(1, 2)
    if bos is not None:
        ids_BT = torch.cat([torch.full((sequences, 1), bos), ids_BT], dim=1)
    pattern_BLHTT = patterns(model, ids_BT.to(model.embed.weight.device)).float().cpu()
    score_BLH = pattern_BLHTT.diagonal(1 - length, -2, -1).mean(-1)
    half_LH = Z95 * score_BLH.std(0) / sequences**0.5 if sequences > 1 else torch.zeros_like(score_BLH[0])
    mean_LH = score_BLH.mean(0)
    seen = torch.arange(length, ids_BT.shape[1] + 1)  # tokens that a row of that diagonal may look at
    return InductionScores(
        mean_LH,
        (mean_LH - half_LH).clamp(min=0),
        (mean_LH + half_LH).clamp(max=1),
        float((1 / seen).mean()),
        sequences,
        length,
    )
