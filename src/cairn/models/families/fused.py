"""Layers that a family stores as one matrix: joined when written, divided when read.

In a family's table the parts of `...qkv_proj` are named `...qkv_proj.q`, `...qkv_proj.k` and so on.
Shapes: H query heads, G key/value heads, K size of a head.
"""

from collections.abc import Callable, Sequence

import torch

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Tensors

KINDS = ("weight", "bias")


def join_parts(
    tensors: Tensors,
    layers: int,
    place: str,
    parts: Sequence[str],
    join: Callable[[list[torch.Tensor]], torch.Tensor] = torch.cat,
) -> Tensors:
    """Put `join` of the parts of `place` (with {} for the layer) in their place; a bias that is not there stays away."""
    out = dict(tensors)
    for layer in range(layers):
        whole = place.format(layer)
        for kind in KINDS:
            if f"{whole}.{parts[0]}.{kind}" in out:
                out[f"{whole}.{kind}"] = join([out.pop(f"{whole}.{part}.{kind}") for part in parts])
    return out


def divide_parts(
    tensors: Tensors,
    layers: int,
    place: str,
    parts: Sequence[str],
    rows: int,
    divide: Callable[[torch.Tensor], Sequence[torch.Tensor]],
) -> Tensors:
    """The inverse of `join_parts`. Raises UserError for a tensor that has not `rows` rows."""
    out = dict(tensors)
    for layer in range(layers):
        whole = place.format(layer)
        for kind in KINDS:
            if f"{whole}.{kind}" not in out:
                continue
            tensor = out.pop(f"{whole}.{kind}")
            if tensor.ndim == 0 or tensor.shape[0] != rows:
                raise UserError(f"{whole}.{kind} has shape {tuple(tensor.shape)}; config.json asks for {rows} rows")
            for part, piece in zip(parts, divide(tensor)):
                out[f"{whole}.{part}.{kind}"] = piece.contiguous()
    return out


# --- queries, keys and values in groups: the queries of a key/value head, its key, its value (GPT-NeoX, Falcon)


def join_groups(parts: Sequence[torch.Tensor], config: ModelConfig) -> torch.Tensor:
    """q (H * K, ...), k and v (G * K, ...) to (G * (H / G + 2) * K, ...)."""
    rest = parts[0].shape[1:]
    groups = [t.reshape(config.kv_heads, -1, config.head_dim, *rest) for t in parts]
    return torch.cat(groups, dim=1).flatten(0, 2)


def divide_groups(tensor: torch.Tensor, config: ModelConfig) -> list[torch.Tensor]:
    queries = config.heads // config.kv_heads
    groups = tensor.reshape(config.kv_heads, queries + 2, config.head_dim, *tensor.shape[1:])
    return [part.flatten(0, 2) for part in groups.split([queries, 1, 1], dim=1)]


def grouped_rows(config: ModelConfig) -> int:
    return (config.heads + 2 * config.kv_heads) * config.head_dim
