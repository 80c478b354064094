"""One checkpoint on disk, through torch.distributed.checkpoint: written by any number of processes, read by any other.

step-0000100/
    model.safetensors      weights, by their names           (of N processes: model-00001-of-0000N.safetensors, ...)
    optimizer.safetensors  states, as "weight/key"
    average.safetensors    averaged weights, as "weight/average"
    state.json             the rest, the SHA-256 of every file above, and a checksum of itself

torch.distributed.checkpoint (DCP) decides which process writes which piece of which tensor, and finds the pieces that a
process of another layout needs. Its default writer pickles an index, and its safetensors writer holds each file in memory
a second time; so the writer is ours, and it hashes and commits besides. The header of a file of pieces says where they lie
in PyTorch's words, and PyTorch's own reader (HuggingFaceStorageReader) reads it.
"""

import contextlib
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from cairn.core.errors import UserError
from cairn.core.files import TEMPORARY_SUFFIX, atomic_directory, fingerprint, hash_file, read_json, write_json
from cairn.core.tensors import save_tensors

STATE = "state.json"
AVERAGE = "/average"  # ends the names of averaged weights
DAMAGE = (UserError, OSError, SafetensorError, LookupError, TypeError, ValueError)  # what reading a damaged one raises

# One process without torch.distributed is not a mistake.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def file_of(name: str) -> str:
    """Which file a tensor goes to.

    >>> [file_of(n) for n in ("embed.weight", "embed.weight/exp_avg", "embed.weight/average")]
    ['model', 'optimizer', 'average']
    """
    if name.endswith(AVERAGE):
        return "average"
    return "optimizer" if "/" in name else "model"


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    copies: Mapping[str, torch.Tensor],
    state: dict[str, Any],
    group: ProcessGroup | None,
) -> None:
    """Write `path`, whole or not at all. Every process of `group` calls it; an error in one is raised in all.

    tensors: those of the run (DTensors know which piece this process has); their values are not looked at.
    copies: the values to write, this process's pieces, on the CPU.
    """

    def commit(directory: Path, hashes: dict[str, str]) -> None:
        record = json.loads(json.dumps(state | {"files": hashes}))  # as it will be read: keys are strings
        write_json(directory / STATE, record | {"checksum": fingerprint(record)})

    writer = _Writer(path, commit)
    with writer.pending:
        try:
            save(
                dict(tensors),
                storage_writer=writer,
                planner=_CopyPlanner(copies),
                process_group=group,
                no_dist=group is None,
            )
        except CheckpointException as error:
            raise _first_cause(error) from error


def read_state(path: Path) -> dict[str, Any]:
    """The state of a checkpoint; UserError when it is not as it was written."""
    state = read_json(path / STATE)
    if not isinstance(state, dict) or state.pop("checksum", None) != fingerprint(state):
        raise UserError(f"{path / STATE} does not match its checksum")
    return state


def verify_files(path: Path, hashes: dict[str, str], rank: int = 0, count: int = 1) -> None:
    """Compare files with their hashes, the share of process `rank` of `count`; UserError names the first that differs."""
    for name in {file.name for file in path.glob("*.safetensors")} ^ set(hashes):
        raise UserError(f"{path / name} {'is missing' if name in hashes else 'does not belong there'}")
    for name in sorted(hashes)[rank::count]:
        if hash_file(path / name) != hashes[name]:
            raise UserError(f"{path / name} does not match its checksum")


def describe_tensors(path: Path) -> dict[str, TensorStorageMetadata]:
    """Size and number format of each tensor of a checkpoint, by name."""
    return HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata  # type: ignore[return-value]


def read_tensors(path: Path, targets: Mapping[str, torch.Tensor]) -> None:
    """Read the named tensors in place; of a DTensor the piece this process has, however the file is divided."""
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    try:
        with torch.no_grad():
            # Each process plans for itself: what it reads depends on no other.
            load(dict(targets), storage_reader=HuggingFaceStorageReader(str(path)), planner=planner, no_dist=True)
    except CheckpointException as error:
        raise _first_cause(error) from error


def _first_cause(error: CheckpointException) -> BaseException:
    return error.failures[min(error.failures)][0]


class _CopyPlanner(DefaultSavePlanner):
    """Plans by the tensors of the run, which know their layout, and gives their copies, which hold still."""

    def __init__(self, copies: Mapping[str, torch.Tensor]):
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.copies = copies

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        return self.copies[index.fqn]


class _Writer(StorageWriter):
    """Writes this process's share of a checkpoint. When all have written, the first process calls
    `commit(directory, hashes)` and gives the directory its name."""

    def __init__(self, path: Path, commit: Callable[[Path, dict[str, str]], None]):
        self.path, self.commit = path, commit
        self.directory = path.with_name(path.name + TEMPORARY_SUFFIX)  # where atomic_directory makes it
        self.pending = contextlib.ExitStack()  # holds, in the first process, the directory until it is whole

    def reset(self, checkpoint_id: Any = None) -> None:
        assert checkpoint_id is None  # a writer knows its path

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return checkpoint_id is None

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        if is_coordinator:
            self.pending.enter_context(atomic_directory(self.path))

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [replace(plan, storage_data=(rank, len(plans))) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        rank, count = plan.storage_data
        files: dict[str, list[WriteItem]] = defaultdict(list)
        for item in plan.items:
            files[file_of(item.index.fqn)].append(item)
        results = []
        for file, items in files.items():
            name, metadata = f"{file}.safetensors", {"format": "pt"}
            if count > 1:
                name = f"{file}-{rank + 1:05d}-of-{count:05d}.safetensors"
                metadata["DCP_SHARDING_INFO"] = json.dumps(
                    {i.index.fqn: {"saved_offsets": list(i.tensor_data.chunk.offsets)} for i in items if i.tensor_data}
                )
            save_tensors({i.index.fqn: planner.resolve_data(i) for i in items}, self.directory / name, metadata)  # type: ignore[misc]  # tensors alone are saved
            with open(self.directory / name, "rb") as handle:
                os.fsync(handle.fileno())  # here: the process that commits may be on another machine
            size = (self.directory / name).stat().st_size
            results.append(WriteResult(MetadataIndex(name), size, hash_file(self.directory / name)))
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        self.commit(self.directory, {r.index.fqn: r.storage_data for share in results for r in share})
        self.pending.close()
