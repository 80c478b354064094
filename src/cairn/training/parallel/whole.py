"""A model whose parts lie in several processes, and the whole one the caller gave: from one to the other and back.

A layout that divides the model works on a copy of its structure; the caller's model keeps its shapes but holds no memory
until its weights are gathered, for an evaluation or at the end.
"""

import copy

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from cairn.training.parallel.world import World


def copy_structure(model: nn.Module) -> nn.Module:
    """The same modules anew, with parameters of their own on the same memory."""
    return copy.deepcopy(model, {id(p): nn.Parameter(p.data, p.requires_grad) for p in model.parameters()})


def release(model: nn.Module) -> None:
    """Free the memory of the weights. Each keeps its shape: one number, repeated by strides of zero."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_zeros(()).expand(parameter.shape)


@torch.no_grad()
def gather(whole: nn.Module, divided: nn.Module, world: World) -> None:
    """Fill the released `whole` with the weights of `divided`, in every process. All processes call it."""
    mine = dict(divided.named_parameters())
    for name, parameter in whole.named_parameters():
        tensor = mine[name].data if name in mine else None
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()
        if world.layout.pipeline > 1:
            tensor = _from_stage(tensor, parameter, world)
        assert tensor is not None, f"{name} is in no process"
        parameter.data = tensor


def _from_stage(tensor: torch.Tensor | None, like: torch.Tensor, world: World) -> torch.Tensor:
    """A tensor that some stages of the pipeline have, for all of them."""
    group = world.group("pipeline")
    owner = torch.tensor(world.stage if tensor is not None else world.layout.pipeline, device=world.device)
    dist.all_reduce(owner, dist.ReduceOp.MIN, group=group)
    tensor = torch.empty_like(like, memory_format=torch.contiguous_format) if tensor is None else tensor.clone()
    dist.broadcast(tensor, group=group, group_src=int(owner))
    return tensor
