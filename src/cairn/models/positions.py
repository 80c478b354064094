"""Rotary positions (Su et al. 2021), in the layout of Hugging Face: dimension i turns with dimension i + K/2.

Shapes: T positions, K size of a head, H heads.
"""

import torch


def rope_tables(positions: int, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (positions, head_dim), float32. Angle of pair i at position p is p * theta^(-2i/K)."""
    inverse = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim)
    angles = torch.outer(torch.arange(positions).float(), inverse)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BHTK: torch.Tensor, cos_TK: torch.Tensor, sin_TK: torch.Tensor) -> torch.Tensor:
    """Turn every pair by its position's angle. cos and sin broadcast: (T, K) or (B, 1, T, K)."""
    first, second = x_BHTK.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return x_BHTK * cos_TK.to(x_BHTK.dtype) + turned * sin_TK.to(x_BHTK.dtype)
