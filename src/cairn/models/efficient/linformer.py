"""Linformer: keys and values of T tokens projected to P rows, so that attention costs T x P (Wang et al. 2020).

z = softmax(q (E k)^T / sqrt(K)) (E v) with E of P x T. Attention matrices are close to low rank; which P mixtures of positions
serve best is learned with the model, and depends on the length: a projection fits one T.

Shapes: B batch, H heads, T tokens, K size of a head, P projected rows.
"""

import torch
import torch.nn.functional as F

from cairn.core.errors import UserError


def random_projection(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """Where learning begins (P, T): each row the mean of its own stretch of T / P neighbouring tokens, and some noise."""
    if not 1 <= rows <= tokens:
        raise UserError(f"a projection keeps 1 to {tokens} of {tokens} tokens, got {rows}")
    owner = torch.arange(tokens) * rows // tokens
    means = F.one_hot(owner, rows).T.float()
    means /= means.sum(1, keepdim=True)
    noise = torch.randn(rows, tokens, generator=torch.Generator().manual_seed(seed))
    return means + noise * (0.1 / tokens)


def linformer_attention(
    q_BHTK: torch.Tensor,
    k_BHTK: torch.Tensor,
    v_BHTK: torch.Tensor,
    causal: bool,
    keys_PT: torch.Tensor,
    values_PT: torch.Tensor | None = None,
) -> torch.Tensor:
    """keys, values: projections, learned or random; one for both where `values_PT` is None. Refuses `causal`."""
    if causal:
        raise UserError(
            "Linformer cannot be causal: each projected key mixes tokens of the whole sequence, those to come among them, "
            "and no mask can take them out again; use flash, sliding-window, block-sparse or Performer attention"
        )
    values_PT = keys_PT if values_PT is None else values_PT
    T = k_BHTK.shape[2]
    if keys_PT.shape[1] != T or values_PT.shape != keys_PT.shape:
        raise UserError(f"{T} keys need projections of shape (P, {T}), got {[*keys_PT.shape]} and {[*values_PT.shape]}")
    return F.scaled_dot_product_attention(q_BHTK, keys_PT @ k_BHTK, values_PT @ v_BHTK)
