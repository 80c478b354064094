"""Multi-head latent attention (DeepSeek-V2, 2024): keys and values of all heads are made from one short vector a token.

What is cached is that vector and one rotated key that all heads share. Queries read it in the *absorbed* form: with keys
k = U c for a latent c, q.k = (U^T q).c, so a query goes through U once instead of every cached token.

Shapes: B batch, T tokens, D width, H heads, K size of a head, N its part without a position, P its rotated part, V size of
a head's values, R width of the latent.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.attention import attend, build_rule
from cairn.models.config import ModelConfig
from cairn.models.context import Context
from cairn.models.linear import FEW_ROWS, Linear
from cairn.models.norms import RMSNorm
from cairn.models.positions import rotate, yarn_mscale

NORM_EPS = 1e-6  # of the norms inside, whatever the model's own


class LatentAttention(nn.Module):
    """Latent attention of block `layer`."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        latent = config.latent
        assert latent is not None
        self.layer, self.heads = layer, config.heads
        self.parts = (config.head_dim - latent.rope_dim, latent.rope_dim)
        self.value_dim, self.rank = latent.value_dim, latent.kv_rank
        if latent.q_rank:
            self.q_compress = Linear(config.dim, latent.q_rank, bias=config.qkv_bias)
            self.norm_q = RMSNorm(latent.q_rank, NORM_EPS)
            self.q_expand = Linear(latent.q_rank, config.heads * config.head_dim, bias=False)
        else:
            self.q = Linear(config.dim, config.heads * config.head_dim, bias=False)
        self.kv_compress = Linear(config.dim, latent.kv_rank + latent.rope_dim, bias=config.qkv_bias)
        self.norm_kv = RMSNorm(latent.kv_rank, NORM_EPS)
        self.kv_expand = Linear(latent.kv_rank, config.heads * (self.parts[0] + latent.value_dim), bias=False)
        self.out = Linear(config.heads * latent.value_dim, config.dim, bias=config.out_bias)
        self.compresses_queries, self.interleaved = latent.q_rank > 0, config.rope_interleaved
        self.rule = build_rule(config, layer)
        scaling = config.rope_scaling
        if scaling is not None and scaling.mscale_all_dim:
            self.rule = replace(
                self.rule, scale=self.rule.scale * yarn_mscale(scaling.factor, scaling.mscale_all_dim) ** 2
            )

    def project(
        self, x_BTD: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries (B, T, H, N) and their rotated part (B, T, H, P), the latent (B, T, R), the shared key (B, T, 1, P)."""
        q_BTX = self.q_expand(self.norm_q(self.q_compress(x_BTD))) if self.compresses_queries else self.q(x_BTD)
        q_BTHN, q_BTHP = q_BTX.unflatten(-1, (self.heads, -1)).split(self.parts, dim=-1)
        latent_BTR, key_BTP = self.kv_compress(x_BTD).split([self.rank, self.parts[1]], dim=-1)
        key_BT1P = key_BTP[..., None, :]
        rope = context.rope(self.rule.window)
        if rope is not None:
            turned = rotate(torch.cat([q_BTHP, key_BT1P], dim=2), rope, self.interleaved)
            q_BTHP, key_BT1P = turned.split([self.heads, 1], dim=2)
        return q_BTHN, q_BTHP, self.norm_kv(latent_BTR), key_BT1P

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        parts = self.project(x_BTD, context)
        z_BTHV = self._plain(*parts, context) if context.step is None else self._absorbed(*parts, context)
        return self.out(z_BTHV.flatten(2))

    def _plain(
        self,
        q_BTHN: torch.Tensor,
        q_BTHP: torch.Tensor,
        latent_BTR: torch.Tensor,
        key_BT1P: torch.Tensor,
        context: Context,
    ) -> torch.Tensor:
        """Every head's keys and values written out: the fewest products where all tokens are new."""
        expanded = self.kv_expand(latent_BTR).unflatten(-1, (self.heads, -1))
        k_BTHN, v_BTHV = expanded.split([self.parts[0], self.value_dim], dim=-1)
        k_BTHK = torch.cat([k_BTHN, key_BT1P.expand(-1, -1, self.heads, -1)], dim=-1)
        q_BTHK = torch.cat([q_BTHN, q_BTHP], dim=-1)
        # Fused attention takes values as wide as keys alone; without it T * T scores a head are in memory.
        v_BTHK = F.pad(v_BTHV, (0, max(0, sum(self.parts) - self.value_dim)))
        mask, bias = context.mask(self.rule), context.bias(self.rule, q_BTHK.dtype)
        z_BTHK = attend(q_BTHK, k_BTHK, v_BTHK, self.rule, mask_BTP=mask, bias_HTP=bias)
        return z_BTHK[..., : self.value_dim]

    def _absorbed(
        self,
        q_BTHN: torch.Tensor,
        q_BTHP: torch.Tensor,
        latent_BTR: torch.Tensor,
        key_BT1P: torch.Tensor,
        context: Context,
    ) -> torch.Tensor:
        """One key/value head in the space of the latent: its key is (latent, shared key), its value the latent."""
        assert context.step is not None
        up_HXR = self.kv_expand.weight.unflatten(0, (self.heads, -1))
        up_HNR, up_HVR = up_HXR.split([self.parts[0], self.value_dim], dim=1)
        q_BTHR = _by_head(q_BTHN, up_HNR)
        q = torch.cat([q_BTHR, q_BTHP], dim=-1)
        k = torch.cat([latent_BTR[..., None, :], key_BT1P], dim=-1)
        z_BTHR = context.step.attend(self.layer, q, k, None, replace(self.rule, value_width=self.rank))
        return _by_head(z_BTHR, up_HVR.transpose(1, 2))


def _by_head(x_BTHI: torch.Tensor, weight_HIO: torch.Tensor) -> torch.Tensor:
    """Every head's vectors by its own matrix: (B, T, H, O). A few tokens go one by one, so that what a token gets does not
    depend on those beside it, as in `Linear`."""
    if x_BTHI.shape[1] > FEW_ROWS or torch.is_grad_enabled():
        return torch.einsum("bthi,hio->btho", x_BTHI, weight_HIO)
    return torch.stack([(x_BHI[..., None, :] @ weight_HIO)[..., 0, :] for x_BHI in x_BTHI.unbind(1)], dim=1)
