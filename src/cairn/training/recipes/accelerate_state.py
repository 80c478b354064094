"""Checkpoints of a run under Accelerate: what `save_state` writes, whole or not at all.

run/checkpoints/step-0000100/   Accelerate's files (weights, optimizer, random states) and state.json

Accelerate keeps optimizer and random states in torch's format and reads them with torch's restricted unpickler
(weights_only), so nothing in them is run.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import TEMPORARY_SUFFIX, atomic_directory, read_json, write_json

KEPT = 2


def save_state(accelerator: Any, folder: Path, state: dict[str, Any]) -> None:
    """Called by all processes. state: what else belongs to a checkpoint, "step" among it."""
    path = folder / f"step-{state['step']:07d}"
    main = accelerator.is_main_process
    with atomic_directory(path) if main else contextlib.nullcontext():
        accelerator.wait_for_everyone()  # the folder is there
        accelerator.save_state(str(path.with_name(path.name + TEMPORARY_SUFFIX)))
        accelerator.wait_for_everyone()  # all parts are in it
        if main:
            write_json(path.with_name(path.name + TEMPORARY_SUFFIX) / "state.json", state)
    if main:
        for old in _whole(folder)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_state(accelerator: Any, folder: Path, identity: str) -> dict[str, Any] | None:
    """Take over the newest checkpoint; its state, or None where there is none. Called by all processes.

    Raises UserError for one of other settings, or of another number of processes: each wrote its own part.
    """
    found = _whole(folder)
    if not found:
        return None
    state = read_json(found[-1] / "state.json")
    if state["identity"] != identity:
        raise UserError(
            f"{folder.parent} holds a run with other settings or other data; choose another --out, or delete it to start anew"
        )
    if state["processes"] != accelerator.num_processes:
        raise UserError(
            f"{found[-1]} is of {state['processes']} processes, these are {accelerator.num_processes}: go on with as many"
        )
    accelerator.load_state(str(found[-1]))
    return state


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix == "")
