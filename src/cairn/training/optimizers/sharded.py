"""What optimizers need of a DTensor, a tensor whose parts lie on several processes (FSDP2, tensor parallelism).

A plain tensor goes through all of it unchanged. Every process must make the same calls in the same order: they communicate.
"""

from collections.abc import Callable
from typing import Any

import torch


def is_sharded(x: Any) -> bool:
    """Whether x is a DTensor. It asks without importing torch.distributed.tensor, which takes half a second."""
    return hasattr(x, "to_local")


def local(x: Any) -> torch.Tensor:
    """This process's part, sharing memory."""
    return x.detach().to_local() if is_sharded(x) else x.detach()


def replicated(x: Any) -> torch.Tensor:
    """The whole of x on every process, still a DTensor where x is one: for statistics that go back into its arithmetic."""
    if not is_sharded(x):
        return x
    from torch.distributed.tensor import Replicate

    return x.redistribute(placements=[Replicate()] * x.device_mesh.ndim)


def zeros_everywhere(shape: torch.Size, parameter: Any) -> torch.Tensor:
    """float32 (float64 beside a float64 parameter) zeros that every process of the parameter has whole."""
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    if not is_sharded(parameter):
        return torch.zeros(shape, dtype=dtype, device=parameter.device)
    from torch.distributed.tensor import Replicate, zeros

    mesh = parameter.device_mesh
    return zeros(shape, dtype=dtype, device_mesh=mesh, placements=[Replicate()] * mesh.ndim)


def shaped_like(part: torch.Tensor, parameter: Any, shape: torch.Size) -> torch.Tensor:
    """`part`, laid over the processes as `parameter` is, as a tensor of `shape` in all; plain for a plain parameter."""
    if not is_sharded(parameter):
        return part
    from torch.distributed.tensor import DTensor

    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(
        part, parameter.device_mesh, parameter.placements, run_check=False, shape=shape, stride=stride
    )


def by_matrix(
    function: Callable[[torch.Tensor], torch.Tensor], parts_NRC: torch.Tensor, parameter: Any
) -> torch.Tensor:
    """function(N whole matrices) where parts_NRC holds this process's parts of N matrices laid out like `parameter`; gives
    its parts of the results.

    Each process gets some of the matrices whole (one all-to-all), computes those alone, and the results go back: nothing is
    computed twice.
    """
    if not is_sharded(parameter):
        return function(parts_NRC)
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh = parameter.device_mesh
    shape = torch.Size((len(parts_NRC), *parameter.shape))
    stride = torch.empty(shape, device="meta").stride()
    divided = [_next_dimension(placement) for placement in parameter.placements]
    whole = [placement if placement.is_replicate() else Shard(0) for placement in divided]
    # FSDP2 over tensor parallelism divides a dimension twice, in an order that goes nowhere but to whole tensors.
    between = [[Replicate()] * mesh.ndim] if any(type(p) not in (Shard, Replicate) for p in divided) else []
    x = DTensor.from_local(parts_NRC.contiguous(), mesh, divided, run_check=False, shape=shape, stride=stride)
    for placements in (*between, whole):
        x = x.redistribute(placements=placements)
    mine = x.to_local()
    done = (function(mine) if len(mine) else mine).to(parts_NRC.dtype).contiguous()
    x = DTensor.from_local(done, mesh, whole, run_check=False, shape=shape, stride=stride)
    for placements in (*between, divided):
        x = x.redistribute(placements=placements)
    return x.to_local()


def _next_dimension(placement: Any) -> Any:
    """The placement of a matrix within a stack of them."""
    if placement.is_replicate():
        return placement
    if hasattr(placement, "split_factor"):
        return type(placement)(placement.dim + 1, split_factor=placement.split_factor)
    return type(placement)(placement.dim + 1)
