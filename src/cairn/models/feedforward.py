"""Feed-forward layers: what a block computes at each position alone."""

import torch
import torch.nn.functional as F
from torch import nn


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, dim: int, inner: int, bias: bool):
        super().__init__()
        self.gate = nn.Linear(dim, inner, bias=bias)
        self.up = nn.Linear(dim, inner, bias=bias)
        self.down = nn.Linear(inner, dim, bias=bias)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class GeluMLP(nn.Module):
    """down(gelu(up(x))) with the tanh approximation that GPT-2 was trained with."""

    def __init__(self, dim: int, inner: int, bias: bool):
        super().__init__()
        self.up = nn.Linear(dim, inner, bias=bias)
        self.down = nn.Linear(inner, dim, bias=bias)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x_BTD), approximate="tanh"))


def build_feed_forward(kind: str, dim: int, inner: int, bias: bool) -> nn.Module:
    return (SwiGLU if kind == "swiglu" else GeluMLP)(dim, inner, bias)
