"""The processes of a run: one alone, or those that torchrun started.

torchrun --nproc-per-node 4 --no-python cairn pretrain ... --train.parallel.shard 2 --train.parallel.tensor 2
"""

import atexit
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from cairn.core.compute import pick_device
from cairn.core.errors import UserError
from cairn.planning.layout import Layout
from cairn.training.objective import Part

# Neighbours in the last dimension are neighbours on a machine: the degree that communicates most stands last.
DIMENSIONS = ("pipeline", "data", "shard", "tensor")
PATIENCE = timedelta(minutes=10)  # how long a process waits for the others before it ends with an error


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    mesh: the processes in the order of DIMENSIONS, None for one process. part: which of the workers that share the rows of a
    step it is; processes that share a matrix or hold stages of one pipeline have the same part.
    """

    rank: int
    size: int
    device: torch.device
    part: Part
    layout: Layout = field(default_factory=Layout)
    mesh: DeviceMesh | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def stage(self) -> int:
        """Which stage of the pipeline this process holds."""
        return self.mesh.get_local_rank("pipeline") if self.mesh is not None else 0

    @property
    def is_last_stage(self) -> bool:
        return self.stage == self.layout.pipeline - 1

    def group(self, dimension: str) -> dist.ProcessGroup:
        """The processes that differ from this one in `dimension` alone."""
        assert self.mesh is not None, "one process has no groups"
        return self.mesh.get_group(dimension)

    def sum(self, values: list[float]) -> list[float]:
        """Sums over the workers that share the rows."""
        if self.part.count == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        for dimension in ("data", "shard"):
            dist.all_reduce(sums, group=self.group(dimension))
        return sums.tolist()

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in one process at least."""
        if self.size == 1:
            return flag
        found = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """The main process goes through the block before the others: it makes files that they then find, which may take
        longer than any step."""
        group = _patient_group() if self.size > 1 else None
        if group is not None and not self.is_main:
            dist.barrier(group)
        yield
        if group is not None and self.is_main:
            dist.barrier(group)


def join(layout: Layout, device: str) -> World:
    """The world that `layout` asks for. Raises UserError when torchrun started another number of processes."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != layout.size:
        raise UserError(_mismatch(layout, started))
    if started == 1:
        return World(0, 1, pick_device(device), Part())
    return _join(layout, device)


@cache  # stages of one run with the same layout share their groups
def _join(layout: Layout, device_name: str) -> World:
    device = pick_device(device_name)
    if device.type == "cuda":
        local, seen = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= seen:
            raise UserError(f"process {local} of this machine has no GPU: torch sees {seen}; start one process a GPU")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise UserError(f"several processes work on cpu or cuda, not on {device.type}: use --train.device cpu")
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        atexit.register(_leave)
    degrees = tuple(getattr(layout, name) for name in DIMENSIONS)
    mesh = init_device_mesh(device.type, degrees, mesh_dim_names=DIMENSIONS)
    part = Part(mesh.get_local_rank("data") * layout.shard + mesh.get_local_rank("shard"), layout.rows)
    return World(dist.get_rank(), dist.get_world_size(), device, part, layout, mesh)


@cache
def _patient_group() -> dist.ProcessGroup:
    """All processes; one that dies is noticed at once all the same."""
    group = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    assert isinstance(group, dist.ProcessGroup)
    return group


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _mismatch(layout: Layout, started: int) -> str:
    """What to say when the number of processes is not that of the layout."""
    if layout.size == 1:
        return (
            f"torchrun started {started} processes, but the layout is one process: set --train.parallel.data {started} "
            "(or shard, tensor, pipeline), or start without torchrun"
        )
    program, *arguments = sys.argv
    words = [program, *arguments] if program.endswith(".py") else ["--no-python", Path(program).name, *arguments]
    command = shlex.join(["torchrun", "--nproc-per-node", str(layout.size), *words])
    return f"the layout {layout.describe()} needs {layout.size} processes, not {started}; start it with: {command}"
