"""Stages of blocks that micro-batches pass through: torch.distributed.pipelining (Huang et al. 2019; the order of one forward,
one backward is that of PipeDream, Narayanan et al. 2021).

The first stage has the embedding, the last one the norm, the unembedding and the loss. An objective needs nothing for it: on
every stage it is given the batch and calls `model.hidden`, which runs the stage's blocks on what the stage before sent, and
which does not return on a stage that is not the last. So it is the objective's own call that says what the blocks are to
know (documents, padding), and any objective that calls the model once a batch runs in a pipeline.

Shapes: B rows, T tokens, D width.
"""

import itertools
import json
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import DTensor

from cairn.core.errors import UserError
from cairn.models.recompute import run_block
from cairn.models.transformer import Transformer
from cairn.training.objective import Objective
from cairn.training.parallel.worker import DividedWorker, add, sum_partial_gradients
from cairn.training.parallel.world import World
from cairn.training.precision import autocast

KEPT_SCHEDULES = 4  # sizes of micro-batches whose buffers are kept for the next step


def cut(model: Any, world: World) -> None:
    """Leave in `model` what this process's stage holds, under the names it has in the whole model."""
    stages = world.layout.pipeline
    if not isinstance(model, Transformer):
        raise UserError(f"--train.parallel.pipeline cuts a Transformer into stages, not a {type(model).__name__}")
    if model.config.encoder_layers or model.config.positions == "relative":
        raise UserError(
            "--train.parallel.pipeline: all blocks of this model share an encoder's states or a bias; use shard or data"
        )
    if stages > model.config.layers:
        raise UserError(f"--train.parallel.pipeline {stages} is more than the model's {model.config.layers} blocks")
    own = np.array_split(range(model.config.layers), stages)[world.stage]
    for i in range(model.config.layers):
        if i not in own:
            model.blocks[i] = nn.Identity()  # keeps the numbers of the others
    tied = model.config.tie_embeddings
    unneeded = []
    if world.stage > 0:
        unneeded += ["embed_position", "embed_type", "embed_norm"]
        # A tied embedding keeps its one name on both ends.
        unneeded += [] if tied and world.is_last_stage else ["embed"]
    if not world.is_last_stage:
        unneeded += ["norm", "unembed", "pooler"]
    for name in unneeded:
        if hasattr(model, name):
            delattr(model, name)


class Handover(Exception):  # noqa: N818
    """Ends an objective on a stage that is not the last: what the next stage is to be given."""

    def __init__(self, stream_BTD: torch.Tensor):
        self.stream_BTD = stream_BTD


class StageModule(nn.Module):
    """A stage's part of the model and the objective: forward is one micro-batch, the residual stream in and out (B, T, D); the
    first stage takes nothing, the last gives its loss times `factor` (1,)."""

    model: Any

    def __init__(self, model: Any, objective: Objective, precision: str, world: World):
        super().__init__()
        self.model, self.objective, self.precision, self.world = model, objective, precision, world
        self.own = [block for block in model.blocks if not isinstance(block, nn.Identity)]
        self.begin([], 0.0)
        model.hidden = self._hidden

    def begin(self, batches: list[Any], factor: float) -> None:
        """The micro-batches that the next forward passes are about; metrics start from nothing."""
        self.batches, self.factor = iter(batches), factor
        self.sums: dict[str, Any] = {}

    def forward(self, stream_BTD: torch.Tensor | None = None) -> torch.Tensor:
        self.received_BTD, self.ran = stream_BTD, False
        try:
            with autocast(self.precision, self.world.device):
                loss, metrics = self.objective.loss(self.model, next(self.batches))
        except Handover as handover:
            return handover.stream_BTD
        if not self.ran:
            raise UserError(_once(self.objective))
        add(self.sums, metrics)
        return (loss * self.factor).reshape(1)

    def _hidden(self, ids_BT: torch.Tensor, *, types_BT: torch.Tensor | None = None, **what: Any) -> Any:
        """In the place of Transformer.hidden."""
        if self.ran:
            raise UserError(_once(self.objective))
        self.ran, model = True, self.model
        if self.world.stage == 0:
            stream_BTD, context = model.embed_tokens(ids_BT, types_BT=types_BT, **what)
        else:
            assert self.received_BTD is not None
            stream_BTD, context = self.received_BTD, model.context(ids_BT, **what)
        for block in self.own:
            stream_BTD = run_block(block, stream_BTD, context, model.recompute)
        if not self.world.is_last_stage:
            raise Handover(stream_BTD)
        return model.norm(stream_BTD) if model.config.final_norm else stream_BTD

    def shape(self, batch: Any) -> tuple[int, int]:
        """(B, T) of the residual stream of a micro-batch."""

        def ask(ids_BT: torch.Tensor, **what: Any) -> torch.Tensor:
            raise Handover(ids_BT)

        self.model.hidden = ask
        try:
            self.objective.loss(self.model, batch)
        except Handover as handover:
            B, T = handover.stream_BTD.shape
            return B, T
        finally:
            self.model.hidden = self._hidden
        raise UserError(_once(self.objective))


def _once(objective: Objective) -> str:
    return (
        f"{type(objective).__name__} does not call the model exactly once a batch, which a pipeline needs: "
        "use shard, tensor or data instead of --train.parallel.pipeline"
    )


class PipelineWorker(DividedWorker):
    """One stage; with rows shared besides, its weights are divided or replicated by FSDP2."""

    module: StageModule

    def __init__(self, given: Any, model: Any, objective: Objective, precision: str, world: World):
        module = StageModule(model, objective, precision, world)
        if world.layout.rows > 1:
            from cairn.training.parallel.shard import shard

            shard(module, world)
        self.width, self.dtype = model.config.dim, next(given.parameters()).dtype
        self.schedules: dict[tuple[int, int, int], PipelineSchedule] = {}
        self.ends = _ends(world) if model.config.tie_embeddings else None
        super().__init__(given, model, module, precision, world)

    def run(self, batches: list[Any], factor: float) -> dict[str, Any]:
        sums: dict[str, Any] = {}
        # A schedule sends tensors of one size: micro-batches of other sizes have their own.
        for (B, T), alike in itertools.groupby(batches, self.module.shape):
            same = list(alike)
            self.module.begin(same, factor)
            self._schedule(B, T, len(same))()
            add(sums, self.module.sums)
        sum_partial_gradients(self.model)
        self._share_tied_gradient()
        return self._from_last(sums)

    def _schedule(self, B: int, T: int, count: int) -> "PipelineSchedule":
        key = B, T, count
        if key not in self.schedules:
            if len(self.schedules) == KEPT_SCHEDULES:
                self.schedules.pop(next(iter(self.schedules)))
            self.schedules[key] = PipelineSchedule(self.module, self.world, (B, T, self.width), self.dtype, count)
        return self.schedules[key]

    def _share_tied_gradient(self) -> None:
        """The embedding of the first stage and the unembedding of the last are one matrix: both get the sum."""
        if self.ends is None or not (self.world.stage == 0 or self.world.is_last_stage):
            return
        gradient = self.model.embed.weight.grad
        dist.all_reduce(gradient.to_local() if isinstance(gradient, DTensor) else gradient, group=self.ends)

    def _from_last(self, sums: dict[str, Any]) -> dict[str, float]:
        """The last stage's metrics, on every stage."""
        device, group, last = self.world.device, self.world.group("pipeline"), self.world.layout.pipeline - 1
        text = json.dumps({key: float(value) for key, value in sums.items()}).encode()
        length = torch.tensor(len(text), device=device)
        dist.broadcast(length, group=group, group_src=last)
        content = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.world.is_last_stage:
            content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(content, group=group, group_src=last)
        return json.loads(bytes(content.tolist()))


class PipelineSchedule:
    """`count` micro-batches of one size through all stages, forward and backward; called once a step."""

    def __init__(self, module: StageModule, world: World, size: tuple[int, int, int], dtype: torch.dtype, count: int):
        stages, device = world.layout.pipeline, world.device
        stream = torch.empty(size, dtype=dtype, device="meta", requires_grad=True)
        loss = torch.empty(1, dtype=dtype, device="meta", requires_grad=True)
        stage = PipelineStage(
            module,
            world.stage,
            stages,
            device,
            input_args=() if world.stage == 0 else (stream,),
            output_args=(loss,) if world.is_last_stage else (stream,),
            group=world.group("pipeline"),
        )
        # Fewer micro-batches than stages leave no room for one forward, one backward.
        kind = Schedule1F1B if count >= stages else ScheduleGPipe
        self.schedule = kind(stage, count, loss_fn=lambda loss, _: loss, scale_grads=False)
        self.targets = torch.zeros(count, device=device) if world.is_last_stage else None

    def __call__(self) -> None:
        try:
            self.schedule.step(target=self.targets, return_outputs=False)
        except RuntimeError as error:
            if isinstance(error.__cause__, UserError):  # torch wraps what a stage raises
                raise error.__cause__ from None
            raise


def _ends(world: World) -> Any:
    """The first and the last stage of this process's pipeline; None in between."""
    assert world.mesh is not None
    ranks = world.mesh.mesh.flatten(1)
    pairs = [[int(first), int(last)] for first, last in zip(ranks[0], ranks[-1])]
    group, _ = dist.new_subgroups_by_enumeration(pairs)
    return group
