"""Gradient clipping by the norm over all processes."""

import torch
from torch import nn

from cairn.training.parallel.world import World


def clip_gradients(model: nn.Module, limit: float, world: World) -> torch.Tensor:
    """Scale all gradients so that their norm is at most `limit` (infinite: leave them); returns the norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    return torch.nn.utils.clip_grad_norm_(parameters, limit)
