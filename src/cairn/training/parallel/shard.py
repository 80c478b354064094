"""Processes that share rows and state: FSDP2, `torch.distributed.fsdp.fully_shard` (Zhao et al. 2023), named by the stages of
ZeRO (Rajbhandari et al. 2020).

Between steps weights, moments and gradients are divided in all of them. What a process keeps whole during a step:
zero 3: the weights of the block at work; gathered for each forward and each backward pass.
zero 2: the weights, gathered once a step. Gradients are summed and divided after each micro-batch.
zero 1: the weights and the gradients, which are summed and divided once, with the last micro-batch: the least communication.
With `data` besides (HSDP), parts are replicated, and gradients of the parts are summed over replicas with the last
micro-batch. The same code with parts of one process is what `data` means where the model is divided in other ways too.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from cairn.training.objective import LossModule, Objective
from cairn.training.parallel.worker import DividedWorker
from cairn.training.parallel.world import World


def shard(root: nn.Module, world: World) -> FSDPModule:
    """Divide the weights of `root`, block by block, the rest together. Gradients become sums over the workers."""
    assert world.mesh is not None
    layout = world.layout
    mesh = world.mesh["shard"] if layout.data == 1 else world.mesh["data", "shard"]
    for block in (block for module in root.modules() for block in getattr(module, "blocks", ())):
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh, reshard_after_forward=layout.zero == 3)
    fully_shard(root, mesh=mesh, reshard_after_forward=False)  # embeddings: needed at both ends of a pass
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    assert isinstance(root, FSDPModule)
    return root


class ShardWorker(DividedWorker):
    def __init__(self, given: Any, model: Any, objective: Objective, precision: str, world: World):
        module = LossModule(model, objective)
        self.sharded = shard(module, world)
        super().__init__(given, model, module, precision, world)

    @contextlib.contextmanager
    def communicating(self, last: bool) -> Iterator[None]:
        zero = self.world.layout.zero
        self.sharded.set_requires_gradient_sync(last or zero > 1)
        self.sharded.set_requires_all_reduce(last)
        self.sharded.set_reshard_after_backward(last or zero == 3)
        yield
