"""Self-attention: multi-head, grouped-query and multi-query by the number of key/value heads.

Shapes: B batch, T tokens, D width, H query heads, G key/value heads, K size of a head, P positions attended to.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.config import ModelConfig
from cairn.models.context import Context
from cairn.models.linear import Linear
from cairn.models.norms import RMSNorm
from cairn.models.positions import Alibi, RelativeBias, rotate


@dataclass(frozen=True)
class Rule:
    """How scores are made and which positions a token sees. `window` 0 sees all; it counts the token itself, and in an
    encoder it reaches window // 2 to each side. `alibi` and `relative` are biases on the scores."""

    scale: float
    causal: bool = True
    window: int = 0
    sinks: int = 0
    cap: float = 0.0
    alibi: Alibi | None = None
    relative: RelativeBias | None = None
    value_width: int = 0  # latent attention: values are this much of the keys; 0 is the cache's own

    def sees(self, query_BT: torch.Tensor, key_BP: torch.Tensor) -> torch.Tensor:
        """(B, T, P): may the token at a position look at another?"""
        distance = query_BT[..., :, None] - key_BP[..., None, :]
        if not self.causal:
            return distance.abs() <= self.window // 2 if self.window else torch.ones_like(distance, dtype=torch.bool)
        seen = distance >= 0
        if self.window:
            near = distance < self.window
            seen = seen & (near | (key_BP[..., None, :] < self.sinks) if self.sinks else near)
        return seen

    def bias(self, query_T: torch.Tensor, key_P: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
        """(H, T, P) or (H, 1, P), added to the scaled scores."""
        if self.relative is not None:
            return self.relative(query_T, key_P).to(dtype)
        if self.alibi is not None:
            return self.alibi.of_keys(int(key_P.max()) + 1)[:, None].to(key_P.device, dtype)[..., key_P]
        return None


def attend(
    q_BTHK: torch.Tensor,
    k_BPGK: torch.Tensor,
    v_BPGK: torch.Tensor,
    rule: Rule,
    *,
    mask_BTP: torch.Tensor | None = None,
    bias_HTP: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """softmax(scale q k + bias) v for the visible positions: (B, T, H, K). No mask means the whole or, for a causal rule
    without a window, a token and those before it. dropout: share of the probabilities set to zero."""
    q, k, v = q_BTHK.transpose(1, 2), k_BPGK.transpose(1, 2), v_BPGK.transpose(1, 2)
    if k.shape[1] != q.shape[1]:
        # Expanded by hand: the CPU kernel of SDPA takes no grouped heads.
        repeats = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    mask = None if mask_BTP is None else mask_BTP[:, None]
    if rule.cap:  # written out: no fused kernel caps the scores
        weights = score_weights(q @ k.transpose(-1, -2), rule, mask, bias_HTP)
        z = F.dropout(weights, dropout).to(v.dtype) @ v
    else:
        if bias_HTP is not None:
            mask = bias_HTP[None] if mask is None else bias_HTP[None].masked_fill(~mask, float("-inf"))
        causal = rule.causal and mask_BTP is None and q.shape[2] > 1
        z = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=rule.scale, dropout_p=dropout
        )
    return z.transpose(1, 2)


def score_weights(
    scores_BHTP: torch.Tensor, rule: Rule, mask: torch.Tensor | None, bias_HTP: torch.Tensor | None
) -> torch.Tensor:
    """Attention probabilities (B, H, T, P) from raw products of queries and keys, in float32."""
    scores = scores_BHTP.float() * rule.scale
    if rule.cap:
        scores = rule.cap * torch.tanh(scores / rule.cap)
    if bias_HTP is not None:
        scores = scores + bias_HTP
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1)


class Attention(nn.Module):
    """Attention of block `layer` as the configuration says."""

    def __init__(self, config: ModelConfig, layer: int, *, relative: RelativeBias | None = None):
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q = Linear(config.dim, config.heads * config.head_dim, bias=config.qkv_bias)
        self.k = Linear(config.dim, config.kv_heads * config.head_dim, bias=config.qkv_bias)
        self.v = Linear(config.dim, config.kv_heads * config.head_dim, bias=config.qkv_bias)
        self.out = Linear(config.heads * config.head_dim, config.dim, bias=config.out_bias)
        self.qk_norm = config.qk_norm
        if config.qk_norm != "none":
            widths = (1, 1) if config.qk_norm == "head" else (config.heads, config.kv_heads)
            self.norm_q = RMSNorm(widths[0] * config.head_dim, config.norm_eps, config.norm_offset)
            self.norm_k = RMSNorm(widths[1] * config.head_dim, config.norm_eps, config.norm_offset)
        self.interleaved = config.rope_interleaved
        self.dropout = nn.Dropout(0.0)  # on the probabilities
        # A stack shares one relative bias: inside a rule, it is no parameter of every layer.
        self.rule = build_rule(config, layer, relative)

    def project(self, x_BTD: torch.Tensor, context: Context) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries (B, T, H, K), keys and values (B, T, G, K), normed and rotated."""
        q, k, v = self.q(x_BTD), self.k(x_BTD), self.v(x_BTD)
        if self.qk_norm == "width":
            q, k = self.norm_q(q), self.norm_k(k)
        B, T, _ = x_BTD.shape
        # -1: where each matrix is divided over processes, a process has some of the heads.
        q, k = q.view(B, T, -1, self.head_dim), k.view(B, T, -1, self.head_dim)
        if self.qk_norm == "head":
            q, k = self.norm_q(q), self.norm_k(k)
        rope = context.rope(self.rule.window)
        if rope is not None:
            q, k = rotate(torch.cat([q, k], dim=2), rope, self.interleaved).split([q.shape[2], k.shape[2]], dim=2)
        return q, k, v.view(B, T, -1, self.head_dim)

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        q_BTHK, k_BTGK, v_BTGK = self.project(x_BTD, context)
        rule = self.rule
        if context.step is not None:
            z_BTHK = context.step.attend(self.layer, q_BTHK, k_BTGK, v_BTGK, rule)
        else:
            z_BTHK = attend(
                q_BTHK,
                k_BTGK,
                v_BTGK,
                rule,
                mask_BTP=context.mask(rule),
                bias_HTP=context.bias(rule, x_BTD.dtype),
                dropout=self.dropout.p if self.training else 0.0,
            )
        return self.out(z_BTHK.flatten(2))

    def pattern(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        """Attention probabilities (B, H, T, T), written out: what `forward` never holds in memory."""
        q_BTHK, k_BTGK, _ = self.project(x_BTD, context)
        k_BHKT = k_BTGK.repeat_interleave(self.heads // self.kv_heads, dim=2).permute(0, 2, 3, 1)
        seen_BTT = self.rule.sees(context.position_BT, context.position_BT)[:, None]
        scores_BHTT = q_BTHK.transpose(1, 2) @ k_BHKT
        return score_weights(scores_BHTT, self.rule, seen_BTT, context.bias(self.rule, x_BTD.dtype)).to(x_BTD.dtype)


def build_rule(config: ModelConfig, layer: int, relative: RelativeBias | None = None) -> Rule:
    """The rule of block `layer`; `relative` is the bias that its stack shares."""
    scale = config.score_scale or config.head_dim**-0.5
    return Rule(
        scale,
        config.causal,
        config.window_of(layer),
        config.sinks,
        config.score_cap,
        Alibi(config.heads, scale) if config.positions == "alibi" else None,
        relative,
    )
