"""Normalisation layers. Shapes: B batch, T tokens, D width."""

import torch
from torch import nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight, the statistics in float32 (Zhang and Sennrich 2019; equal to Llama's in transformers)."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x32 = x_BTD.float()
        normalized = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normalized.to(x_BTD.dtype)


def build_norm(kind: str, dim: int, eps: float) -> nn.Module:
    return RMSNorm(dim, eps) if kind == "rmsnorm" else nn.LayerNorm(dim, eps=eps)
