"""Gradient clipping by the norm over all processes."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from cairn.training.parallel.world import World


@torch.no_grad()
def clip_gradients(model: Any, limit: float, world: World) -> torch.Tensor:
    """Scale all gradients so that their norm is at most `limit` (infinite: leave them); returns the norm before.

    The norm is that of the whole model's gradients, each weight counted once wherever its parts lie: equal to what
    torch.nn.utils.clip_grad_norm_ gives in one process.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    if world.mesh is None or world.layout.size == world.layout.data:  # every process has all of it
        return torch.nn.utils.clip_grad_norm_([p for _, p in named], limit)
    # A tied embedding lies in the first stage and in the last, its gradient the same in both.
    tied = world.stage > 0 and model.config.tie_embeddings
    square = _square(p.grad for name, p in named if not (tied and name == "embed.weight"))
    square = square.to(world.device)
    if world.layout.pipeline > 1:
        dist.all_reduce(square, group=world.group("pipeline"))
    norm = square.sqrt()
    factor = torch.clamp(limit / (norm + 1e-6), max=1.0)
    for _, p in named:
        _local(p.grad).mul_(factor)
    return norm


def _square(gradients: Iterable[torch.Tensor | None]) -> torch.Tensor:
    """The squared norm of gradients of which each process has a part; one reduction for each way they are divided."""
    divided: dict[tuple[dist.ProcessGroup, ...], list[torch.Tensor]] = defaultdict(list)
    for gradient in gradients:
        assert gradient is not None
        groups: tuple[dist.ProcessGroup, ...] = ()
        if isinstance(gradient, DTensor):
            mesh, places = gradient.device_mesh, gradient.placements
            assert not any(place.is_partial() for place in places), "sum partial gradients first"
            groups = tuple(mesh.get_group(i) for i, place in enumerate(places) if not place.is_replicate())
        divided[groups].append(_local(gradient))
    total = torch.zeros(())
    for groups, parts in divided.items():
        square = torch.nn.utils.get_total_norm(parts).square()
        for group in groups:
            dist.all_reduce(square, group=group)
        total = total.to(square) + square
    return total


def _local(gradient: torch.Tensor | None) -> torch.Tensor:
    assert gradient is not None
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient
