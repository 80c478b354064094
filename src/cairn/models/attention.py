"""Causal self-attention: multi-head, grouped-query and multi-query by the number of key/value heads.

Shapes: B batch, T tokens, D width, H query heads, G key/value heads, K size of a head, P positions attended to.
"""

import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.cache import CacheStep
from cairn.models.config import ModelConfig
from cairn.models.positions import rotate


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q = nn.Linear(config.dim, config.heads * config.head_dim, bias=config.bias)
        self.k = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=config.bias)
        self.v = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=config.bias)
        self.out = nn.Linear(config.heads * config.head_dim, config.dim, bias=config.bias)

    def project(
        self, x_BTD: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries (B, H, T, K), keys and values (B, G, T, K), rotated by their positions."""
        B, T, _ = x_BTD.shape
        q = self.q(x_BTD).view(B, T, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(x_BTD).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(x_BTD).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        return q, k, v

    def forward(
        self,
        x_BTD: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor] | None,
        step: CacheStep | None = None,
    ) -> torch.Tensor:
        q_BHTK, k_BGPK, v_BGPK = self.project(x_BTD, rope)
        mask = None
        if step is not None:
            k_BGPK, v_BGPK = step.append(self.layer, k_BGPK, v_BGPK)
            mask = step.mask_B1TP
        if self.kv_heads != self.heads:
            # Expanded by hand: the CPU kernel of SDPA takes no grouped heads.
            repeats = self.heads // self.kv_heads
            k_BGPK = k_BGPK.repeat_interleave(repeats, dim=1)
            v_BGPK = v_BGPK.repeat_interleave(repeats, dim=1)
        z_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BGPK, v_BGPK, attn_mask=mask, is_causal=mask is None)
        return self.out(z_BHTK.transpose(1, 2).flatten(2))

    def pattern(self, x_BTD: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        """Attention probabilities (B, H, T, T), written out: what `forward` never holds in memory."""
        q_BHTK, k_BGTK, _ = self.project(x_BTD, rope)
        k_BHTK = k_BGTK.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores_BHTT = q_BHTK @ k_BHTK.transpose(-1, -2) / self.head_dim**0.5
        future_TT = torch.ones(scores_BHTT.shape[-2:], dtype=torch.bool, device=x_BTD.device).triu(1)
        return scores_BHTT.masked_fill(future_TT, float("-inf")).softmax(-1)
