"""Checkpoints: everything a killed run needs to go on bit for bit, written while the run goes on.

The randomness and the rows of a step are functions of the step, so that weights, the optimizer's state and a few numbers
are everything. A checkpoint is a directory `step-0000100` that is whole or absent (checkpoint_files.py).
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from cairn.core.errors import UserError
from cairn.core.progress import say
from cairn.training.checkpoint_files import (
    AVERAGE,
    DAMAGE,
    describe_tensors,
    file_of,
    read_state,
    read_tensors,
    verify_files,
    write_checkpoint,
)
from cairn.training.checkpoint_folder import CheckpointFolder, step_of

if TYPE_CHECKING:
    from cairn.training.averaging import Average
    from cairn.training.optimizers import Optimizer
    from cairn.training.parallel.world import World


class Checkpoints:
    """The checkpoints of one run, in `folder`: the newest `keep`, and with `keep_best` the one evaluated best.

    identity: a fingerprint of everything that decides the result; a checkpoint of another is refused.
    world: the processes of the run. All of them make this object and call its methods, and see the same folder; a run may
        go on with another number of them.

    `save` copies the tensors and returns; a thread writes them. The copy is kept between saves: it takes as much memory on
    the CPU (pinned, for a GPU) as this process's share of weights, optimizer state and average together.
    """

    def __init__(
        self, folder: Path, identity: str, *, keep: int = 2, keep_best: bool = False, world: "World | None" = None
    ):
        self.identity = identity
        self.folder = CheckpointFolder(folder, keep=keep, keep_best=keep_best)
        self.rank, self.size = (world.rank, world.size) if world else (0, 1)
        # The thread that writes talks to the other processes at the same time as the run does: it needs its own line.
        group = dist.new_group(backend="gloo") if self.size > 1 else None
        assert not isinstance(group, int)
        self.group = group
        self._copies: dict[str, torch.Tensor] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        if self.rank == 0:
            self.folder.remove_leftovers()
        if self.group:
            dist.barrier(self.group)

    # --- saving

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: "Optimizer",
        average: "Average | None",
        state: dict[str, Any],
        best: float | None = None,
    ) -> None:
        """Take a checkpoint of the run after `step` steps; returns once the tensors are copied.

        state: numbers and strings that `load` is to return. best: the loss, where the model was evaluated at this step;
        the checkpoint with the lowest is the best. Waits while the one before is still being written, and raises what
        went wrong with it.
        """
        self._finish_writing()
        tensors = _run_tensors(model, optimizer, average)
        copied = self._copy(tensors)
        evaluated = best if best is not None and math.isfinite(best) else None
        state = state | {"step": step, "identity": self.identity, "evaluated": evaluated}
        self._writing = self._thread.submit(self._write, step, tensors, state, copied)

    def close(self) -> None:
        """Wait for the checkpoint being written; raises what went wrong with it."""
        try:
            self._finish_writing()
        finally:
            self._thread.shutdown()
            self._copies = {}

    def _copy(self, tensors: dict[str, torch.Tensor]) -> torch.cuda.Event | None:
        """Copy this process's pieces into the buffers of the save before.

        On a GPU the copies are put in the queue of its work and not waited for: the next step's update comes after them in
        the same queue. The event tells the writer when they are done.
        """
        copies, pinned = {}, False
        with torch.no_grad():
            for name, tensor in tensors.items():
                local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
                buffer = self._copies.get(name)
                if buffer is None or buffer.shape != local.shape or buffer.dtype != local.dtype:
                    buffer = torch.empty(local.shape, dtype=local.dtype, pin_memory=local.is_cuda)
                copies[name] = buffer.copy_(local, non_blocking=local.is_cuda)
                pinned |= local.is_cuda
        self._copies = copies
        if not pinned:
            return None
        copied = torch.cuda.Event()
        copied.record()
        return copied

    def _write(
        self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any], copied: torch.cuda.Event | None
    ) -> None:
        if copied:
            copied.synchronize()
        write_checkpoint(self.folder.path(step), tensors, self._copies, state, self.group)
        if self.rank == 0:
            self.folder.rotate()

    def _finish_writing(self) -> None:
        if self._writing:
            wait([self._writing])  # Ctrl-C in here leaves it to be waited for again
            writing, self._writing = self._writing, None
            writing.result()

    @property
    def last(self) -> int | None:
        """The step of the newest checkpoint."""
        paths = self.folder.paths()
        return step_of(paths[-1]) if paths else None

    # --- loading

    def load(self, model: nn.Module, optimizer: "Optimizer", average: "Average | None") -> dict[str, Any] | None:
        """Restore the newest whole checkpoint in place and return its state; None when there is none at all.

        A damaged one is named and removed, and the one before it used. When all are damaged, or the newest is of other
        settings, that is a UserError: whether to throw a run away is for its owner to say.
        """
        self._finish_writing()
        damaged: list[Path] = []
        for path in reversed(self.folder.paths()):
            state, targets, problem = self._inspect(path, model, optimizer, average)
            if problem is None:
                break
            damaged.append(path)
            self._say(f"checkpoint {path} is damaged ({problem}); using the one before it")
        else:
            if damaged:
                raise UserError(f"no checkpoint in {self.folder.folder} is whole; delete that folder to start anew")
            return None
        _restore(path, targets, optimizer, average)
        if self.rank == 0:
            for newer in damaged:  # left there, it would count among the newest that are kept
                self.folder.remove(newer)
            self.folder.rotate()
        if self.group:
            dist.barrier(self.group)
        return state

    def load_best(self, model: nn.Module, optimizer: "Optimizer", average: "Average | None") -> dict[str, Any] | None:
        """Restore the checkpoint that was evaluated best and return its state; None when nothing was evaluated, and, with
        a message, when it is damaged."""
        self._finish_writing()
        path = self.folder.best()
        if path is None:
            return None
        state, targets, problem = self._inspect(path, model, optimizer, average)
        if problem is not None:
            self._say(f"the best checkpoint, {path}, is damaged ({problem}); keeping the last weights")
            return None
        _restore(path, targets, optimizer, average)
        return state

    def _inspect(
        self, path: Path, model: nn.Module, optimizer: "Optimizer", average: "Average | None"
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor], str | None]:
        """The state of a checkpoint, where its tensors belong, and what is wrong with it, of which all processes agree."""
        state, targets, problem = {}, {}, None
        try:
            state = read_state(path)
            other = state["identity"] != self.identity
        except DAMAGE as error:
            other, problem = False, str(error)
        if other:
            raise UserError(
                f"{self.folder.folder.parent} holds a run with other settings or other data; "
                "choose another --out, or delete it to start anew"
            )
        if problem is None:
            try:
                verify_files(path, state["files"], self.rank, self.size)
                targets = self._targets(path, model, optimizer, average)
            except DAMAGE as error:
                problem = str(error)
        return state, targets, self._agree(problem)

    def _targets(
        self, path: Path, model: nn.Module, optimizer: "Optimizer", average: "Average | None"
    ) -> dict[str, torch.Tensor]:
        """Where each tensor of a checkpoint is to be read into. UserError when they are not those of this run."""
        saved = describe_tensors(path)
        targets = _run_tensors(model, optimizer, average)
        strange = targets.keys() - saved.keys()
        if self.size == 1:  # of several processes, each may hold a part of the model
            strange |= saved.keys() - targets.keys()
        if strange:
            raise UserError(f"{path} is not of this model: {min(strange)} is in one of them only")
        for name, target in targets.items():
            found = saved[name].size, saved[name].properties.dtype
            if found != (target.shape, target.dtype):
                raise UserError(f"{path}: {name} is {found}, expected {(target.shape, target.dtype)}")
        return targets

    def _agree(self, problem: str | None) -> str | None:
        """The first problem that any process has."""
        if not self.group:
            return problem
        problems: list[str | None] = [None] * self.size
        dist.all_gather_object(problems, problem, self.group)
        return next((p for p in problems if p is not None), None)

    def _say(self, text: str) -> None:
        if self.rank == 0:
            say(text)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, and what a model remembers besides (the correction of a router), by name; a tied matrix once."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def _run_tensors(model: nn.Module, optimizer: "Optimizer", average: "Average | None") -> dict[str, torch.Tensor]:
    """Everything a checkpoint holds, by name."""
    averages = average.tensors() if average else {}
    return _weights(model) | optimizer.state_tensors() | {n + AVERAGE: t for n, t in averages.items()}


def _restore(path: Path, targets: dict[str, torch.Tensor], optimizer: "Optimizer", average: "Average | None") -> None:
    read_tensors(path, targets)
    optimizer.load_state_tensors({n: t for n, t in targets.items() if file_of(n) == "optimizer"})
    if average:
        average.load({n.removesuffix(AVERAGE): t for n, t in targets.items() if file_of(n) == "average"})
