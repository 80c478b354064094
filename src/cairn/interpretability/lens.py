"""The logit lens: what the model would say if it stopped after each block (nostalgebraist 2020).

Shapes: B batch, T tokens, D width, V vocabulary, S = layers + 1 stages (the embedding, then after each block), K best.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cairn.interpretability.trace import trace
from cairn.models import Transformer


@torch.inference_mode()
def lens_logits(model: Transformer, ids_BT: torch.Tensor) -> Iterator[torch.Tensor]:
    """For each stage the final norm and the unembedding of the residual stream, (B, T, V); the last are the logits."""
    found = trace(model, ids_BT, only=("blocks.0.hook_resid_pre", "hook_resid_post"))
    stages = ["blocks.0.hook_resid_pre"] + [f"blocks.{layer}.hook_resid_post" for layer in range(model.config.layers)]
    for name in stages:
        yield model.unembed(model.norm(found[name]))


@dataclass(frozen=True)
class Lens:
    """The K likeliest next tokens at each stage and position, and the probability of the token that really follows.

    next_probability_ST has a column less: nothing follows the last position.
    """

    top_ids_STK: torch.Tensor
    top_probabilities_STK: torch.Tensor
    next_probability_ST: torch.Tensor


def logit_lens(model: Transformer, ids_T: torch.Tensor, top: int = 5) -> Lens:
    """Read one sequence through the lens."""
    ids, probabilities, following = [], [], []
    for logits_BTV in lens_logits(model, ids_T[None]):
        probability_TV = logits_BTV[0].float().softmax(-1)
        best = probability_TV.topk(min(top, probability_TV.shape[-1]), dim=-1)
        ids.append(best.indices.cpu())
        probabilities.append(best.values.cpu())
        following.append(probability_TV[:-1].gather(-1, ids_T[1:, None])[:, 0].cpu())
    return Lens(torch.stack(ids), torch.stack(probabilities), torch.stack(following))
