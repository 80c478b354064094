"""Checkpoints: everything a killed run needs to go on bit for bit. Tensors in safetensors, the rest in JSON; no pickle.

checkpoints/step-0000100/  model.safetensors  optimizer.safetensors  state.json (with the hashes of both)
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, hash_file, read_json, write_json
from cairn.core.progress import say
from cairn.core.tensors import save_tensors
from cairn.training.optimizers import Optimizer

KEPT = 2  # the newest and one to fall back on


def save_checkpoint(
    folder: Path, step: int, model: torch.nn.Module, optimizer: Optimizer, state: dict[str, Any]
) -> None:
    with atomic_directory(folder / f"step-{step:07d}") as directory:
        tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}  # a tied matrix once
        save_tensors(tensors, directory / "model.safetensors")
        save_tensors(optimizer.state_tensors(), directory / "optimizer.safetensors")
        hashes = {n: hash_file(directory / n) for n in ("model.safetensors", "optimizer.safetensors")}
        write_json(directory / "state.json", state | {"step": step, "hashes": hashes})
    for old in sorted(p for p in folder.glob("step-*") if p.suffix == "")[:-KEPT]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: Optimizer, identity: str) -> dict[str, Any] | None:
    """Restore the newest whole checkpoint; returns its state, or None when there is none.

    A damaged one is named and the one before it used. One of another configuration (`identity`) is refused.
    """
    for path in sorted((p for p in folder.glob("step-*") if p.suffix == ""), reverse=True):
        try:
            state = read_json(path / "state.json")
            for name, digest in state["hashes"].items():
                if hash_file(path / name) != digest:
                    raise UserError(f"{path / name} does not match its checksum")
            weights, moments = load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors")
        except (UserError, OSError, SafetensorError, KeyError, TypeError) as error:
            say(f"checkpoint {path} is damaged ({error}); using the one before it")
            continue
        if state["identity"] != identity:
            raise UserError(
                f"{folder.parent} holds a run with other settings or other data; choose another --out, or delete it to start anew"
            )
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights.items():
                parameters[name].copy_(tensor)
        optimizer.load_state_tensors(moments)
        return state
    return None
