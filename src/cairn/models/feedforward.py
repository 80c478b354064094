"""Feed-forward layers: what a block computes at each position alone."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.config import ModelConfig
from cairn.models.linear import Linear

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),  # what GPT-2 was trained with
    "relu": F.relu,
}


class FeedForward(nn.Module):
    """down(activation(up(x)))."""

    def __init__(self, dim: int, inner: int, activation: str, bias: bool):
        super().__init__()
        self.up = Linear(dim, inner, bias=bias)
        self.down = Linear(inner, dim, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)): SwiGLU with silu, GeGLU with gelu (Shazeer 2020)."""

    def __init__(self, dim: int, inner: int, activation: str, bias: bool):
        super().__init__()
        self.gate = Linear(dim, inner, bias=bias)
        self.up = Linear(dim, inner, bias=bias)
        self.down = Linear(inner, dim, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))


def build_feed_forward(config: ModelConfig, layer: int) -> nn.Module:
    """The feed-forward layer of block `layer`: plain, gated, or a mixture of experts."""
    if config.experts is not None and layer >= config.experts.dense_layers:
        from cairn.models.experts import MixtureOfExperts

        return MixtureOfExperts(config)
    kind = GatedFeedForward if config.gated else FeedForward
    return kind(config.dim, config.ffn_dim, config.activation, config.ffn_bias)
