"""Activation checkpointing (Chen et al. 2016): blocks forget what their backward pass needs and compute it again."""

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from cairn.core.errors import UserError

RECOMPUTE = ("none", "selective", "full")

# What `selective` keeps: matrix products and attention, which cost the arithmetic. Norms, activations and sums are cheap to
# make again and are most of what a block holds.
KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    KEPT.add(torch.ops.mkldnn._linear_pointwise.default)  # the product of models/linear.py on some CPUs


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def set_recompute(model: nn.Module, kind: str) -> None:
    """Let a model's blocks compute again what `kind` says. Raises UserError for one that cannot."""
    if kind != "none" and not any(hasattr(module, "recompute") for module in model.modules()):
        raise UserError(f"a {type(model).__name__} cannot compute its blocks again: set recompute to none")
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = kind  # type: ignore[assignment]


def run_block(block: nn.Module, x_BTD: torch.Tensor, context: Any, kind: str) -> torch.Tensor:
    """block(x, context), keeping for the backward pass what `kind` says."""
    if kind == "none" or not torch.is_grad_enabled():
        return block(x_BTD, context)
    extra = {}
    if kind == "selective":
        extra["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    return checkpoint(block, x_BTD, context, use_reentrant=False, **extra)  # type: ignore[return-value]
