"""Processes that share each matrix: tensor parallelism (Shoeybi et al. 2019) with DTensor.

Queries, keys, values, gate and up are divided by their outputs: a process computes some of the heads and some of the inner
width, without communication. Attention's output and down are divided by their inputs: what they write to the residual stream
is summed over the processes, twice a block, and so are gradients in the backward pass. Norms and embeddings are whole in each
process and computed by each: the logits of all the vocabulary too.
"""

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.transformer import Transformer
from cairn.training.parallel.world import World


class Whole(ParallelStyle):
    """Weights whole in every process; plain tensors in, plain tensors out.

    place: how the input lies, whole or divided. gradient: Partial where a process uses the output for its own heads alone,
    so that its gradient is a part of a sum.
    """

    def __init__(self, place: Placement | None = None, gradient: Placement | None = None):
        super().__init__()
        self.place, self.gradient = place or Replicate(), gradient

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(module, device_mesh, None, self._before, self._after)

    def _before(self, module: nn.Module, inputs: Any, mesh: DeviceMesh) -> Any:
        first, *rest = inputs
        if not isinstance(first, DTensor):
            first = DTensor.from_local(first, mesh, [self.place], run_check=False)
        return first, *rest

    def _after(self, module: nn.Module, output: DTensor, mesh: DeviceMesh) -> Any:
        return output.to_local(grad_placements=[self.gradient] if self.gradient else None)


def divide(model: Any, world: World) -> None:
    """Divide the matrices of a Transformer's blocks over the processes of `world`'s dimension tensor, in place."""
    assert world.mesh is not None
    mesh, degree = world.mesh["tensor"], world.layout.tensor
    if not isinstance(model, Transformer):
        raise UserError(f"--train.parallel.tensor divides a Transformer, not a {type(model).__name__}")
    check(model.config, degree)
    plan = {
        f"blocks.{i}.{name}": style
        for i in range(model.config.layers)
        for name, style in _block_plan(model.config, degree).items()
    }
    for name, module in model.named_modules():
        if name in plan:
            parallelize_module(module, mesh, plan[name])
        elif any(True for _ in module.parameters(recurse=False)):
            parallelize_module(module, mesh, Whole())
    if model.config.tie_embeddings and hasattr(model, "embed") and hasattr(model, "unembed"):
        model.unembed.weight = model.embed.weight


def _block_plan(config: ModelConfig, degree: int) -> dict[str, ParallelStyle]:
    normed, one_head = config.qk_norm == "head", config.kv_heads % degree != 0
    # One head of keys and values is made whole in every process, each for its own queries.
    plan: dict[str, ParallelStyle] = {
        "attention": _entering(2),  # one exchange of gradients for queries, keys and values
        "attention.q": ColwiseParallel(),
        "attention.k": Whole(gradient=None if normed else Partial()) if one_head else ColwiseParallel(),
        "attention.v": Whole(gradient=Partial()) if one_head else ColwiseParallel(),
        "attention.out": RowwiseParallel(),
        "feed_forward": _entering(1),
        "feed_forward.up": ColwiseParallel(),
        "feed_forward.gate": ColwiseParallel(),
        "feed_forward.down": RowwiseParallel(),
    }
    if normed:
        plan["attention.norm_q"] = Whole(Shard(2))
        plan["attention.norm_k"] = Whole(gradient=Partial()) if one_head else Whole(Shard(2))
    return plan


def _entering(arguments: int) -> PrepareModuleInput:
    rest = (None,) * (arguments - 1)
    return PrepareModuleInput(input_layouts=(Replicate(), *rest), desired_input_layouts=(Replicate(), *rest))


def check(config: ModelConfig, degree: int) -> None:
    """Raises UserError for a shape that `degree` processes cannot share."""
    if config.heads % degree or config.ffn_dim % degree or (config.kv_heads % degree and config.kv_heads > 1):
        raise UserError(
            f"--train.parallel.tensor {degree} must divide the heads ({config.heads}), the key and value heads "
            f"({config.kv_heads}, unless there is 1) and the inner width ({config.ffn_dim}) of the model"
        )
    limits = {
        "latent attention": config.latent is not None,
        "ALiBi or relative positions": config.positions in ("alibi", "relative"),
        "norms over all heads (qk_norm width)": config.qk_norm == "width",
        "an encoder and a decoder": config.encoder_layers > 0,
    }
    for what, found in limits.items():
        if found:
            raise UserError(f"--train.parallel.tensor does not divide a model with {what}: use shard or data")
