"""The one Transformer that every stage trains, runs and looks into.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

import math

import torch
from torch import nn

from cairn.models.attention import Attention
from cairn.models.cache import CacheStep
from cairn.models.config import ModelConfig
from cairn.models.feedforward import build_feed_forward
from cairn.models.norms import build_norm
from cairn.models.positions import rope_tables


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.norm_attention = build_norm(config.norm, config.dim, config.norm_eps)
        self.attention = Attention(config, layer)
        self.norm_feed_forward = build_norm(config.norm, config.dim, config.norm_eps)
        self.feed_forward = build_feed_forward(config.feed_forward, config.dim, config.ffn_dim, config.bias)

    def forward(
        self,
        x_BTD: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor] | None,
        step: CacheStep | None = None,
    ) -> torch.Tensor:
        x_BTD = x_BTD + self.attention(self.norm_attention(x_BTD), rope, step)
        return x_BTD + self.feed_forward(self.norm_feed_forward(x_BTD))


class Transformer(nn.Module):
    """`model(ids_BT)` gives logits (B, T, V); position t predicts token t + 1.

    Equal to `transformers`' LlamaForCausalLM and GPT2LMHeadModel for the families of those names.
    """

    cos_TK: torch.Tensor
    sin_TK: torch.Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        if config.positions == "learned":
            self.embed_position = nn.Embedding(config.max_positions, config.dim)
        else:
            cos, sin = rope_tables(config.max_positions, config.head_dim, config.rope_theta)
            self.register_buffer("cos_TK", cos, persistent=False)
            self.register_buffer("sin_TK", sin, persistent=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = build_norm(config.norm, config.dim, config.norm_eps)
        self.unembed = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.unembed.weight = self.embed.weight

    def initialize(self, seed: int) -> "Transformer":
        """Fresh weights: normal with deviation 0.02, the two writers to the residual stream scaled by 1/sqrt(2 layers)
        (GPT-2). Drawn on the CPU in the order of names, so that a seed gives the same model on every device."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:
                    parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                    continue
                scale = 1 / math.sqrt(2 * self.config.layers) if name.endswith(("out.weight", "down.weight")) else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02 * scale)
        return self

    def embed_tokens(
        self, ids_BT: torch.Tensor, step: CacheStep | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """The residual stream before the first block, and the rotary tables of these positions."""
        T = ids_BT.shape[1]
        if self.config.max_positions < T:
            raise ValueError(f"{T} tokens are more than the model's {self.config.max_positions} positions")
        x_BTD = self.embed(ids_BT)
        if self.config.positions == "learned":
            positions = torch.arange(T, device=ids_BT.device) if step is None else self._clamp(step.position_BT)
            return x_BTD + self.embed_position(positions), None
        if step is None:
            return x_BTD, (self.cos_TK[:T], self.sin_TK[:T])
        positions = self._clamp(step.position_BT)
        return x_BTD, (self.cos_TK[positions][:, None], self.sin_TK[positions][:, None])

    def _clamp(self, position_BT: torch.Tensor) -> torch.Tensor:
        return position_BT.clamp(max=self.config.max_positions - 1)  # padding of a full row may point past the end

    def hidden(self, ids_BT: torch.Tensor, step: CacheStep | None = None) -> torch.Tensor:
        """The normalised residual stream (B, T, D) that the unembedding reads."""
        x_BTD, rope = self.embed_tokens(ids_BT, step)
        for block in self.blocks:
            x_BTD = block(x_BTD, rope, step)
        return self.norm(x_BTD)

    def forward(self, ids_BT: torch.Tensor, step: CacheStep | None = None) -> torch.Tensor:
        return self.unembed(self.hidden(ids_BT, step))

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())  # a tied matrix is counted once

    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a token: 6 a weight that multiplies, plus attention's 12 * layers * heads * K * context / 2."""
        weights = sum(p.numel() for name, p in self.named_parameters() if p.ndim >= 2 and not name.startswith("embed"))
        if self.config.tie_embeddings:
            weights += self.embed.weight.numel()
        attention = 6 * self.config.layers * self.config.heads * self.config.head_dim * context
        return 6.0 * weights + attention
