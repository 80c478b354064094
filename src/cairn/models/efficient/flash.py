"""Exact attention in tiles: the algorithm inside torch's scaled_dot_product_attention, written out (Dao et al. 2022).

A softmax needs the largest score and the sum over the whole row, which seems to need the whole row. It does not: keep the
largest score m seen so far, the sum l and the weighted values z, all relative to m; when a tile brings a larger one, shrink what
was collected by exp(m_old - m_new) and go on (Milakov & Gimelshein 2018). No more than block x block scores exist at a time.

Shapes: B batch, H heads, T queries, S keys, K size of a head, Q and C queries and keys of a tile.
"""

import math

import torch

from cairn.core.errors import UserError


def flash_attention(
    q_BHTK: torch.Tensor, k_BHSK: torch.Tensor, v_BHSK: torch.Tensor, causal: bool, block: int = 128
) -> torch.Tensor:
    """Equal to scaled_dot_product_attention(q, k, v, is_causal=causal) for any `block`."""
    T, S, K = q_BHTK.shape[-2], k_BHSK.shape[-2], q_BHTK.shape[-1]
    if block < 1:
        raise UserError(f"block must be at least 1, got {block}")
    if causal and T != S:
        raise UserError(f"causal attention needs as many keys as queries, got {S} and {T}")
    out = []
    for start in range(0, T, block):
        q_BHQK = q_BHTK[:, :, start : start + block] / math.sqrt(K)
        queries = torch.arange(start, start + q_BHQK.shape[2], device=q_BHTK.device)
        most_BHQ1 = q_BHQK.new_full((*q_BHQK.shape[:3], 1), float("-inf"))
        sum_BHQ1 = torch.zeros_like(most_BHQ1)
        z_BHQK = torch.zeros_like(q_BHQK)
        # Tiles wholly in the future of these queries are never computed.
        for first in range(0, min(S, start + block) if causal else S, block):
            scores_BHQC = q_BHQK @ k_BHSK[:, :, first : first + block].mT
            if causal and first + block > start:
                keys = torch.arange(first, first + scores_BHQC.shape[-1], device=q_BHTK.device)
                scores_BHQC = scores_BHQC.masked_fill(keys > queries[:, None], float("-inf"))
            larger_BHQ1 = torch.maximum(most_BHQ1, scores_BHQC.amax(-1, keepdim=True))
            shrink_BHQ1 = torch.exp(most_BHQ1 - larger_BHQ1)
            weights_BHQC = torch.exp(scores_BHQC - larger_BHQ1)
            sum_BHQ1 = sum_BHQ1 * shrink_BHQ1 + weights_BHQC.sum(-1, keepdim=True)
            z_BHQK = z_BHQK * shrink_BHQ1 + weights_BHQC @ v_BHSK[:, :, first : first + block]
            most_BHQ1 = larger_BHQ1
        out.append(z_BHQK / sum_BHQ1)
    return torch.cat(out, dim=2)
