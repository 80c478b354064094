"""Normalisation layers. Shapes: B batch, T tokens, D width."""

import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.config import ModelConfig


class RMSNorm(nn.Module):
    """x / rms(x) * weight, the statistics in float32 (Zhang and Sennrich 2019; equal to Llama's in transformers).

    With `offset` the weight is stored as its distance from 1 and applied in float32 (Gemma).
    """

    def __init__(self, dim: int, eps: float = 1e-5, offset: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim) if offset else torch.ones(dim))
        self.dim, self.eps, self.offset = (dim,), eps, offset

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        if self.offset:
            return (F.rms_norm(x_BTD.float(), self.dim, None, self.eps) * (1.0 + self.weight.float())).to(x_BTD.dtype)
        if x_BTD.dtype == torch.float32:
            return F.rms_norm(x_BTD, self.dim, self.weight, self.eps)
        return self.weight * F.rms_norm(x_BTD.float(), self.dim, None, self.eps).to(x_BTD.dtype)


def build_norm(config: ModelConfig) -> nn.Module:
    """The norm that a configuration names, over the width of the residual stream."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.dim, config.norm_eps, config.norm_offset)
    return nn.LayerNorm(config.dim, eps=config.norm_eps, bias=config.norm_bias)
